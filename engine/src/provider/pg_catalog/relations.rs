//! The rows of the catalog tables.

use catalog::{Collection, Index, Key, SortedColumn};
use storage::ReadView;
use types::{SchemaId, VectorKind};

use super::table::{CatalogTable, Cell, row};
use super::{OWNER_OID, PG_CATALOG_OID};
use super::{constraints, type_rows};
use crate::pg_types::oid_of_column;
use crate::provider::DATABASE;
use crate::settings::Settings;

/// Tables of `pg_catalog` that have rows.
pub(super) const TABLES: [&str; 20] = [
    "pg_am",
    "pg_attrdef",
    "pg_attribute",
    "pg_class",
    "pg_constraint",
    "pg_database",
    "pg_depend",
    "pg_extension",
    "pg_index",
    "pg_indexes",
    "pg_namespace",
    "pg_proc",
    "pg_roles",
    "pg_sequence",
    "pg_sequences",
    "pg_settings",
    "pg_stat_progress_create_index",
    "pg_tables",
    "pg_type",
    "pg_views",
];

const HNSW_AM: i64 = 16_390;
const BTREE_AM: i64 = 403;
const HEAP_AM: i64 = 2;

/// A table of `pg_catalog`.
pub(super) fn pg_catalog(name: &str, view: &ReadView, settings: &Settings) -> CatalogTable {
    match name {
        "pg_am" => access_methods(),
        "pg_attribute" => attributes(view),
        "pg_class" => classes(view),
        "pg_attrdef" => constraints::defaults(view),
        "pg_constraint" => constraints::constraints(view),
        "pg_database" => databases(),
        "pg_depend" => constraints::dependencies(view),
        "pg_extension" => type_rows::extensions(view),
        "pg_index" => indexes(view),
        "pg_indexes" => index_definitions(view),
        "pg_namespace" => namespaces(view),
        "pg_roles" => roles(),
        "pg_sequence" => constraints::sequences(view),
        "pg_sequences" => constraints::sequence_positions(view),
        "pg_settings" => setting_rows(settings),
        "pg_stat_progress_create_index" => super::views::progress_create_index(view),
        "pg_tables" => tables(view),
        "pg_type" => type_rows::types(view),
        "pg_views" => views(view),
        other => empty(other),
    }
}

/// Tables without rows; columns that outer joins name.
fn empty(name: &str) -> CatalogTable {
    CatalogTable::new(match name {
        "pg_auth_members" => "roleid:oid member:oid grantor:oid admin_option:bool",
        "pg_collation" => "oid:oid collname:name collnamespace:oid collencoding:int4",
        "pg_enum" => "oid:oid enumtypid:oid enumsortorder:float4 enumlabel:name",
        "pg_range" => {
            "rngtypid:oid rngsubtype:oid rngmultitypid:oid rngcollation:oid rngsubopc:oid"
        }
        "pg_description" => "objoid:oid classoid:oid objsubid:int4 description:text",
        "pg_shdescription" => "objoid:oid classoid:oid description:text",
        "pg_inherits" => "inhrelid:oid inhparent:oid inhseqno:int4 inhdetachpending:bool",
        "pg_tablespace" => "oid:oid spcname:name spcowner:oid",
        "pg_opclass" => {
            "oid:oid opcmethod:oid opcname:name opcnamespace:oid opcowner:oid opcfamily:oid \
             opcintype:oid opcdefault:bool opckeytype:oid"
        }
        "pg_trigger" => "oid:oid tgrelid:oid tgname:name tgenabled:char tgisinternal:bool",
        "pg_rewrite" => "oid:oid rulename:name ev_class:oid ev_type:char",
        "pg_policy" => "oid:oid polname:name polrelid:oid",
        "pg_proc" => {
            "oid:oid proname:name pronamespace:oid proowner:oid prolang:oid prokind:char \
             prorettype:oid pronargs:int2 provolatile:char proacl:acl"
        }
        _ => "oid:oid",
    })
}

fn access_methods() -> CatalogTable {
    let mut table = CatalogTable::new("oid:oid amname:name amhandler:oid amtype:char");
    table.push(row![HEAP_AM, "heap", 0_i64, "t"]);
    table.push(row![BTREE_AM, "btree", 0_i64, "i"]);
    table.push(row![HNSW_AM, "hnsw", 0_i64, "i"]);
    table
}

fn namespaces(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new("oid:oid nspname:name nspowner:oid nspacl:acl");
    table.push(row![PG_CATALOG_OID, "pg_catalog", OWNER_OID, Cell::Null]);
    for namespace in view.catalog().namespaces(view.at()) {
        table.push(row![namespace.id.0, namespace.name.as_str(), OWNER_OID, Cell::Null]);
    }
    table
}

