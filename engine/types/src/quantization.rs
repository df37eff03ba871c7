//! The forms in which an index may keep vectors, with their SQL names.

use serde::{Deserialize, Serialize};

/// How a vector index stores what it compares while it searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// The `f32` vectors themselves.
    None,
    /// Rotated, one signed byte per dimension and one scale per vector.
    #[default]
    Sq8,
    /// One byte per dimension in ranges taken from a sample of the column.
    Sq8Calibrated,
    /// Rotated, pairs of dimensions as ring and sector in 8 bits, and 8 bits more for what that
    /// leaves: one byte per dimension in two levels.
    Polar8,
    /// The first level of `Polar8`: four bits per dimension.
    Polar4,
    /// Pairs of dimensions in 4 bits: two bits per dimension.
    Polar2,
}

impl Quantization {
    /// All forms.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Sq8, Self::Sq8Calibrated, Self::Polar8, Self::Polar4, Self::Polar2];

    /// The value of the index option `quantization`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sq8 => "sq8",
            Self::Sq8Calibrated => "sq8_calibrated",
            Self::Polar8 => "polar8",
            Self::Polar4 => "polar4",
            Self::Polar2 => "polar2",
        }
    }

    /// Looks a form up by name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quantization| quantization.name() == name)
    }
}
