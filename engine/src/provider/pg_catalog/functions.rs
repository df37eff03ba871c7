//! PostgreSQL's catalog and session functions, evaluated row by row at the statement's read view.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use catalog::{Collection, Relation, Sequence};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use storage::ReadView;
use types::SqlState;

use super::constraints::constraint_definition;
use super::relations::{index_definition, key_definition, quoted};
use super::table::Cell;
use crate::error::EngineError;
use crate::pg_types::{TYPES, by_name, by_oid};
use crate::provider::{DATABASE, Scope};
use crate::settings::SERVER_VERSION;
use crate::sql::types::name_parts;
use crate::values::pg_name;

/// What a function gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Returns {
    Boolean,
    Integer,
    Text,
}

const FUNCTIONS: [(&str, Returns); 54] = [
    ("col_description", Returns::Text),
    ("current_catalog", Returns::Text),
    ("current_database", Returns::Text),
    ("current_role", Returns::Text),
    ("current_schema", Returns::Text),
    ("current_setting", Returns::Text),
    ("current_user", Returns::Text),
    ("format_type", Returns::Text),
    ("has_database_privilege", Returns::Boolean),
    ("has_schema_privilege", Returns::Boolean),
    ("has_table_privilege", Returns::Boolean),
    ("obj_description", Returns::Text),
    ("pg_advisory_unlock_all", Returns::Text),
    ("pg_backend_pid", Returns::Integer),
    ("pg_client_encoding", Returns::Text),
    ("pg_encoding_to_char", Returns::Text),
    ("pg_function_is_visible", Returns::Boolean),
    ("pg_get_constraintdef", Returns::Text),
    ("pg_get_expr", Returns::Text),
    ("pg_get_function_arguments", Returns::Text),
    ("pg_get_function_result", Returns::Text),
    ("pg_get_indexdef", Returns::Text),
    ("pg_get_partkeydef", Returns::Text),
    ("pg_get_serial_sequence", Returns::Text),
    ("pg_get_statisticsobjdef_columns", Returns::Text),
    ("pg_get_triggerdef", Returns::Text),
    ("pg_get_userbyid", Returns::Text),
    ("pg_get_viewdef", Returns::Text),
    ("pg_is_in_recovery", Returns::Boolean),
    ("pg_is_other_temp_schema", Returns::Boolean),
    ("pg_my_temp_schema", Returns::Integer),
    ("pg_relation_is_publishable", Returns::Boolean),
    ("pg_relation_size", Returns::Integer),
    ("pg_size_pretty", Returns::Text),
    ("pg_table_is_visible", Returns::Boolean),
    ("pg_table_size", Returns::Integer),
    ("pg_total_relation_size", Returns::Integer),
    ("pg_type_is_visible", Returns::Boolean),
    ("pg_typeof", Returns::Text),
    ("quote_ident", Returns::Text),
    ("quote_literal", Returns::Text),
    ("regclass_in", Returns::Integer),
    ("regclass_out", Returns::Text),
    ("regnamespace_in", Returns::Integer),
    ("regnamespace_out", Returns::Text),
    ("regtype_in", Returns::Integer),
    ("regtype_out", Returns::Text),
    ("session_user", Returns::Text),
    ("set_config", Returns::Text),
    ("shobj_description", Returns::Text),
    ("to_regclass", Returns::Integer),
    ("to_regtype", Returns::Integer),
    ("user", Returns::Text),
    ("version", Returns::Text),
];

/// All functions, bound to a session.
pub(crate) fn registry(scope: &Arc<Scope>) -> Vec<Arc<ScalarUDF>> {
    let function = |(name, returns): (&'static str, Returns)| {
        let volatility =
            if name == "set_config" { Volatility::Volatile } else { Volatility::Stable };
        let signature = Signature::user_defined(volatility);
        let scope = Arc::clone(scope);
        Arc::new(ScalarUDF::from(CatalogFunction { name, returns, signature, scope }))
    };
    FUNCTIONS.into_iter().map(function).collect()
}

