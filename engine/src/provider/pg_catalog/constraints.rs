//! The rows of the catalog tables about constraints, defaults and sequences.

use catalog::{Collection, Column, ColumnDefault, ColumnType, Numbered, Sequence};
use storage::ReadView;

use super::relations::{key_columns, quoted, schema_name};
use super::table::{CatalogTable, Cell, row};
use crate::pg_types::oid_of_column;
use crate::provider::DATABASE;

/// Above all ids that the catalog gives: ids of defaults are made of their columns'.
const DEFAULT_OIDS: i64 = 1 << 30;

fn number(position: usize) -> i64 {
    i64::try_from(position + 1).unwrap_or(0)
}

fn numbers(positions: &[usize]) -> String {
    positions.iter().map(|at| number(*at).to_string()).collect::<Vec<_>>().join(" ")
}

/// A default as PostgreSQL prints it; identity columns have none.
pub(super) fn default_text(view: &ReadView, column: &Column) -> Option<String> {
    match column.default.as_ref()? {
        ColumnDefault::Expression(text) => Some(text.clone()),
        ColumnDefault::Sequence { id, numbered: Numbered::Serial } => {
            let sequence = view.catalog().sequence_by_id(*id)?;
            let name = sequence_name(view, sequence);
            Some(format!("nextval('{}'::regclass)", name.replace('\'', "''")))
        }
        ColumnDefault::Sequence { .. } => None,
    }
}

/// `pg_attribute.attidentity`
pub(super) fn identity(column: &Column) -> &'static str {
    match column.sequence() {
        Some((_, Numbered::Always)) => "a",
        Some((_, Numbered::ByDefault)) => "d",
        Some((_, Numbered::Serial)) | None => "",
    }
}

/// The name of a sequence, with its schema unless that is `public`.
pub(super) fn sequence_name(view: &ReadView, sequence: &Sequence) -> String {
    let schema = view.catalog().namespace_by_id(sequence.schema).map(|n| n.name.clone());
    match schema {
        Some(schema) if schema != "public" => {
            format!("{}.{}", quoted(&schema), quoted(&sequence.name))
        }
        _ => quoted(&sequence.name),
    }
}

/// `pg_attrdef`
pub(super) fn defaults(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new("oid:oid adrelid:oid adnum:int2 adbin:text");
    for collection in view.catalog().collections(view.at()) {
        for (at, column) in collection.columns.iter().enumerate() {
            if let Some(text) = default_text(view, column) {
                let first = i64::from(collection.id.0 - types::FIRST_USER_OID) * 2_048;
                let oid = DEFAULT_OIDS + first + number(at);
                table.push(row![oid, collection.id.0, number(at), text]);
            }
        }
    }
    table
}

/// `pg_constraint`
pub(super) fn constraints(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "oid:oid conname:name connamespace:oid contype:char condeferrable:bool condeferred:bool \
         convalidated:bool conrelid:oid contypid:oid conindid:oid conparentid:oid confrelid:oid \
         confupdtype:char confdeltype:char confmatchtype:char conislocal:bool coninhcount:int4 \
         connoinherit:bool conkey:int2[] confkey:int2[] conbin:text",
    );
    let mut push =
        |oid: u32, name: &str, of: &Collection, (kind, index): (&str, u32), key: Cell| {
            table.push(row![
                oid,
                name,
                of.schema.0,
                kind,
                false,
                false,
                true,
                of.id.0,
                0_i64,
                index,
                0_i64,
                0_i64,
                " ",
                " ",
                " ",
                true,
                0_i64,
                matches!(kind, "p" | "u"),
                key,
                Cell::Null,
                Cell::Null,
            ]);
        };
    for collection in view.catalog().collections(view.at()) {
        for key in collection.keys().filter(|key| key.constraint) {
            let kind = if key.primary { "p" } else { "u" };
            let columns = numbers(&key.positions).into();
            push(key.oid, &key.name, collection, (kind, key.oid), columns);
        }
        for check in &collection.checks {
            push(check.oid, &check.name, collection, ("c", 0), Cell::Null);
        }
    }
    table
}

/// The definition of a constraint.
pub(super) fn constraint_definition(view: &ReadView, oid: i64) -> Option<String> {
    view.catalog().collections(view.at()).find_map(|collection| {
        let mut constraints = collection.keys().filter(|key| key.constraint);
        if let Some(key) = constraints.find(|key| i64::from(key.oid) == oid) {
            let kind = if key.primary { "PRIMARY KEY" } else { "UNIQUE" };
            return Some(format!("{kind} ({})", key_columns(collection, &key)));
        }
        let check = collection.checks.iter().find(|check| i64::from(check.oid) == oid)?;
        Some(format!("CHECK ({})", check.expression))
    })
}

/// `pg_sequence`
pub(super) fn sequences(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "seqrelid:oid seqtypid:oid seqstart:int8 seqincrement:int8 seqmax:int8 seqmin:int8 \
         seqcache:int8 seqcycle:bool",
    );
    for sequence in view.catalog().sequences(view.at()) {
        let options = sequence.options;
        table.push(row![
            sequence.id.0,
            oid_of_column(options.data_type),
            options.start,
            options.increment,
            options.max,
            options.min,
            1_i64,
            options.cycle,
        ]);
    }
    table
}

