//! Exact search: every admitted row is compared. `O(rows * dim)`; the reference for recall and the
//! fastest way when few rows qualify.

use crate::{Metric, Neighbor, Probe, TopK, Vectors};

/// The `k` nearest of `rows`, nearest first, and the number of distances computed. Rows without a
/// vector are left out.
pub fn search(
    metric: &Metric,
    probe: &Probe<'_>,
    vectors: &impl Vectors,
    rows: impl Iterator<Item = u32>,
    k: usize,
) -> (Vec<Neighbor>, u64) {
    let mut top = TopK::new(k);
    let mut distances = 0;
    for ordinal in rows {
        if let Some(row) = vectors.row(ordinal) {
            top.push(metric.eval_row(probe, row), ordinal);
            distances += 1;
        }
    }
    (top.into_sorted(), distances)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use types::Distance;

    #[test]
    fn finds_the_nearest_admitted_rows() {
        let matrix = Matrix::new(1, vec![0.0, 10.0, 2.0, 3.0, 1.0]);
        let metric = Metric::new(Distance::L2);
        let probe = metric.probe(&[0.0]);
        let (found, distances) = search(&metric, &probe, &matrix, 1..9, 2);
        assert_eq!(found.iter().map(|n| n.ordinal).collect::<Vec<_>>(), [4, 2]);
        assert_eq!(distances, 4);
    }
}
