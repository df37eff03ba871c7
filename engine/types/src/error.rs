//! What an error means to a caller: PostgreSQL's five-character code and whose fault it is.
//! Codes: PostgreSQL 16 documentation, appendix A.

use std::fmt;

/// A PostgreSQL error code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(&'static str);

macro_rules! sql_states {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState {
            $($(#[$doc])* pub const $name: Self = Self($code);)*
        }
    };
}

sql_states! {
    /// No error: what a notice has.
    SUCCESSFUL_COMPLETION = "00000";
    /// Malformed message on the wire.
    PROTOCOL_VIOLATION = "08P01";
    /// A clause or statement this server does not have.
    FEATURE_NOT_SUPPORTED = "0A000";
    /// A scalar subquery with more than one row.
    CARDINALITY_VIOLATION = "21000";
    /// A negative LIMIT.
    INVALID_ROW_COUNT_IN_LIMIT = "2201W";
    /// A negative OFFSET.
    INVALID_ROW_COUNT_IN_OFFSET = "2201X";
    /// A column that is neither grouped nor aggregated.
    GROUPING_ERROR = "42803";
    /// A cast that does not exist.
    CANNOT_COERCE = "42846";
    /// A reserved name.
    RESERVED_NAME = "42939";
    /// A position that names no column.
    INVALID_COLUMN_REFERENCE = "42P10";
    /// A value of the right type that is not acceptable, for example a wrong dimension.
    DATA_EXCEPTION = "22000";
    /// NaN, infinity, or a number out of its type's range.
    NUMERIC_VALUE_OUT_OF_RANGE = "22003";
    /// An instant outside the readable range.
    DATETIME_FIELD_OVERFLOW = "22008";
    /// `invalid_datetime_format`
    INVALID_DATETIME_FORMAT = "22007";
    /// Division by zero.
    DIVISION_BY_ZERO = "22012";
    /// NULL where a value is needed.
    NULL_VALUE_NOT_ALLOWED = "22004";
    /// A bit string of another length than its type.
    STRING_DATA_LENGTH_MISMATCH = "22026";
    /// Bytes that are not UTF-8.
    CHARACTER_NOT_IN_REPERTOIRE = "22021";
    /// A setting or option with an unacceptable value.
    INVALID_PARAMETER_VALUE = "22023";
    /// Text that is not of the form its type asks for.
    INVALID_TEXT_REPRESENTATION = "22P02";
    /// Binary data that is not of the form its type asks for.
    INVALID_BINARY_REPRESENTATION = "22P03";
    /// COPY data that does not fit the table.
    BAD_COPY_FILE_FORMAT = "22P04";
    /// NULL in a NOT NULL column.
    NOT_NULL_VIOLATION = "23502";
    /// Duplicate key.
    UNIQUE_VIOLATION = "23505";
    /// A row that a CHECK constraint forbids.
    CHECK_VIOLATION = "23514";
    /// A text that is longer than its type.
    STRING_DATA_RIGHT_TRUNCATION = "22001";
    /// The name of a constraint is taken.
    DUPLICATE_OBJECT = "42710";
    /// A sequence has no further value.
    SEQUENCE_LIMIT_EXCEEDED = "2200H";
    /// A value for a column that always takes those of its sequence.
    GENERATED_ALWAYS = "428C9";
    /// A statement that has no place inside a transaction.
    ACTIVE_SQL_TRANSACTION = "25001";
    /// A statement that has no place outside of a transaction.
    NO_ACTIVE_SQL_TRANSACTION = "25P01";
    /// A session that was idle inside a transaction for too long.
    IDLE_IN_TRANSACTION_TIMEOUT = "25P03";
    /// A savepoint that does not exist.
    INVALID_SAVEPOINT_SPECIFICATION = "3B001";
    /// A write where only reading is possible.
    READ_ONLY_SQL_TRANSACTION = "25006";
    /// A statement inside an aborted transaction.
    IN_FAILED_SQL_TRANSACTION = "25P02";
    /// A prepared statement that does not exist.
    INVALID_SQL_STATEMENT_NAME = "26000";
    /// Wrong user or password.
    INVALID_PASSWORD = "28P01";
    /// A portal that does not exist.
    INVALID_CURSOR_NAME = "34000";
    /// A schema that does not exist.
    INVALID_SCHEMA_NAME = "3F000";
    /// A database that does not exist.
    INVALID_CATALOG_NAME = "3D000";
    /// A concurrent commit changed the same rows; the transaction may be tried again.
    SERIALIZATION_FAILURE = "40001";
    /// Whether the write was committed cannot be known.
    STATEMENT_COMPLETION_UNKNOWN = "40003";
    /// Permission denied.
    INSUFFICIENT_PRIVILEGE = "42501";
    /// Syntax error.
    SYNTAX_ERROR = "42601";
    /// A name that more than one column has.
    AMBIGUOUS_COLUMN = "42702";
    /// No such column.
    UNDEFINED_COLUMN = "42703";
    /// No such setting, role or other object.
    UNDEFINED_OBJECT = "42704";
    /// A column named twice.
    DUPLICATE_COLUMN = "42701";
    /// Wrong types for an operator or function, or the result of an expression.
    DATATYPE_MISMATCH = "42804";
    /// No such function or operator for these types.
    UNDEFINED_FUNCTION = "42883";
    /// No such table.
    UNDEFINED_TABLE = "42P01";
    /// A parameter number without a value.
    UNDEFINED_PARAMETER = "42P02";
    /// A prepared statement that exists already.
    DUPLICATE_PREPARED_STATEMENT = "42P05";
    /// A schema that exists already.
    DUPLICATE_SCHEMA = "42P06";
    /// A table or index that exists already.
    DUPLICATE_TABLE = "42P07";
    /// The type of a parameter cannot be told.
    INDETERMINATE_DATATYPE = "42P18";
    /// A wrong definition of a table.
    INVALID_TABLE_DEFINITION = "42P16";
    /// A wrong kind of object for the statement.
    WRONG_OBJECT_TYPE = "42809";
    /// Objects that depend on the one to be dropped.
    DEPENDENT_OBJECTS_STILL_EXIST = "2BP01";
    /// `too_many_columns`
    TOO_MANY_COLUMNS = "54011";
    /// No space left on the device.
    DISK_FULL = "53100";
    /// Out of the memory granted.
    OUT_OF_MEMORY = "53200";
    /// Too many connections.
    TOO_MANY_CONNECTIONS = "53300";
    /// A named limit of this server was reached.
    CONFIGURATION_LIMIT_EXCEEDED = "53400";
    /// An object that is not in the state that the statement needs.
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000";
    /// A cursor that exists already.
    DUPLICATE_CURSOR = "42P03";
    /// Another process or statement holds the object.
    OBJECT_IN_USE = "55006";
    /// The statement was cancelled or timed out.
    QUERY_CANCELED = "57014";
    /// The server is going down.
    ADMIN_SHUTDOWN = "57P01";
    /// The operating system reported an input or output error.
    IO_ERROR = "58030";
    /// A stored file is damaged.
    DATA_CORRUPTED = "XX001";
    /// A bug of this server.
    INTERNAL_ERROR = "XX000";
}

impl SqlState {
    /// The five characters.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({})", self.0)
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Whose fault an error is, and so what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The statement or its data is wrong: change it.
    User,
    /// A concurrent change got in the way: try again.
    Retry,
    /// A limit was reached: ask for less or raise the limit.
    Capacity,
    /// The machine failed to read or write.
    Io,
    /// A stored file is damaged.
    Corruption,
    /// The server is wrong: report it.
    Bug,
}

/// An error that knows its meaning to a client.
pub trait Coded: std::error::Error {
    /// The code sent to the client.
    fn sql_state(&self) -> SqlState;

    /// Whose fault it is.
    fn fault(&self) -> Fault {
        match self.sql_state().code() {
            "40001" => Fault::Retry,
            "XX000" => Fault::Bug,
            "XX001" => Fault::Corruption,
            "58030" => Fault::Io,
            code if code.starts_with("53") => Fault::Capacity,
            _ => Fault::User,
        }
    }

    /// A full sentence that tells the user what to do next.
    fn hint(&self) -> Option<String> {
        None
    }
}
