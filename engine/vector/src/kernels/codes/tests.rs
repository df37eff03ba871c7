//! Every kernel of codes against the scalar reference, bit for bit, and that against `i64` sums.

use proptest::prelude::*;
use types::SplitMix64;

use super::{Points, SCALAR, available};

fn random_points<const N: usize>(rng: &mut SplitMix64, least: i64) -> Points<N> {
    let span = u64::try_from(127 - least + 1).unwrap();
    let mut draw = || {
        std::array::from_fn(|_| {
            i8::try_from(i64::try_from(rng.below(span)).unwrap() + least).unwrap()
        })
    };
    Points { x: draw(), y: draw() }
}

/// Random bytes, or the extremes alone.
fn bytes(rng: &mut SplitMix64, length: usize, extremes: &[u8]) -> Vec<u8> {
    let extreme = rng.below(4) == 0;
    let draw = |rng: &mut SplitMix64| {
        let byte = u8::try_from(rng.below(256)).unwrap();
        if extreme { extremes[usize::from(byte) % extremes.len()] } else { byte }
    };
    (0..length).map(|_| draw(rng)).collect()
}

fn check(length: usize, seed: u64) {
    let mut rng = SplitMix64::new(seed);
    let codes: [Vec<u8>; 4] = std::array::from_fn(|_| bytes(&mut rng, length, &[0, 255, 0xC0, 63]));
    let codes = [&codes[0][..], &codes[1][..], &codes[2][..], &codes[3][..]];
    let query = bytes(&mut rng, length, &[0, 255]);
    // -128 has no opposite and is no query number of the polar kernels.
    let polar_query: Vec<u8> = bytes(&mut rng, 4 * length, &[127, 129])
        .into_iter()
        .map(|b| if b == 128 { 129 } else { b })
        .collect();
    let quadrant: Points<64> = random_points(&mut rng, 0);
    let small: Points<16> = random_points(&mut rng, -127);
    let expected_bytes = codes.map(|code| (SCALAR.bytes)(&query, code));
    let expected_four =
        codes.map(|code| (SCALAR.polar4)(&quadrant, &polar_query[..2 * length], code));
    let expected_two = codes.map(|code| (SCALAR.polar2)(&small, &polar_query, code));
    let wide: i64 =
        query.iter().zip(codes[0]).map(|(q, c)| (i64::from(*q) - 128) * i64::from(*c)).sum();
    assert_eq!(i64::from(expected_bytes[0]), wide);
    for table in available() {
        let what = format!("{} over {length} bytes, seed {seed}", table.name);
        assert_eq!(codes.map(|code| (table.bytes)(&query, code)), expected_bytes, "{what}");
        assert_eq!((table.bytes_x4)(&query, codes), expected_bytes, "{what}, four");
        let query = &polar_query[..2 * length];
        assert_eq!(
            codes.map(|code| (table.polar4)(&quadrant, query, code)),
            expected_four,
            "{what}"
        );
        assert_eq!((table.polar4_x4)(&quadrant, query, codes), expected_four, "{what}, four");
        let query = &polar_query;
        assert_eq!(codes.map(|code| (table.polar2)(&small, query, code)), expected_two, "{what}");
        assert_eq!((table.polar2_x4)(&small, query, codes), expected_two, "{what}, four");
        for code in codes {
            let mut numbers = [vec![0; 2 * length], vec![0; 2 * length]];
            (SCALAR.polar4_numbers)(&quadrant, code, &mut numbers[0]);
            (table.polar4_numbers)(&quadrant, code, &mut numbers[1]);
            assert_eq!(numbers[0], numbers[1], "{what}, numbers of a pair's code");
            let square: i64 = numbers[0].iter().map(|n| i64::from(n.cast_signed()).pow(2)).sum();
            let product = (table.polar4)(&quadrant, &numbers[1], code);
            assert_eq!(i64::from(product), square, "{what}, a code with itself");
            let mut numbers = [vec![0; 4 * length], vec![0; 4 * length]];
            (SCALAR.polar2_numbers)(&small, code, &mut numbers[0]);
            (table.polar2_numbers)(&small, code, &mut numbers[1]);
            assert_eq!(numbers[0], numbers[1], "{what}, numbers of two pairs' code");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn kernels_agree_bit_for_bit(length in 0_usize..400, seed: u64) {
        check(length, seed);
    }
}

#[test]
fn every_tail_length_and_the_longest_vectors_agree() {
    (0..=200).for_each(|length| check(length, 7));
    (0..8).for_each(|seed| check(16_000, seed));
}

#[test]
fn another_length_panics_instead_of_reading_past_the_end() {
    let points = Points { x: [0; 64], y: [0; 64] };
    let small = Points { x: [0; 16], y: [0; 16] };
    for table in available() {
        let refused = [
            std::panic::catch_unwind(|| (table.bytes)(&[0; 64], &[0; 65])).is_err(),
            std::panic::catch_unwind(|| {
                (table.bytes_x4)(&[0; 64], [&[0; 64], &[0; 64], &[0; 64], &[0; 63]])
            })
            .is_err(),
            std::panic::catch_unwind(|| (table.polar4)(&points, &[0; 64], &[0; 33])).is_err(),
            std::panic::catch_unwind(|| (table.polar4)(&points, &[0; 65], &[0; 32])).is_err(),
            std::panic::catch_unwind(|| (table.polar2)(&small, &[0; 64], &[0; 17])).is_err(),
            std::panic::catch_unwind(|| (table.polar2)(&small, &[0; 66], &[0; 16])).is_err(),
        ];
        assert_eq!(refused, [true; 6], "{}", table.name);
    }
}
