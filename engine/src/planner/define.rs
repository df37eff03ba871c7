//! Definitions: statements to catalog changes.

use std::ops::RangeInclusive;

use catalog::{Catalog, Collection, Define, HnswOptions, Index, RECALL_ONE, SortedIndex};
use datafusion::sql::sqlparser::ast::{
    self, CreateIndex, CreateTable, CreateTableOptions, Expr, IndexColumn, IndexType, ObjectName,
    ObjectType, SchemaName, Value,
};
use storage::ReadView;
use types::limits::{
    HNSW_EF_CONSTRUCTION, HNSW_M, LATENCY_BUDGET_US, OVERSAMPLE, QUANTIZED_DIM_MIN, RECALL_TARGET,
};
use types::{Coded as _, Distance, Quantization, SchemaId, SqlState, TableId, VectorKind};

use super::columns::TableParts;
use super::retention::retention;
use super::sequences::{owner, sequence_options, sequence_type};
use super::sorted_index::{Wanted, drop_index, rename_index};
use crate::error::{EngineError, Result};
use crate::provider::DATABASE;
use crate::sql::Reindex;
use crate::sql::types::{fold, last_part};

/// What a definition asks for.
#[derive(Debug)]
pub(crate) struct Change {
    /// Changes, in order; empty when there is nothing to do.
    pub(crate) defines: Vec<Define>,
    /// Command tag.
    pub(crate) tag: &'static str,
    /// Message for the client, such as that there was nothing to do.
    pub(crate) notice: Option<String>,
}

impl Change {
    fn one(define: Define, tag: &'static str) -> Self {
        Self { defines: vec![define], tag, notice: None }
    }

    fn nothing(tag: &'static str, notice: String) -> Self {
        Self { defines: Vec::new(), tag, notice: Some(notice) }
    }
}

/// The catalog and the schema of unqualified names.
pub(crate) struct Names<'a> {
    view: &'a ReadView,
    default_schema: &'a str,
}

impl<'a> Names<'a> {
    pub(super) fn new(view: &'a ReadView, default_schema: &'a str) -> Self {
        Self { view, default_schema }
    }

    fn schema(&self, name: &str) -> Result<SchemaId> {
        let found = self.view.catalog().namespace(name, self.view.at());
        found.map(|namespace| namespace.id).ok_or_else(|| EngineError::no_schema(name))
    }

    pub(super) fn catalog(&self) -> &'a Catalog {
        self.view.catalog()
    }

    /// Namespace and name of a possibly qualified name.
    pub(super) fn split(&self, name: &ObjectName) -> Result<(SchemaId, String)> {
        match parts_of(name).as_slice() {
            [table] => Ok((self.schema(self.default_schema)?, table.clone())),
            [schema, table] => Ok((self.schema(schema)?, table.clone())),
            [database, schema, table] if database == DATABASE => {
                Ok((self.schema(schema)?, table.clone()))
            }
            _ => Err(EngineError::syntax(format!("improper qualified name: {name}"))),
        }
    }

    pub(crate) fn table(&self, name: &ObjectName) -> Result<&'a Collection> {
        target(self.view, self.default_schema, name)
    }
}

/// The names in a possibly qualified one.
pub(super) fn parts_of(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(ast::ObjectNamePart::as_ident).map(fold).collect()
}

/// The collection that a statement writes to.
pub(crate) fn target<'a>(
    view: &'a ReadView,
    default_schema: &str,
    name: &ObjectName,
) -> Result<&'a Collection> {
    let (schema, table) = Names { view, default_schema }.split(name)?;
    let found = view.catalog().collection(schema, &table, view.at());
    found.ok_or_else(|| match view.catalog().view(schema, &table, view.at()) {
        Some(_) => EngineError::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{table}\" is a view, which cannot be written to or changed"),
        ),
        None => EngineError::no_table(&table),
    })
}

