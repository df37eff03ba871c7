//! The distances an index can be built for, with their SQL names.

use serde::{Deserialize, Serialize};

/// A measure of nearness between two vectors of equal dimension. Smaller is nearer for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// Euclidean distance, SQL `<->`.
    L2,
    /// Negative inner product, SQL `<#>`.
    InnerProduct,
    /// One minus the cosine of the angle, SQL `<=>`; NaN when either vector is zero.
    Cosine,
}

impl Distance {
    /// All distances.
    pub const ALL: [Self; 3] = [Self::L2, Self::InnerProduct, Self::Cosine];

    /// The operator class of `CREATE INDEX ... USING hnsw (column opclass)`.
    #[must_use]
    pub fn operator_class(self) -> &'static str {
        match self {
            Self::L2 => "vector_l2_ops",
            Self::InnerProduct => "vector_ip_ops",
            Self::Cosine => "vector_cosine_ops",
        }
    }

    /// The SQL operator.
    #[must_use]
    pub fn operator(self) -> &'static str {
        match self {
            Self::L2 => "<->",
            Self::InnerProduct => "<#>",
            Self::Cosine => "<=>",
        }
    }

    /// Looks an operator class up by name.
    #[must_use]
    pub fn from_operator_class(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|distance| distance.operator_class() == name)
    }
}
