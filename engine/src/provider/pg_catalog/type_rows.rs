//! The rows of `pg_type` and `pg_extension`.

use storage::ReadView;

use super::table::{CatalogTable, Cell, row};
use super::{OWNER_OID, PG_CATALOG_OID};
use crate::pg_types::TYPES;

/// `pg_type`
pub(super) fn types(view: &ReadView) -> CatalogTable {
    let public = public_oid(view);
    let mut table = CatalogTable::new(
        "oid:oid typname:name typnamespace:oid typowner:oid typlen:int2 typbyval:bool \
         typtype:char typcategory:char typispreferred:bool typisdefined:bool typdelim:char \
         typrelid:oid typelem:oid typarray:oid typnotnull:bool typbasetype:oid typtypmod:int4 \
         typndims:int4 typcollation:oid typdefault:text typinput:name typoutput:name \
         typreceive:name typsend:name typalign:char typstorage:char typacl:acl",
    );
    let mut push = |oid: u32, name: String, len: i64, (category, elem, array): (&str, u32, u32)| {
        let word = match name.as_str() {
            _ if category == "A" => "array_".to_owned(),
            "date" | "time" | "timestamp" | "timestamptz" | "interval" | "numeric" | "uuid"
            | "json" | "jsonb" | "bit" | "vector" | "halfvec" | "sparsevec" => format!("{name}_"),
            other => other.to_owned(),
        };
        let function = |what: &str| format!("{word}{what}");
        let own = matches!(name.trim_start_matches('_'), "vector" | "halfvec" | "sparsevec");
        let (input, output) = (function("in"), function("out"));
        let (receive, send) = (function("recv"), function("send"));
        table.push(row![
            oid,
            name,
            if own { public } else { PG_CATALOG_OID },
            OWNER_OID,
            len,
            (1..=8).contains(&len),
            "b",
            category,
            false,
            true,
            ",",
            0_i64,
            elem,
            array,
            false,
            0_i64,
            -1_i64,
            0_i64,
            0_i64,
            Cell::Null,
            input,
            output,
            receive,
            send,
            "i",
            if len > 0 { "p" } else { "x" },
            Cell::Null,
        ]);
    };
    for pg_type in TYPES {
        let len = i64::from(pg_type.len);
        push(pg_type.oid, pg_type.name.to_owned(), len, (pg_type.category, 0, pg_type.array));
        if pg_type.array != 0 {
            push(pg_type.array, format!("_{}", pg_type.name), -1, ("A", pg_type.oid, 0));
        }
    }
    table
}

/// `pg_extension`
pub(super) fn extensions(view: &ReadView) -> CatalogTable {
    let mut table = CatalogTable::new(
        "oid:oid extname:name extowner:oid extnamespace:oid extrelocatable:bool extversion:text",
    );
    table.push(row![16_391_i64, "vector", OWNER_OID, public_oid(view), false, "0.8.0"]);
    table
}

/// The namespace that the extension's types are in.
fn public_oid(view: &ReadView) -> i64 {
    let public = view.catalog().namespace("public", view.at());
    public.map_or(PG_CATALOG_OID, |public| i64::from(public.id.0))
}
