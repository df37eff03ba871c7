//! Errors of values, with the wording of PostgreSQL and pgvector.

use datafusion_common::DataFusionError;
use types::{Coded, SqlState, VectorKind};

fn different(kind: VectorKind) -> &'static str {
    match kind {
        VectorKind::Vector => "vector dimensions",
        VectorKind::Halfvec => "halfvec dimensions",
        VectorKind::Bit => "bit lengths",
        VectorKind::Sparsevec => "sparsevec dimensions",
    }
}

/// What is wrong with a vector value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// Not of the form `[1,2,3]`.
    #[error("invalid input syntax for type {kind}: \"{1}\"", kind = .0.name())]
    Syntax(VectorKind, String),
    /// A digit of a bit string that is none.
    #[error("\"{0}\" is not a valid binary digit")]
    Digit(char),
    /// A digit of a bit string in hexadecimal digits that is none.
    #[error("\"{0}\" is not a valid hexadecimal digit")]
    HexDigit(char),
    /// NaN or an infinity.
    #[error("{1} not allowed in {kind}", kind = .0.name())]
    NotFinite(VectorKind, &'static str),
    /// A number that the kind cannot hold.
    #[error("\"{1}\" is out of range for type {kind}", kind = .0.name())]
    OutOfRange(VectorKind, String),
    /// No numbers.
    #[error("{kind} must have at least 1 dimension", kind = .0.name())]
    Empty(VectorKind),
    /// Too many numbers.
    #[error("{name} cannot have more than {max} dimensions", name = .kind.name())]
    TooLong {
        /// Of which kind.
        kind: VectorKind,
        /// Most dimensions.
        max: u32,
    },
    /// A position of a sparse vector that is zero or behind the last.
    #[error("sparsevec index out of bounds")]
    Index,
    /// A position of a sparse vector that is there twice.
    #[error("sparsevec indices must not contain duplicates")]
    Duplicate,
    /// Too many numbers in a sparse vector.
    #[error("sparsevec cannot have more than {max} non-zero elements")]
    TooMany {
        /// Most numbers.
        max: usize,
    },
    /// A bit string of another length than its column's.
    #[error("bit string length {got} does not match type bit({expected})")]
    Length {
        /// Length of the column or type.
        expected: usize,
        /// Length of the value.
        got: usize,
    },
    /// A value of another dimension than its column's.
    #[error("expected {expected} dimensions, not {got}")]
    Dimension {
        /// Dimension of the column or type.
        expected: usize,
        /// Dimension of the value.
        got: usize,
    },
    /// Two vectors of different dimensions.
    #[error("different {what} {1} and {2}", what = different(*.0))]
    Different(VectorKind, usize, usize),
    /// A number that grew too large.
    #[error("value out of range: overflow")]
    Overflow,
    /// A number that became zero and is not.
    #[error("value out of range: underflow")]
    Underflow,
    /// A function applied to something else than vectors.
    #[error("function {function}({types}) does not exist")]
    NoFunction {
        /// The function.
        function: &'static str,
        /// The types it was given.
        types: String,
    },
}

impl Coded for VectorError {
    fn sql_state(&self) -> SqlState {
        match self {
            Self::Syntax(..) | Self::Digit(_) | Self::HexDigit(_) => {
                SqlState::INVALID_TEXT_REPRESENTATION
            }
            Self::NotFinite(..) | Self::OutOfRange(..) | Self::Overflow | Self::Underflow => {
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE
            }
            Self::Empty(_)
            | Self::Index
            | Self::Duplicate
            | Self::Dimension { .. }
            | Self::Different(..) => SqlState::DATA_EXCEPTION,
            Self::Length { .. } => SqlState::STRING_DATA_LENGTH_MISMATCH,
            Self::TooLong { .. } | Self::TooMany { .. } => SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            Self::NoFunction { .. } => SqlState::UNDEFINED_FUNCTION,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax(VectorKind::Sparsevec, _) => {
                Some("Sparse vectors are written as \"{1:1.5,3:2}/5\".".to_owned())
            }
            Self::Syntax(..) => Some("Vectors are written as \"[1,2,3]\".".to_owned()),
            Self::NoFunction { .. } => {
                Some("All arguments must be vectors of one kind.".to_owned())
            }
            Self::Digit(_)
            | Self::HexDigit(_)
            | Self::NotFinite(..)
            | Self::OutOfRange(..)
            | Self::Empty(_)
            | Self::Index
            | Self::Duplicate
            | Self::TooMany { .. }
            | Self::Length { .. }
            | Self::TooLong { .. }
            | Self::Dimension { .. }
            | Self::Different(..)
            | Self::Overflow
            | Self::Underflow => None,
        }
    }
}

/// What is wrong with a number or with bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A result that its type cannot hold.
    #[error("{0} out of range")]
    OutOfRange(&'static str),
    /// A floating-point number that grew too large.
    #[error("value out of range: overflow")]
    Overflow,
    /// A floating-point number that became zero and is not.
    #[error("value out of range: underflow")]
    Underflow,
    /// A floating-point number divided by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// Text that is not a `bytea`.
    #[error("invalid input syntax for type bytea: \"{0}\"")]
    Bytea(String),
}

impl Coded for ValueError {
    fn sql_state(&self) -> SqlState {
        match self {
            Self::OutOfRange(_) | Self::Overflow | Self::Underflow => {
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE
            }
            Self::DivisionByZero => SqlState::DIVISION_BY_ZERO,
            Self::Bytea(_) => SqlState::INVALID_TEXT_REPRESENTATION,
        }
    }
}

impl From<ValueError> for DataFusionError {
    fn from(error: ValueError) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<VectorError> for DataFusionError {
    fn from(error: VectorError) -> Self {
        Self::External(Box::new(error))
    }
}
