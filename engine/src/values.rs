//! Values at the border: text and Arrow arrays become columns of a table, or an error that names
//! the value.

use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, BinaryBuilder, BooleanBuilder, Date32Builder,
    Decimal128Builder, FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int16Builder,
    Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder, ListArray, StringBuilder,
    Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Float16Type, Float32Type, Float64Type,
};
use catalog::{Column, ColumnType, ItemType};
use datafusion::common::ScalarValue;
use storage::memtable::arrow_type;
use types::{Coded as _, Dim, SqlState, VectorKind};
use udfs::{CheckedFunction, VectorBuilder, check_dimension, parse_bytea};
use vector::Row;

use crate::array_text::{array_from_text, array_items};
use crate::error::{EngineError, Result};
use crate::interval_text::parse_interval;
use crate::parse_value::{
    check_float, invalid, of_length, parse_boolean, parse_date, parse_integer, parse_numeric,
    parse_time_of_day, parse_timestamp, parse_uuid, without_zero,
};
use crate::value_text::texts;

/// Builds one column from text values.
pub(crate) enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    /// Text, and the most characters it has.
    Text(StringBuilder, Option<u32>),
    Numeric(Decimal128Builder, u8, u8),
    Uuid(FixedSizeBinaryBuilder),
    Time(Time64MicrosecondBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder, ColumnType),
    Interval(IntervalMonthDayNanoBuilder),
    Array(Box<ArrayBuilder>),
    Vector(VectorBuilder),
}

/// Arrays: their items, one behind the other.
pub(crate) struct ArrayBuilder {
    item: FieldRef,
    items: ColumnBuilder,
    /// Where each array ends; `None` of one that is NULL.
    lengths: Vec<Option<usize>>,
}

impl ColumnBuilder {
    pub(crate) fn new(column_type: ColumnType) -> Self {
        let vectors = |kind, dim: Dim| Self::Vector(VectorBuilder::new(kind, dim.len()));
        match column_type {
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Int2 => Self::Int2(Int16Builder::new()),
            ColumnType::Int4 => Self::Int4(Int32Builder::new()),
            ColumnType::Int8 => Self::Int8(Int64Builder::new()),
            ColumnType::Float4 => Self::Float4(Float32Builder::new()),
            ColumnType::Float8 => Self::Float8(Float64Builder::new()),
            ColumnType::Text | ColumnType::Varchar => Self::Text(StringBuilder::new(), None),
            ColumnType::VarcharN(length) => Self::Text(StringBuilder::new(), Some(length)),
            ColumnType::Numeric { precision, scale } => {
                let builder = Decimal128Builder::new().with_data_type(arrow_type(column_type));
                Self::Numeric(builder, precision, scale)
            }
            ColumnType::Uuid => Self::Uuid(FixedSizeBinaryBuilder::new(UUID_BYTES)),
            ColumnType::Time => Self::Time(Time64MicrosecondBuilder::new()),
            ColumnType::Bytea => Self::Bytea(BinaryBuilder::new()),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Timestamp | ColumnType::TimestampTz => Self::Timestamp(
                TimestampMicrosecondBuilder::new().with_data_type(arrow_type(column_type)),
                column_type,
            ),
            ColumnType::Interval => Self::Interval(IntervalMonthDayNanoBuilder::new()),
            ColumnType::Array(item) => Self::Array(Box::new(ArrayBuilder::new(item))),
            ColumnType::Vector(dim) => vectors(VectorKind::Vector, dim),
            ColumnType::Halfvec(dim) => vectors(VectorKind::Halfvec, dim),
            ColumnType::Bit(dim) => vectors(VectorKind::Bit, dim),
            ColumnType::Sparsevec(dim) => vectors(VectorKind::Sparsevec, dim),
        }
    }

