//! Expressions that the catalog keeps as text: defaults and conditions.

use datafusion::sql::sqlparser::ast::{self, Expr, Query};

pub(crate) use super::parser::parse_expression;
use super::parser::parse_statement;
use super::rewrite;
use crate::error::{EngineError, Result};

/// The text of an expression, from which [`read_expression`] reads the same again.
pub(crate) fn write_expression(expr: &Expr) -> Result<String> {
    let text = expr.to_string();
    match parse_expression(&text) {
        Ok(again) if again == *expr => Ok(text),
        // The parser's own printer is not exact for everything it reads.
        Ok(_) | Err(_) => Err(EngineError::unsupported(format!("the expression {text:.60} here"))),
    }
}

/// An expression that is ready for the planner.
pub(crate) fn read_expression(text: &str) -> Result<Expr> {
    let mut expr = parse_expression(text)?;
    rewrite::postgresql_expression(&mut expr);
    Ok(expr)
}

/// A query as it is written.
pub(crate) fn parse_query(text: &str) -> Result<Query> {
    match parse_statement(text)? {
        ast::Statement::Query(query) => Ok(*query),
        _ => Err(EngineError::bug("not a query")),
    }
}

/// A query that is ready for the planner.
pub(crate) fn read_query(text: &str) -> Result<Query> {
    let mut query = parse_query(text)?;
    rewrite::postgresql(&mut query);
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            "'it''s'",
            "1 + 2 * 3",
            "(1 + 2) * 3",
            "price > 0 AND name <> ''",
            "length(name) BETWEEN 1 AND 80",
            "CASE WHEN a IS NULL THEN 1 ELSE -1 END",
            "kind IN ('a', 'b')",
            "embedding <-> '[1,2,3]'",
            "now() + INTERVAL '1 day'",
            "CURRENT_TIMESTAMP",
            "'[1,2]'::vector(2)",
            "nextval('s'::REGCLASS)",
            "a::TEXT ~ '^x'",
        ] {
            let expr = parse_expression(text).unwrap();
            let written = write_expression(&expr).unwrap();
            assert_eq!(parse_expression(&written).unwrap(), expr, "{text}");
            read_expression(&written).unwrap();
        }
        assert!(parse_expression("1; DROP TABLE t").is_err());
        assert!(parse_expression("1, 2").is_err());
    }
}
