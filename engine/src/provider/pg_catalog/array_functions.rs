//! Functions of PostgreSQL's catalog whose values are arrays or JSON.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, Int16Array, Int32Array, ListArray, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int16Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::error::EngineError;
use crate::provider::Scope;
use crate::sql::types::PG_TYPE_KEY;
use crate::value_text::{plain_values, write_value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// `current_schemas(implicit)`
    Schemas,
    /// The items of an array with their places, as an array to unnest.
    Expanded,
    /// `json_build_object(name, value, ...)`
    JsonObject,
}

const FUNCTIONS: [(&str, Kind); 4] = [
    ("current_schemas", Kind::Schemas),
    (EXPANDED, Kind::Expanded),
    ("json_build_object", Kind::JsonObject),
    ("jsonb_build_object", Kind::JsonObject),
];

/// The array behind `information_schema._pg_expandarray`.
pub(crate) const EXPANDED: &str = "_pg_expanded";

/// All functions, bound to a session.
pub(crate) fn registry(scope: &Arc<Scope>) -> Vec<Arc<ScalarUDF>> {
    let function = |(name, kind)| {
        let signature = Signature::variadic_any(Volatility::Stable);
        let scope = Arc::clone(scope);
        Arc::new(ScalarUDF::from(ArrayFunction { name, kind, signature, scope }))
    };
    FUNCTIONS.into_iter().map(function).collect()
}

#[derive(Debug)]
struct ArrayFunction {
    name: &'static str,
    kind: Kind,
    signature: Signature,
    scope: Arc<Scope>,
}

impl PartialEq for ArrayFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.scope, &other.scope)
    }
}

impl Eq for ArrayFunction {}

impl Hash for ArrayFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

fn places() -> Fields {
    Fields::from(vec![
        Field::new("x", DataType::Int16, true),
        Field::new("n", DataType::Int32, false),
    ])
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

impl ScalarUDFImpl for ArrayFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Schemas => list_of(DataType::Utf8),
            Kind::Expanded => list_of(DataType::Struct(places())),
            Kind::JsonObject => DataType::Utf8,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> =
            args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.name, self.return_type(&types)?, true);
        let json = self.name.split('_').next().filter(|_| self.kind == Kind::JsonObject);
        Ok(Arc::new(match json {
            Some(json) => field.with_metadata([(PG_TYPE_KEY.to_owned(), json.to_owned())].into()),
            None => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays: Vec<ArrayRef> =
            args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<_>>()?;
        Ok(match self.kind {
            Kind::Schemas => ColumnarValue::Scalar(self.schemas(&arrays)?),
            Kind::Expanded => ColumnarValue::Array(Arc::new(expanded(&arrays)?)),
            Kind::JsonObject => {
                let objects = (0..args.number_rows).map(|row| object(&arrays, row));
                let objects: std::result::Result<StringArray, EngineError> = objects.collect();
                ColumnarValue::Array(Arc::new(objects.map_err(EngineError::into_datafusion)?))
            }
        })
    }
}

impl ArrayFunction {
    fn schemas(&self, args: &[ArrayRef]) -> Result<ScalarValue> {
        let implicit = args.first().and_then(|arg| arg.as_boolean_opt());
        let implicit = implicit.is_some_and(|arg| !arg.is_empty() && arg.value(0));
        let own = self.scope.schema();
        let names = implicit.then(|| "pg_catalog".to_owned()).into_iter().chain([own]);
        let names: Vec<ScalarValue> = names.map(|name| ScalarValue::Utf8(Some(name))).collect();
        Ok(ScalarValue::List(ScalarValue::new_list_nullable(&names, &DataType::Utf8)))
    }
}

/// For each array of small integers its items and their places, from one on.
fn expanded(args: &[ArrayRef]) -> Result<ListArray> {
    let lists = args.first().and_then(|arg| arg.as_list_opt::<i32>());
    let lists = lists.ok_or_else(|| EngineError::bug("not an array").into_datafusion())?;
    let (mut items, mut numbers, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..lists.len() {
        let before = items.len();
        if !lists.is_null(row) {
            let values = cast(&lists.value(row), &DataType::Int16)?;
            items.extend(values.as_primitive::<Int16Type>().iter());
        }
        lengths.push(items.len() - before);
        numbers.extend(1..=i32::try_from(items.len() - before).unwrap_or(i32::MAX));
    }
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int16Array::from(items)), Arc::new(Int32Array::from(numbers))];
    let places = StructArray::try_new(places(), columns, None)?;
    let item = Arc::new(Field::new_list_field(places.data_type().clone(), true));
    Ok(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(places), None)?)
}

/// `{"name" : value, ...}`, spaced as PostgreSQL does.
fn object(args: &[ArrayRef], row: usize) -> std::result::Result<Option<String>, EngineError> {
    let mut out = String::from("{");
    for (at, pair) in args.chunks(2).enumerate() {
        let [name, value] = pair else {
            let message = "argument list must have even number of elements";
            let state = types::SqlState::INVALID_PARAMETER_VALUE;
            return Err(EngineError::new(state, message));
        };
        if at > 0 {
            out.push_str(", ");
        }
        let text = |array: &ArrayRef| {
            let array = plain_values(array)?;
            let mut text = String::new();
            if !array.data_type().is_null() && !array.is_null(row) {
                write_value(&mut text, &array, row)?;
            }
            Ok::<_, EngineError>(text)
        };
        out.push_str(&serde_json::Value::String(text(name)?).to_string());
        out.push_str(" : ");
        let shown = text(value)?;
        out.push_str(&match value.data_type() {
            _ if value.data_type().is_null() || value.is_null(row) => "null".to_owned(),
            DataType::Boolean => value.as_boolean().value(row).to_string(),
            number if number.is_numeric() => shown,
            _ => serde_json::Value::String(shown).to_string(),
        });
    }
    out.push('}');
    Ok(Some(out))
}
