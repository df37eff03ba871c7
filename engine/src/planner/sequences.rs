//! `CREATE SEQUENCE`, and the options of sequences.

use catalog::{Column, ColumnType, SequenceOptions};
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, ObjectName, UnaryOperator, Value};
use types::{SqlState, TableId};

use super::define::Names;
use crate::error::{EngineError, Result};
use crate::sql::types::{column_type_required, fold};

/// What `AS type` and the options after it ask for.
pub(crate) fn sequence_options(
    data_type: ColumnType,
    given: &[ast::SequenceOptions],
) -> Result<SequenceOptions> {
    let Some((least, most)) = SequenceOptions::bounds(data_type) else {
        return Err(invalid("sequence type must be smallint, integer, or bigint".to_owned()));
    };
    let (mut increment, mut start, mut min, mut max) = (1, None, None, None);
    let mut cycle = false;
    for option in given {
        match option {
            ast::SequenceOptions::IncrementBy(by, _) => increment = number(by)?,
            ast::SequenceOptions::MinValue(None) => min = None,
            ast::SequenceOptions::MinValue(Some(value)) => min = Some(number(value)?),
            ast::SequenceOptions::MaxValue(None) => max = None,
            ast::SequenceOptions::MaxValue(Some(value)) => max = Some(number(value)?),
            ast::SequenceOptions::StartWith(value, _) => start = Some(number(value)?),
            ast::SequenceOptions::Cycle(no) => cycle = !no,
            // How many values a session would keep: sessions share theirs.
            ast::SequenceOptions::Cache(count) => {
                if number(count)? < 1 {
                    return Err(invalid("CACHE must be greater than zero".to_owned()));
                }
            }
        }
    }
    if increment == 0 {
        return Err(invalid("INCREMENT must not be zero".to_owned()));
    }
    let (first, last) = if increment > 0 { (1, most) } else { (least, -1) };
    let (min, max) = (min.unwrap_or(first), max.unwrap_or(last));
    for (what, bound) in [("MINVALUE", min), ("MAXVALUE", max)] {
        if !(least..=most).contains(&bound) {
            let name = data_type.sql_name();
            let message = format!("{what} ({bound}) is out of range for sequence data type {name}");
            return Err(invalid(message));
        }
    }
    if min >= max {
        return Err(invalid(format!("MINVALUE ({min}) must be less than MAXVALUE ({max})")));
    }
    let start = start.unwrap_or(if increment > 0 { min } else { max });
    if start < min {
        return Err(invalid(format!("START value ({start}) cannot be less than MINVALUE ({min})")));
    }
    if start > max {
        let message = format!("START value ({start}) cannot be greater than MAXVALUE ({max})");
        return Err(invalid(message));
    }
    Ok(SequenceOptions { data_type, start, increment, min, max, cycle })
}

/// The type of `CREATE SEQUENCE ... AS type`.
pub(crate) fn sequence_type(data_type: Option<&ast::DataType>) -> Result<ColumnType> {
    data_type.map_or(Ok(ColumnType::Int8), column_type_required)
}

/// The column of `OWNED BY table.column`; `None` for `NONE`.
pub(crate) fn owner(
    names: &Names<'_>,
    owned_by: Option<&ObjectName>,
) -> Result<Option<(TableId, usize)>> {
    let parts: Vec<Ident> = owned_by
        .into_iter()
        .flat_map(|name| &name.0)
        .filter_map(ast::ObjectNamePart::as_ident)
        .cloned()
        .collect();
    match parts.as_slice() {
        [] => Ok(None),
        [none] if none.quote_style.is_none() && fold(none) == "none" => Ok(None),
        [_] => Err(EngineError::syntax("invalid OWNED BY option")
            .with_hint("Specify OWNED BY table.column or OWNED BY NONE.")),
        [table @ .., column] => {
            let collection = names.table(&ObjectName::from(table.to_vec()))?;
            let name = fold(column);
            let is = |column: &Column| column.name == name;
            let position = collection.columns.iter().position(is);
            let position =
                position.ok_or_else(|| EngineError::no_column(&name, &collection.name))?;
            Ok(Some((collection.id, collection.column_id(position))))
        }
    }
}

fn invalid(message: String) -> EngineError {
    EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn number(expr: &Expr) -> Result<i64> {
    let text = match expr {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => format!("-{expr}"),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => expr.to_string(),
        Expr::Value(value) if matches!(value.value, Value::Number(..)) => expr.to_string(),
        other => return Err(EngineError::syntax(format!("{other} is not an integer"))),
    };
    text.parse().map_err(|_| invalid(format!("value \"{text}\" is out of range for type bigint")))
}
