//! Rows on their way into a table: what a statement writes to it, and the rows of `VALUES` that need
//! no plan.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{SchemaRef, UInt64Type};
use catalog::{Collection, ColumnType, Key};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{self, CastKind, Expr, Insert, Query, SetExpr, Value};
use storage::TableWrite;
use types::{CommitTs, Dim, RowId, SqlState, VectorKind};

use super::changes::query_of;
use super::rules::{shown, without_defaults};
use crate::error::{EngineError, Result};
use crate::parse_value::rounded;
use crate::sql::types::{fold, last_part, parameter_number};
use crate::values::{ColumnBuilder, assign, check_column};

/// Collects what a statement writes to one table.
#[derive(Debug)]
pub(crate) struct WriteBuilder {
    collection: Collection,
    schema: SchemaRef,
    read_ts: CommitTs,
    ended: Vec<RowId>,
    begun: Vec<RecordBatch>,
}

impl WriteBuilder {
    pub(crate) fn new(collection: &Collection, schema: &SchemaRef, read_ts: CommitTs) -> Self {
        Self {
            collection: collection.clone(),
            schema: Arc::clone(schema),
            read_ts,
            ended: Vec::new(),
            begun: Vec::new(),
        }
    }

    /// Adds `rows` rows whose columns stand at `positions` of the table; the others are NULL.
    pub(crate) fn begin(
        &mut self,
        columns: &[ArrayRef],
        positions: &[usize],
        rows: usize,
    ) -> Result<()> {
        let all: Result<Vec<ArrayRef>> = self
            .collection
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| match positions.iter().position(|position| *position == at) {
                Some(given) => assign(&columns[given], column),
                None => {
                    let data_type = self.schema.field(at).data_type();
                    let nulls = arrow::array::new_null_array(data_type, rows);
                    check_column(&nulls, column).map(|()| nulls)
                }
            })
            .map(|assigned| assigned.map_err(|error| self.of_relation(error)))
            .collect();
        self.begun.push(RecordBatch::try_new(Arc::clone(&self.schema), all?)?);
        Ok(())
    }

    /// Names the table where a value is missing.
    fn of_relation(&self, error: EngineError) -> EngineError {
        let (text, table) = (error.to_string(), &self.collection.name);
        match text.strip_suffix(" violates not-null constraint") {
            Some(what) => error.with_message(format!(
                "{what} of relation \"{table}\" violates not-null constraint"
            )),
            None => error,
        }
    }

    /// Adds rows that end; their ids.
    pub(crate) fn end<'a>(&mut self, row_ids: &'a ArrayRef) -> Result<&'a [u64]> {
        let ids = row_ids.as_primitive_opt::<UInt64Type>();
        let ids = ids.ok_or_else(|| EngineError::bug("row ids are not integers"))?;
        self.ended.extend(ids.values().iter().map(|id| RowId(*id)));
        Ok(ids.values())
    }

    /// All rows added so far, as one batch.
    pub(crate) fn rows(&self) -> Result<RecordBatch> {
        Ok(concat_batches(&self.schema, &self.begun)?)
    }

    /// Takes `rows`, which are of the table's schema, in the place of all rows added so far.
    pub(crate) fn set_rows(&mut self, rows: RecordBatch) {
        self.begun = vec![rows];
    }

    /// Ids of the rows that end.
    pub(crate) fn ended(&self) -> &[RowId] {
        &self.ended
    }

    /// Rows added and rows ended.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.begun.iter().map(RecordBatch::num_rows).sum(), self.ended.len())
    }

    /// The write; `None` when nothing is to be written.
    pub(crate) fn finish(self) -> Result<Option<TableWrite>> {
        let begun = match self.begun.as_slice() {
            [] => None,
            batches => Some(concat_batches(&self.schema, batches)?),
        };
        let begun = begun.filter(|batch| batch.num_rows() > 0);
        if begun.is_none() && self.ended.is_empty() {
            return Ok(None);
        }
        let Collection { id: table, version, .. } = self.collection;
        Ok(Some(TableWrite { table, version, read_ts: self.read_ts, ended: self.ended, begun }))
    }
}