/// Plans a definition; `None` when the statement is not one.
pub(crate) fn define(
    view: &ReadView,
    default_schema: &str,
    statement: &ast::Statement,
) -> Result<Option<Change>> {
    let names = Names { view, default_schema };
    Ok(Some(match statement {
        ast::Statement::CreateSchema {
            schema_name, if_not_exists, with, options, clone, ..
        } => {
            if with.is_some() || options.is_some() || clone.is_some() {
                return Err(EngineError::unsupported("an option of CREATE SCHEMA"));
            }
            create_schema(&names, schema_name, *if_not_exists)?
        }
        ast::Statement::CreateTable(create) => create_table(&names, create)?,
        ast::Statement::CreateIndex(create) => create_index(&names, create)?,
        ast::Statement::CreateSequence {
            temporary,
            if_not_exists,
            name,
            data_type,
            sequence_options: given,
            owned_by,
        } => {
            EngineError::refuse_present(&[(*temporary, "a temporary sequence")])?;
            let (schema, name) = names.split(name)?;
            if *if_not_exists && view.catalog().sequence(schema, &name, view.at()).is_some() {
                let notice = format!("relation \"{name}\" already exists, skipping");
                return Ok(Some(Change::nothing("CREATE SEQUENCE", notice)));
            }
            let options = sequence_options(sequence_type(data_type.as_ref())?, given)?;
            let owner = owner(&names, owned_by.as_ref())?;
            let define = Define::CreateSequence { schema, name, options, owner };
            Change::one(define, "CREATE SEQUENCE")
        }
        ast::Statement::Drop { purge: true, .. } | ast::Statement::Drop { table: Some(_), .. } => {
            return Err(EngineError::unsupported("this clause of DROP"));
        }
        ast::Statement::Drop { object_type, if_exists, names: dropped, cascade, .. } => {
            drop_objects(&names, *object_type, dropped, (*if_exists, *cascade))?
        }
        ast::Statement::AlterIndex {
            name,
            operation: ast::AlterIndexOperation::RenameIndex { index_name },
        } => Change::one(rename_index(&names, name, index_name, view.at())?, "ALTER INDEX"),
        ast::Statement::CreateExtension(extension) if fold(&extension.name) == "vector" => {
            Change { defines: Vec::new(), tag: "CREATE EXTENSION", notice: None }
        }
        _ => return Ok(None),
    }))
}

fn create_schema(names: &Names<'_>, name: &SchemaName, if_not_exists: bool) -> Result<Change> {
    let SchemaName::Simple(name) = name else {
        return Err(EngineError::unsupported("CREATE SCHEMA ... AUTHORIZATION"));
    };
    if name.0.len() != 1 {
        return Err(EngineError::syntax(format!("improper schema name: {name}")));
    }
    let name = last_part(name);
    if if_not_exists && names.schema(&name).is_ok() {
        let notice = format!("schema \"{name}\" already exists, skipping");
        return Ok(Change::nothing("CREATE SCHEMA", notice));
    }
    Ok(Change::one(Define::CreateNamespace { name }, "CREATE SCHEMA"))
}

fn refuse_table_clauses(create: &CreateTable) -> Result<()> {
    EngineError::refuse_present(&[
        (create.or_replace, "CREATE OR REPLACE TABLE"),
        (create.temporary, "a temporary table"),
        (create.query.is_some(), "CREATE TABLE AS"),
        (create.like.is_some(), "CREATE TABLE LIKE"),
        (create.clone.is_some(), "CREATE TABLE ... CLONE"),
        (create.partition_by.is_some(), "PARTITION BY"),
        (create.inherits.is_some(), "INHERITS"),
        (create.on_commit.is_some(), "ON COMMIT"),
        (
            create.external || create.file_format.is_some() || create.location.is_some(),
            "an external table",
        ),
        (create.comment.is_some(), "COMMENT in CREATE TABLE"),
        (create.strict || create.without_rowid, "STRICT or WITHOUT ROWID"),
        (
            create.transient || create.volatile || create.dynamic || create.iceberg,
            "this kind of table",
        ),
        (create.global.is_some(), "LOCAL or GLOBAL"),
        (create.on_cluster.is_some() || create.order_by.is_some(), "ON CLUSTER or ORDER BY"),
        (create.cluster_by.is_some() || create.clustered_by.is_some(), "CLUSTER BY"),
        (create.primary_key.is_some() || create.version.is_some(), "this clause of CREATE TABLE"),
        (create.partition_of.is_some() || create.for_values.is_some(), "PARTITION OF"),
    ])
}

