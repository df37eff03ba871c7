//! Views: what `CREATE VIEW` keeps, and the queries that stand in the place of their names.
//!
//! The catalog keeps a view's query as it was written, with the namespace of every table in it. A query
//! that names a view gets it as a subquery, before anything is planned: permissions, pruning, search
//! and the instant are those of a query that was written out.

use std::borrow::Cow;
use std::ops::ControlFlow;

use catalog::{Column, Define, View};
use datafusion::sql::sqlparser::ast::{
    self, CreateView, Expr, Ident, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor,
    Value, Visit as _, VisitMut, Visitor, VisitorMut,
};
use storage::ReadView;
use types::{SqlState, TableId};

use super::changes::query_of;
use super::create_as::column_type_required;
use super::define::{Names, parts_of};
use crate::error::{EngineError, Result};
use crate::provider::{DATABASE, Scope, pg_catalog};
use crate::query::{Planner, named_schema, require_select};
use crate::sql::names::output_names;
use crate::sql::stored::{parse_query, read_query};
use crate::sql::types::fold;

/// What `CREATE [OR REPLACE] VIEW` comes to.
pub(crate) async fn plan_create_view(
    planner: &Planner,
    create: &CreateView,
) -> Result<Vec<Define>> {
    EngineError::refuse_present(&[
        (create.materialized, "a materialized view"),
        (create.temporary, "a temporary view"),
        (create.or_alter || create.secure || create.copy_grants, "this kind of view"),
        (create.if_not_exists, "CREATE VIEW IF NOT EXISTS"),
        (create.options != ast::CreateTableOptions::None, "an option of a view"),
        (!create.cluster_by.is_empty() || create.comment.is_some(), "this clause of CREATE VIEW"),
        (create.with_no_schema_binding || create.to.is_some(), "this clause of CREATE VIEW"),
        (create.params.is_some(), "this clause of CREATE VIEW"),
        (
            create.columns.iter().any(|c| c.data_type.is_some() || c.options.is_some()),
            "a type of a view's column",
        ),
    ])?;
    require_select(&create.query)?;
    let state = planner.begin(None);
    let (view, default) = (planner.scope.view(), planner.settings.default_schema());
    let names = Names::new(&view, &default);
    let (schema, name) = names.split(&create.name)?;
    let mut query = create.query.clone();
    name_outputs(&mut query);
    let mut placed =
        Placed { view: &view, default: &default, ctes: Ctes::default(), reads: Vec::new() };
    if let ControlFlow::Break(error) = VisitMut::visit(&mut *query, &mut placed) {
        return Err(error);
    }
    let reads = placed.reads;
    let text = query.to_string();
    if parse_query(&text).ok().as_ref() != Some(&*query) {
        return Err(EngineError::unsupported("an expression of this view"));
    }
    let planned = planner.describe_here(state, &read_query(&text)?).await?;
    let fields = named_schema(&query, &planned.analysed_schema());
    if create.columns.len() > fields.fields().len() {
        return Err(EngineError::syntax("CREATE VIEW specifies more column names than columns"));
    }
    let outputs: Vec<String> = fields.fields().iter().map(|field| field.name().clone()).collect();
    let mut columns: Vec<Column> = Vec::with_capacity(outputs.len());
    for (at, field) in fields.fields().iter().enumerate() {
        let given = create.columns.get(at).map(|column| fold(&column.name));
        let name = given.unwrap_or_else(|| field.name().clone());
        if columns.iter().any(|known| known.name == name) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(EngineError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        columns.push(Column::new(&name, column_type_required(field)?, true));
    }
    let mut defines = Vec::new();
    if create.or_replace
        && let Some(before) = view.catalog().view(schema, &name, view.at())
    {
        check_replaced(before, &columns)?;
        defines.push(Define::DropView { id: before.id });
    }
    let life = catalog::Lifetime { created: view.at(), dropped: None };
    let id = TableId(0);
    let made = View { id, schema, name, columns, outputs, query: text, reads, life };
    defines.push(Define::CreateView { view: made });
    Ok(defines)
}

/// A view keeps its columns when it gets another query, and may get more.
fn check_replaced(before: &View, columns: &[Column]) -> Result<()> {
    let invalid = |message: String| EngineError::new(SqlState::INVALID_TABLE_DEFINITION, message);
    if columns.len() < before.columns.len() {
        return Err(invalid("cannot drop columns from view".to_owned()));
    }
    for (old, new) in before.columns.iter().zip(columns) {
        if old.name != new.name {
            let (old, new) = (&old.name, &new.name);
            let message = format!("cannot change name of view column \"{old}\" to \"{new}\"");
            return Err(invalid(message));
        }
        if old.column_type != new.column_type {
            let (name, from) = (&old.name, old.column_type.sql_name());
            let to = new.column_type.sql_name();
            let message =
                format!("cannot change data type of view column \"{name}\" from {from} to {to}");
            return Err(invalid(message));
        }
    }
    Ok(())
}

/// Gives the columns of a query the names that PostgreSQL gives, where they have none of their own.
fn name_outputs(query: &mut Query) {
    let Some(select) = first_select(&mut query.body) else { return };
    let wild = |item: &SelectItem| {
        matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
    };
    let items = select.projection.iter().filter(|item| !wild(item)).cloned().collect();
    let plain = query_of(items, Vec::new(), None);
    let count = select.projection.iter().filter(|item| !wild(item)).count();
    let mut names = output_names(&plain, count).unwrap_or_default().into_iter();
    for item in select.projection.iter_mut().filter(|item| !wild(item)) {
        let name = names.next().flatten();
        if let SelectItem::UnnamedExpr(expr) = item
            && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        {
            let alias = Ident::with_quote('"', name.unwrap_or_else(|| "?column?".to_owned()));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

fn first_select(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&mut query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

/// Names of the common table expressions around a place in a query, the innermost ones last.
#[derive(Default)]
struct Ctes(Vec<Vec<String>>);

impl Ctes {
    fn enter(&mut self, query: &Query) {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.0.push(tables.map(|cte| fold(&cte.alias.name)).collect());
    }

    fn leave(&mut self) {
        self.0.pop();
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().flatten().any(|cte| cte == name)
    }
}

/// The one name of a table factor that a common table expression may have.
fn bare(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { name, args: None, .. } => match parts_of(name).as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Writes the namespace of every table that has none.
struct Placed<'a> {
    view: &'a ReadView,
    default: &'a str,
    ctes: Ctes,
    reads: Vec<TableId>,
}

impl VisitorMut for Placed<'_> {
    type Break = EngineError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<EngineError> {
        self.ctes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<EngineError> {
        self.ctes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<EngineError> {
        match expr {
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => {
                    let message = format!("there is no parameter {name}");
                    ControlFlow::Break(EngineError::new(SqlState::UNDEFINED_PARAMETER, message))
                }
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<EngineError> {
        if bare(factor).is_some_and(|name| self.ctes.has(&name)) {
            return ControlFlow::Continue(());
        }
        let TableFactor::Table { name, args: None, .. } = factor else {
            return ControlFlow::Continue(());
        };
        match Names::new(self.view, self.default).split(name) {
            Ok((schema, table)) => {
                let (catalog, at) = (self.view.catalog(), self.view.at());
                let found = catalog.collection(schema, &table, at).map(|table| table.id);
                let found = found.or_else(|| catalog.view(schema, &table, at).map(|view| view.id));
                let namespace = catalog.namespace_by_id(schema);
                if let (Some(id), Some(namespace)) = (found, namespace) {
                    if !self.reads.contains(&id) {
                        self.reads.push(id);
                    }
                    let quoted = |name: &str| Ident::with_quote('"', name);
                    *name = ast::ObjectName::from(vec![quoted(&namespace.name), quoted(&table)]);
                }
                ControlFlow::Continue(())
            }
            // PostgreSQL's own catalog, or a name that the planner says is unknown.
            Err(_) => ControlFlow::Continue(()),
        }
    }
}

/// Whether a query names a table in a way that may be a view's.
struct NamesTable;

impl Visitor for NamesTable {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { args: None, .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The query with those of views in the place of their names.
pub(crate) fn expanded<'a>(scope: &Scope, query: &'a Query) -> Result<Cow<'a, Query>> {
    let view = scope.view();
    let any = view.catalog().views(view.at()).next().is_some();
    if !any || query.visit(&mut NamesTable).is_continue() {
        return Ok(Cow::Borrowed(query));
    }
    let default = scope.schema();
    let mut expander = Expander { view: &view, default: &default, ctes: Ctes::default() };
    let mut query = query.clone();
    match VisitMut::visit(&mut query, &mut expander) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(Cow::Owned(query)),
    }
}

struct Expander<'a> {
    view: &'a ReadView,
    default: &'a str,
    ctes: Ctes,
}

impl Expander<'_> {
    fn named(&self, name: &ast::ObjectName) -> Option<&View> {
        let parts = parts_of(name);
        let (schema, table) = match parts.as_slice() {
            [table] => (self.default, table),
            [schema, table] => (schema.as_str(), table),
            [database, schema, table] if database == DATABASE => (schema.as_str(), table),
            _ => return None,
        };
        let hidden = parts.len() == 1
            && (self.ctes.has(table)
                || pg_catalog::names(pg_catalog::Set::PgCatalog).any(|known| known == table));
        let (catalog, at) = (self.view.catalog(), self.view.at());
        let namespace = catalog.namespace(schema, at).filter(|_| !hidden)?;
        catalog.view(namespace.id, table, at)
    }
}

impl VisitorMut for Expander<'_> {
    type Break = EngineError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<EngineError> {
        self.ctes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<EngineError> {
        self.ctes.leave();
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<EngineError> {
        let TableFactor::Table { name, alias, args: None, version, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let Some(found) = self.named(name) else { return ControlFlow::Continue(()) };
        if version.is_some() {
            let error = EngineError::unsupported("a view at an instant")
                .with_hint("Name the instant for the tables that the view reads.");
            return ControlFlow::Break(error);
        }
        match in_its_place(found, alias.take()) {
            Ok(mut derived) => {
                // Other views in it, whose names are whole.
                let mut inner = Expander { view: self.view, default: "", ctes: Ctes::default() };
                if let TableFactor::Derived { subquery, .. } = &mut derived
                    && let ControlFlow::Break(error) = VisitMut::visit(&mut **subquery, &mut inner)
                {
                    return ControlFlow::Break(error);
                }
                *factor = derived;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// `(SELECT output AS column, ... FROM (query) AS view) AS alias`
fn in_its_place(view: &View, alias: Option<TableAlias>) -> Result<TableFactor> {
    let quoted = |name: &str| Ident::with_quote('"', name);
    let named = |name: Ident| TableAlias { explicit: true, name, columns: Vec::new(), at: None };
    let derived = |query: Query, alias: TableAlias| TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query),
        alias: Some(alias),
        sample: None,
    };
    let mut columns: Vec<String> = view.columns.iter().map(|column| column.name.clone()).collect();
    let mut alias = alias.unwrap_or_else(|| named(quoted(&view.name)));
    // Names for the first of the columns.
    if alias.columns.len() > columns.len() {
        let (name, has, given) = (&view.name, columns.len(), alias.columns.len());
        let message =
            format!("table \"{name}\" has {has} columns available but {given} columns specified");
        return Err(EngineError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
    }
    for (column, given) in columns.iter_mut().zip(alias.columns.drain(..)) {
        *column = fold(&given.name);
    }
    let item = |(output, column): (&String, &String)| SelectItem::ExprWithAlias {
        expr: Expr::Identifier(quoted(output)),
        alias: quoted(column),
    };
    let items = view.outputs.iter().zip(&columns).map(item).collect();
    let own = derived(read_query(&view.query)?, named(quoted(&view.name)));
    let from = vec![ast::TableWithJoins { relation: own, joins: Vec::new() }];
    Ok(derived(query_of(items, from, None), alias))
}