/// One row of `pg_class`.
struct Class<'a> {
    oid: u32,
    name: &'a str,
    namespace: u32,
    am: i64,
    kind: &'static str,
    rows: i64,
    columns: usize,
    checks: usize,
    has_index: bool,
}

fn class_row(class: &Class<'_>) -> Vec<Cell> {
    let count = |count: usize| i64::try_from(count).unwrap_or(0);
    row![
        class.oid,
        class.name,
        class.namespace,
        0_i64,
        0_i64,
        OWNER_OID,
        class.am,
        class.oid,
        0_i64,
        0_i64,
        class.rows,
        0_i64,
        0_i64,
        class.has_index,
        false,
        "p",
        class.kind,
        count(class.columns),
        count(class.checks),
        false,
        false,
        false,
        false,
        false,
        true,
        "d",
        false,
        Cell::Null,
        Cell::Null,
        Cell::Null,
    ]
}

fn classes(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "oid:oid relname:name relnamespace:oid reltype:oid reloftype:oid relowner:oid relam:oid \
         relfilenode:oid reltablespace:oid relpages:int4 reltuples:float4 relallvisible:int4 \
         reltoastrelid:oid relhasindex:bool relisshared:bool relpersistence:char relkind:char \
         relnatts:int2 relchecks:int2 relhasrules:bool relhastriggers:bool relhassubclass:bool \
         relrowsecurity:bool relforcerowsecurity:bool relispopulated:bool relreplident:char \
         relispartition:bool relacl:acl reloptions:text relpartbound:text",
    );
    let at = view.at();
    for collection in view.catalog().collections(at) {
        let rows = view.table(collection.id).map_or(0, |t| i64::from(t.rows().live()));
        let has_index = collection.keys().next().is_some()
            || view.catalog().indexes_of(collection.id, at).next().is_some();
        let namespace = collection.schema.0;
        table.push(class_row(&Class {
            oid: collection.id.0,
            name: &collection.name,
            namespace,
            am: HEAP_AM,
            kind: "r",
            rows,
            columns: collection.columns.len(),
            checks: collection.checks.len(),
            has_index,
        }));
        for key in collection.keys() {
            table.push(class_row(&Class {
                oid: key.oid,
                name: &key.name,
                namespace,
                am: BTREE_AM,
                kind: "i",
                rows,
                columns: key.positions.len(),
                checks: 0,
                has_index: false,
            }));
        }
    }
    for index in view.catalog().indexes(at) {
        let rows = view.table(index.table).map_or(0, |t| i64::from(t.rows().live()));
        table.push(class_row(&Class {
            oid: index.id.0,
            name: &index.name,
            namespace: index.schema.0,
            am: HNSW_AM,
            kind: "i",
            rows,
            columns: 1,
            checks: 0,
            has_index: false,
        }));
    }
    without_rows(view, &mut table);
    table
}

/// Views and sequences.
fn without_rows(view: &ReadView, table: &mut CatalogTable) {
    let at = view.at();
    for made in view.catalog().views(at) {
        table.push(class_row(&Class {
            oid: made.id.0,
            name: &made.name,
            namespace: made.schema.0,
            am: 0,
            kind: "v",
            rows: 0,
            columns: made.columns.len(),
            checks: 0,
            has_index: false,
        }));
    }
    for sequence in view.catalog().sequences(at) {
        table.push(class_row(&Class {
            oid: sequence.id.0,
            name: &sequence.name,
            namespace: sequence.schema.0,
            am: 0,
            kind: "S",
            rows: 1,
            columns: 3,
            checks: 0,
            has_index: false,
        }));
    }
}

