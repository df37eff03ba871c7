//! Queries that read one row by a whole key, `SELECT a, b FROM t WHERE id = $1`: found in the syntax, and
//! answered without a plan. Anything that asks for more than columns of one table is planned.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use catalog::{Collection, Key};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, GroupByExpr, LimitClause, Query, Select, SelectFlavor, SelectItem,
    SetExpr, TableFactor, TableWithJoins, Value, WildcardAdditionalOptions,
};
use storage::ReadView;
use storage::memtable::Definition;
use types::RowId;

use crate::error::Result;
use crate::exec::lossless;
use crate::sql::types::{column_type, field_of, fold, parameter_number};
use crate::values::scalar_from_text;

/// What a key's column is to be equal to.
#[derive(Debug, Clone)]
enum Wanted {
    Value(ScalarValue),
    /// Parameter number, from zero.
    Parameter(usize),
}

/// A query for one row.
#[derive(Debug)]
pub(crate) struct PointRead<'a> {
    definition: Arc<Definition>,
    by_key: ByKey<'a>,
    /// Columns of the result, by position.
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl<'a> PointRead<'a> {
    /// What `query` reads at `view`; `None` when it is not such a query.
    pub(crate) fn of(query: &Query, view: &'a ReadView, default_schema: &str) -> Option<Self> {
        let select = only_select(query)?;
        let [TableWithJoins { relation, joins }] = select.from.as_slice() else { return None };
        let TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } = relation
        else {
            return None;
        };
        if !joins.is_empty()
            || !with_hints.is_empty()
            || !partitions.is_empty()
            || !index_hints.is_empty()
            || alias.as_ref().is_some_and(|alias| !alias.columns.is_empty() || alias.at.is_some())
        {
            return None;
        }
        let parts: Option<Vec<String>> =
            name.0.iter().map(|part| part.as_ident().map(fold)).collect();
        let (schema, table) = match parts?.as_slice() {
            [table] => (default_schema.to_owned(), table.clone()),
            [schema, table] => (schema.clone(), table.clone()),
            _ => return None,
        };
        // Those of the catalog come before others.
        if table.starts_with("pg_") {
            return None;
        }
        let namespace = view.catalog().namespace(&schema, view.at())?;
        let collection = view.catalog().collection(namespace.id, &table, view.at())?;
        let qualifier = alias.as_ref().map_or(table, |alias| fold(&alias.name));
        let by_key = ByKey::of(select.selection.as_ref()?, &qualifier, collection)?;
        let column = |expr: &Expr| column_of(expr, &qualifier, collection);
        let table = view.readable(collection.id).ok()??;
        let definition = table.definition_of(collection);
        let (columns, schema) = projected(&select.projection, &definition, &column)?;
        Some(Self { definition, by_key, columns, schema })
    }

    /// Names and types of the result.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Types of the parameters by number, from zero.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (usize, FieldRef)> + '_ {
        let ByKey { collection, key, wanted } = &self.by_key;
        wanted.iter().zip(&key.positions).filter_map(|(wanted, at)| match wanted {
            Wanted::Parameter(number) => {
                Some((*number, field_of(collection.columns[*at].column_type)))
            }
            Wanted::Value(_) => None,
        })
    }

    /// The row, if there is one; `None` when a value is not one of its column's type, which makes it a
    /// matter of types for the planner.
    pub(crate) fn rows(
        &self,
        view: &ReadView,
        parameters: &[ScalarValue],
    ) -> Result<Option<RecordBatch>> {
        let Some(found) = self.by_key.find(view, &self.definition, parameters)? else {
            return Ok(None);
        };
        let Some((_, row)) = found else {
            return Ok(Some(RecordBatch::new_empty(Arc::clone(&self.schema))));
        };
        let columns = self.columns.iter().map(|at| Arc::clone(row.column(*at))).collect();
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}

/// A condition that names one row of a collection by a whole unique key, and says nothing else.
#[derive(Debug)]
pub(crate) struct ByKey<'a> {
    collection: &'a Collection,
    key: Key<'a>,
    /// In the order of the key's columns.
    wanted: Vec<Wanted>,
}

impl<'a> ByKey<'a> {
    /// What `condition` names; `None` when it is not such a condition.
    pub(crate) fn of(
        condition: &Expr,
        qualifier: &str,
        collection: &'a Collection,
    ) -> Option<Self> {
        let column = |expr: &Expr| column_of(expr, qualifier, collection);
        let mut equal = Vec::new();
        equalities(condition, &column, &mut equal)?;
        let key = collection.keys().find(|key| {
            key.unique
                && key.positions.len() == equal.len()
                && key.positions.iter().all(|at| equal.iter().any(|(position, _)| position == at))
        })?;
        let one =
            |at: &usize| equal.iter().find(|(position, _)| position == at).map(|e| e.1.clone());
        let wanted = key.positions.iter().map(one).collect::<Option<Vec<_>>>()?;
        Some(Self { collection, key, wanted })
    }

