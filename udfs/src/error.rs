//! Errors of values, with the wording of PostgreSQL and pgvector.

use datafusion_common::DataFusionError;
use types::{Coded, SqlState};

/// What is wrong with a vector value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// Not of the form `[1,2,3]`.
    #[error("invalid input syntax for type vector: \"{0}\"")]
    Syntax(String),
    /// NaN or an infinity.
    #[error("{0} not allowed in vector")]
    NotFinite(&'static str),
    /// A number too large for `f32`.
    #[error("\"{0}\" is out of range for type vector")]
    OutOfRange(String),
    /// No numbers.
    #[error("vector must have at least 1 dimension")]
    Empty,
    /// Too many numbers.
    #[error("vector cannot have more than {max} dimensions")]
    TooLong {
        /// Most dimensions.
        max: u32,
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
    #[error("different vector dimensions {0} and {1}")]
    Different(usize, usize),
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
            Self::Syntax(_) => SqlState::INVALID_TEXT_REPRESENTATION,
            Self::NotFinite(_) | Self::OutOfRange(_) => SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            Self::Empty | Self::Dimension { .. } | Self::Different(..) => SqlState::DATA_EXCEPTION,
            Self::TooLong { .. } => SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            Self::NoFunction { .. } => SqlState::UNDEFINED_FUNCTION,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax(_) => Some("Vectors are written as \"[1,2,3]\".".to_owned()),
            Self::NoFunction { .. } => Some("Both arguments must be vectors.".to_owned()),
            Self::NotFinite(_)
            | Self::OutOfRange(_)
            | Self::Empty
            | Self::TooLong { .. }
            | Self::Dimension { .. }
            | Self::Different(..) => None,
        }
    }
}

/// What is wrong with a number or with bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A result that its type cannot hold.
    #[error("{0} out of range")]
    OutOfRange(&'static str),
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
            Self::OutOfRange(_) => SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
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
