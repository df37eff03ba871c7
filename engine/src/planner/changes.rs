//! UPDATE and DELETE become a query for row ids and new values, whose answer becomes one resolved
//! command. DataFusion's own hooks for them are not used: they lose predicates with subqueries, and a
//! lost predicate means all rows.

use catalog::{Collection, Column, ColumnType, Numbered};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    self, Assignment, AssignmentTarget, Delete, Expr, FromTable, Ident, ObjectName, Query, Select,
    SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, Update, UpdateTableFromKind,
    Value,
};
use types::SqlState;

use super::rules::default_expression;
use super::write::default_word;
use crate::error::{EngineError, Result};
use crate::pg_types;
use crate::provider::{DML_CATALOG, ROW_ID};
use crate::sql::types::{cast, last_part, named_type};

/// The table that an UPDATE or DELETE changes.
pub(crate) struct Target<'a> {
    pub(crate) name: &'a ObjectName,
    alias: Option<&'a TableAlias>,
}

impl Target<'_> {
    /// What the statement calls the table.
    pub(crate) fn qualifier(&self, collection: &Collection) -> Ident {
        self.alias.map_or_else(
            || Ident::with_quote('"', collection.name.clone()),
            |alias| alias.name.clone(),
        )
    }

    /// The query over the table, with its row ids, and `others`.
    fn query(
        &self,
        (collection, schema): (&Collection, &str),
        projection: Vec<SelectItem>,
        others: &[TableWithJoins],
        selection: Option<&Expr>,
    ) -> Query {
        let name = table_name(DML_CATALOG, schema, &collection.name);
        let from = joined(table_factor(name, self.qualifier(collection)), others);
        query_of(projection, from, selection.cloned())
    }
}

fn single_table<'a>(tables: &'a [TableWithJoins], verb: &str) -> Result<Target<'a>> {
    let [TableWithJoins { relation, joins }] = tables else {
        return Err(EngineError::unsupported(format!("{verb} of more than one table")));
    };
    if !joins.is_empty() {
        return Err(EngineError::unsupported(format!("a join in {verb}")));
    }
    match relation {
        TableFactor::Table { version: Some(_), .. } => {
            let message = format!("cannot {verb} the past");
            Err(EngineError::new(SqlState::READ_ONLY_SQL_TRANSACTION, message))
        }
        TableFactor::Table { name, alias, args: None, .. } => {
            Ok(Target { name, alias: alias.as_ref() })
        }
        _ => Err(EngineError::unsupported(format!("{verb} of anything but a table"))),
    }
}

/// The table that an UPDATE changes.
pub(crate) fn update_target(update: &Update) -> Result<Target<'_>> {
    single_table(std::slice::from_ref(&update.table), "UPDATE")
}

/// The table that a DELETE changes.
pub(crate) fn delete_target(delete: &Delete) -> Result<Target<'_>> {
    let FromTable::WithFromKeyword(tables) = &delete.from else {
        return Err(EngineError::syntax("DELETE needs FROM"));
    };
    single_table(tables, "DELETE")
}

/// The query for some columns of a table, or for all.
pub(crate) fn read_columns(name: &ObjectName, columns: &[Ident]) -> Query {
    let alias = Ident::with_quote('"', last_part(name));
    let item = |column: &Ident| SelectItem::UnnamedExpr(Expr::Identifier(column.clone()));
    let items = match columns {
        [] => vec![SelectItem::Wildcard(ast::WildcardAdditionalOptions::default())],
        columns => columns.iter().map(item).collect(),
    };
    query_of(items, joined(table_factor(name.clone(), alias), &[]), None)
}

/// What `TRUNCATE` does: a DELETE of everything for each table.
pub(crate) fn truncations(truncate: &ast::Truncate) -> Result<Vec<ast::Statement>> {
    EngineError::refuse_present(&[
        (truncate.partitions.is_some() || truncate.on_cluster.is_some(), "this form of TRUNCATE"),
        (truncate.if_exists, "TRUNCATE IF EXISTS"),
        (truncate.table_names.iter().any(|target| target.only), "ONLY"),
    ])?;
    let delete = |target: &ast::TruncateTableTarget| {
        let alias = Ident::with_quote('"', last_part(&target.name));
        ast::Statement::Delete(Delete {
            delete_token: AttachedToken::empty(),
            optimizer_hints: Vec::new(),
            tables: Vec::new(),
            from: FromTable::WithFromKeyword(joined(table_factor(target.name.clone(), alias), &[])),
            using: None,
            selection: None,
            returning: None,
            output: None,
            order_by: Vec::new(),
            limit: None,
        })
    };
    Ok(truncate.table_names.iter().map(delete).collect())
}

/// The query whose rows are the row ids to end and the columns to begin.
pub(crate) fn update_query(
    update: &Update,
    target: &Target<'_>,
    (collection, schema): (&Collection, &str),
) -> Result<Query> {
    EngineError::refuse_present(&[
        (update.output.is_some(), "OUTPUT"),
        (!update.order_by.is_empty() || update.limit.is_some(), "ORDER BY or LIMIT in UPDATE"),
        (update.or.is_some(), "UPDATE OR"),
    ])?;
    let projection = new_columns(&update.assignments, collection, &target.qualifier(collection))?;
    let others = match &update.from {
        None => &[],
        Some(UpdateTableFromKind::BeforeSet(tables) | UpdateTableFromKind::AfterSet(tables)) => {
            tables.as_slice()
        }
    };
    Ok(target.query((collection, schema), projection, others, update.selection.as_ref()))
}