fn attributes(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "attrelid:oid attname:name atttypid:oid attstattarget:int4 attlen:int2 attnum:int2 \
         attndims:int4 attcacheoff:int4 atttypmod:int4 attbyval:bool attalign:char \
         attstorage:char attcompression:char attnotnull:bool atthasdef:bool atthasmissing:bool \
         attidentity:char attgenerated:char attisdropped:bool attislocal:bool attinhcount:int4 \
         attcollation:oid attacl:acl attoptions:text attfdwoptions:text",
    );
    let mut push = |relation: u32, number: usize, column: &catalog::Column, own: bool| {
        let oid = oid_of_column(column.column_type);
        let has_default = own && constraints::default_text(view, column).is_some();
        let identity = if own { constraints::identity(column) } else { "" };
        let typmod = i64::from(crate::pg_types::typmod_of_column(column.column_type));
        let len = crate::pg_types::by_oid(oid).map_or(-1, |t| i64::from(t.len));
        table.push(row![
            relation,
            column.name.as_str(),
            oid,
            -1_i64,
            len,
            i64::try_from(number).unwrap_or(0),
            0_i64,
            -1_i64,
            typmod,
            len > 0,
            "i",
            "x",
            "",
            !column.nullable,
            has_default,
            false,
            identity,
            "",
            false,
            true,
            0_i64,
            0_i64,
            Cell::Null,
            Cell::Null,
            Cell::Null,
        ]);
    };
    for collection in view.catalog().collections(view.at()) {
        for (at, column) in collection.columns.iter().enumerate() {
            push(collection.id.0, at + 1, column, true);
        }
        for key in collection.keys() {
            for (at, position) in key.positions.iter().enumerate() {
                push(key.oid, at + 1, &collection.columns[*position], false);
            }
        }
    }
    for made in view.catalog().views(view.at()) {
        for (at, column) in made.columns.iter().enumerate() {
            push(made.id.0, at + 1, column, true);
        }
    }
    for index in view.catalog().indexes(view.at()) {
        if let Some(collection) = view.catalog().collection_at(index.table, view.at())
            && let Some(column) = collection.column_by_id(index.column)
        {
            push(index.id.0, 1, column, false);
        }
    }
    table
}

fn numbers(positions: &[usize]) -> String {
    positions.iter().map(|at| (at + 1).to_string()).collect::<Vec<_>>().join(" ")
}

fn indexes(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "indexrelid:oid indrelid:oid indnatts:int2 indnkeyatts:int2 indisunique:bool \
         indnullsnotdistinct:bool indisprimary:bool indisexclusion:bool indimmediate:bool \
         indisclustered:bool indisvalid:bool indcheckxmin:bool indisready:bool indislive:bool \
         indisreplident:bool indkey:int2vector indoption:int2vector indcollation:oidvector indclass:oidvector \
         indexprs:text indpred:text",
    );
    let mut push =
        |oid: u32, relation: u32, positions: &[usize], (unique, primary), options: &str| {
            let count = i64::try_from(positions.len()).unwrap_or(0);
            let zeros = vec!["0"; positions.len()].join(" ");
            table.push(row![
                oid,
                relation,
                count,
                count,
                unique,
                false,
                primary,
                false,
                true,
                false,
                true,
                false,
                true,
                true,
                false,
                numbers(positions),
                options,
                zeros.as_str(),
                zeros.as_str(),
                Cell::Null,
                Cell::Null,
            ]);
        };
    for collection in view.catalog().collections(view.at()) {
        for key in collection.keys() {
            // `indoption`: 1 descending, 2 NULLs first.
            let option = |c: &SortedColumn| {
                (u8::from(c.descending) + 2 * u8::from(c.nulls_first)).to_string()
            };
            let options = key.columns.iter().map(option).collect::<Vec<_>>().join(" ");
            let kind = (key.unique, key.primary);
            push(key.oid, collection.id.0, &key.positions, kind, &options);
        }
    }
    for index in view.catalog().indexes(view.at()) {
        let collection = view.catalog().collection_at(index.table, view.at());
        let position = collection.and_then(|collection| collection.position_of(index.column));
        push(index.id.0, index.table.0, position.as_slice(), (false, false), "0");
    }
    table
}

fn databases() -> CatalogTable {
    let mut table = CatalogTable::new(
        "oid:oid datname:name datdba:oid encoding:int4 datlocprovider:char datistemplate:bool \
         datallowconn:bool datconnlimit:int4 dattablespace:oid datcollate:text datctype:text \
         daticulocale:text datacl:acl",
    );
    table.push(row![
        super::DATABASE_OID,
        DATABASE,
        OWNER_OID,
        6_i64,
        "c",
        false,
        true,
        -1_i64,
        1663_i64,
        "C",
        "C",
        Cell::Null,
        Cell::Null,
    ]);
    table
}

fn roles() -> CatalogTable {
    let mut table = CatalogTable::new(
        "oid:oid rolname:name rolsuper:bool rolinherit:bool rolcreaterole:bool rolcreatedb:bool \
         rolcanlogin:bool rolreplication:bool rolconnlimit:int4 rolpassword:text \
         rolvaliduntil:text rolbypassrls:bool rolconfig:text",
    );
    table.push(row![
        OWNER_OID,
        types::Principal::OWNER,
        true,
        true,
        true,
        true,
        true,
        false,
        -1_i64,
        Cell::Null,
        Cell::Null,
        true,
        Cell::Null,
    ]);
    table
}

fn setting_rows(settings: &Settings) -> CatalogTable {
    let mut table = CatalogTable::new("name:text setting:text");
    for (name, value) in settings.all() {
        table.push(row![name, value]);
    }
    table
}