/// Positions of the columns that an INSERT gives, and the query for its rows.
pub(crate) fn insert_source<'a>(
    collection: &Collection,
    insert: &'a Insert,
) -> Result<(Vec<usize>, Cow<'a, Query>)> {
    EngineError::refuse_present(&[
        (insert.output.is_some(), "OUTPUT"),
        (insert.or.is_some() || insert.replace_into || insert.ignore, "INSERT OR"),
        (insert.overwrite || insert.partitioned.is_some(), "INSERT OVERWRITE"),
        (!insert.assignments.is_empty() || insert.settings.is_some(), "this form of INSERT"),
    ])?;
    let Some(source) = insert.source.as_deref() else {
        // `DEFAULT VALUES`: a row that gives nothing.
        return Ok((Vec::new(), Cow::Owned(nothing_once())));
    };
    let mut positions = column_positions(collection, insert.columns.iter().map(last_part))?;
    if insert.columns.is_empty()
        && let SetExpr::Values(values) = &*source.body
        && let Some(row) = values.rows.first()
    {
        // Without a list of columns, the last ones may be left out.
        positions.truncate(row.content.len());
    }
    if let SetExpr::Values(values) = &*source.body {
        check_width(values.rows.iter().map(|row| row.content.len()), positions.len())?;
    }
    without_defaults(collection, positions, source)
}

/// `VALUES ()`
fn nothing_once() -> Query {
    let row = ast::Parens {
        opening_token: AttachedToken::empty(),
        content: Vec::new(),
        closing_token: AttachedToken::empty(),
    };
    let mut query = query_of(Vec::new(), Vec::new(), None);
    *query.body =
        SetExpr::Values(ast::Values { explicit_row: false, value_keyword: false, rows: vec![row] });
    query
}

/// Positions of named columns; all of them when none is named.
pub(crate) fn column_positions(
    collection: &Collection,
    names: impl ExactSizeIterator<Item = String>,
) -> Result<Vec<usize>> {
    if names.len() == 0 {
        return Ok((0..collection.columns.len()).collect());
    }
    let mut positions = Vec::with_capacity(names.len());
    for name in names {
        let position = collection.column_position(&name);
        let position = position.ok_or_else(|| EngineError::no_column(&name, &collection.name))?;
        if positions.contains(&position) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(EngineError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        positions.push(position);
    }
    Ok(positions)
}

/// Rows of `VALUES` made of constants and parameters alone, which need no plan.
pub(crate) struct InsertRows<'a> {
    rows: Vec<&'a [Expr]>,
}