fn create_table(names: &Names<'_>, create: &CreateTable) -> Result<Change> {
    refuse_table_clauses(create)?;
    let (schema, name) = names.split(&create.name)?;
    if create.if_not_exists
        && names.view.catalog().collection(schema, &name, names.view.at()).is_some()
    {
        let notice = format!("relation \"{name}\" already exists, skipping");
        return Ok(Change::nothing("CREATE TABLE", notice));
    }
    let TableParts { columns, primary_key, key_name, checks, uniques, sequences } =
        TableParts::of(create)?;
    let sorted = name_uniques(names, (schema, &name), &columns, uniques);
    let retention = match &create.table_options {
        CreateTableOptions::None => None,
        CreateTableOptions::With(options) => retention(options)?,
        other => return Err(EngineError::unsupported(format!("{other} in CREATE TABLE"))),
    };
    let define = Define::CreateCollection {
        schema,
        name,
        columns,
        primary_key,
        retention,
        checks,
        sorted,
        key_name,
        sequences,
    };
    Ok(Change::one(define, "CREATE TABLE"))
}

/// Gives the constraints of a new table their names.
fn name_uniques(
    names: &Names<'_>,
    (schema, table): (SchemaId, &str),
    columns: &[catalog::Column],
    uniques: Vec<Wanted>,
) -> Vec<SortedIndex> {
    let mut given: Vec<String> = vec![table.to_owned()];
    let mut sorted = Vec::with_capacity(uniques.len());
    for wanted in uniques {
        let of: Vec<String> =
            wanted.columns.iter().map(|column| columns[column.column].name.clone()).collect();
        let free = |parts: (&str, &str)| {
            names.view.catalog().free_name(schema, parts, &given, names.view.at())
        };
        let index = wanted.named(table, &of, free);
        given.push(index.name.clone());
        sorted.push(index);
    }
    sorted
}

fn refuse_index_clauses(create: &CreateIndex) -> Result<()> {
    EngineError::refuse_present(&[
        (create.unique, "a unique index"),
        (!create.include.is_empty(), "INCLUDE"),
        (create.nulls_distinct.is_some(), "NULLS DISTINCT"),
        (create.predicate.is_some(), "a partial index"),
        (!create.index_options.is_empty() || !create.alter_options.is_empty(), "an index option"),
        (create.columns.len() != 1, "an index on more than one column"),
    ])
}

fn create_index(names: &Names<'_>, create: &CreateIndex) -> Result<Change> {
    refuse_index_clauses(create)?;
    match &create.using {
        Some(IndexType::Custom(method)) if ["hnsw", "ivfflat"].contains(&&*fold(method)) => {}
        Some(method) => {
            let method = method.to_string().to_lowercase();
            let message = format!("access method \"{method}\" does not exist");
            return Err(EngineError::new(SqlState::UNDEFINED_OBJECT, message)
                .with_hint("Use: CREATE INDEX ON table USING hnsw (column vector_cosine_ops)."));
        }
        // Not one of those that need no look at the rows.
        None => return Err(EngineError::bug("a sorted index")),
    }
    let collection = names.table(&create.table_name)?;
    let [IndexColumn { column, operator_class }] = create.columns.as_slice() else {
        return Err(EngineError::unsupported("an index on more than one column"));
    };
    let Expr::Identifier(ident) = &column.expr else {
        return Err(EngineError::unsupported("an index on an expression"));
    };
    if column.options.asc.is_some() || column.options.nulls_first.is_some() {
        return Err(EngineError::unsupported("an order of a vector index"));
    }
    let column_name = fold(ident);
    let position = collection.column_position(&column_name);
    let position =
        position.ok_or_else(|| EngineError::no_column(&column_name, &collection.name))?;
    let Some((kind, dim)) = collection.columns[position].column_type.vector() else {
        let message = format!("column \"{column_name}\" is not a vector");
        return Err(EngineError::new(SqlState::DATATYPE_MISMATCH, message));
    };
    let classes = kind.distances().iter().map(|distance| distance.operator_class(kind));
    let hint = format!("One of {}.", classes.collect::<Vec<_>>().join(", "));
    let Some(class) = operator_class.as_ref().map(last_part) else {
        let message = "an hnsw index needs an operator class";
        return Err(EngineError::new(SqlState::UNDEFINED_OBJECT, message).with_hint(hint));
    };
    let Some((made_for, distance)) = Distance::from_operator_class(&class) else {
        let message = format!("operator class \"{class}\" does not exist for access method hnsw");
        return Err(EngineError::new(SqlState::UNDEFINED_OBJECT, message).with_hint(hint));
    };
    if made_for != kind {
        let name = kind.name();
        let message = format!("operator class \"{class}\" does not accept data type {name}");
        return Err(EngineError::new(SqlState::DATATYPE_MISMATCH, message).with_hint(hint));
    }
    // Codes of few dimensions save little and tell near rows apart badly.
    let has_codes = kind != VectorKind::Sparsevec && Distance::OF_CODES.contains(&distance);
    let quantization = if has_codes && dim.len() >= QUANTIZED_DIM_MIN {
        Quantization::default()
    } else {
        Quantization::None
    };
    let (with, notice) = built_as_hnsw(create);
    let options = hnsw_options(&with, quantization)?;
    if !has_codes && options.quantization != Quantization::None {
        return Err(EngineError::unsupported(format!("quantization with {class}"))
            .with_hint("Such an index compares the vectors themselves; leave the option out."));
    }
    let name = index_name(names, create, collection, &column_name)?;
    let exists =
        |name: &str| names.view.catalog().index(collection.schema, name, names.view.at()).is_some();
    if create.if_not_exists && create.name.is_some() && exists(&name) {
        let notice = format!("relation \"{name}\" already exists, skipping");
        return Ok(Change::nothing("CREATE INDEX", notice));
    }
    let table = collection.id;
    let column = collection.column_id(position);
    let define = Define::CreateIndex { table, name, column, distance, options };
    Ok(Change { notice, ..Change::one(define, "CREATE INDEX") })
}