pub(super) fn schema_name(view: &ReadView, collection: &Collection) -> String {
    namespace_name(view, collection.schema)
}

pub(super) fn namespace_name(view: &ReadView, schema: SchemaId) -> String {
    let namespace = view.catalog().namespace_by_id(schema);
    namespace.map_or_else(String::new, |namespace| namespace.name.clone())
}

fn views(view: &ReadView) -> CatalogTable {
    let mut table =
        CatalogTable::new("schemaname:name viewname:name viewowner:name definition:text");
    for made in view.catalog().views(view.at()) {
        let (schema, query) = (namespace_name(view, made.schema), made.query.as_str());
        table.push(row![schema, made.name.as_str(), types::Principal::OWNER, query]);
    }
    table
}

fn tables(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "schemaname:name tablename:name tableowner:name tablespace:name hasindexes:bool \
         hasrules:bool hastriggers:bool rowsecurity:bool",
    );
    for collection in view.catalog().collections(view.at()) {
        table.push(row![
            schema_name(view, collection),
            collection.name.as_str(),
            types::Principal::OWNER,
            Cell::Null,
            collection.keys().next().is_some()
                || view.catalog().indexes_of(collection.id, view.at()).next().is_some(),
            false,
            false,
            false,
        ]);
    }
    table
}

fn index_definitions(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "schemaname:name tablename:name indexname:name tablespace:name indexdef:text",
    );
    for collection in view.catalog().collections(view.at()) {
        let schema = schema_name(view, collection);
        for key in collection.keys() {
            table.push(row![
                schema.as_str(),
                collection.name.as_str(),
                &*key.name,
                Cell::Null,
                key_definition(view, (collection, &key), true),
            ]);
        }
        for index in view.catalog().indexes_of(collection.id, view.at()) {
            table.push(row![
                schema.as_str(),
                collection.name.as_str(),
                index.name.as_str(),
                Cell::Null,
                index_definition(view, index, true),
            ]);
        }
    }
    table
}

/// An identifier as it must be written, quoted when it needs to be.
pub(super) fn quoted(name: &str) -> String {
    let plain = name
        .chars()
        .enumerate()
        .all(|(at, c)| c.is_ascii_lowercase() || c == '_' || (at > 0 && c.is_ascii_digit()));
    if plain && !name.is_empty() {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// The columns of a key, `a, b DESC`.
pub(super) fn key_columns(collection: &Collection, key: &Key<'_>) -> String {
    let column = |(at, sorted): (&usize, &SortedColumn)| {
        let order = match (sorted.descending, sorted.nulls_first) {
            (false, false) => "",
            (false, true) => " NULLS FIRST",
            (true, true) => " DESC",
            (true, false) => " DESC NULLS LAST",
        };
        format!("{}{order}", quoted(&collection.columns[*at].name))
    };
    let columns = key.positions.iter().zip(key.columns.iter()).map(column);
    columns.collect::<Vec<_>>().join(", ")
}

/// A table's name, with its schema when asked for.
fn relation(view: &ReadView, collection: &Collection, qualified: bool) -> String {
    let name = quoted(&collection.name);
    if qualified { format!("{}.{name}", quoted(&schema_name(view, collection))) } else { name }
}

/// `CREATE UNIQUE INDEX ...` of a key.
pub(super) fn key_definition(
    view: &ReadView,
    (collection, key): (&Collection, &Key<'_>),
    qualified: bool,
) -> String {
    format!(
        "CREATE {}INDEX {} ON {} USING btree ({})",
        if key.unique { "UNIQUE " } else { "" },
        quoted(&key.name),
        relation(view, collection, qualified),
        key_columns(collection, key),
    )
}

/// `CREATE INDEX ...` of an index.
pub(super) fn index_definition(view: &ReadView, index: &Index, qualified: bool) -> String {
    let collection = view.catalog().collection_at(index.table, view.at());
    let column = collection.and_then(|collection| collection.column_by_id(index.column));
    let (Some(collection), Some(column)) = (collection, column) else { return String::new() };
    let kind = column.column_type.vector().map_or(VectorKind::Vector, |(kind, _)| kind);
    let operator_class = index.distance.operator_class(kind);
    let options = index.options;
    let oversample = options.oversample.map(|times| format!(", oversample='{times}'"));
    format!(
        "CREATE INDEX {} ON {} USING hnsw ({} {}) \
         WITH (m='{}', ef_construction='{}', quantization='{}'{}{})",
        quoted(&index.name),
        relation(view, collection, qualified),
        quoted(&column.name),
        operator_class,
        options.m,
        options.ef_construction,
        options.quantization.name(),
        oversample.unwrap_or_default(),
        if options.rescore { "" } else { ", rescore='off'" },
    )
}
