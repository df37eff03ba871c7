//! `information_schema`: the standard's view of tables, views and their columns.

use catalog::ColumnType;
use storage::ReadView;

use super::constraints;
use super::relations::{namespace_name, schema_name};
use super::table::{CatalogTable, Cell, row};
use crate::pg_types::{name_of_column, oid_of_column};
use crate::provider::DATABASE;

/// Tables of `information_schema`.
pub(super) const TABLES: [&str; 8] = [
    "check_constraints",
    "columns",
    "key_column_usage",
    "schemata",
    "sequences",
    "table_constraints",
    "tables",
    "views",
];

/// A table of `information_schema`.
pub(super) fn information_schema(name: &str, view: &ReadView) -> CatalogTable {
    match name {
        "schemata" => {
            let mut table =
                CatalogTable::new("catalog_name:name schema_name:name schema_owner:name");
            for namespace in view.catalog().namespaces(view.at()) {
                table.push(row![DATABASE, namespace.name.as_str(), types::Principal::OWNER]);
            }
            table
        }
        "tables" => {
            let mut table = CatalogTable::new(
                "table_catalog:name table_schema:name table_name:name table_type:text",
            );
            for collection in view.catalog().collections(view.at()) {
                let schema = schema_name(view, collection);
                table.push(row![DATABASE, schema, collection.name.as_str(), "BASE TABLE"]);
            }
            for made in view.catalog().views(view.at()) {
                let schema = namespace_name(view, made.schema);
                table.push(row![DATABASE, schema, made.name.as_str(), "VIEW"]);
            }
            table
        }
        "views" => {
            let mut table = CatalogTable::new(
                "table_catalog:name table_schema:name table_name:name view_definition:text \
                 check_option:text is_updatable:text is_insertable_into:text",
            );
            for made in view.catalog().views(view.at()) {
                let schema = namespace_name(view, made.schema);
                let (name, query) = (made.name.as_str(), made.query.as_str());
                table.push(row![DATABASE, schema, name, query, "NONE", "NO", "NO"]);
            }
            table
        }
        "check_constraints" => constraints::check_constraints(view),
        "key_column_usage" => constraints::key_column_usage(view),
        "sequences" => constraints::information_sequences(view),
        "table_constraints" => constraints::table_constraints(view),
        _ => information_columns(view),
    }
}

fn information_columns(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "table_catalog:name table_schema:name table_name:name column_name:name \
         ordinal_position:int4 column_default:text is_nullable:text data_type:text udt_name:name \
         is_identity:text identity_generation:text is_generated:text is_updatable:text \
         character_maximum_length:int4 numeric_precision:int4 numeric_scale:int4 \
         datetime_precision:int4",
    );
    let (catalog, at) = (view.catalog(), view.at());
    let tables = catalog.collections(at).map(|c| (c.schema, c.name.as_str(), &c.columns));
    let views = catalog.views(at).map(|v| (v.schema, v.name.as_str(), &v.columns));
    for (schema, name, columns) in tables.chain(views) {
        for (at, column) in columns.iter().enumerate() {
            let number = i64::try_from(at + 1).unwrap_or(0);
            let udt = crate::pg_types::by_oid(oid_of_column(column.column_type));
            let udt = udt.map_or_else(|| udt_of_array(column.column_type), |t| t.name.to_owned());
            let data_type = match column.column_type {
                ColumnType::Vector(_) | ColumnType::Halfvec(_) | ColumnType::Sparsevec(_) => {
                    "USER-DEFINED".to_owned()
                }
                ColumnType::Array(_) => "ARRAY".to_owned(),
                ColumnType::Bit(_) => "bit".to_owned(),
                ColumnType::VarcharN(_) => "character varying".to_owned(),
                ColumnType::Numeric { .. } => "numeric".to_owned(),
                other => other.sql_name(),
            };
            let nullable = if column.nullable { "YES" } else { "NO" };
            let default = constraints::default_text(view, column);
            let [length, precision, scale, fraction] = measures(column.column_type);
            let generation = match constraints::identity(column) {
                "a" => Some("ALWAYS"),
                "d" => Some("BY DEFAULT"),
                _ => None,
            };
            table.push(row![
                DATABASE,
                namespace_name(view, schema),
                name,
                column.name.as_str(),
                number,
                default.map_or(Cell::Null, Cell::from),
                nullable,
                data_type,
                udt,
                if generation.is_some() { "YES" } else { "NO" },
                generation.map_or(Cell::Null, Cell::from),
                "NEVER",
                "YES",
                length,
                precision,
                scale,
                fraction,
            ]);
        }
    }
    table
}

/// The name of the type of an array: that of its items behind an underscore.
fn udt_of_array(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Array(item) => format!("_{}", name_of_column(item.column_type())),
        _ => "text".to_owned(),
    }
}

/// Length, precision and scale of a type, and digits of its seconds.
fn measures(column_type: ColumnType) -> [Cell; 4] {
    let (mut length, mut precision, mut scale, mut fraction) =
        (Cell::Null, Cell::Null, Cell::Null, Cell::Null);
    match column_type {
        ColumnType::VarcharN(most) => length = most.into(),
        ColumnType::Numeric { precision: digits, scale: after } => {
            (precision, scale) = (i64::from(digits).into(), i64::from(after).into());
        }
        // Bits.
        ColumnType::Int2 => (precision, scale) = (16_i64.into(), 0_i64.into()),
        ColumnType::Int4 => (precision, scale) = (32_i64.into(), 0_i64.into()),
        ColumnType::Int8 => (precision, scale) = (64_i64.into(), 0_i64.into()),
        ColumnType::Float4 => precision = 24_i64.into(),
        ColumnType::Float8 => precision = 53_i64.into(),
        ColumnType::Time | ColumnType::Timestamp | ColumnType::TimestampTz => {
            fraction = 6_i64.into();
        }
        ColumnType::Date => fraction = 0_i64.into(),
        _ => {}
    }
    [length, precision, scale, fraction]
}
