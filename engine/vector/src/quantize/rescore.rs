//! From candidates by estimate to the nearest by full vectors.

use crate::{Neighbor, TopK};

/// How many standard deviations of its error an estimate may be wrong by before a candidate is given
/// up unseen: one in a thousand is farther off on one side.
const DEVIATIONS: f32 = 3.0;
/// Candidates whose vectors are asked for ahead of their comparison.
const AHEAD: usize = 4;

/// The `k` nearest of `candidates` by `exact`, nearest first, and the number of vectors read.
/// `candidates` come nearest first by estimate; `deviation` is the standard deviation of the error
/// of its estimate: a candidate is not read when `k` are known that are nearer than its estimate could
/// be wrong. One without a distance is left out. `prefetch` is told of a candidate before `exact` is asked.
pub fn rescore(
    candidates: &[Neighbor],
    k: usize,
    deviation: impl Fn(u32) -> f32,
    prefetch: impl Fn(u32),
    exact: impl Fn(u32) -> Option<f32>,
) -> (Vec<Neighbor>, u64) {
    let mut top = TopK::new(k);
    let mut read = 0;
    candidates.iter().take(k).for_each(|candidate| prefetch(candidate.ordinal));
    for (at, candidate) in candidates.iter().enumerate() {
        let bound = top.worst();
        if bound.is_some_and(|bound| {
            candidate.value - DEVIATIONS * deviation(candidate.ordinal) > bound
        }) {
            // Not the end: the error of a longer vector's estimate may be larger.
            continue;
        }
        if let Some(later) = candidates.get(at + k.max(AHEAD)) {
            prefetch(later.ordinal);
        }
        if let Some(value) = exact(candidate.ordinal).filter(|value| !value.is_nan()) {
            top.push(value, candidate.ordinal);
            read += 1;
        }
    }
    (top.into_sorted(), read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_that_cannot_be_nearer_are_not_read() {
        let candidates: Vec<Neighbor> =
            (0..20_u8).map(|i| Neighbor { value: f32::from(i), ordinal: u32::from(i) }).collect();
        let nearest = |deviation: f32| {
            let exact = |ordinal| Some(if ordinal == 5 { 0.5 } else { 100.0 + ordinal as f32 });
            let candidates = &candidates[..];
            rescore(candidates, 1, |_| deviation, |_| {}, exact)
        };
        let known = |n: &[Neighbor]| n.iter().map(|n| n.ordinal).collect::<Vec<_>>();
        let (found, read) = nearest(1.0);
        assert_eq!((known(&found), read), (vec![5], 6));
        let (found, read) = nearest(f32::INFINITY);
        assert_eq!((known(&found), read), (vec![5], 20));
        let exact = |ordinal: u32| (ordinal != 0).then_some(ordinal as f32);
        let (found, read) = rescore(&candidates, 3, |_| 0.0, |_| {}, exact);
        assert_eq!((known(&found), read), (vec![1, 2, 3], 3));
        assert_eq!(rescore(&[], 3, |_| 0.0, |_| {}, exact), (Vec::new(), 0));
    }
}