    /// Appends a value in its type's text form, or NULL.
    pub(crate) fn push(&mut self, text: Option<&str>) -> Result<()> {
        let Some(text) = text else {
            self.push_null();
            return Ok(());
        };
        match self {
            Self::Boolean(b) => {
                b.append_value(parse_boolean(text).ok_or_else(|| invalid("boolean", text))?);
            }
            Self::Int2(b) => b.append_value(parse_integer("smallint", text)?),
            Self::Int4(b) => b.append_value(parse_integer("integer", text)?),
            Self::Int8(b) => b.append_value(parse_integer("bigint", text)?),
            Self::Float4(b) => {
                let value: f32 = text.trim().parse().map_err(|_| invalid("real", text))?;
                check_float(f64::from(value), "real", text)?;
                b.append_value(canonical_f32(value));
            }
            Self::Float8(b) => {
                let name = "double precision";
                let value: f64 = text.trim().parse().map_err(|_| invalid(name, text))?;
                check_float(value, name, text)?;
                b.append_value(canonical_f64(value));
            }
            Self::Text(b, most) => b.append_value(of_length(without_zero(text)?, *most)?),
            Self::Numeric(b, precision, scale) => {
                b.append_value(parse_numeric(text, *precision, *scale)?);
            }
            Self::Uuid(b) => b.append_value(parse_uuid(text)?.as_bytes())?,
            Self::Time(b) => {
                let time = parse_time_of_day(text.trim());
                b.append_value(time.ok_or_else(|| invalid("time", text))?);
            }
            Self::Bytea(b) => b.append_value(parse_bytea(text)?),
            Self::Date(b) => {
                b.append_value(parse_date(text).ok_or_else(|| invalid("date", text))?);
            }
            Self::Timestamp(b, column_type) => b.append_value(
                parse_timestamp(text).ok_or_else(|| invalid(&column_type.sql_name(), text))?,
            ),
            Self::Interval(b) => b.append_value(parse_interval(text)?),
            Self::Array(b) => b.push_text(text)?,
            Self::Vector(b) => b.push_text(text)?,
        }
        Ok(())
    }

    /// Appends a value of the column's own type, or NULL.
    pub(crate) fn push_value(&mut self, value: &ScalarValue) -> Result<()> {
        if value.is_null() {
            self.push_null();
            return Ok(());
        }
        match (self, value) {
            (Self::Boolean(b), ScalarValue::Boolean(value)) => b.append_option(*value),
            (Self::Int2(b), ScalarValue::Int16(value)) => b.append_option(*value),
            (Self::Int4(b), ScalarValue::Int32(value)) => b.append_option(*value),
            (Self::Int8(b), ScalarValue::Int64(value)) => b.append_option(*value),
            (Self::Float4(b), ScalarValue::Float32(value)) => {
                b.append_option(value.map(canonical_f32));
            }
            (Self::Float8(b), ScalarValue::Float64(value)) => {
                b.append_option(value.map(canonical_f64));
            }
            (Self::Text(b, most), ScalarValue::Utf8(Some(value))) => {
                b.append_value(of_length(without_zero(value)?, *most)?);
            }
            (Self::Numeric(b, precision, scale), value @ ScalarValue::Decimal128(..)) => {
                let own = ColumnType::Numeric { precision: *precision, scale: *scale };
                let array = cast_checked(&value.to_array()?, &arrow_type(own))?;
                b.append_value(array.as_primitive::<Decimal128Type>().value(0));
            }
            (Self::Uuid(b), ScalarValue::FixedSizeBinary(_, Some(value))) => {
                b.append_value(value)?;
            }
            (Self::Time(b), ScalarValue::Time64Microsecond(value)) => b.append_option(*value),
            (Self::Bytea(b), ScalarValue::Binary(value)) => b.append_option(value.as_ref()),
            (Self::Date(b), ScalarValue::Date32(value)) => b.append_option(*value),
            (Self::Timestamp(b, _), ScalarValue::TimestampMicrosecond(value, _)) => {
                b.append_option(*value);
            }
            (Self::Interval(b), ScalarValue::IntervalMonthDayNano(value)) => {
                b.append_option(*value);
            }
            (Self::Array(b), ScalarValue::List(list)) => b.push_items(&list.value(0))?,
            (Self::Vector(b), value) => {
                let vector = udfs::vector_of(value);
                b.push(vector.ok_or_else(|| EngineError::bug("not a vector"))?.row())?;
            }
            _ => return Err(EngineError::bug("a value is not of its column's type")),
        }
        Ok(())
    }

