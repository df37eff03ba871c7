//! Writes that change one row by a whole key, kept with their prepared statement: the row is found
//! without a plan, and what is made of it is computed at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::DataType;
use catalog::Catalog;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast;
use storage::ReadView;

use super::{Kept, Lease, Values, open_plan};
use crate::error::Result;
use crate::exec::Steps;
use crate::planner::{PlannedWrite, Verb, Write, WriteBuilder, condition, with_row_id};
use crate::point_read::ByKey;
use crate::query::Planner;
use crate::settings::Settings;

/// What an UPDATE or DELETE makes of the row that its condition names.
#[derive(Debug)]
pub(crate) struct KeptWrite {
    /// From the columns below to the row id and the new columns.
    steps: Steps,
    /// Columns of the table, and the row id behind them.
    columns: Vec<usize>,
    catalog: Arc<Catalog>,
    settings: Settings,
    types: Vec<DataType>,
    values: Arc<Values>,
}

impl Kept for KeptWrite {
    fn is_of(&self, view: &ReadView, settings: &Settings) -> bool {
        Arc::ptr_eq(&self.catalog, view.shared_catalog()) && self.settings == *settings
    }
}

/// Whether a write changes one row by key and does nothing else.
fn is_by_key(write: &Write<'_>, statement: &ast::Statement) -> bool {
    let checked = write.verb != Verb::Delete && !write.collection.checks.is_empty();
    !checked && !write.does_more() && by_key(write, statement).is_some()
}

fn by_key<'a>(write: &Write<'a>, statement: &ast::Statement) -> Option<ByKey<'a>> {
    let (condition, qualifier) = condition(statement, write.collection)?;
    ByKey::of(condition, &qualifier, write.collection)
}

impl KeptWrite {
    /// Plans a write for values of the types of `parameters`; `None` when it is not one by key, or its
    /// plan cannot be kept.
    pub(crate) async fn plan(
        planner: &Planner,
        statement: &ast::Statement,
        parameters: &[ScalarValue],
    ) -> Result<Option<Self>> {
        let state = planner.begin(None);
        let view = planner.scope.view();
        let write = Write::resolve(&view, &planner.settings.default_schema(), statement)?;
        let Some(write) = write.filter(|write| is_by_key(write, statement)) else {
            return Ok(None);
        };
        let planned = planner.describe_here(state, &write.query).await?;
        let values = Arc::new(Values::default());
        let types: Vec<DataType> = parameters.iter().map(ScalarValue::data_type).collect();
        let Some(plan) = open_plan(planned.plan, &planned.state, &types, &values).await? else {
            return Ok(None);
        };
        let Some((steps, columns)) = Steps::above_scan(&plan)? else { return Ok(None) };
        let (catalog, settings) = (Arc::clone(view.shared_catalog()), planner.settings.clone());
        Ok(Some(Self { steps, columns, catalog, settings, types, values }))
    }

    /// The write that `statement` is with `parameters`; `None` when it has to be planned.
    pub(crate) fn run(
        &self,
        view: &ReadView,
        statement: &ast::Statement,
        parameters: &[ScalarValue],
    ) -> Result<Option<PlannedWrite>> {
        let suits = |(value, data_type): (&ScalarValue, &DataType)| {
            !value.is_null() && value.data_type() == *data_type
        };
        if parameters.len() != self.types.len() || !parameters.iter().zip(&self.types).all(suits) {
            return Ok(None);
        }
        let write = Write::resolve(view, &self.settings.default_schema(), statement)?;
        let Some(write) = write else { return Ok(None) };
        let Some(by_key) = by_key(&write, statement) else { return Ok(None) };
        let Some(table) = view.table(write.collection.id) else { return Ok(None) };
        let definition = table.definition_of(write.collection);
        let Some(found) = by_key.find(view, &definition, parameters)? else { return Ok(None) };
        let mut builder = WriteBuilder::new(write.collection, definition.schema(), view.at());
        if let Some((id, row)) = found {
            if self.values.lent.swap(true, Ordering::Acquire) {
                return Ok(None);
            }
            let _lease = Lease(Arc::clone(&self.values));
            *self.values.values.lock() = parameters.to_vec();
            let mut columns = row.columns().to_vec();
            columns.push(Arc::new(UInt64Array::from(vec![id.0])) as ArrayRef);
            let row = RecordBatch::try_new(with_row_id(definition.schema()), columns)?;
            let changed = self.steps.run(row.project(&self.columns)?)?;
            builder.end(changed.column(0))?;
            if write.verb == Verb::Update {
                let rows = changed.num_rows();
                builder.begin(&changed.columns()[1..], &write.positions, rows)?;
            }
        }
        Ok(Some(PlannedWrite::of(builder, write.verb)))
    }
}
