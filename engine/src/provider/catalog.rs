//! Names to tables: the database `azimuth`, its namespaces, and PostgreSQL's catalog.
//!
//! Names resolve in the catalog of the statement's read view. A second database name, which no
//! user can type without quoting it, gives the same tables with row ids, for UPDATE and DELETE.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::DataFusionError;

use super::collection::CollectionProvider;
use super::pg_catalog;
use super::scope::Scope;

/// The one database.
pub(crate) const DATABASE: &str = "azimuth";
/// The database whose tables have row ids.
pub(crate) const DML_CATALOG: &str = "azimuth rows";

/// The database, and its only namespace, of rows that a statement keeps for itself.
pub(crate) const MEMORY_CATALOG: &str = "azimuth memory";

/// All names a session can see.
#[derive(Debug)]
pub(crate) struct Names {
    scope: Arc<Scope>,
}

impl Names {
    pub(crate) fn new(scope: Arc<Scope>) -> Self {
        Self { scope }
    }
}

impl CatalogProviderList for Names {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![DATABASE.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let row_ids = match name {
            DATABASE => false,
            DML_CATALOG => true,
            MEMORY_CATALOG => return Some(Arc::new(Memory { scope: Arc::clone(&self.scope) })),
            _ => return None,
        };
        Some(Arc::new(Database { scope: Arc::clone(&self.scope), row_ids }))
    }
}

#[derive(Debug)]
struct Database {
    scope: Arc<Scope>,
    row_ids: bool,
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        let view = self.scope.view();
        view.catalog().namespaces(view.at()).map(|n| n.name.clone()).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if let Some(tables) = pg_catalog::Set::of(name) {
            return Some(Arc::new(CatalogTables { scope: Arc::clone(&self.scope), tables }));
        }
        // Names are resolved when a table is asked for: an instant of the past may know a
        // namespace that the present does not.
        Some(Arc::new(Namespace {
            scope: Arc::clone(&self.scope),
            name: name.to_owned(),
            row_ids: self.row_ids,
        }))
    }
}

#[derive(Debug)]
struct Memory {
    scope: Arc<Scope>,
}

impl CatalogProvider for Memory {
    fn schema_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == MEMORY_CATALOG)
            .then(|| Arc::new(Self { scope: Arc::clone(&self.scope) }) as Arc<dyn SchemaProvider>)
    }
}

#[async_trait]
impl SchemaProvider for Memory {
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.scope.kept(name).map(|table| table as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.scope.kept(name).is_some()
    }
}

#[derive(Debug)]
struct Namespace {
    scope: Arc<Scope>,
    name: String,
    row_ids: bool,
}

#[async_trait]
impl SchemaProvider for Namespace {
    fn table_names(&self) -> Vec<String> {
        let view = self.scope.view();
        let Some(namespace) = view.catalog().namespace(&self.name, view.at()) else {
            return Vec::new();
        };
        let inside = view.catalog().collections(view.at()).filter(|c| c.schema == namespace.id);
        inside.map(|collection| collection.name.clone()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        // PostgreSQL searches its own catalog before every other schema of the path.
        if self.name == self.scope.schema()
            && let Some(table) = pg_catalog::table(pg_catalog::Set::PgCatalog, name, &self.scope)?
        {
            return Ok(Some(table));
        }
        let view = self.scope.view();
        let found = CollectionProvider::find(&view, &self.name, name)?;
        Ok(found.map(|found| Arc::new(found.with_row_ids(self.row_ids)) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|table| table == name)
    }
}

#[derive(Debug)]
struct CatalogTables {
    scope: Arc<Scope>,
    tables: pg_catalog::Set,
}

#[async_trait]
impl SchemaProvider for CatalogTables {
    fn table_names(&self) -> Vec<String> {
        pg_catalog::names(self.tables).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        pg_catalog::table(self.tables, name, &self.scope)
    }

    fn table_exist(&self, name: &str) -> bool {
        pg_catalog::names(self.tables).any(|table| table == name)
    }
}