impl<'a> InsertRows<'a> {
    /// `None` when the source is anything else.
    pub(crate) fn of(source: &'a Query) -> Option<Self> {
        let plain = source.with.is_none()
            && source.order_by.is_none()
            && source.limit_clause.is_none()
            && source.fetch.is_none();
        let SetExpr::Values(values) = &*source.body else { return None };
        let rows: Vec<&[Expr]> = values.rows.iter().map(|row| row.content.as_slice()).collect();
        let simple = rows.iter().all(|row| row.iter().all(|cell| Cell::of(cell).is_some()));
        (plain && simple).then_some(Self { rows })
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The rows as columns, one for each of `positions`.
    pub(crate) fn columns(
        &self,
        collection: &Collection,
        positions: &[usize],
        parameters: &[ScalarValue],
    ) -> Result<Vec<ArrayRef>> {
        let column = |(at, position): (usize, &usize)| {
            let column = &collection.columns[*position];
            let to = column.column_type.vector();
            let fits = |kind: VectorKind| {
                to.is_some_and(|(to, _)| (to == VectorKind::Bit) == (kind == VectorKind::Bit))
            };
            let cells: Vec<(Cell<'_>, Option<VectorKind>)> =
                self.rows.iter().filter_map(|row| Cell::of(&row[at])).collect();
            let mut kinds = cells.iter().filter_map(|(_, kind)| *kind);
            if let Some(kind) = kinds.find(|kind| !fits(*kind)) {
                return Err(mismatch(column, kind.name()));
            }
            let converted =
                |(cell, from): (Cell<'a>, Option<VectorKind>)| match (cell, from.zip(to)) {
                    (Cell::Text(text), Some((from, to))) if from != to.0 => {
                        text_of_kind(&text, from, to).map(|text| Cell::Text(text.into()))
                    }
                    (cell, _) => Ok(cell),
                };
            let cells: Vec<Cell<'_>> = cells.into_iter().map(converted).collect::<Result<_>>()?;
            if cells.iter().any(|cell| matches!(cell, Cell::Parameter(_))) {
                return mixed_column(&cells, column, parameters);
            }
            let mut builder = ColumnBuilder::new(column.column_type);
            for cell in cells {
                match cell {
                    Cell::Null | Cell::Parameter(_) => builder.push(None)?,
                    Cell::Text(text) => builder.push(Some(&text))?,
                    Cell::Number(text) => builder.push(Some(&number_for(&text, column)?))?,
                }
            }
            builder.finish()
        };
        positions.iter().enumerate().map(column).collect()
    }
}

/// A row has as many values as there are target columns.
pub(crate) fn check_width(mut widths: impl Iterator<Item = usize>, columns: usize) -> Result<()> {
    match widths.find(|width| *width != columns) {
        Some(width) if width > columns => {
            Err(EngineError::syntax("INSERT has more expressions than target columns"))
        }
        Some(_) => Err(EngineError::syntax("INSERT has more target columns than expressions")),
        None => Ok(()),
    }
}

/// A value that needs no evaluation.
enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Number(Cow<'a, str>),
    /// Parameter number, from zero.
    Parameter(usize),
}

/// The text of a vector of one kind as that of another.
fn text_of_kind(text: &str, from: VectorKind, (to, dim): (VectorKind, Dim)) -> Result<String> {
    let vector = udfs::parse_vector(from, text)?;
    udfs::check_dimension(to, dim.len(), vector.row().len())?;
    let value = udfs::VectorBuilder::scalar(to, &vector)?;
    let mut out = String::new();
    if let Some(vector) = udfs::vector_of(&value) {
        udfs::write_vector(&mut out, vector.row());
    }
    Ok(out)
}

/// What `expr::vector` makes a vector of: of as many numbers as it has, which the column then checks. Of
/// a text the parser has counted them. Also what `B'101'` makes bits of.
fn as_vector(expr: &Expr) -> Option<(VectorKind, &Expr)> {
    let Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } = expr
    else {
        return None;
    };
    let text = match &**expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        // What another cast makes is for that cast to say.
        Expr::Cast { .. } => return None,
        _ => None,
    };
    let length = |kind| udfs::parse_vector(kind, text?).ok().map(|vector| vector.row().len());
    match data_type {
        ast::DataType::Bit(bits) => {
            let same = length(VectorKind::Bit)? == usize::try_from(bits.unwrap_or(1)).ok()?;
            same.then_some((VectorKind::Bit, &**expr))
        }
        ast::DataType::Custom(name, modifiers) => {
            let kind = VectorKind::from_name(&last_part(name))?;
            let counted = || length(kind).map(|length| length.to_string());
            let free = modifiers.is_empty() || counted().is_some_and(|n| *modifiers == [n]);
            // Only as a vector may a parameter or NULL be anything.
            let known = kind == VectorKind::Vector || text.is_some();
            (free && known).then_some((kind, &**expr))
        }
        _ => None,
    }
}

impl<'a> Cell<'a> {
    /// The value, and the kind of vector that a cast makes of it.
    fn of(expr: &'a Expr) -> Option<(Self, Option<VectorKind>)> {
        let Some((kind, inner)) = as_vector(expr) else { return Some((Self::plain(expr)?, None)) };
        let cell = Self::plain(inner)?;
        (!matches!(cell, Cell::Number(_))).then_some((cell, Some(kind)))
    }

