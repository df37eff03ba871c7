//! `nextval`, `currval`, `lastval` and `setval`: numbers of sequences, row by row.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use catalog::{Sequence, SequencePosition};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use storage::ReadView;
use types::SqlState;

use super::scope::Scope;
use crate::error::EngineError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Next,
    Current,
    Last,
    Set,
}

const FUNCTIONS: [(&str, Kind); 4] = [
    ("nextval", Kind::Next),
    ("currval", Kind::Current),
    ("lastval", Kind::Last),
    ("setval", Kind::Set),
];

/// All functions, bound to a session.
pub(crate) fn registry(scope: &Arc<Scope>) -> Vec<Arc<ScalarUDF>> {
    let function = |(name, kind)| {
        let signature = Signature::user_defined(Volatility::Volatile);
        let scope = Arc::clone(scope);
        Arc::new(ScalarUDF::from(SequenceFunction { name, kind, signature, scope }))
    };
    FUNCTIONS.into_iter().map(function).collect()
}

#[derive(Debug)]
struct SequenceFunction {
    name: &'static str,
    kind: Kind,
    signature: Signature,
    scope: Arc<Scope>,
}

impl PartialEq for SequenceFunction {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && Arc::ptr_eq(&self.scope, &other.scope)
    }
}

impl Eq for SequenceFunction {}

impl Hash for SequenceFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}

impl ScalarUDFImpl for SequenceFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let counts = match self.kind {
            Kind::Next | Kind::Current => 1..=1,
            Kind::Last => 0..=0,
            Kind::Set => 2..=3,
        };
        if !counts.contains(&arg_types.len()) {
            let message = format!("function {} does not exist with these arguments", self.name);
            let error = EngineError::new(SqlState::UNDEFINED_FUNCTION, message);
            return Err(error.into_datafusion());
        }
        let of = |(at, given): (usize, &DataType)| match at {
            0 if given.is_integer() => DataType::Int64,
            0 => DataType::Utf8,
            1 => DataType::Int64,
            _ => DataType::Boolean,
        };
        Ok(arg_types.iter().enumerate().map(of).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // Each row has its own value, also where the arguments are the same for all.
        let rows = args.number_rows;
        let arrays: Vec<ArrayRef> =
            args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<_>>()?;
        let values = self.call(&arrays, rows).map_err(EngineError::into_datafusion)?;
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}

impl SequenceFunction {
    fn call(&self, args: &[ArrayRef], rows: usize) -> std::result::Result<Int64Array, EngineError> {
        let view = self.scope.view();
        if self.kind == Kind::Last {
            return Ok(Int64Array::from_value(self.scope.last_value()?, rows));
        }
        let mut out: Vec<Option<i64>> = Vec::with_capacity(rows);
        let mut row = 0;
        while row < rows {
            // Rows that name the same sequence take their values together.
            let run =
                (row + 1..rows).find(|next| !same(&args[0], row, *next)).unwrap_or(rows) - row;
            match self.sequence(&view, &args[0], row)? {
                None => out.extend(std::iter::repeat_n(None, run)),
                Some(sequence) => match self.kind {
                    Kind::Next => {
                        let values = self.scope.next_values(&view, sequence, run)?;
                        out.extend(values.into_iter().map(Some));
                    }
                    Kind::Current | Kind::Last => {
                        let value = self.scope.current_value(sequence)?;
                        out.extend(std::iter::repeat_n(Some(value), run));
                    }
                    Kind::Set => {
                        for row in row..row + run {
                            out.push(self.set(&view, sequence, args, row)?);
                        }
                    }
                },
            }
            row += run;
        }
        Ok(out.into_iter().collect())
    }

    fn sequence<'v>(
        &self,
        view: &'v ReadView,
        names: &ArrayRef,
        row: usize,
    ) -> std::result::Result<Option<&'v Sequence>, EngineError> {
        if names.is_null(row) {
            return Ok(None);
        }
        let mut sequences = view.catalog().sequences(view.at());
        if let Some(oids) = names.as_primitive_opt::<Int64Type>() {
            let oid = oids.value(row);
            let found = sequences.find(|sequence| i64::from(sequence.id.0) == oid);
            return found.map(Some).ok_or_else(|| EngineError::no_table(&oid.to_string()));
        }
        let text = cast(names, &DataType::Utf8)?;
        let text = text.as_string::<i32>().value(row);
        let (schema, name) = self.scope.split_name(text);
        let schema = view.catalog().namespace(&schema, view.at());
        let found = schema.and_then(|s| view.catalog().sequence(s.id, &name, view.at()));
        found.map(Some).ok_or_else(|| EngineError::no_table(text))
    }

    fn set(
        &self,
        view: &ReadView,
        sequence: &Sequence,
        args: &[ArrayRef],
        row: usize,
    ) -> std::result::Result<Option<i64>, EngineError> {
        let values = args[1].as_primitive::<Int64Type>();
        let called = args.get(2).map(|called| -> &BooleanArray { called.as_boolean() });
        if values.is_null(row) || called.is_some_and(|called| called.is_null(row)) {
            return Ok(None);
        }
        let value = values.value(row);
        let (min, max) = (sequence.options.min, sequence.options.max);
        if !(min..=max).contains(&value) {
            let message = format!(
                "setval: value {value} is out of bounds for sequence \"{}\" ({min}..{max})",
                sequence.name
            );
            return Err(EngineError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
        }
        let called = called.is_none_or(|called| called.value(row));
        self.scope.set_sequence(view, sequence, SequencePosition { value, called })?;
        Ok(Some(value))
    }
}

fn same(names: &ArrayRef, a: usize, b: usize) -> bool {
    names.slice(a, 1).to_data() == names.slice(b, 1).to_data()
}