    fn push_null(&mut self) {
        match self {
            Self::Boolean(b) => b.append_null(),
            Self::Int2(b) => b.append_null(),
            Self::Int4(b) => b.append_null(),
            Self::Int8(b) => b.append_null(),
            Self::Float4(b) => b.append_null(),
            Self::Float8(b) => b.append_null(),
            Self::Text(b, _) => b.append_null(),
            Self::Numeric(b, ..) => b.append_null(),
            Self::Uuid(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
            Self::Bytea(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Timestamp(b, _) => b.append_null(),
            Self::Interval(b) => b.append_null(),
            Self::Array(b) => b.lengths.push(None),
            Self::Vector(b) => b.push_null(),
        }
    }

    /// Bytes held so far, to bound a load.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(b, _) => b.values_slice().len(),
            Self::Bytea(b) => b.values_slice().len(),
            Self::Array(b) => b.items.bytes() + b.lengths.len() * size_of::<Option<usize>>(),
            Self::Vector(b) => b.bytes(),
            Self::Boolean(_)
            | Self::Int2(_)
            | Self::Int4(_)
            | Self::Int8(_)
            | Self::Float4(_)
            | Self::Float8(_)
            | Self::Numeric(..)
            | Self::Uuid(_)
            | Self::Time(_)
            | Self::Date(_)
            | Self::Interval(_)
            | Self::Timestamp(..) => 0,
        }
    }

    pub(crate) fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Boolean(mut b) => Arc::new(b.finish()),
            Self::Int2(mut b) => Arc::new(b.finish()),
            Self::Int4(mut b) => Arc::new(b.finish()),
            Self::Int8(mut b) => Arc::new(b.finish()),
            Self::Float4(mut b) => Arc::new(b.finish()),
            Self::Float8(mut b) => Arc::new(b.finish()),
            Self::Text(mut b, _) => Arc::new(b.finish()),
            Self::Numeric(mut b, ..) => Arc::new(b.finish()),
            Self::Uuid(mut b) => Arc::new(b.finish()),
            Self::Time(mut b) => Arc::new(b.finish()),
            Self::Bytea(mut b) => Arc::new(b.finish()),
            Self::Date(mut b) => Arc::new(b.finish()),
            Self::Timestamp(mut b, _) => Arc::new(b.finish()),
            Self::Interval(mut b) => Arc::new(b.finish()),
            Self::Array(b) => b.finish()?,
            Self::Vector(b) => b.finish()?,
        })
    }
}

impl ArrayBuilder {
    fn new(item: ItemType) -> Self {
        let column_type = item.column_type();
        let item = Arc::new(Field::new_list_field(arrow_type(column_type), true));
        Self { item, items: ColumnBuilder::new(column_type), lengths: Vec::new() }
    }

    fn push_text(&mut self, text: &str) -> Result<()> {
        let items = array_items(text)?;
        self.lengths.push(Some(items.len()));
        items.iter().try_for_each(|item| self.items.push(item.as_deref()))
    }

    fn push_items(&mut self, items: &ArrayRef) -> Result<()> {
        self.lengths.push(Some(items.len()));
        let value = |at| ScalarValue::try_from_array(items, at);
        (0..items.len()).try_for_each(|at| self.items.push_value(&value(at)?))
    }

    fn finish(self) -> Result<ArrayRef> {
        let nulls: NullBuffer = self.lengths.iter().map(Option::is_some).collect();
        let lengths = self.lengths.iter().map(|length| length.unwrap_or(0));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(self.item, offsets, self.items.finish()?, Some(nulls))?))
    }
}