    fn plain(expr: &'a Expr) -> Option<Self> {
        match expr {
            Expr::Value(value) => match &value.value {
                Value::Null => Some(Cell::Null),
                Value::Number(text, false) => Some(Cell::Number(text.into())),
                Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                    Some(Cell::Text(text.into()))
                }
                Value::DollarQuotedString(text) => Some(Cell::Text(text.value.as_str().into())),
                Value::Boolean(true) => Some(Cell::Text("true".into())),
                Value::Boolean(false) => Some(Cell::Text("false".into())),
                Value::Placeholder(name) => {
                    Some(Cell::Parameter(parameter_number(name)?.checked_sub(1)?))
                }
                _ => None,
            },
            Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => match &**expr {
                Expr::Value(value) => match &value.value {
                    Value::Number(text, false) => Some(Cell::Number(format!("-{text}").into())),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether an expression is the word `DEFAULT`.
pub(crate) fn default_word(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident)
        if ident.quote_style.is_none() && fold(ident) == "default")
}

/// `rows` times the value of an expression that needs no evaluation; `None` when it does.
pub(crate) fn constant_column(
    expr: &Expr,
    column: &catalog::Column,
    rows: usize,
) -> Option<Result<ArrayRef>> {
    let text = match Cell::of(expr)? {
        (Cell::Null, None) => None,
        (Cell::Text(text), None) => Some(text),
        (Cell::Number(text), None) => match number_for(&text, column) {
            Ok(text) => Some(Cow::Owned(text.into_owned())),
            Err(error) => return Some(Err(error)),
        },
        (Cell::Parameter(_), _) | (_, Some(_)) => return None,
    };
    let mut builder = ColumnBuilder::new(column.column_type);
    let mut pushed = (0..rows).map(|_| builder.push(text.as_deref()));
    Some(pushed.find(Result::is_err).unwrap_or(Ok(())).and_then(|()| builder.finish()))
}

fn mismatch(column: &catalog::Column, given: &str) -> EngineError {
    let message = format!(
        "column \"{}\" is of type {} but expression is of type {given}",
        column.name,
        column.column_type.sql_name()
    );
    EngineError::new(SqlState::DATATYPE_MISMATCH, message)
        .with_hint("You will need to rewrite or cast the expression.")
}

/// A number as a column takes it: numbers and text alone do, and integers take it rounded.
fn number_for<'t>(text: &'t str, column: &catalog::Column) -> Result<Cow<'t, str>> {
    number_fits(column)?;
    let integer =
        matches!(column.column_type, ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8);
    if !integer || !text.contains(['.', 'e', 'E']) {
        return Ok(Cow::Borrowed(text));
    }
    rounded(text).map(Cow::Owned).map_err(|error| {
        error.with_message(format!("{} out of range", column.column_type.sql_name()))
    })
}

fn number_fits(column: &catalog::Column) -> Result<()> {
    match column.column_type {
        ColumnType::Boolean
        | ColumnType::Bytea
        | ColumnType::Uuid
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::Interval
        | ColumnType::Array(_)
        | ColumnType::Vector(_)
        | ColumnType::Halfvec(_)
        | ColumnType::Bit(_)
        | ColumnType::Sparsevec(_) => Err(mismatch(column, "integer")),
        ColumnType::Int2
        | ColumnType::Int4
        | ColumnType::Int8
        | ColumnType::Float4
        | ColumnType::Float8
        | ColumnType::Numeric { .. }
        | ColumnType::Text
        | ColumnType::Varchar
        | ColumnType::VarcharN(_) => Ok(()),
    }
}

fn mixed_column(
    cells: &[Cell<'_>],
    column: &catalog::Column,
    parameters: &[ScalarValue],
) -> Result<ArrayRef> {
    let one = |cell: &Cell<'_>| match cell {
        Cell::Parameter(at) => {
            let value = parameters.get(*at).ok_or_else(|| {
                let message = format!("there is no parameter ${}", at + 1);
                EngineError::new(SqlState::UNDEFINED_PARAMETER, message)
            })?;
            assign(&value.to_array()?, column)
        }
        Cell::Null | Cell::Text(_) | Cell::Number(_) => {
            let text = match cell {
                Cell::Text(text) => Some(Cow::Borrowed(&**text)),
                Cell::Number(text) => Some(number_for(text, column)?),
                Cell::Null | Cell::Parameter(_) => None,
            };
            let mut builder = ColumnBuilder::new(column.column_type);
            builder.push(text.as_deref())?;
            builder.finish()
        }
    };
    let arrays: Vec<ArrayRef> = cells.iter().map(one).collect::<Result<_>>()?;
    let arrays: Vec<&dyn arrow::array::Array> = arrays.iter().map(AsRef::as_ref).collect();
    Ok(arrow::compute::concat(&arrays)?)
}

/// `Key (id)=(5) already exists.`
pub(crate) fn key_detail(
    collection: &Collection,
    key: &Key<'_>,
    batch: &RecordBatch,
    row: usize,
) -> String {
    let name = |at: &usize| collection.columns[*at].name.clone();
    let value = |at: &usize| {
        let value = ScalarValue::try_from_array(batch.column(*at), row);
        value.map_or_else(|_| String::new(), |value| shown(&value))
    };
    let names: Vec<String> = key.positions.iter().map(name).collect();
    let values: Vec<String> = key.positions.iter().map(value).collect();
    format!("Key ({})=({}) already exists.", names.join(", "), values.join(", "))
}
