//! `ON CONFLICT`: what becomes of a row whose key a row has that the statement can see.
//!
//! The rows that are there are looked up by key. Those that are to be updated meet the new ones in a
//! query over both in memory, the new ones under the name `excluded`. A key that a concurrent commit
//! takes is met when the log refuses the write: the statement then begins anew.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, interleave_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use catalog::{Collection, Key};
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    Assignment, BinaryOperator, ConflictTarget, Expr, Ident, Insert, Join, JoinConstraint,
    JoinOperator, OnConflictAction, OnInsert, Query, TableWithJoins,
};
use storage::ReadView;
use storage::memtable::{Definition, Table};
use types::SqlState;

use super::changes::{column_of, new_columns, query_of, table_factor, table_name};
use super::sorted_index::unique_key;
use super::write::{WriteBuilder, key_detail};
use crate::error::{EngineError, Result};
use crate::provider::{MEMORY_CATALOG, ROW_ID};
use crate::query::Planner;
use crate::sql::types::{fold, last_part};

/// Names of the two sides among the tables in memory.
const EXISTING: &str = "existing";
const EXCLUDED: &str = "excluded";

/// What to do with rows whose key is taken.
#[derive(Debug, Clone)]
pub(crate) struct OnConflict<'a> {
    action: Action<'a>,
    /// The keys that are meant.
    keys: Vec<Key<'a>>,
}

#[derive(Debug, Clone, Copy)]
enum Action<'a> {
    Nothing,
    Update { assignments: &'a [Assignment], selection: Option<&'a Expr> },
}

impl<'a> OnConflict<'a> {
    /// What an INSERT says.
    fn of(insert: &'a Insert, collection: &'a Collection) -> Result<Option<Self>> {
        let conflict = match &insert.on {
            None => return Ok(None),
            Some(OnInsert::OnConflict(conflict)) => conflict,
            Some(_) => return Err(EngineError::unsupported("ON DUPLICATE KEY")),
        };
        let keys = keys_meant(conflict.conflict_target.as_ref(), collection)?;
        let action = match &conflict.action {
            OnConflictAction::DoNothing => Action::Nothing,
            OnConflictAction::DoUpdate(_) if conflict.conflict_target.is_none() => {
                let message =
                    "ON CONFLICT DO UPDATE requires inference specification or constraint name";
                return Err(EngineError::syntax(message)
                    .with_hint("For example, ON CONFLICT (column_name)."));
            }
            OnConflictAction::DoUpdate(update) => Action::Update {
                assignments: &update.assignments,
                selection: update.selection.as_ref(),
            },
        };
        Ok(Some(Self { action, keys }))
    }

    /// What an INSERT says, and the query for the rows that are updated then.
    pub(crate) fn with_query(
        insert: &'a Insert,
        collection: &'a Collection,
        qualifier: &Ident,
    ) -> Result<Option<(Self, Option<Query>)>> {
        let conflict = Self::of(insert, collection)?;
        let queried = |conflict: Self| {
            let query = conflict.query(collection, qualifier)?;
            Ok((conflict, query))
        };
        conflict.map(queried).transpose()
    }

    /// The query for the row ids and new columns of rows that are updated; `None` when none are.
    fn query(&self, collection: &Collection, qualifier: &Ident) -> Result<Option<Query>> {
        let Action::Update { assignments, selection } = self.action else { return Ok(None) };
        let table = |name: &str, alias: Ident| {
            table_factor(table_name(MEMORY_CATALOG, MEMORY_CATALOG, name), alias)
        };
        let excluded = Ident::new(EXCLUDED);
        let same = Expr::BinaryOp {
            left: Box::new(column_of(qualifier, ROW_ID)),
            op: BinaryOperator::Eq,
            right: Box::new(column_of(&excluded, ROW_ID)),
        };
        let join = Join {
            relation: table(EXCLUDED, excluded),
            global: false,
            join_operator: JoinOperator::Inner(JoinConstraint::On(same)),
        };
        let relation = table(EXISTING, qualifier.clone());
        let from = vec![TableWithJoins { relation, joins: vec![join] }];
        let projection = new_columns(assignments, collection, qualifier)?;
        Ok(Some(query_of(projection, from, selection.cloned())))
    }
}

