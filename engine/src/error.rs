//! Every error as a client sees it: SQLSTATE, message, detail, hint.
//!
//! Errors of the layers below arrive through DataFusion, wrapped or as text; this file is the one
//! place that turns them into PostgreSQL's codes.

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;
use storage::StorageError;
use types::{Coded, SqlState};
use udfs::{ValueError, VectorError};

/// Longest error message; a parser may quote a whole literal.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// An error for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    state: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    object: Option<Box<ErrorObject>>,
}

/// What an error is about, for clients that look at more than the message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorObject {
    /// The namespace.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The column, if it is about one.
    pub column: Option<String>,
    /// The constraint, if it is about one.
    pub constraint: Option<String>,
}

/// Result with an [`EngineError`].
pub type Result<T> = std::result::Result<T, EngineError>;

impl EngineError {
    /// An error with a code and a message: lower case, no full stop.
    pub fn new(state: SqlState, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let end = (0..=MESSAGE_BYTES_MAX).rev().find(|at| message.is_char_boundary(*at));
            message.truncate(end.unwrap_or(0));
            message.push_str("...");
        }
        Self { state, message, detail: None, hint: None, object: None }
    }

    /// Adds a detail, a full sentence.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says which table, column or constraint the error is about.
    #[must_use]
    pub(crate) fn about(mut self, object: ErrorObject) -> Self {
        self.object = Some(Box::new(object));
        self
    }

    /// What the error is about, when that is known.
    #[must_use]
    pub fn object(&self) -> Option<&ErrorObject> {
        self.object.as_deref()
    }

    /// The same error in other words.
    #[must_use]
    pub(crate) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Adds a hint, a full sentence that says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A clause or statement that this server does not have.
    pub fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{what} is not supported"))
    }

    /// Refuses a statement that has a clause which is not supported: each clause is whether it is
    /// there, and its name.
    ///
    /// # Errors
    /// Naming the first one that is there.
    pub(crate) fn refuse_present(clauses: &[(bool, &str)]) -> Result<()> {
        match clauses.iter().find(|(present, _)| *present) {
            Some((_, what)) => Err(Self::unsupported(what)),
            None => Ok(()),
        }
    }

    /// A statement that cannot be read.
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new(SqlState::SYNTAX_ERROR, message)
    }

    /// A table that does not exist.
    #[must_use]
    pub fn no_table(name: &str) -> Self {
        Self::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
    }

    /// A schema that does not exist.
    #[must_use]
    pub fn no_schema(name: &str) -> Self {
        Self::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))
    }

    /// A column that does not exist.
    #[must_use]
    pub fn no_column(column: &str, table: &str) -> Self {
        let message = format!("column \"{column}\" of relation \"{table}\" does not exist");
        Self::new(SqlState::UNDEFINED_COLUMN, message)
    }

    /// NULL in a column that has none.
    #[must_use]
    pub fn null_value(column: &str) -> Self {
        let message = format!("null value in column \"{column}\" violates not-null constraint");
        Self::new(SqlState::NOT_NULL_VIOLATION, message)
    }

    /// The statement was cancelled.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(SqlState::QUERY_CANCELED, "canceling statement due to user request")
    }

    /// A bug of this server.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(SqlState::INTERNAL_ERROR, message)
    }

    /// The detail, if any.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Passes through DataFusion and back.
    #[must_use]
    pub fn into_datafusion(self) -> DataFusionError {
        DataFusionError::External(Box::new(self))
    }

    fn of_coded(error: &impl Coded) -> Self {
        let mut converted = Self::new(error.sql_state(), error.to_string());
        converted.hint = error.hint();
        converted
    }
}

impl Coded for EngineError {
    fn sql_state(&self) -> SqlState {
        self.state
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl From<StorageError> for EngineError {
    fn from(error: StorageError) -> Self {
        Self::of_coded(&error)
    }
}

impl From<VectorError> for EngineError {
    fn from(error: VectorError) -> Self {
        Self::of_coded(&error)
    }
}

impl From<ValueError> for EngineError {
    fn from(error: ValueError) -> Self {
        Self::of_coded(&error)
    }
}

impl From<ParserError> for EngineError {
    fn from(error: ParserError) -> Self {
        match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                Self::syntax(format!("syntax error: {}", lower_first(&message)))
            }
            ParserError::RecursionLimitExceeded => Self::too_deep(),
        }
    }
}

impl From<arrow::error::ArrowError> for EngineError {
    fn from(error: arrow::error::ArrowError) -> Self {
        DataFusionError::ArrowError(Box::new(error), None).into()
    }
}

impl EngineError {
    /// A statement nested too deeply.
    #[must_use]
    pub fn too_deep() -> Self {
        Self::new(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            format!(
                "the statement is nested more than {} levels deep",
                types::limits::STATEMENT_DEPTH_MAX
            ),
        )
        .with_hint("Use common table expressions or several statements.")
    }
}

/// Begins a sentence in lower case, but for words that are capitals throughout.
fn lower_first(text: &str) -> String {
    if text.chars().nth(1).is_some_and(char::is_uppercase) {
        return text.to_owned();
    }
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_lowercase().collect::<String>() + characters.as_str()
    })
}