/// The options of an index, and what the client is told when it asked for lists and gets a graph.
fn built_as_hnsw(create: &CreateIndex) -> (Vec<Expr>, Option<String>) {
    let asked = matches!(&create.using,
        Some(IndexType::Custom(method)) if fold(method) == "ivfflat");
    if !asked {
        return (create.with.clone(), None);
    }
    let is_lists = |option: &&Expr| {
        !matches!(option, Expr::BinaryOp { left, .. }
            if matches!(&**left, Expr::Identifier(name) if fold(name) == "lists"))
    };
    let notice = "an ivfflat index is built as hnsw; lists means nothing to it".to_owned();
    (create.with.iter().filter(is_lists).cloned().collect(), Some(notice))
}

/// The name given, or PostgreSQL's choice: table, column, `idx`, and a number when that is taken.
fn index_name(
    names: &Names<'_>,
    create: &CreateIndex,
    collection: &Collection,
    column: &str,
) -> Result<String> {
    if let Some(name) = &create.name {
        if name.0.len() != 1 {
            return Err(EngineError::syntax("an index is in the schema of its table"));
        }
        return Ok(last_part(name));
    }
    let base = format!("{}_{column}_idx", collection.name);
    let catalog = names.view.catalog();
    let taken = |name: &str| {
        catalog.index(collection.schema, name, names.view.at()).is_some()
            || catalog.collection(collection.schema, name, names.view.at()).is_some()
    };
    let numbered = (1_u32..).map(|n| format!("{base}{n}"));
    Ok(std::iter::once(base.clone()).chain(numbered).find(|n| !taken(n)).unwrap_or(base))
}

