//! SQL type names to columns and to Arrow.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use catalog::{ColumnType, ItemType};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{self, ExactNumberInfo, TimezoneInfo};
use storage::memtable::{arrow_type, vector_field};
use types::limits::{
    BIT_LENGTH_MAX, DIM_MAX, NUMERIC_PRECISION_MAX, SPARSE_DIM_MAX, VARCHAR_LENGTH_MAX,
};
use types::{Dim, SqlState, VectorKind};

use crate::error::{EngineError, Result};

/// Metadata key that tells the wire which PostgreSQL type a field has, where Arrow's type does not.
pub const PG_TYPE_KEY: &str = "azimuth.pg_type";

/// Metadata key of the dimension that a cast to `sparsevec(n)` asks for.
pub(crate) const DIMENSION_KEY: &str = "azimuth.dimension";

/// A type that a column can have; `None` for types that exist in expressions only.
pub(crate) fn column_type(sql_type: &ast::DataType) -> Result<Option<ColumnType>> {
    use ast::DataType as Sql;
    Ok(Some(match sql_type {
        Sql::Bool | Sql::Boolean => ColumnType::Boolean,
        Sql::Int2(None) | Sql::SmallInt(None) => ColumnType::Int2,
        Sql::Int(None) | Sql::Int4(None) | Sql::Integer(None) => ColumnType::Int4,
        Sql::Int8(None) | Sql::BigInt(None) => ColumnType::Int8,
        Sql::Real | Sql::Float4 => ColumnType::Float4,
        Sql::Float8 | Sql::DoublePrecision | Sql::Float(ExactNumberInfo::None) => {
            ColumnType::Float8
        }
        // Bits of the significand.
        Sql::Float(ExactNumberInfo::Precision(1..=24)) => ColumnType::Float4,
        Sql::Float(ExactNumberInfo::Precision(25..=53)) => ColumnType::Float8,
        Sql::Text => ColumnType::Text,
        Sql::Varchar(None) | Sql::CharacterVarying(None) | Sql::CharVarying(None) => {
            ColumnType::Varchar
        }
        Sql::Varchar(Some(length))
        | Sql::CharacterVarying(Some(length))
        | Sql::CharVarying(Some(length)) => varchar(length)?,
        Sql::Numeric(digits) | Sql::Decimal(digits) | Sql::Dec(digits) => numeric(digits)?,
        Sql::Uuid => ColumnType::Uuid,
        Sql::Time(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => ColumnType::Time,
        Sql::Bytea => ColumnType::Bytea,
        Sql::Date => ColumnType::Date,
        Sql::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            ColumnType::Timestamp
        }
        Sql::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            ColumnType::TimestampTz
        }
        Sql::Interval { fields: _, precision: None } => ColumnType::Interval,
        Sql::Array(
            ast::ArrayElemTypeDef::SquareBracket(item, _)
            | ast::ArrayElemTypeDef::AngleBracket(item),
        ) => return Ok(column_type(item)?.and_then(ItemType::of).map(ColumnType::Array)),
        // Without a length, a bit.
        Sql::Bit(length) => {
            let length = length.map_or_else(|| "1".to_owned(), |length| length.to_string());
            ColumnType::Bit(parse_dimension(VectorKind::Bit, &length)?)
        }
        Sql::Custom(name, modifiers) => return custom_type(&last_part(name), modifiers),
        _ => return Ok(None),
    }))
}

/// The last part of a name, folded to lower case unless quoted.
pub(crate) fn last_part(name: &ast::ObjectName) -> String {
    name.0.last().and_then(ast::ObjectNamePart::as_ident).map(fold).unwrap_or_default()
}

/// An identifier as PostgreSQL stores it.
pub(crate) fn fold(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The parts of a name in a text, `a."B".c`; empty when it is none.
pub(crate) fn name_parts(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted, mut was_quoted) =
        (Vec::new(), String::new(), false, false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => part.extend(characters.next()),
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            '.' if !quoted => {
                parts.push(std::mem::take(&mut part));
                was_quoted = false;
            }
            c if quoted => part.push(c),
            c if c.is_whitespace() => {}
            c if was_quoted => part.push(c),
            c => part.extend(c.to_lowercase()),
        }
    }
    parts.push(part);
    if quoted { Vec::new() } else { parts }
}