#[derive(Debug)]
struct CatalogFunction {
    name: &'static str,
    returns: Returns,
    signature: Signature,
    scope: Arc<Scope>,
}

impl PartialEq for CatalogFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.scope, &other.scope)
    }
}

impl Eq for CatalogFunction {}

impl Hash for CatalogFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The arguments of one call.
struct Args<'a> {
    columns: &'a [ArrayRef],
    row: usize,
}

impl Args<'_> {
    /// Argument `at` as an integer; text is read as one.
    fn integer(&self, at: usize) -> Option<i64> {
        let column = self.columns.get(at)?;
        if column.is_null(self.row) {
            return None;
        }
        match column.as_primitive_opt::<Int64Type>() {
            Some(integers) => Some(integers.value(self.row)),
            None => self.text(at)?.parse().ok(),
        }
    }

    fn text(&self, at: usize) -> Option<&str> {
        let column = self.columns.get(at)?.as_string_opt::<i32>()?;
        (!column.is_null(self.row)).then(|| column.value(self.row))
    }
}

impl ScalarUDFImpl for CatalogFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.returns {
            Returns::Boolean => DataType::Boolean,
            Returns::Integer => DataType::Int64,
            Returns::Text => DataType::Utf8,
        })
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let widen = |t: &DataType| {
            if self.name == "pg_typeof" {
                t.clone()
            } else if t.is_integer() {
                DataType::Int64
            } else if t == &DataType::Boolean {
                t.clone()
            } else {
                DataType::Utf8
            }
        };
        Ok(arg_types.iter().map(widen).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.name == "pg_typeof" {
            let name = args.arg_fields.first().map(|field| pg_name(field.data_type()));
            return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(name)));
        }
        let scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let widened = |arg: &ColumnarValue| -> Result<ArrayRef> {
            let array = arg.to_array(rows)?;
            let target =
                if array.data_type().is_integer() { DataType::Int64 } else { DataType::Utf8 };
            Ok(cast(&array, &target)?)
        };
        let columns: Vec<ArrayRef> = args.args.iter().map(widened).collect::<Result<_>>()?;
        let view = self.scope.view();
        let cells: Vec<Cell> = (0..rows)
            .map(|row| self.call(&view, &Args { columns: &columns, row }))
            .collect::<Result<_>>()?;
        let array: ArrayRef = match self.returns {
            Returns::Boolean => {
                Arc::new(cells.iter().map(Cell::as_boolean).collect::<BooleanArray>())
            }
            Returns::Integer => {
                Arc::new(cells.iter().map(Cell::as_integer).collect::<Int64Array>())
            }
            Returns::Text => Arc::new(cells.iter().map(Cell::as_text).collect::<StringArray>()),
        };
        if scalars {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

fn or_null(value: Option<impl Into<Cell>>) -> Cell {
    value.map_or(Cell::Null, Into::into)
}

impl CatalogFunction {
    fn call(&self, view: &ReadView, args: &Args<'_>) -> Result<Cell> {
        Ok(match self.name {
            "version" => format!("PostgreSQL {SERVER_VERSION}").into(),
            "current_database" | "current_catalog" => DATABASE.into(),
            "current_schema" => self.scope.schema().into(),
            "current_user" | "session_user" | "user" | "current_role" | "pg_get_userbyid" => {
                types::Principal::OWNER.into()
            }
            "current_setting" => self.setting(args)?,
            "set_config" => self.set_config(args)?,
            // There are none to give back.
            "pg_advisory_unlock_all" => "".into(),
            "format_type" => or_null(
                args.integer(0).and_then(|oid| format_type(oid, args.integer(1).unwrap_or(-1))),
            ),
            "pg_table_is_visible" => self.is_visible(view, args.integer(0)),
            "pg_get_indexdef" => {
                let pretty = args.text(2).is_some_and(|pretty| pretty == "true");
                let whole = |oid| indexdef(view, oid, !pretty);
                match (args.integer(0), args.integer(1)) {
                    (Some(oid), None | Some(0)) => or_null(whole(oid)),
                    (Some(oid), Some(column)) => index_column(view, oid, column).into(),
                    (None, _) => Cell::Null,
                }
            }
            "pg_get_constraintdef" => {
                or_null(args.integer(0).and_then(|oid| constraint_definition(view, oid)))
            }
            "pg_get_viewdef" => self.view_definition(view, args),
            // Expressions are kept as text.
            "pg_get_expr" => or_null(args.text(0)),
            "pg_get_serial_sequence" => self.serial_sequence(view, args),
            "regclass_in" | "to_regclass" => self.regclass(view, args)?,
            "regclass_out" => or_null(
                args.integer(0)
                    .map(|oid| self.relation_name(view, oid).unwrap_or_else(|| oid.to_string())),
            ),
            "regtype_in" | "to_regtype" => regtype(args, self.name)?,
            "regtype_out" => or_null(
                args.integer(0).map(|oid| format_type(oid, -1).unwrap_or_else(|| oid.to_string())),
            ),
            "regnamespace_in" => or_null(
                args.text(0)
                    .and_then(|name| view.catalog().namespace(name, view.at()).map(|n| n.id.0)),
            ),
            "regnamespace_out" => or_null(args.integer(0).and_then(|oid| {
                let namespaces = view.catalog().namespaces(view.at());
                namespaces.into_iter().find(|n| i64::from(n.id.0) == oid).map(|n| n.name.clone())
            })),
            "pg_encoding_to_char" | "pg_client_encoding" => "UTF8".into(),
            "quote_ident" => or_null(args.text(0).map(quoted)),
            "quote_literal" => {
                or_null(args.text(0).map(|text| format!("'{}'", text.replace('\'', "''"))))
            }
            "pg_size_pretty" => or_null(args.integer(0).map(|bytes| format!("{bytes} bytes"))),
            "has_database_privilege"
            | "has_schema_privilege"
            | "has_table_privilege"
            | "pg_function_is_visible"
            | "pg_type_is_visible" => true.into(),
            "pg_is_in_recovery" | "pg_is_other_temp_schema" | "pg_relation_is_publishable" => {
                false.into()
            }
            "pg_my_temp_schema" => 0_i64.into(),
            // What this server does not keep has no description, definition or size.
            _ => Cell::Null,
        })
    }

    fn setting(&self, args: &Args<'_>) -> Result<Cell> {
        let Some(name) = args.text(0) else { return Ok(Cell::Null) };
        let settings = self.scope.settings();
        match settings.get(name) {
            Ok(value) => Ok(value.into()),
            Err(_) if args.text(1).is_some_and(|missing_ok| missing_ok == "true") => Ok(Cell::Null),
            Err(error) => Err(error.into_datafusion()),
        }
    }

    /// Changes a setting from the next statement on.
    fn set_config(&self, args: &Args<'_>) -> Result<Cell> {
        let (Some(name), Some(value)) = (args.text(0), args.text(1)) else { return Ok(Cell::Null) };
        let local = args.text(2).is_some_and(|local| local == "true");
        let mut settings = self.scope.settings();
        settings.set(name, value).map_err(EngineError::into_datafusion)?;
        self.scope.ask_for(name, value, local);
        Ok(or_null(settings.get(name).ok()))
    }

    fn is_visible(&self, view: &ReadView, oid: Option<i64>) -> Cell {
        let Some(oid) = oid else { return Cell::Null };
        let schema = view.catalog().namespace(&self.scope.schema(), view.at()).map(|n| n.id);
        let mut relations = view.catalog().relations(view.at());
        let of =
            relations.find(|relation| i64::from(relation.oid) == oid).map(|found| found.schema);
        of.map_or(Cell::Null, |of| Cell::Boolean(Some(of) == schema))
    }

    /// A relation's name, with its schema unless that is the session's.
    fn relation_name(&self, view: &ReadView, oid: i64) -> Option<String> {
        let catalog = view.catalog();
        if let Some((name, _)) = CATALOG_OIDS.iter().find(|(_, known)| *known == oid) {
            return Some((*name).to_owned());
        }
        let found = catalog.relations(view.at()).find(|r| i64::from(r.oid) == oid)?;
        let (schema, name) = (found.schema, found.name);
        let schema = &catalog.namespace_by_id(schema)?.name;
        if *schema == self.scope.schema() {
            return Some(quoted(&name));
        }
        Some(format!("{}.{}", quoted(schema), quoted(&name)))
    }

    /// The sequence that gives a column its values.
    fn serial_sequence(&self, view: &ReadView, args: &Args<'_>) -> Cell {
        let (Some(table), Some(column)) = (args.text(0), args.text(1)) else { return Cell::Null };
        let (schema, table) = self.scope.split_name(table);
        let (catalog, at) = (view.catalog(), view.at());
        let collection =
            catalog.namespace(&schema, at).and_then(|n| catalog.collection(n.id, &table, at));
        let of = |collection: &Collection| {
            let position = collection.column_position(column)?;
            let owner = Some((collection.id, collection.column_id(position)));
            catalog.sequences(at).find(|sequence| sequence.owner == owner)
        };
        let name = |sequence: &Sequence| format!("{}.{}", quoted(&schema), quoted(&sequence.name));
        or_null(collection.and_then(of).map(name))
    }

    /// The query of a view, given by its id or its name.
    fn view_definition(&self, view: &ReadView, args: &Args<'_>) -> Cell {
        let (catalog, at) = (view.catalog(), view.at());
        let found = match (args.integer(0), args.text(0)) {
            (Some(oid), _) => catalog.views(at).find(|view| i64::from(view.id.0) == oid),
            (None, Some(name)) => {
                let (schema, name) = self.scope.split_name(name);
                let namespace = catalog.namespace(&schema, at);
                namespace.and_then(|namespace| catalog.view(namespace.id, &name, at))
            }
            (None, None) => None,
        };
        or_null(found.map(|view| format!(" {};", view.query)))
    }

    fn regclass(&self, view: &ReadView, args: &Args<'_>) -> Result<Cell> {
        if let Some(oid) = args.integer(0) {
            return Ok(oid.into());
        }
        let Some(text) = args.text(0) else { return Ok(Cell::Null) };
        let (schema, name) = self.scope.split_name(text);
        let (qualified, in_catalog) = (name_parts(text).len() > 1, schema == "pg_catalog");
        let at = view.at();
        let found = view.catalog().namespace(&schema, at).and_then(|namespace| {
            let named =
                |relation: &Relation<'_>| relation.schema == namespace.id && relation.name == name;
            view.catalog().relations(at).find(named).map(|relation| relation.oid)
        });
        match found {
            Some(oid) => Ok(oid.into()),
            None if let Some(oid) = catalog_oid(&name).filter(|_| !qualified || in_catalog) => {
                Ok(oid.into())
            }
            None if self.name == "to_regclass" => Ok(Cell::Null),
            None => Err(EngineError::no_table(text).into_datafusion()),
        }
    }
}

/// Ids of PostgreSQL's own tables (`pg_class.dat` and the headers of `src/include/catalog`).
const CATALOG_OIDS: [(&str, i64); 28] = [
    ("pg_am", 2601),
    ("pg_attrdef", 2604),
    ("pg_attribute", 1249),
    ("pg_auth_members", 1261),
    ("pg_authid", 1260),
    ("pg_class", 1259),
    ("pg_collation", 3456),
    ("pg_constraint", 2606),
    ("pg_database", 1262),
    ("pg_depend", 2608),
    ("pg_description", 2609),
    ("pg_enum", 3501),
    ("pg_extension", 3079),
    ("pg_index", 2610),
    ("pg_inherits", 2611),
    ("pg_namespace", 2615),
    ("pg_opclass", 2616),
    ("pg_operator", 2617),
    ("pg_policy", 3256),
    ("pg_proc", 1255),
    ("pg_range", 3541),
    ("pg_rewrite", 2618),
    ("pg_sequence", 2224),
    ("pg_shdescription", 2396),
    ("pg_statistic_ext", 3381),
    ("pg_tablespace", 1213),
    ("pg_trigger", 2620),
    ("pg_type", 1247),
];

fn catalog_oid(name: &str) -> Option<i64> {
    CATALOG_OIDS.iter().find(|(known, _)| *known == name).map(|(_, oid)| *oid)
}

fn regtype(args: &Args<'_>, function: &str) -> Result<Cell> {
    let Some(text) = args.text(0) else { return Ok(Cell::Null) };
    let name = text.trim().strip_prefix("pg_catalog.").unwrap_or(text.trim());
    let found = by_name(name).map(|t| t.oid).or_else(|| {
        let of = |t: &&crate::pg_types::PgType| {
            format_type(i64::from(t.oid), -1).as_deref() == Some(name)
        };
        TYPES.iter().find(of).map(|t| t.oid)
    });
    match found {
        Some(oid) => Ok(oid.into()),
        None if function == "to_regtype" => Ok(Cell::Null),
        None => {
            let message = format!("type \"{text}\" does not exist");
            Err(EngineError::new(SqlState::UNDEFINED_OBJECT, message).into_datafusion())
        }
    }
}

/// The SQL name of a type.
fn format_type(oid: i64, typmod: i64) -> Option<String> {
    let oid = u32::try_from(oid).ok()?;
    if let Some(element) = TYPES.iter().find(|t| t.array == oid && oid != 0) {
        return Some(format!("{}[]", format_type(i64::from(element.oid), typmod)?));
    }
    let name = by_oid(oid)?.name;
    Some(match name {
        "bool" => "boolean".to_owned(),
        "int2" => "smallint".to_owned(),
        "int4" => "integer".to_owned(),
        "int8" => "bigint".to_owned(),
        "float4" => "real".to_owned(),
        "float8" => "double precision".to_owned(),
        "varchar" if typmod > 4 => format!("character varying({})", typmod - 4),
        "varchar" => "character varying".to_owned(),
        "numeric" if typmod > 4 => {
            let digits = typmod - 4;
            format!("numeric({},{})", digits >> 16, digits & 0xFFFF)
        }
        "bpchar" => "character".to_owned(),
        "timestamp" => "timestamp without time zone".to_owned(),
        "timestamptz" => "timestamp with time zone".to_owned(),
        "time" => "time without time zone".to_owned(),
        "vector" | "halfvec" | "bit" | "sparsevec" if typmod > 0 => format!("{name}({typmod})"),
        other => other.to_owned(),
    })
}

/// A column of an index; nothing beyond its last.
fn index_column(view: &ReadView, oid: i64, number: i64) -> String {
    let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
    let catalog = view.catalog();
    let keyed = u32::try_from(oid).ok().and_then(|oid| catalog.key_by_oid(oid, view.at()));
    let of_key = keyed.and_then(|(c, key)| c.columns.get(*key.positions.get(at)?));
    let of_index = || {
        let index = catalog.indexes(view.at()).find(|index| i64::from(index.id.0) == oid)?;
        let collection = catalog.collection_at(index.table, view.at())?;
        collection.column_by_id(index.column).filter(|_| at == 0)
    };
    of_key.or_else(of_index).map_or_else(String::new, |column| quoted(&column.name))
}

fn indexdef(view: &ReadView, oid: i64, qualified: bool) -> Option<String> {
    let oid = u32::try_from(oid).ok()?;
    if let Some((collection, key)) = view.catalog().key_by_oid(oid, view.at()) {
        return Some(key_definition(view, (collection, &key), qualified));
    }
    let index = view.catalog().indexes(view.at()).find(|i| i.id.0 == oid)?;
    Some(index_definition(view, index, qualified))
}
