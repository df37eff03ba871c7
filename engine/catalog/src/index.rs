//! An index: an access path of a collection, derived from its rows.

use serde::{Deserialize, Serialize};
use types::{Distance, IndexId, Quantization, SchemaId, TableId};

use crate::Lifetime;

/// How an HNSW graph is built and what it is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HnswOptions {
    /// Links per point and layer.
    pub m: u32,
    /// Candidates while building.
    pub ef_construction: u32,
    /// What is kept of vectors for comparing. Indexes of the time before there was a choice keep
    /// none.
    #[serde(default = "full_vectors")]
    pub quantization: Quantization,
    /// Candidates to rescore, as a multiple of the rows wanted; `None` for what suits the
    /// quantization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oversample: Option<u32>,
    /// Whether candidates are ordered by their full vectors.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub rescore: bool,
    /// The share of the true answer that searches are to find, in ten-thousandths.
    #[serde(default = "recall_default", skip_serializing_if = "is_recall_default")]
    pub recall_target: u16,
    /// What the 95th percentile of a search is to keep to, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_budget_us: Option<u32>,
    /// Whether the budget counts for more than the target.
    #[serde(default, skip_serializing_if = "is_false")]
    pub latency_first: bool,
}

/// One, in the unit of [`HnswOptions::recall_target`].
pub const RECALL_ONE: u16 = 10_000;
const RECALL_DEFAULT: u16 = 9_500;

fn recall_default() -> u16 {
    RECALL_DEFAULT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_recall_default(target: &u16) -> bool {
    *target == RECALL_DEFAULT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

fn full_vectors() -> Quantization {
    Quantization::None
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

impl Default for HnswOptions {
    fn default() -> Self {
        Self {
            m: 16,
            ef_construction: 200,
            quantization: Quantization::default(),
            oversample: None,
            rescore: true,
            recall_target: RECALL_DEFAULT,
            latency_budget_us: None,
            latency_first: false,
        }
    }
}

impl HnswOptions {
    /// The share of the true answer that searches are to find.
    #[must_use]
    pub fn recall_target(&self) -> f64 {
        f64::from(self.recall_target) / f64::from(RECALL_ONE)
    }

    /// Candidates to rescore, as a multiple of the rows wanted.
    #[must_use]
    pub fn oversample(&self) -> u32 {
        self.oversample.unwrap_or(match self.quantization {
            Quantization::None => 1,
            Quantization::Sq8 => 2,
            Quantization::Sq8Calibrated | Quantization::Polar8 | Quantization::Polar4 => 3,
            Quantization::Polar2 => 10,
        })
    }
}

/// An index `USING hnsw (column opclass)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its identity, also its `oid` in `pg_class`.
    pub id: IndexId,
    /// The namespace it is in: that of its table.
    pub schema: SchemaId,
    /// The table it serves.
    pub table: TableId,
    /// Its name.
    pub name: String,
    /// Id of the vector column.
    pub column: usize,
    /// The distance it answers.
    pub distance: Distance,
    /// How the graph is built.
    pub options: HnswOptions,
    /// When it exists.
    pub life: Lifetime,
}