    /// The id and the columns of the row that is visible in `view`, if there is one; `None` when a value
    /// is not one of its column's type, or the table is not as `definition` says any more.
    pub(crate) fn find(
        &self,
        view: &ReadView,
        definition: &Definition,
        parameters: &[ScalarValue],
    ) -> Result<Option<Option<(RowId, RecordBatch)>>> {
        let mut key: Vec<ArrayRef> = Vec::with_capacity(self.wanted.len());
        for (wanted, at) in self.wanted.iter().zip(&self.key.positions) {
            let data_type = definition.schema().field(*at).data_type();
            let value = match wanted {
                // A literal is read as what it stands next to.
                Wanted::Value(ScalarValue::Utf8(Some(text))) => {
                    scalar_from_text(data_type, text).ok()
                }
                Wanted::Value(value) => Some(value.clone()),
                Wanted::Parameter(number) => parameters.get(*number).cloned().filter(|value| {
                    (value.data_type() == DataType::Utf8) == (*data_type == DataType::Utf8)
                }),
            };
            match value.and_then(|value| lossless(&value, data_type)) {
                Some(value) => key.push(value),
                None => return Ok(None),
            }
        }
        let Some(table) = view.readable(self.collection.id)? else { return Ok(None) };
        if table.definition().version != definition.version {
            return Ok(None);
        }
        let (rows, found) = table.find_unique(self.key.oid, &key, view.at())?;
        let located = found.and_then(|ordinal| rows.locate(ordinal));
        let Some((chunk, slot)) = located else { return Ok(Some(None)) };
        let row = definition.read(&chunk.batch()?.slice(slot, 1))?;
        Ok(Some(Some((chunk.row_id(slot), row))))
    }
}

/// The SELECT of a query that is nothing else, but for a limit of at least one row.
fn only_select(query: &Query) -> Option<&Select> {
    let Query {
        with: None,
        body,
        order_by: None,
        limit_clause,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return None;
    };
    let any = match limit_clause {
        None => true,
        Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by }) => {
            let count = match limit {
                Expr::Value(value) => match &value.value {
                    Value::Number(number, _) => number.parse::<u64>().ok(),
                    _ => None,
                },
                _ => None,
            };
            limit_by.is_empty() && count.is_some_and(|count| count > 0)
        }
        Some(_) => false,
    };
    let SetExpr::Select(select) = &**body else { return None };
    let plain = any && locks.is_empty() && pipe_operators.is_empty() && is_plain(select);
    plain.then_some(&**select)
}

/// Whether a SELECT has nothing but columns, tables and a condition.
fn is_plain(select: &Select) -> bool {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: _,
        projection: _,
        exclude: None,
        into: None,
        from: _,
        lateral_views,
        prewhere: None,
        selection: _,
        connect_by,
        group_by: GroupByExpr::Expressions(keys, modifiers),
        cluster_by,
        distribute_by,
        sort_by,
        having: None,
        named_window,
        qualify: None,
        window_before_qualify: _,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    } = select
    else {
        return false;
    };
    optimizer_hints.is_empty()
        && lateral_views.is_empty()
        && connect_by.is_empty()
        && keys.is_empty()
        && modifiers.is_empty()
        && cluster_by.is_empty()
        && distribute_by.is_empty()
        && sort_by.is_empty()
        && named_window.is_empty()
}

/// The position of the column that an expression is.
fn column_of(expr: &Expr, qualifier: &str, collection: &Collection) -> Option<usize> {
    match expr {
        Expr::Identifier(name) => collection.column_position(&fold(name)),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [of, name] if fold(of) == qualifier => collection.column_position(&fold(name)),
            _ => None,
        },
        _ => None,
    }
}

/// Columns and what they are to be equal to; `None` when a condition says anything else.
fn equalities(
    condition: &Expr,
    column: &impl Fn(&Expr) -> Option<usize>,
    found: &mut Vec<(usize, Wanted)>,
) -> Option<()> {
    match condition {
        Expr::Nested(inner) => equalities(inner, column, found),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            equalities(left, column, found)?;
            equalities(right, column, found)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let (position, value) = match (column(left), column(right)) {
                (Some(position), None) => (position, wanted(right)?),
                (None, Some(position)) => (position, wanted(left)?),
                _ => return None,
            };
            if found.iter().any(|(known, _)| *known == position) {
                return None;
            }
            found.push((position, value));
            Some(())
        }
        _ => None,
    }
}

fn wanted(expr: &Expr) -> Option<Wanted> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => {
                Some(Wanted::Parameter(parameter_number(name)?.checked_sub(1)?))
            }
            Value::Number(number, false) => {
                Some(Wanted::Value(ScalarValue::Int64(Some(number.parse().ok()?))))
            }
            Value::SingleQuotedString(text) => {
                Some(Wanted::Value(ScalarValue::Utf8(Some(text.clone()))))
            }
            _ => None,
        },
        // A parameter that the client declared has its type already.
        Expr::Cast { expr, data_type, kind: ast::CastKind::DoubleColon, .. } => {
            let declared = matches!(column_type(data_type), Ok(Some(_)));
            match wanted(expr) {
                Some(parameter @ Wanted::Parameter(_)) if declared => Some(parameter),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Positions and fields of the columns that are selected.
fn projected(
    items: &[SelectItem],
    definition: &Definition,
    column: &impl Fn(&Expr) -> Option<usize>,
) -> Option<(Vec<usize>, SchemaRef)> {
    let fields = definition.schema().fields();
    let (mut columns, mut shown): (Vec<usize>, Vec<FieldRef>) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            SelectItem::Wildcard(options) if *options == WildcardAdditionalOptions::default() => {
                columns.extend(0..fields.len());
                shown.extend(fields.iter().map(Arc::clone));
            }
            SelectItem::UnnamedExpr(expr) => {
                let at = column(expr)?;
                columns.push(at);
                shown.push(Arc::clone(&fields[at]));
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let at = column(expr)?;
                columns.push(at);
                let mut named = Field::clone(&fields[at]);
                named.set_name(fold(alias));
                shown.push(Arc::new(named));
            }
            _ => return None,
        }
    }
    (!columns.is_empty()).then(|| (columns, Arc::new(Schema::new(shown))))
}