/// The keys that a statement means; all unique ones when it names none.
fn keys_meant<'a>(
    target: Option<&ConflictTarget>,
    collection: &'a Collection,
) -> Result<Vec<Key<'a>>> {
    match target {
        None => Ok(collection.keys().filter(|key| key.unique).collect()),
        Some(ConflictTarget::Columns(columns)) => {
            let named: BTreeSet<String> = columns.iter().map(fold).collect();
            for name in &named {
                if collection.column_position(name).is_none() {
                    let message = format!("column \"{name}\" does not exist");
                    return Err(EngineError::new(SqlState::UNDEFINED_COLUMN, message));
                }
            }
            let columns = |key: &Key<'_>| -> BTreeSet<String> {
                key.positions.iter().map(|at| collection.columns[*at].name.clone()).collect()
            };
            if let Some(key) = unique_key(collection, |key| columns(key) == named) {
                return Ok(vec![key]);
            }
            let message = "there is no unique or exclusion constraint matching the ON CONFLICT \
                           specification";
            Err(EngineError::new(SqlState::INVALID_COLUMN_REFERENCE, message))
        }
        Some(ConflictTarget::OnConstraint(name)) => {
            let name = last_part(name);
            if let Some(key) = unique_key(collection, |key| key.constraint && key.name == name) {
                return Ok(vec![key]);
            }
            let message =
                format!("constraint \"{name}\" for table \"{}\" does not exist", collection.name);
            Err(EngineError::new(SqlState::UNDEFINED_OBJECT, message))
        }
    }
}

/// The columns of a row with its id, which no user can name.
pub(crate) fn with_row_id(schema: &Schema) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(ROW_ID, DataType::UInt64, false)));
    Arc::new(Schema::new(fields))
}

/// Makes room in memory for the rows of both sides; none yet.
pub(crate) fn keep_empty(planner: &Planner, state: &SessionState, schema: &Schema) -> Result<()> {
    let wide = with_row_id(schema);
    for name in [EXISTING, EXCLUDED] {
        planner.keep(state, name, RecordBatch::new_empty(Arc::clone(&wide)))?;
    }
    Ok(())
}

/// New rows, and for each the row that has its key.
struct Proposed {
    rows: RecordBatch,
    /// Row ids and rows of one.
    existing: Vec<Option<(u64, RecordBatch)>>,
    /// Whether an earlier one of the new rows has the key.
    repeated: Vec<bool>,
}

impl Proposed {
    /// Looks `keys` up. A row that is left out itself keeps no other one out when `skips`.
    fn of(
        rows: RecordBatch,
        (table, view): (&Table, &ReadView),
        keys: &[Key<'_>],
        skips: bool,
    ) -> Result<Self> {
        let definition = view.definition(table);
        let converted =
            keys.iter().map(|key| NewKeys::of(&rows, key)).collect::<Result<Vec<_>>>()?;
        let mut seen: Vec<HashSet<OwnedRow>> = vec![HashSet::new(); keys.len()];
        let (mut existing, mut repeated) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let mut there = None;
            for (key, new) in keys.iter().zip(&converted) {
                if there.is_none() && !new.has_null(row) {
                    there = new.find(row, (table, key, view, &definition))?;
                }
            }
            let new = || converted.iter().zip(&seen).filter(|(new, _)| !new.has_null(row));
            let again = new().any(|(new, seen)| seen.contains(&new.rows.row(row).owned()));
            if !skips || (there.is_none() && !again) {
                for (new, seen) in converted.iter().zip(&mut seen) {
                    if !new.has_null(row) {
                        seen.insert(new.rows.row(row).owned());
                    }
                }
            }
            existing.push(there);
            repeated.push(again);
        }
        Ok(Self { rows, existing, repeated })
    }

    /// The rows that are there, and the new ones with their keys, both with row ids.
    fn sides(&self) -> Result<(RecordBatch, RecordBatch)> {
        let taken = |row: usize| self.existing[row].is_some();
        let mask: BooleanArray = (0..self.rows.num_rows()).map(|row| Some(taken(row))).collect();
        let excluded = filter_record_batch(&self.rows, &mask)?;
        let existing = self.existing.iter().flatten().map(|(_, row)| row);
        let existing = concat_batches(&self.rows.schema(), existing)?;
        let ids: ArrayRef =
            Arc::new(self.existing.iter().flatten().map(|(id, _)| *id).collect::<UInt64Array>());
        let wide = with_row_id(&self.rows.schema());
        let widened = |batch: &RecordBatch| {
            let mut columns = batch.columns().to_vec();
            columns.push(Arc::clone(&ids));
            RecordBatch::try_new(Arc::clone(&wide), columns)
        };
        Ok((widened(&existing)?, widened(&excluded)?))
    }
}

/// The values of new rows in one key.
struct NewKeys {
    columns: Vec<ArrayRef>,
    rows: Rows,
}

impl NewKeys {
    fn of(rows: &RecordBatch, key: &Key<'_>) -> Result<Self> {
        let columns: Vec<ArrayRef> =
            key.positions.iter().map(|at| Arc::clone(rows.column(*at))).collect();
        let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
        let rows = RowConverter::new(fields)?.convert_columns(&columns)?;
        Ok(Self { columns, rows })
    }