/// Arrays with items of another type, or those of a column that keeps its values in one form.
fn assign_items(array: &ArrayRef, item: ItemType, column: &Column) -> Result<ArrayRef> {
    let lists = array.as_list::<i32>();
    let of_item = Column::new(&column.name, item.column_type(), true);
    let items = assign(lists.values(), &of_item).map_err(|error| {
        if error.sql_state() != SqlState::DATATYPE_MISMATCH {
            return error;
        }
        let (to, from) = (column.column_type.sql_name(), pg_name(array.data_type()));
        let name = &column.name;
        error.with_message(format!(
            "column \"{name}\" is of type {to} but expression is of type {from}"
        ))
    })?;
    let field = Arc::new(Field::new_list_field(arrow_type(item.column_type()), true));
    let offsets = lists.offsets().clone();
    Ok(Arc::new(ListArray::try_new(field, offsets, items, lists.nulls().cloned())?))
}

/// Turns the result of an expression into a column's type, as PostgreSQL does on assignment.
pub(crate) fn assign(array: &ArrayRef, column: &Column) -> Result<ArrayRef> {
    let target = arrow_type(column.column_type);
    let assigned = match (array.data_type(), column.column_type) {
        (DataType::Null, _) => arrow::array::new_null_array(&target, array.len()),
        (from, to) if let Some(((kind, dim), (to, expected))) = assigned_vector(from, to) => {
            if array.null_count() == array.len() {
                arrow::array::new_null_array(&target, array.len())
            } else if kind == to && dim > 0 {
                check_dimension(to, expected.len(), dim)?;
                Arc::clone(array)
            } else {
                udfs::convert((to, expected.len()), &**array)?
            }
        }
        (DataType::List(from), ColumnType::Array(item))
            if !is_text(from.data_type()) || is_text(&arrow_type(item.column_type())) =>
        {
            assign_items(array, item, column)?
        }
        (DataType::List(_), to)
            if let Some((kind, dim)) = to.vector().filter(|(kind, _)| *kind != VectorKind::Bit) =>
        {
            vector_of_lists(array, (kind, dim))?
        }
        (DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8, other)
            if !matches!(
                other,
                ColumnType::Text | ColumnType::Varchar | ColumnType::VarcharN(_)
            ) =>
        {
            text_to(array, other)?
        }
        (from, _) if from == &target => Arc::clone(array),
        (from, ColumnType::Text | ColumnType::Varchar | ColumnType::VarcharN(_))
            if assignable(from, column.column_type) =>
        {
            Arc::new(texts(array)?)
        }
        (from, to) if assignable(from, to) => {
            let rounded = round_if_float(array, to)?;
            cast_checked(&rounded, &target)
                .map_err(|error| error.with_message(format!("{} out of range", to.sql_name())))?
        }
        (from, to) => {
            return Err(EngineError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "column \"{}\" is of type {} but expression is of type {}",
                    column.name,
                    to.sql_name(),
                    pg_name(from)
                ),
            )
            .with_hint("You will need to rewrite or cast the expression."));
        }
    };
    let assigned: ArrayRef = match column.column_type {
        ColumnType::Float4 => {
            Arc::new(assigned.as_primitive::<Float32Type>().unary::<_, Float32Type>(canonical_f32))
        }
        ColumnType::Float8 => {
            Arc::new(assigned.as_primitive::<Float64Type>().unary::<_, Float64Type>(canonical_f64))
        }
        _ => assigned,
    };
    check_column(&assigned, column)?;
    match column.column_type {
        ColumnType::VarcharN(most) => all_of_length(&assigned, most),
        _ => Ok(assigned),
    }
}

/// A cast that fails where a value does not fit.
fn cast_checked(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let out_of_range = |_| EngineError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "out of range");
    cast_with_options(array, target, &options).map_err(out_of_range)
}