/// `expr::data_type`
pub(crate) fn cast(expr: ast::Expr, data_type: ast::DataType) -> ast::Expr {
    ast::Expr::Cast {
        kind: ast::CastKind::DoubleColon,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}

/// A type by name, as the parser would have read it.
pub(crate) fn named_type(name: &str, modifiers: Vec<String>) -> ast::DataType {
    ast::DataType::Custom(ast::ObjectName::from(vec![ast::Ident::new(name)]), modifiers)
}

/// The number of a parameter `$n`, from one.
pub(crate) fn parameter_number(placeholder: &str) -> Option<usize> {
    placeholder.strip_prefix('$')?.parse().ok().filter(|number| *number > 0)
}

fn custom_type(name: &str, modifiers: &[String]) -> Result<Option<ColumnType>> {
    Ok(Some(match name {
        "vector" | "halfvec" | "bit" | "sparsevec" => {
            let [dim] = modifiers else { return Ok(None) };
            let Some(kind) = VectorKind::from_name(name) else { return Ok(None) };
            ColumnType::of_vector(kind, parse_dimension(kind, dim)?)
        }
        "bool" => ColumnType::Boolean,
        "int2" => ColumnType::Int2,
        "int4" => ColumnType::Int4,
        "int8" => ColumnType::Int8,
        "float4" => ColumnType::Float4,
        "float8" => ColumnType::Float8,
        "text" => ColumnType::Text,
        "varchar" => ColumnType::Varchar,
        "numeric" => ColumnType::NUMERIC,
        "uuid" => ColumnType::Uuid,
        "time" => ColumnType::Time,
        "bytea" => ColumnType::Bytea,
        "date" => ColumnType::Date,
        "timestamp" => ColumnType::Timestamp,
        "timestamptz" => ColumnType::TimestampTz,
        "interval" => ColumnType::Interval,
        _ => return Ok(None),
    }))
}

fn varchar(length: &ast::CharacterLength) -> Result<ColumnType> {
    let invalid = |message: String| EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    match length {
        ast::CharacterLength::IntegerLength { length: 0, .. } => {
            Err(invalid("length for type varchar must be at least 1".to_owned()))
        }
        ast::CharacterLength::IntegerLength { length, unit: None } => {
            match u32::try_from(*length).ok().filter(|length| *length <= VARCHAR_LENGTH_MAX) {
                Some(length) => Ok(ColumnType::VarcharN(length)),
                None => Err(invalid(format!(
                    "length for type varchar cannot exceed {VARCHAR_LENGTH_MAX}"
                ))),
            }
        }
        other => Err(EngineError::unsupported(format!("varchar({other})"))),
    }
}

fn numeric(digits: &ExactNumberInfo) -> Result<ColumnType> {
    let (precision, scale) = match digits {
        ExactNumberInfo::None => return Ok(ColumnType::NUMERIC),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let most = NUMERIC_PRECISION_MAX;
    let message = match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if (1..=most).contains(&precision) && scale <= precision => {
            return Ok(ColumnType::Numeric { precision, scale });
        }
        (Ok(given), _) if (1..=most).contains(&given) => {
            format!("NUMERIC scale {scale} must be between 0 and precision {precision}")
        }
        _ => format!("NUMERIC precision {precision} must be between 1 and {most}"),
    };
    Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message))
}

fn parse_dimension(kind: VectorKind, text: &str) -> Result<Dim> {
    let error = |message: String| EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let (what, most) = match kind {
        VectorKind::Vector | VectorKind::Halfvec => ("dimensions", DIM_MAX),
        VectorKind::Bit => ("length", BIT_LENGTH_MAX),
        VectorKind::Sparsevec => ("dimensions", SPARSE_DIM_MAX),
    };
    let name = kind.name();
    match text.trim().parse::<u32>() {
        Ok(0) => Err(error(format!("{what} for type {name} must be at least 1"))),
        Ok(dim) if dim > most => Err(error(format!("{what} for type {name} cannot exceed {most}"))),
        Ok(dim) => Ok(Dim(dim)),
        Err(_) => Err(error(format!("invalid dimension \"{text}\" for type {name}"))),
    }
}

/// The type of a column in CREATE TABLE.
pub(crate) fn column_type_required(sql_type: &ast::DataType) -> Result<ColumnType> {
    if let ast::DataType::Custom(name, modifiers) = sql_type
        && let Some(kind) = VectorKind::from_name(&last_part(name))
        && modifiers.is_empty()
    {
        let name = kind.name();
        return Err(EngineError::unsupported(format!("a {name} column without dimensions"))
            .with_hint(format!("Give the number of dimensions, for example {name}(384).")));
    }
    column_type(sql_type)?
        .ok_or_else(|| EngineError::unsupported(format!("a column of type {sql_type}")))
}

/// Types in casts and parameters.
#[derive(Debug)]
pub(crate) struct AzimuthTypes;

fn plain(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("", data_type, true))
}

/// The field of a column type, with what the wire needs to know.
pub(crate) fn field_of(column_type: ColumnType) -> FieldRef {
    match column_type.vector() {
        Some((VectorKind::Sparsevec, dim)) => {
            let mut field = vector_field("", VectorKind::Sparsevec, dim);
            field.metadata_mut().insert(DIMENSION_KEY.to_owned(), dim.to_string());
            Arc::new(field)
        }
        Some((kind, dim)) => Arc::new(vector_field("", kind, dim)),
        None => plain(arrow_type(column_type)),
    }
}

impl TypePlanner for AzimuthTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        if let Some(known) = column_type(sql_type).map_err(EngineError::into_datafusion)? {
            return Ok(Some(field_of(known)));
        }
        let name = match sql_type {
            ast::DataType::Regclass => return Ok(Some(plain(DataType::Utf8))),
            ast::DataType::Custom(name, modifiers) if modifiers.is_empty() => last_part(name),
            _ => return Ok(None),
        };
        if let Some(element) = name.strip_suffix("[]") {
            let element = custom_type(element, &[]).map_err(EngineError::into_datafusion)?;
            let list = |element| {
                let item = Field::new_list_field(arrow_type(element), true);
                plain(DataType::List(Arc::new(item)))
            };
            return Ok(element.map(list));
        }
        Ok(match name.as_str() {
            "vector" => Some(Arc::new(vector_field("", VectorKind::Vector, Dim(0)))),
            "halfvec" => Some(Arc::new(vector_field("", VectorKind::Halfvec, Dim(0)))),
            "sparsevec" => Some(Arc::new(vector_field("", VectorKind::Sparsevec, Dim(0)))),
            "oid" | "xid" => {
                let named = HashMap::from([(PG_TYPE_KEY.to_owned(), name.clone())]);
                let field = Field::new("", DataType::Int64, true).with_metadata(named);
                Some(Arc::new(field))
            }
            "name" | "char" | "regclass" | "regtype" | "regproc" | "regnamespace" | "regrole" => {
                Some(plain(DataType::Utf8))
            }
            _ => None,
        })
    }
}
