//! Casts to kinds of vectors of what is known only when a statement runs: of text, of lists and of
//! other kinds. And the cast to text.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use catalog::{Column, ColumnType};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use types::{Dim, VectorKind};
use udfs::{VectorBuilder, parse_vector, vector_row, vector_shape, vector_type, write_vector};

use crate::error::{EngineError, Result};
use crate::values::assign;

/// A cast to vectors of one kind and dimension.
#[derive(Debug, PartialEq, Eq, Hash)]
struct VectorCast {
    kind: VectorKind,
    dim: usize,
    signature: Signature,
}

/// `expr::vector(dim)`, or that of another kind.
pub(crate) fn vector_cast(expr: Expr, (kind, dim): (VectorKind, usize)) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(VectorCast { kind, dim, signature }).call(vec![expr])
}

/// The text form of vectors.
#[derive(Debug, PartialEq, Eq, Hash)]
struct VectorText(Signature);

/// `expr::text`
pub(crate) fn vector_text(expr: Expr) -> Expr {
    ScalarUDF::from(VectorText(Signature::any(1, Volatility::Immutable))).call(vec![expr])
}

impl ScalarUDFImpl for VectorText {
    fn name(&self) -> &'static str {
        "text"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [array] = arrays.as_slice() else {
            return Err(EngineError::bug("text of no vector").into_datafusion());
        };
        let text = |row| {
            let mut text = String::new();
            write_vector(&mut text, vector_row(&**array, row)?);
            Some(text)
        };
        let texts: StringArray = (0..array.len()).map(text).collect();
        if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(texts)))
    }
}

/// Whether values of a type can be cast to vectors of a kind.
pub(crate) fn can_cast(from: &DataType, to: VectorKind) -> bool {
    match from {
        DataType::Null | DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => true,
        DataType::List(item) => to != VectorKind::Bit && item.data_type().is_numeric(),
        other => vector_shape(other)
            .is_some_and(|(kind, _)| (kind == VectorKind::Bit) == (to == VectorKind::Bit)),
    }
}

impl ScalarUDFImpl for VectorCast {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(vector_type(self.kind, self.dim))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let cast = |array: &ArrayRef| self.cast(array).map_err(EngineError::into_datafusion);
        Ok(match args.args.first() {
            Some(ColumnarValue::Array(array)) => ColumnarValue::Array(cast(array)?),
            Some(ColumnarValue::Scalar(value)) => {
                let array = cast(&value.to_array()?)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
            }
            None => return Err(EngineError::bug("a cast of nothing").into_datafusion()),
        })
    }
}

impl VectorCast {
    fn cast(&self, array: &ArrayRef) -> Result<ArrayRef> {
        if self.kind == VectorKind::Bit && !array.data_type().is_null() {
            return self.cut(array);
        }
        let dim = Dim(u32::try_from(self.dim).unwrap_or(u32::MAX));
        let column_type = ColumnType::of_vector(self.kind, dim);
        assign(array, &Column::new("", column_type, true))
    }

    /// A cast of bits, unlike an assignment, cuts off or adds zeros at the end.
    fn cut(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let mut builder = VectorBuilder::new(self.kind, self.dim);
        if vector_shape(array.data_type()).is_some() {
            for row in 0..array.len() {
                match vector_row(&**array, row) {
                    Some(bits) => builder.push_cut(bits),
                    None => builder.push_null(),
                }
            }
            return Ok(builder.finish()?);
        }
        let text = cast(array, &DataType::Utf8)?;
        for text in text.as_string::<i32>() {
            match text {
                Some(text) => builder.push_cut(parse_vector(self.kind, text)?.row()),
                None => builder.push_null(),
            }
        }
        Ok(builder.finish()?)
    }
}

/// How many numbers an expression certainly has, where its type does not say.
pub(crate) fn known_length(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == "make_array" => Some(call.args.len()),
        Expr::Literal(ScalarValue::List(list), _) if list.is_valid(0) => {
            usize::try_from(list.value_length(0)).ok()
        }
        Expr::Alias(alias) => known_length(&alias.expr),
        Expr::Cast(cast) => known_length(&cast.expr),
        _ => None,
    }
}
