//! Recall: which share of the true neighbours an approximate answer holds.

use crate::Neighbor;

/// `|found ∩ truth| / |truth|` over the ordinals of the first `k` of both; 1 when there is no truth
/// to find.
#[must_use]
pub fn recall_at(k: usize, found: &[Neighbor], truth: &[Neighbor]) -> f64 {
    let truth = &truth[..truth.len().min(k)];
    if truth.is_empty() {
        return 1.0;
    }
    let hits = found
        .iter()
        .take(k)
        .filter(|neighbor| truth.iter().any(|t| t.ordinal == neighbor.ordinal))
        .count();
    hits as f64 / truth.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_hits_among_the_first_k() {
        let list = |ordinals: &[u32]| -> Vec<Neighbor> {
            ordinals.iter().map(|o| Neighbor { value: 0.0, ordinal: *o }).collect()
        };
        let cases: [(&[u32], &[u32], usize, f64); 4] = [
            (&[1, 2, 3], &[3, 2, 1], 3, 1.0),
            (&[1, 9, 8], &[1, 2, 3], 2, 0.5),
            (&[], &[1], 1, 0.0),
            (&[1], &[], 1, 1.0),
        ];
        for (found, truth, k, expected) in cases {
            let got = recall_at(k, &list(found), &list(truth));
            assert!((got - expected).abs() < 1e-12, "{found:?} {truth:?} {k}: {got}");
        }
    }
}