impl From<DataFusionError> for EngineError {
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::External(inner) => {
                if let Some(ours) = inner.downcast_ref::<Self>() {
                    return ours.clone();
                }
                if let Some(ours) = inner.downcast_ref::<VectorError>() {
                    return Self::of_coded(ours);
                }
                if let Some(ours) = inner.downcast_ref::<ValueError>() {
                    return Self::of_coded(ours);
                }
                if let Some(ours) = inner.downcast_ref::<StorageError>() {
                    return Self::of_coded(ours);
                }
                Self::bug(inner.to_string())
            }
            DataFusionError::SQL(error, _) => Self::from(ParserError::clone(error)),
            DataFusionError::SchemaError(error, _) => of_schema_error(error),
            DataFusionError::ArrowError(error, _) => of_arrow_error(error),
            DataFusionError::Plan(message) => of_plan_error(message),
            DataFusionError::NotImplemented(message) => {
                Self::new(SqlState::FEATURE_NOT_SUPPORTED, lower_first(message))
            }
            DataFusionError::ResourcesExhausted(message) => {
                Self::new(SqlState::OUT_OF_MEMORY, lower_first(message))
            }
            DataFusionError::Execution(message) => of_execution_error(message),
            other => Self::bug(other.strip_backtrace()),
        }
    }
}

fn of_schema_error(error: &SchemaError) -> EngineError {
    match error {
        SchemaError::FieldNotFound { field, .. } => EngineError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{}\" does not exist", field.flat_name()),
        ),
        SchemaError::AmbiguousReference { field } => EngineError::new(
            SqlState::AMBIGUOUS_COLUMN,
            format!("column reference \"{}\" is ambiguous", field.name),
        ),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => EngineError::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column name \"{name}\" appears more than once"),
        ),
    }
}

fn of_arrow_error(error: &arrow::error::ArrowError) -> EngineError {
    use arrow::error::ArrowError;
    let message = match error {
        ArrowError::DivideByZero => {
            return EngineError::new(SqlState::DIVISION_BY_ZERO, "division by zero");
        }
        ArrowError::CastError(message)
            if message.starts_with("Can't cast value")
                || message.ends_with("out of range Int64") =>
        {
            let state = SqlState::NUMERIC_VALUE_OUT_OF_RANGE;
            return EngineError::new(state, lower_first(message));
        }
        ArrowError::CastError(message) | ArrowError::ParseError(message) => {
            let state = SqlState::INVALID_TEXT_REPRESENTATION;
            return EngineError::new(state, lower_first(message));
        }
        ArrowError::ExternalError(inner) => {
            if let Some(ours) = inner.downcast_ref::<ValueError>() {
                return EngineError::of_coded(ours);
            }
            return EngineError::bug(inner.to_string());
        }
        ArrowError::ComputeError(message) | ArrowError::InvalidArgumentError(message) => {
            return EngineError::new(SqlState::DATA_EXCEPTION, lower_first(message));
        }
        ArrowError::ArithmeticOverflow(message) => message.clone(),
        other => return EngineError::bug(other.to_string()),
    };
    EngineError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, lower_first(&message))
}

/// DataFusion tells planning errors apart by text alone.
fn of_plan_error(message: &str) -> EngineError {
    let first_line = message.lines().next().unwrap_or_default();
    if let Some(name) = between(first_line, "table '", "' not found") {
        let name = name.strip_prefix("azimuth.").unwrap_or(name);
        return EngineError::no_table(name.strip_prefix("public.").unwrap_or(name));
    }
    if let Some(name) = between(first_line, "Invalid function '", "'") {
        let message = format!("function {name} does not exist");
        return EngineError::new(SqlState::UNDEFINED_FUNCTION, message);
    }
    if let Some((state, message)) = known_plan_error(first_line) {
        return EngineError::new(
            state,
            message.unwrap_or_else(|| lower_first(message_of(first_line))),
        );
    }
    let state = if first_line.contains("function") && first_line.contains("No function matches") {
        SqlState::UNDEFINED_FUNCTION
    } else if first_line.contains("coerc") || first_line.contains("type") {
        SqlState::DATATYPE_MISMATCH
    } else {
        SqlState::SYNTAX_ERROR
    };
    EngineError::new(state, lower_first(message))
}

/// The part before DataFusion's account of how it got there.
fn message_of(first_line: &str) -> &str {
    first_line.split(": While expanding").next().unwrap_or(first_line)
}

/// Planning errors that PostgreSQL has codes of their own for.
fn known_plan_error(first_line: &str) -> Option<(SqlState, Option<String>)> {
    let says = |text: &str| first_line.contains(text);
    if says("LIMIT must be >=") || says("OFFSET must be >=") {
        let limit = says("LIMIT");
        let what = if limit { "LIMIT" } else { "OFFSET" };
        let state = if limit {
            SqlState::INVALID_ROW_COUNT_IN_LIMIT
        } else {
            SqlState::INVALID_ROW_COUNT_IN_OFFSET
        };
        return Some((state, Some(format!("{what} must not be negative"))));
    }
    if says("must be in GROUP BY") || says("must appear in the GROUP BY") {
        return Some((SqlState::GROUPING_ERROR, None));
    }
    if says("non-boolean predicate") {
        let message = "argument of WHERE must be type boolean".to_owned();
        return Some((SqlState::DATATYPE_MISMATCH, Some(message)));
    }
    says("column out of bounds").then_some((SqlState::INVALID_COLUMN_REFERENCE, None))
}

fn of_execution_error(message: &str) -> EngineError {
    if message.contains("returned more than one row") {
        let message = "more than one row returned by a subquery used as an expression";
        return EngineError::new(SqlState::CARDINALITY_VIOLATION, message);
    }
    if let Some(name) = between(message, "Placeholder '", "' was not provided") {
        let message = format!("there is no parameter {name}");
        return EngineError::new(SqlState::UNDEFINED_PARAMETER, message);
    }
    EngineError::new(SqlState::DATA_EXCEPTION, lower_first(message))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    let length = text[start..].find(after)?;
    Some(&text[start..start + length])
}