/// `pg_sequences`
pub(super) fn sequence_positions(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "schemaname:name sequencename:name sequenceowner:name data_type:text start_value:int8 \
         min_value:int8 max_value:int8 increment_by:int8 cycle:bool cache_size:int8 \
         last_value:int8",
    );
    for sequence in view.catalog().sequences(view.at()) {
        let options = sequence.options;
        let schema = view.catalog().namespace_by_id(sequence.schema);
        let last = view.sequences().last(sequence);
        table.push(row![
            schema.map(|schema| schema.name.clone()).unwrap_or_default(),
            sequence.name.as_str(),
            types::Principal::OWNER,
            options.data_type.sql_name(),
            options.start,
            options.min,
            options.max,
            options.increment,
            options.cycle,
            1_i64,
            if last.called { Cell::Integer(last.value) } else { Cell::Null },
        ]);
    }
    table
}

/// `pg_depend`: sequences that go with a column.
pub(super) fn dependencies(view: &ReadView) -> CatalogTable {
    const PG_CLASS: i64 = 1259;
    let mut table = CatalogTable::new(
        "classid:oid objid:oid objsubid:int4 refclassid:oid refobjid:oid refobjsubid:int4 \
         deptype:char",
    );
    for sequence in view.catalog().sequences(view.at()) {
        let Some((owner, column)) = sequence.owner else { continue };
        let Some(collection) = view.catalog().collection_at(owner, view.at()) else { continue };
        let Some(position) = collection.position_of(column) else { continue };
        let identity = !identity(&collection.columns[position]).is_empty();
        let kind = if identity { "i" } else { "a" };
        let (id, to) = (sequence.id.0, owner.0);
        table.push(row![PG_CLASS, id, 0_i64, PG_CLASS, to, number(position), kind]);
    }
    table
}

/// `information_schema.table_constraints`
pub(super) fn table_constraints(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "constraint_catalog:name constraint_schema:name constraint_name:name table_catalog:name \
         table_schema:name table_name:name constraint_type:text is_deferrable:text \
         initially_deferred:text enforced:text",
    );
    for collection in view.catalog().collections(view.at()) {
        let schema = schema_name(view, collection);
        let keys = collection.keys().filter(|key| key.constraint).map(|key| {
            let kind = if key.primary { "PRIMARY KEY" } else { "UNIQUE" };
            (key.name.into_owned(), kind)
        });
        let checks = collection.checks.iter().map(|check| (check.name.clone(), "CHECK"));
        for (name, kind) in keys.chain(checks) {
            table.push(row![
                DATABASE,
                schema.as_str(),
                name,
                DATABASE,
                schema.as_str(),
                collection.name.as_str(),
                kind,
                "NO",
                "NO",
                "YES",
            ]);
        }
    }
    table
}

/// `information_schema.key_column_usage`
pub(super) fn key_column_usage(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "constraint_catalog:name constraint_schema:name constraint_name:name table_catalog:name \
         table_schema:name table_name:name column_name:name ordinal_position:int4 \
         position_in_unique_constraint:int4",
    );
    for collection in view.catalog().collections(view.at()) {
        let schema = schema_name(view, collection);
        let constraints = collection.keys().filter(|key| key.constraint);
        let places = constraints.flat_map(|key| {
            let name = key.name.into_owned();
            key.positions.into_iter().enumerate().map(move |place| (name.clone(), place))
        });
        for (name, (place, position)) in places {
            table.push(row![
                DATABASE,
                schema.as_str(),
                name,
                DATABASE,
                schema.as_str(),
                collection.name.as_str(),
                collection.columns[position].name.as_str(),
                number(place),
                Cell::Null,
            ]);
        }
    }
    table
}

/// `information_schema.check_constraints`
pub(super) fn check_constraints(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "constraint_catalog:name constraint_schema:name constraint_name:name check_clause:text",
    );
    for collection in view.catalog().collections(view.at()) {
        let schema = schema_name(view, collection);
        for check in &collection.checks {
            let (name, clause) = (check.name.as_str(), check.expression.as_str());
            table.push(row![DATABASE, schema.as_str(), name, clause]);
        }
    }
    table
}

/// `information_schema.sequences`
pub(super) fn information_sequences(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "sequence_catalog:name sequence_schema:name sequence_name:name data_type:text \
         numeric_precision:int4 numeric_precision_radix:int4 numeric_scale:int4 start_value:text \
         minimum_value:text maximum_value:text increment:text cycle_option:text",
    );
    for sequence in view.catalog().sequences(view.at()) {
        let options = sequence.options;
        let bits = match options.data_type {
            ColumnType::Int2 => 16_i64,
            ColumnType::Int4 => 32,
            _ => 64,
        };
        let schema = view.catalog().namespace_by_id(sequence.schema);
        table.push(row![
            DATABASE,
            schema.map(|schema| schema.name.clone()).unwrap_or_default(),
            sequence.name.as_str(),
            options.data_type.sql_name(),
            bits,
            2_i64,
            0_i64,
            options.start.to_string(),
            options.min.to_string(),
            options.max.to_string(),
            options.increment.to_string(),
            if options.cycle { "YES" } else { "NO" },
        ]);
    }
    table
}