/// A row id, and all columns of the row after `assignments`.
pub(crate) fn new_columns(
    assignments: &[Assignment],
    collection: &Collection,
    qualifier: &Ident,
) -> Result<Vec<SelectItem>> {
    let mut assigned: Vec<Option<Expr>> = vec![None; collection.columns.len()];
    for assignment in assignments {
        let AssignmentTarget::ColumnName(name) = &assignment.target else {
            return Err(EngineError::unsupported("assignment to a list of columns"));
        };
        let name = last_part(name);
        let position = collection.column_position(&name);
        let position = position.ok_or_else(|| EngineError::no_column(&name, &collection.name))?;
        let column = &collection.columns[position];
        let value = typed(&assignment.value, column)?;
        if assigned[position].replace(value).is_some() {
            let message = format!("multiple assignments to same column \"{name}\"");
            return Err(EngineError::syntax(message));
        }
    }
    let mut projection = vec![row_id_item(qualifier)];
    for (at, (column, value)) in collection.columns.iter().zip(assigned).enumerate() {
        let own = || column_of(qualifier, &column.name);
        let alias = Ident::with_quote('"', format!("new {at}"));
        projection.push(SelectItem::ExprWithAlias { expr: value.unwrap_or_else(own), alias });
    }
    Ok(projection)
}

/// A column of a table.
pub(crate) fn column_of(qualifier: &Ident, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![qualifier.clone(), Ident::with_quote('"', name)])
}

/// The query whose rows are the row ids to end.
pub(crate) fn delete_query(
    delete: &Delete,
    target: &Target<'_>,
    (collection, schema): (&Collection, &str),
) -> Result<Query> {
    EngineError::refuse_present(&[
        (delete.output.is_some(), "OUTPUT"),
        (!delete.order_by.is_empty() || delete.limit.is_some(), "ORDER BY or LIMIT in DELETE"),
        (!delete.tables.is_empty(), "DELETE of more than one table"),
    ])?;
    let qualifier = target.qualifier(collection);
    let projection = match delete.returning {
        Some(_) => new_columns(&[], collection, &qualifier)?,
        None => vec![row_id_item(&qualifier)],
    };
    let others = delete.using.as_deref().unwrap_or_default();
    Ok(target.query((collection, schema), projection, others, delete.selection.as_ref()))
}

fn row_id_item(qualifier: &Ident) -> SelectItem {
    SelectItem::UnnamedExpr(Expr::CompoundIdentifier(vec![qualifier.clone(), Ident::new(ROW_ID)]))
}

/// A parameter that stands alone has the type of the column it is assigned to.
fn typed(value: &Expr, column: &Column) -> Result<Expr> {
    if default_word(value) {
        return default_expression(column);
    }
    if let Some((_, Numbered::Always)) = column.sequence() {
        let message = format!("column \"{}\" can only be updated to DEFAULT", column.name);
        return Err(EngineError::new(SqlState::GENERATED_ALWAYS, message));
    }
    match value {
        Expr::Value(inner) if matches!(inner.value, Value::Placeholder(_)) => {
            Ok(cast(value.clone(), sql_type(column.column_type)))
        }
        other => Ok(other.clone()),
    }
}

/// The type's name as the parser would have read it.
fn sql_type(column_type: ColumnType) -> ast::DataType {
    let modifiers = column_type.vector().map(|(_, dim)| dim.to_string()).into_iter().collect();
    named_type(pg_types::name_of_column(column_type), modifiers)
}

/// A table of one of the catalogs that no user can name.
pub(crate) fn table_name(catalog: &str, schema: &str, table: &str) -> ObjectName {
    let quoted = |name: &str| Ident::with_quote('"', name);
    ObjectName::from(vec![quoted(catalog), quoted(schema), quoted(table)])
}

/// A table under another name.
pub(crate) fn table_factor(name: ObjectName, alias: Ident) -> TableFactor {
    let alias = TableAlias { explicit: true, name: alias, columns: Vec::new(), at: None };
    TableFactor::Table {
        name,
        alias: Some(alias),
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// `relation, others`
pub(crate) fn joined(relation: TableFactor, others: &[TableWithJoins]) -> Vec<TableWithJoins> {
    let mut from = vec![TableWithJoins { relation, joins: Vec::new() }];
    from.extend_from_slice(others);
    from
}

/// `SELECT projection FROM from WHERE selection`.
pub(crate) fn query_of(
    projection: Vec<SelectItem>,
    from: Vec<TableWithJoins>,
    selection: Option<Expr>,
) -> Query {
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views: Vec::new(),
        prewhere: None,
        selection,
        connect_by: Vec::new(),
        group_by: ast::GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: ast::SelectFlavor::Standard,
    };
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}
