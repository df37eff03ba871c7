//! Kinds of vectors, and the measures of nearness that an index can be built for, with their SQL names.

use serde::{Deserialize, Serialize};

/// The kind of vector that a column keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VectorKind {
    /// `vector(n)`: `f32`.
    Vector,
    /// `halfvec(n)`: `f16`.
    Halfvec,
    /// `bit(n)`: bits.
    Bit,
    /// `sparsevec(n)`: the numbers of `f32` that are not zero.
    Sparsevec,
}

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
    /// Sum of absolute differences, SQL `<+>`.
    L1,
    /// Bits that differ, SQL `<~>`.
    Hamming,
    /// One minus the share of bits set in both among those set in either, SQL `<%>`; one when no
    /// bit is set in both.
    Jaccard,
}

impl VectorKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Vector, Self::Halfvec, Self::Bit, Self::Sparsevec];

    /// The SQL type without its dimension.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Halfvec => "halfvec",
            Self::Bit => "bit",
            Self::Sparsevec => "sparsevec",
        }
    }

    /// Looks a kind up by the name of its type.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The distances that an index on vectors of this kind can answer.
    #[must_use]
    pub fn distances(self) -> &'static [Distance] {
        match self {
            Self::Vector | Self::Halfvec | Self::Sparsevec => &Distance::OF_NUMBERS,
            Self::Bit => &[Distance::Hamming, Distance::Jaccard],
        }
    }
}

impl Distance {
    /// The distances of vectors of numbers.
    pub const OF_NUMBERS: [Self; 4] = [Self::L2, Self::InnerProduct, Self::Cosine, Self::L1];

    /// The distances that codes estimate: those made of inner products.
    pub const OF_CODES: [Self; 3] = [Self::L2, Self::InnerProduct, Self::Cosine];

    /// The operator class of `CREATE INDEX ... USING hnsw (column opclass)`.
    #[must_use]
    pub fn operator_class(self, kind: VectorKind) -> String {
        let measure = match self {
            Self::L2 => "l2",
            Self::InnerProduct => "ip",
            Self::Cosine => "cosine",
            Self::L1 => "l1",
            Self::Hamming => "hamming",
            Self::Jaccard => "jaccard",
        };
        format!("{}_{measure}_ops", kind.name())
    }

    /// The SQL operator.
    #[must_use]
    pub fn operator(self) -> &'static str {
        match self {
            Self::L2 => "<->",
            Self::InnerProduct => "<#>",
            Self::Cosine => "<=>",
            Self::L1 => "<+>",
            Self::Hamming => "<~>",
            Self::Jaccard => "<%>",
        }
    }

    /// Looks an operator class up by name.
    #[must_use]
    pub fn from_operator_class(name: &str) -> Option<(VectorKind, Self)> {
        let of = |kind: VectorKind| kind.distances().iter().map(move |distance| (kind, *distance));
        let mut all = VectorKind::ALL.into_iter().flat_map(of);
        all.find(|(kind, distance)| distance.operator_class(*kind) == name)
    }
}