fn all_of_length(array: &ArrayRef, most: u32) -> Result<ArrayRef> {
    let texts = array.as_string::<i32>();
    if texts.iter().flatten().all(|text| text.len() <= most as usize) {
        return Ok(Arc::clone(array));
    }
    let mut builder = ColumnBuilder::new(ColumnType::VarcharN(most));
    texts.iter().try_for_each(|text| builder.push(text))?;
    builder.finish()
}

/// Bytes of a `uuid`.
const UUID_BYTES: i32 = 16;

/// A `uuid` of 16 bytes as text.
#[must_use]
pub fn uuid_text(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map_or_else(|_| String::new(), |uuid| uuid.to_string())
}

/// Zero has one sign and NaN one pattern in a column: comparisons and keys go by bits.
fn canonical_f32(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value + 0.0 }
}

fn canonical_f64(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value + 0.0 }
}

/// What must hold of every value of a column: NOT NULL, and finite numbers in vectors.
pub(crate) fn check_column(array: &ArrayRef, column: &Column) -> Result<()> {
    if !column.nullable && array.null_count() > 0 {
        return Err(EngineError::null_value(&column.name));
    }
    let Some(list) = array.as_fixed_size_list_opt() else { return Ok(()) };
    let finite = match column.column_type {
        ColumnType::Vector(_) => {
            list.values().as_primitive::<Float32Type>().values().iter().all(|n| n.is_finite())
        }
        ColumnType::Halfvec(_) => {
            list.values().as_primitive::<Float16Type>().values().iter().all(|n| n.is_finite())
        }
        _ => true,
    };
    if finite {
        return Ok(());
    }
    let name = column.column_type.vector().map_or("vector", |(kind, _)| kind.name());
    let message = format!("NaN or infinite value not allowed in {name}");
    Err(EngineError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

fn text_to(array: &ArrayRef, to: ColumnType) -> Result<ArrayRef> {
    let text = cast(array, &DataType::Utf8)?;
    let text = text.as_string::<i32>();
    let mut builder = ColumnBuilder::new(to);
    text.iter().try_for_each(|value| builder.push(value))?;
    builder.finish()
}

/// Kinds and dimensions of vectors and of the column that they can be assigned to: one of the same kind,
/// or one of numbers, too.
fn assigned_vector(
    from: &DataType,
    to: ColumnType,
) -> Option<((VectorKind, usize), (VectorKind, Dim))> {
    let (from, to) = (udfs::vector_shape(from)?, to.vector()?);
    let of_bits = |kind: VectorKind| kind == VectorKind::Bit;
    (of_bits(from.0) == of_bits(to.0)).then_some((from, to))
}

fn vector_of_lists(array: &ArrayRef, (kind, dim): (VectorKind, Dim)) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    let mut builder = VectorBuilder::new(kind, dim.len());
    for row in 0..list.len() {
        if list.is_null(row) {
            builder.push_null();
            continue;
        }
        let numbers = cast(&list.value(row), &DataType::Float32)?;
        if numbers.null_count() > 0 {
            let message = "array must not contain nulls";
            return Err(EngineError::new(SqlState::NULL_VALUE_NOT_ALLOWED, message));
        }
        builder.push(Row::Full(numbers.as_primitive::<Float32Type>().values()))?;
    }
    Ok(builder.finish()?)
}

/// Assignment rounds to the nearest integer, ties to even; Arrow's cast would cut off.
fn round_if_float(array: &ArrayRef, to: ColumnType) -> Result<ArrayRef> {
    let integer = matches!(to, ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8);
    let decimal = matches!(array.data_type(), DataType::Decimal128(_, scale) if *scale > 0);
    if !integer || !(decimal || array.data_type().is_floating()) {
        return Ok(Arc::clone(array));
    }
    let round =
        if decimal { CheckedFunction::RoundTiesAway } else { CheckedFunction::RoundTiesEven };
    Ok(round.compute(&[Arc::clone(array)])?)
}

fn assignable(from: &DataType, to: ColumnType) -> bool {
    let number = from.is_numeric();
    match to {
        ColumnType::Int2
        | ColumnType::Int4
        | ColumnType::Int8
        | ColumnType::Float4
        | ColumnType::Float8
        | ColumnType::Numeric { .. } => number,
        ColumnType::Text | ColumnType::Varchar | ColumnType::VarcharN(_) => {
            number
                || matches!(
                    from,
                    DataType::Utf8
                        | DataType::Utf8View
                        | DataType::LargeUtf8
                        | DataType::Date32
                        | DataType::Time64(_)
                        | DataType::Timestamp(..)
                        | DataType::Interval(_)
                        | DataType::Duration(_)
                        | DataType::FixedSizeBinary(16)
                )
        }
        ColumnType::Time => matches!(from, DataType::Time64(_) | DataType::Timestamp(..)),
        ColumnType::Bytea => matches!(from, DataType::BinaryView | DataType::LargeBinary),
        ColumnType::Date | ColumnType::Timestamp | ColumnType::TimestampTz => {
            matches!(from, DataType::Date32 | DataType::Timestamp(..))
        }
        ColumnType::Interval => matches!(from, DataType::Interval(_) | DataType::Duration(_)),
        ColumnType::Boolean
        | ColumnType::Uuid
        | ColumnType::Array(_)
        | ColumnType::Vector(_)
        | ColumnType::Halfvec(_)
        | ColumnType::Bit(_)
        | ColumnType::Sparsevec(_) => false,
    }
}

/// PostgreSQL's name of an Arrow type.
pub(crate) fn pg_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "text".to_owned(),
        DataType::Binary | DataType::BinaryView => "bytea".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Decimal128(..) => "numeric".to_owned(),
        DataType::List(item) => format!("{}[]", pg_name(item.data_type())),
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
        DataType::FixedSizeBinary(16) => "uuid".to_owned(),
        DataType::Time64(_) => "time without time zone".to_owned(),
        DataType::Timestamp(_, None) => "timestamp without time zone".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        other => match udfs::vector_shape(other) {
            Some((kind, 0)) => kind.name().to_owned(),
            Some((kind, dim)) => format!("{}({dim})", kind.name()),
            None => other.to_string().to_lowercase(),
        },
    }
}

