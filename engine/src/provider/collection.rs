//! A collection as DataFusion's table, pinned at an instant.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraint, Constraints, DFSchema, Result, internal_err};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use storage::memtable::{Definition, Table};
use storage::{Pin, ReadView};
use types::CommitTs;

use crate::exec::{
    CollectionScanExec, KeyInput, SemiJoin, Source, VectorTopK, VectorTopKExec, lookup,
    storage_error,
};
use crate::search_config::SearchConfig;
use crate::tuner::Tuner;

/// Name of the hidden column that UPDATE and DELETE read. Cannot be a user's column.
pub(crate) const ROW_ID: &str = "_row_id";

/// A collection at an instant, perhaps asked for its nearest rows.
#[derive(Debug, Clone)]
pub(crate) struct CollectionProvider {
    table: Arc<Table>,
    /// As it is at the instant.
    definition: Arc<Definition>,
    constraints: Constraints,
    at: CommitTs,
    schema: SchemaRef,
    row_id: bool,
    top_k: Option<VectorTopK>,
    /// Whether the statement names the instant.
    past: bool,
    /// Until the operators are made, which hold the row versions themselves.
    _pin: Option<Arc<Pin>>,
}

impl CollectionProvider {
    /// The collection that has the name at the view's instant.
    ///
    /// # Errors
    /// When the instant cannot be read any more.
    pub(crate) fn find(view: &ReadView, namespace: &str, name: &str) -> Result<Option<Self>> {
        let catalog = view.catalog();
        let collection = catalog
            .namespace(namespace, view.at())
            .and_then(|namespace| catalog.collection(namespace.id, name, view.at()));
        let Some(collection) = collection else { return Ok(None) };
        let table = view.readable(collection.id).map_err(storage_error)?;
        Ok(table.map(|table| {
            let definition = table.definition_of(collection);
            let (schema, at) = (Arc::clone(definition.schema()), view.at());
            let (table, _pin) = (Arc::clone(table), view.pin());
            let key = definition.primary_key.clone();
            let keys = (!key.is_empty()).then_some(Constraint::PrimaryKey(key));
            let constraints = Constraints::new_unverified(keys.into_iter().collect());
            Self {
                table,
                definition,
                constraints,
                at,
                schema,
                row_id: false,
                top_k: None,
                past: false,
                _pin,
            }
        }))
    }

    /// Adds the hidden column.
    pub(crate) fn with_row_ids(mut self, row_id: bool) -> Self {
        if row_id {
            let mut fields = self.schema.fields().to_vec();
            fields.push(Arc::new(Field::new(ROW_ID, DataType::UInt64, false)));
            self.schema = Arc::new(Schema::new(fields));
            self.row_id = true;
        }
        self
    }

    /// The same table at an instant that the statement names.
    pub(crate) fn of_the_past(self) -> Self {
        Self { past: true, ..self }
    }

    /// The same table asked for its nearest rows.
    pub(crate) fn with_top_k(&self, top_k: VectorTopK) -> Self {
        Self { top_k: Some(top_k), ..self.clone() }
    }

    /// Whether the nearest rows are asked for already.
    pub(crate) fn has_top_k(&self) -> bool {
        self.top_k.is_some()
    }

    /// The inputs that say which rows are searched.
    async fn joins(&self, joins: &[SemiJoin], state: &dyn Session) -> Result<Vec<KeyInput>> {
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        let mut inputs = Vec::with_capacity(joins.len());
        for SemiJoin { on, keys, negated } in joins {
            let key = |expr: &Expr| state.create_physical_expr(expr.clone(), &schema);
            inputs.push(KeyInput {
                on: on.iter().map(key).collect::<Result<_>>()?,
                keys: state.create_physical_plan(keys).await?,
                negated: *negated,
            });
        }
        Ok(inputs)
    }

    pub(crate) fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }
}

#[async_trait]
impl TableProvider for CollectionProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // The operators evaluate predicates themselves, row by row, so all of them are exact; only
        // what needs another plan cannot be evaluated here.
        let decide = |filter: &&Expr| {
            if filter.contains_scalar_subquery() || filter.contains_outer() {
                TableProviderFilterPushDown::Unsupported
            } else {
                TableProviderFilterPushDown::Exact
            }
        };
        Ok(filters.iter().map(decide).collect())
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let predicate = match conjunction(filters.to_vec()) {
            Some(predicate) => {
                let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
                Some(state.create_physical_expr(predicate, &schema)?)
            }
            None => None,
        };
        let mut source = Source {
            table: Arc::clone(&self.table),
            definition: Arc::clone(&self.definition),
            at: self.at,
            schema: Arc::clone(&self.schema),
            row_id: self.row_id,
            past: self.past,
            projection: projection.cloned().unwrap_or_else(all),
            predicate,
            range: None,
        };
        let settings = SearchConfig::of(state.config_options());
        if let Some(top_k) = &self.top_k {
            let Some(tuner) = state.config().get_extension::<Tuner>() else {
                return internal_err!("a session without a tuner");
            };
            let joins = self.joins(&top_k.joins, state).await?;
            // The plans of the joins hold pins that the operators do not need.
            let top_k = VectorTopK { joins: Vec::new(), ..top_k.clone() };
            return Ok(Arc::new(VectorTopKExec::new(source, top_k, joins, (settings, tuner))?));
        }
        let (mut rows, found) = lookup(&source, filters)?;
        // A write takes no part of its meaning from an index.
        if found.is_none() && settings.enable_ann && !self.row_id {
            let contents = self.table.contents();
            source = source.with_range(&contents);
            rows = contents.rows;
        }
        let partitions = state.config().target_partitions();
        Ok(Arc::new(CollectionScanExec::new(source, rows, found, limit, partitions)?))
    }
}
