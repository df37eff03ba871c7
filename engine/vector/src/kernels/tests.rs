//! Every kernel against the scalar reference computed in `f64`.

use proptest::prelude::*;

use super::{Kernels, available};

/// A reference result and the sum of absolute terms that scales its rounding bound.
struct Reference {
    value: f64,
    magnitude: f64,
}

fn sum(terms: impl Iterator<Item = f64>) -> Reference {
    terms.fold(Reference { value: 0.0, magnitude: 0.0 }, |acc, term| Reference {
        value: acc.value + term,
        magnitude: acc.magnitude + term.abs(),
    })
}

fn assert_close(kernels: &Kernels, what: &str, got: f32, reference: &Reference, n: usize) {
    let got = f64::from(got);
    if reference.value.is_nan() || got.is_nan() {
        assert!(
            reference.value.is_nan() && got.is_nan() || reference.magnitude > f64::from(f32::MAX),
            "{} {what}: {got} instead of {}",
            kernels.name,
            reference.value
        );
        return;
    }
    if reference.magnitude > f64::from(f32::MAX) {
        return; // the f32 sum overflows in an order of its own
    }
    let bound = (n as f64 + 2.0) * f64::from(f32::EPSILON) * reference.magnitude + 1e-37;
    assert!(
        (got - reference.value).abs() <= bound,
        "{} {what} over {n} terms: {got} instead of {} (bound {bound})",
        kernels.name,
        reference.value
    );
}

fn check(a: &[f32], b: &[f32]) {
    let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
    let dot = sum(pairs().map(|(x, y)| x * y));
    let l2 = sum(pairs().map(|(x, y)| (x - y) * (x - y)));
    let l1 = sum(pairs().map(|(x, y)| (x - y).abs()));
    let norm = sum(pairs().map(|(_, y)| y * y));
    for kernels in available() {
        let n = a.len();
        assert_close(kernels, "dot", (kernels.dot)(a, b), &dot, n);
        assert_close(kernels, "l2", (kernels.l2_squared)(a, b), &l2, n);
        assert_close(kernels, "l1", (kernels.l1)(a, b), &l1, n);
        let (got_dot, got_norm) = (kernels.dot_and_norm)(a, b);
        assert_close(kernels, "dot of dot_and_norm", got_dot, &dot, n);
        assert_close(kernels, "norm of dot_and_norm", got_norm, &norm, n);
    }
}

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -10.0_f32..10.0,
        1 => prop::num::f32::SUBNORMAL,
        1 => Just(0.0_f32),
        1 => prop::num::f32::NORMAL,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn kernels_agree_with_the_reference(
        values in prop::collection::vec((number(), number()), 0..200),
        shift in 0_usize..4,
    ) {
        // A sub-slice from `shift` on makes the loads misaligned.
        let a: Vec<f32> = values.iter().map(|v| v.0).collect();
        let b: Vec<f32> = values.iter().map(|v| v.1).collect();
        let from = shift.min(a.len());
        check(&a[from..], &b[from..]);
    }

    #[test]
    fn bits_are_counted_by_all_alike(
        bytes in prop::collection::vec((any::<u8>(), any::<u8>()), 0..400),
        shift in 0_usize..4,
    ) {
        let (a, b): (Vec<u8>, Vec<u8>) = bytes.into_iter().unzip();
        let from = shift.min(a.len());
        let (a, b) = (&a[from..], &b[from..]);
        let set = |pick: fn(u8, u8) -> u8| -> u32 {
            let pairs = a.iter().zip(b);
            pairs.map(|(x, y)| (0..8).map(|bit| u32::from(pick(*x, *y) >> bit & 1)).sum::<u32>()).sum()
        };
        let expected = (set(|x, y| x & y), set(|x, y| x | y));
        for kernels in available() {
            prop_assert_eq!((kernels.bits)(a, b), expected, "{}", kernels.name);
        }
    }
}

#[test]
fn every_tail_length_is_summed_whole() {
    for n in 0..=130_usize {
        let a = vec![1.0_f32; n];
        let b = vec![2.0_f32; n];
        for kernels in available() {
            let expected = f32::from(u16::try_from(n).unwrap());
            assert_eq!((kernels.dot)(&a, &b).to_bits(), (2.0 * expected).to_bits());
            assert_eq!((kernels.l2_squared)(&a, &b).to_bits(), expected.to_bits());
            assert_eq!((kernels.l1)(&a, &b).to_bits(), expected.to_bits());
        }
    }
}

#[test]
fn non_finite_numbers_are_not_lost() {
    for position in 0..70 {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut a = vec![1.0_f32; 70];
            a[position] = bad;
            let b = vec![1.0_f32; 70];
            for kernels in available() {
                assert!(!(kernels.dot)(&a, &b).is_finite(), "{} at {position}", kernels.name);
                assert!(!(kernels.l2_squared)(&a, &b).is_finite());
            }
        }
    }
}

#[test]
fn different_lengths_panic_instead_of_reading_past_the_end() {
    for kernels in available() {
        let result = std::panic::catch_unwind(|| (kernels.dot)(&[1.0; 16], &[1.0; 17]));
        assert!(result.is_err(), "{}", kernels.name);
        let result = std::panic::catch_unwind(|| (kernels.bits)(&[1; 16], &[1; 17]));
        assert!(result.is_err(), "{}", kernels.name);
    }
}

#[test]
fn the_detected_table_is_the_last_available() {
    assert_eq!(super::detect().name, available().last().unwrap().name);
}