/// The type of a column that has an Arrow type, but for arrays and vectors.
pub(crate) fn plain_column_type(data_type: &DataType) -> Option<ColumnType> {
    const COLUMN_TYPES: [ColumnType; 14] = [
        ColumnType::Interval,
        ColumnType::Boolean,
        ColumnType::Int2,
        ColumnType::Int4,
        ColumnType::Int8,
        ColumnType::Float4,
        ColumnType::Float8,
        ColumnType::Text,
        ColumnType::Uuid,
        ColumnType::Time,
        ColumnType::Bytea,
        ColumnType::Date,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
    ];
    if let DataType::Decimal128(precision, scale) = data_type {
        let scale = u8::try_from(*scale).ok()?;
        return Some(ColumnType::Numeric { precision: *precision, scale });
    }
    COLUMN_TYPES.into_iter().find(|known| &arrow_type(*known) == data_type)
}

/// A value of an Arrow type from its text form; types that are no column's are read by Arrow.
///
/// # Errors
/// When the text is not of the type's form.
pub fn scalar_from_text(data_type: &DataType, text: &str) -> Result<ScalarValue> {
    if let DataType::Decimal128(precision, scale) = data_type
        && let Ok(scale) = u8::try_from(*scale)
    {
        let value = parse_numeric(text, *precision, scale)?;
        return Ok(ScalarValue::Decimal128(
            Some(value),
            *precision,
            i8::try_from(scale).unwrap_or(0),
        ));
    }
    if let DataType::List(item) = data_type {
        return array_from_text(item, text);
    }
    let Some(column_type) = plain_column_type(data_type) else {
        let text = ScalarValue::Utf8(Some(text.to_owned()));
        return text
            .cast_to(data_type)
            .map_err(|_| invalid(&pg_name(data_type), &text.to_string()));
    };
    let mut builder = ColumnBuilder::new(column_type);
    builder.push(Some(text))?;
    Ok(ScalarValue::try_from_array(&builder.finish()?, 0)?)
}