    /// Nothing is equal to NULL.
    fn has_null(&self, row: usize) -> bool {
        self.columns.iter().any(|column| column.is_null(row))
    }

    /// The id and the row of one that has the key.
    fn find(
        &self,
        row: usize,
        (table, key, view, definition): (&Table, &Key<'_>, &ReadView, &Definition),
    ) -> Result<Option<(u64, RecordBatch)>> {
        let values: Vec<ArrayRef> = self.columns.iter().map(|c| c.slice(row, 1)).collect();
        let (rows, found) = table.find_unique(key.oid, &values, view.at())?;
        let located = found.and_then(|ordinal| rows.locate(ordinal));
        let Some((chunk, slot)) = located else { return Ok(None) };
        let row = definition.read(&chunk.batch()?.slice(slot, 1))?;
        Ok(Some((chunk.row_id(slot).0, row)))
    }
}

/// Replaces the rows that `builder` would insert by those that are left of them, and by what the
/// others make of rows that are there.
pub(crate) async fn resolve(
    planner: &Planner,
    state: SessionState,
    (conflict, query): (&OnConflict<'_>, Option<&Query>),
    (builder, table): (&mut WriteBuilder, &Table),
    parameters: &[ScalarValue],
) -> Result<()> {
    let view = planner.scope.view();
    let skips = matches!(conflict.action, Action::Nothing);
    let proposed = Proposed::of(builder.rows()?, (table, &view), &conflict.keys, skips)?;
    let is_new = |row: usize| proposed.existing[row].is_none();
    let rows = 0..proposed.rows.num_rows();
    let Some(query) = query else {
        let kept: BooleanArray =
            rows.map(|row| Some(is_new(row) && !proposed.repeated[row])).collect();
        builder.set_rows(filter_record_batch(&proposed.rows, &kept)?);
        return check_new_keys(builder, (table, &view), &conflict.keys);
    };
    if proposed.repeated.contains(&true) {
        let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
        return Err(EngineError::new(SqlState::CARDINALITY_VIOLATION, message).with_hint(
            "Ensure that no rows proposed for insertion within the same command have duplicate \
             constrained values.",
        ));
    }
    let (existing, excluded) = proposed.sides()?;
    planner.keep(&state, EXISTING, existing)?;
    planner.keep(&state, EXCLUDED, excluded)?;
    let planned = planner.plan_here(state, query, parameters).await?;
    builder.set_rows(RecordBatch::new_empty(proposed.rows.schema()));
    let positions: Vec<usize> = (0..proposed.rows.num_columns()).collect();
    let mut updated: HashMap<u64, usize> = HashMap::new();
    for batch in planned.collect().await? {
        for id in builder.end(batch.column(0))? {
            updated.insert(*id, updated.len());
        }
        builder.begin(&batch.columns()[1..], &positions, batch.num_rows())?;
    }
    // In the order of the new rows, as they are returned.
    let updates = builder.rows()?;
    let place = |row: usize| match &proposed.existing[row] {
        None => Some((0, row)),
        Some((id, _)) => updated.get(id).map(|at| (1, *at)),
    };
    let places: Vec<(usize, usize)> = rows.filter_map(place).collect();
    if places.is_empty() {
        builder.set_rows(RecordBatch::new_empty(proposed.rows.schema()));
    } else {
        builder.set_rows(interleave_record_batch(&[&proposed.rows, &updates], &places)?);
    }
    check_new_keys(builder, (table, &view), &conflict.keys)
}

/// A row may have a key that another row has and that is not meant: that is no conflict to resolve.
fn check_new_keys(
    builder: &WriteBuilder,
    (table, view): (&Table, &ReadView),
    meant: &[Key<'_>],
) -> Result<()> {
    let ended: HashSet<u64> = builder.ended().iter().map(|row| row.0).collect();
    let collection = &*view.definition(table);
    let unique = collection.keys().filter(|key| key.unique);
    // New rows without changes have none of the keys that were looked up.
    let open = unique.filter(|key| !ended.is_empty() || meant.iter().all(|m| m.oid != key.oid));
    for key in open {
        let keys = std::slice::from_ref(&key);
        let after = Proposed::of(builder.rows()?, (table, view), keys, false)?;
        let taken = |row: &usize| {
            let other = after.existing[*row].as_ref().is_some_and(|(id, _)| !ended.contains(id));
            other || after.repeated[*row]
        };
        let Some(row) = (0..after.rows.num_rows()).find(taken) else { continue };
        let constraint = &key.name;
        let message = format!("duplicate key value violates unique constraint \"{constraint}\"");
        // Of this kind, a write that met another commit is begun anew; this one would meet the same.
        let detail = key_detail(collection, &key, &after.rows, row);
        return Err(EngineError::new(SqlState::UNIQUE_VIOLATION, message).with_detail(detail));
    }
    Ok(())
}