/// The options given; `quantization` when that is not among them.
fn hnsw_options(with: &[Expr], quantization: Quantization) -> Result<HnswOptions> {
    let mut options = HnswOptions { quantization, ..HnswOptions::default() };
    let mut given: Vec<String> = Vec::new();
    for option in with {
        let Expr::BinaryOp { left, op: ast::BinaryOperator::Eq, right } = option else {
            return Err(EngineError::syntax("an index option has the form name = value"));
        };
        let Expr::Identifier(name) = &**left else {
            return Err(EngineError::syntax("an index option has the form name = value"));
        };
        let text = match &**right {
            Expr::Value(value) => match &value.value {
                Value::Number(text, _) | Value::SingleQuotedString(text) => text.clone(),
                Value::Boolean(on) => on.to_string(),
                _ => String::new(),
            },
            Expr::Identifier(word) => fold(word),
            _ => return Err(EngineError::syntax("an index option has the form name = value")),
        };
        let (name, text, value) = (fold(name), text.as_str(), right);
        if given.contains(&name) {
            let message = format!("parameter \"{name}\" specified more than once");
            return Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        given.push(name.clone());
        let refused = |hint: String| {
            let message = format!("value {value} out of bounds for option \"{name}\"");
            EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint(hint)
        };
        let number = |range: RangeInclusive<u32>| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            let hint = || format!("Valid values are {} to {}.", range.start(), range.end());
            number.ok_or_else(|| refused(hint()))
        };
        let switch = || match text {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err(refused("Valid values are on and off.".to_owned())),
        };
        match name.as_str() {
            "m" => options.m = number(HNSW_M)?,
            "ef_construction" => options.ef_construction = number(HNSW_EF_CONSTRUCTION)?,
            "oversample" => options.oversample = Some(number(OVERSAMPLE)?),
            "quantization" => {
                let known = || Quantization::ALL.map(Quantization::name).join(", ");
                let hint = || refused(format!("Valid values are {}.", known()));
                options.quantization = Quantization::from_name(text).ok_or_else(hint)?;
            }
            "rescore" => options.rescore = switch()?,
            "recall_target" => {
                let (least, most) = (RECALL_TARGET.start(), RECALL_TARGET.end());
                let hint = || refused(format!("Valid values are {least} to {most}."));
                options.recall_target = share(text).ok_or_else(hint)?;
            }
            "latency_budget_us" => options.latency_budget_us = Some(number(LATENCY_BUDGET_US)?),
            "latency_first" => options.latency_first = switch()?,
            _ => {
                let message = format!("unrecognized parameter \"{name}\"");
                return Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        }
    }
    if options.ef_construction < 2 * options.m {
        let message = "ef_construction must be greater than or equal to 2 * m";
        return Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    Ok(options)
}

/// A recall target in the catalog's unit.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the unit")]
fn share(text: &str) -> Option<u16> {
    let share: f64 = text.parse().ok()?;
    RECALL_TARGET.contains(&share).then(|| (share * f64::from(RECALL_ONE)).round() as u16)
}

fn drop_objects(
    names: &Names<'_>,
    kind: ObjectType,
    dropped: &[ObjectName],
    (if_exists, cascade): (bool, bool),
) -> Result<Change> {
    let (tag, word) = match kind {
        ObjectType::Table => ("DROP TABLE", "table"),
        ObjectType::Index => ("DROP INDEX", "index"),
        ObjectType::Schema => ("DROP SCHEMA", "schema"),
        ObjectType::Sequence => ("DROP SEQUENCE", "sequence"),
        ObjectType::View => ("DROP VIEW", "view"),
        other => return Err(EngineError::unsupported(format!("DROP {other}"))),
    };
    let mut defines = Vec::new();
    let mut notices = Vec::new();
    for name in dropped {
        match drop_one(names, kind, name, cascade) {
            Ok(more) => {
                let new = |define: &Define| !defines.contains(define);
                let more: Vec<Define> = more.into_iter().filter(new).collect();
                for mut define in more {
                    count_up(&mut define, &defines);
                    defines.push(define);
                }
            }
            Err(error) if if_exists && is_absent(error.sql_state()) => {
                notices.push(format!("{word} \"{}\" does not exist, skipping", last_part(name)));
            }
            Err(error) => return Err(error),
        }
    }
    let notice = (!notices.is_empty()).then(|| notices.join("; "));
    Ok(Change { defines, tag, notice })
}

/// Whether an error says that there is no such object.
fn is_absent(state: SqlState) -> bool {
    [SqlState::UNDEFINED_OBJECT, SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME]
        .contains(&state)
}

/// The changes of `REINDEX`. Sorted indexes have nothing that could be made again.
pub(crate) fn remade(
    view: &ReadView,
    default_schema: &str,
    reindex: &Reindex,
) -> Result<Vec<Define>> {
    let (names, catalog) = (Names { view, default_schema }, view.catalog());
    let indexes: Vec<&Index> = if reindex.of_table {
        catalog.indexes_of(names.table(&reindex.name)?.id, view.at()).collect()
    } else {
        let (schema, index) = names.split(&reindex.name)?;
        let found = catalog.index(schema, &index, view.at());
        if found.is_none() && catalog.key_named(schema, &index, view.at()).is_none() {
            return Err(no_such_index(&names, schema, &index, SqlState::UNDEFINED_TABLE));
        }
        found.into_iter().collect()
    };
    let again = |index: &Index| {
        let Index { table, column, distance, options, .. } = *index;
        let name = index.name.clone();
        let make = Define::CreateIndex { table, name, column, distance, options };
        [Define::DropIndex { id: index.id }, make]
    };
    Ok(indexes.into_iter().flat_map(again).collect())
}

/// What is said of a name that is no index's.
fn no_such_index(names: &Names<'_>, schema: SchemaId, name: &str, state: SqlState) -> EngineError {
    if names.catalog().collection(schema, name, names.view.at()).is_some() {
        let message = format!("\"{name}\" is not an index");
        return EngineError::new(SqlState::WRONG_OBJECT_TYPE, message)
            .with_hint("Use DROP TABLE to remove a table.");
    }
    let kind = if state == SqlState::UNDEFINED_TABLE { "relation" } else { "index" };
    EngineError::new(state, format!("{kind} \"{name}\" does not exist"))
}

/// A change of a collection that others of the statement come before.
fn count_up(define: &mut Define, before: &[Define]) {
    let Define::Alter { table, version, .. } = define else { return };
    let same = |other: &&Define| matches!(other, Define::Alter { table: of, .. } if of == table);
    let others = before.iter().filter(same).count();
    *version += u32::try_from(others).unwrap_or(u32::MAX);
}

fn drop_one(
    names: &Names<'_>,
    kind: ObjectType,
    name: &ObjectName,
    cascade: bool,
) -> Result<Vec<Define>> {
    let one = match kind {
        ObjectType::Schema => {
            if name.0.len() != 1 {
                return Err(EngineError::syntax(format!("improper schema name: {name}")));
            }
            let id = names.schema(&last_part(name))?;
            Define::DropNamespace { id, cascade }
        }
        ObjectType::Index => {
            let (schema, index) = names.split(name)?;
            let found = names.view.catalog().index(schema, &index, names.view.at());
            if let Some(drop) = drop_index(names, name, names.view.at())? {
                return Ok(vec![drop]);
            }
            let none = || no_such_index(names, schema, &index, SqlState::UNDEFINED_OBJECT);
            let found = found.ok_or_else(none)?;
            Define::DropIndex { id: found.id }
        }
        ObjectType::Sequence => {
            EngineError::refuse_present(&[(cascade, "DROP SEQUENCE ... CASCADE")])?;
            let (schema, sequence) = names.split(name)?;
            let found = names.view.catalog().sequence(schema, &sequence, names.view.at());
            let message = || format!("sequence \"{sequence}\" does not exist");
            let found =
                found.ok_or_else(|| EngineError::new(SqlState::UNDEFINED_TABLE, message()))?;
            Define::DropSequence { id: found.id }
        }
        ObjectType::View => {
            let (schema, view) = names.split(name)?;
            let found = names.view.catalog().view(schema, &view, names.view.at());
            let message = || format!("view \"{view}\" does not exist");
            let found =
                found.ok_or_else(|| EngineError::new(SqlState::UNDEFINED_TABLE, message()))?;
            return Ok(with_readers(names, found.id, Define::DropView { id: found.id }, cascade));
        }
        _ => {
            let found = names.table(name).map_err(|error| {
                let Ok((schema, index)) = names.split(name) else { return error };
                let (catalog, at) = (names.catalog(), names.view.at());
                if catalog.index(schema, &index, at).is_none()
                    && catalog.key_named(schema, &index, at).is_none()
                {
                    return error;
                }
                let message = format!("\"{index}\" is not a table");
                EngineError::new(SqlState::WRONG_OBJECT_TYPE, message)
                    .with_hint("Use DROP INDEX to remove an index.")
            });
            let id: TableId = found?.id;
            return Ok(with_readers(names, id, Define::DropCollection { id }, cascade));
        }
    };
    Ok(vec![one])
}

/// A change that drops something, after those that drop the views over it.
fn with_readers(names: &Names<'_>, id: TableId, drop: Define, cascade: bool) -> Vec<Define> {
    let mut defines = Vec::new();
    if cascade {
        for view in names.view.catalog().readers(id, names.view.at()) {
            let drop = Define::DropView { id: view.id };
            defines.extend(with_readers(names, view.id, drop, cascade));
        }
    }
    defines.push(drop);
    defines.dedup();
    defines
}