/// `2026-01-02 03:04:05.678900` of microseconds since 1970, UTC.
#[must_use]
pub fn timestamp_text(micros: i64) -> String {
    let shown = storage::format_micros(types::CommitTs(micros));
    shown.strip_suffix('Z').map_or(shown.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(column_type: ColumnType, texts: &[Option<&str>]) -> Result<ArrayRef> {
        let mut builder = ColumnBuilder::new(column_type);
        texts.iter().try_for_each(|text| builder.push(*text))?;
        builder.finish()
    }

    #[test]
    fn columns_and_functions_have_the_same_types_of_vectors() {
        for kind in VectorKind::ALL {
            let column = arrow_type(ColumnType::of_vector(kind, Dim(3)));
            assert_eq!(column, udfs::vector_type(kind, 3));
        }
    }

    #[test]
    fn text_of_every_type_is_read_or_refused_with_its_code() {
        let cases = [
            (ColumnType::Boolean, "t", None),
            (ColumnType::Boolean, "off", None),
            (ColumnType::Boolean, "o", Some("22P02")),
            (ColumnType::Int2, "32768", Some("22003")),
            (ColumnType::Int8, " -9223372036854775808 ", None),
            (ColumnType::Int8, "99999999999999999999", Some("22003")),
            (ColumnType::Int4, "1.5", Some("22P02")),
            (ColumnType::Float8, "1e-3", None),
            (ColumnType::Bytea, "\\x00ff", None),
            (ColumnType::Bytea, "\\x0", Some("22P02")),
            (ColumnType::Date, "2026-02-28", None),
            (ColumnType::Date, "2026-02-30", Some("22P02")),
            (ColumnType::Timestamp, "2026-01-02 03:04:05.678", None),
            (ColumnType::TimestampTz, "2026-01-02 03:04:05+00", None),
            (ColumnType::TimestampTz, "yesterday-ish", Some("22P02")),
            (ColumnType::Vector(Dim(2)), "[1,2]", None),
            (ColumnType::Vector(Dim(2)), "[1]", Some("22000")),
            (ColumnType::Vector(Dim(1)), "[nan]", Some("22003")),
            (ColumnType::Text, "a\0b", Some("22021")),
        ];
        for (column_type, text, expected) in cases {
            let got = built(column_type, &[Some(text), None]);
            let state = got.as_ref().err().map(|error| error.sql_state().code());
            assert_eq!(state, expected, "{column_type:?} {text}");
            if let Ok(array) = got {
                assert_eq!((array.len(), array.null_count()), (2, 1));
                assert_eq!(array.data_type(), &arrow_type(column_type));
            }
        }
    }

    #[test]
    fn offsets_move_timestamps_to_utc() {
        let cases = [
            ("2026-01-01 12:00:00+02", "2026-01-01 10:00:00"),
            ("2026-01-01", "2026-01-01 00:00:00"),
            ("2026-01-01 12:00 +02:30", "2026-01-01 09:30:00"),
            ("2026-01-01T12:00:00.1234567Z", "2026-01-01 12:00:00.123457"),
            ("2025-12-31 24:00", "2026-01-01"),
            ("9999-12-31 23:59:59-0130", "10000-01-01 01:29:59"),
        ];
        for (text, utc) in cases {
            assert_eq!(parse_timestamp(text), parse_timestamp(utc), "{text}");
            assert!(parse_timestamp(utc).is_some());
        }
    }
}
