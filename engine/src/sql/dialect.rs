//! PostgreSQL's dialect with table versions and pgvector's operator precedence.
//!
//! The parser asks a dialect about a hundred questions and has no way to inherit answers, so every
//! question that `PostgreSqlDialect` answers differently from the default is forwarded; the test
//! below parses what each of them is for. Three answers are ours: table versions are on, `<=>` binds like every other
//! operator (it has the precedence of `=` otherwise), and named arguments are identifiers (the
//! parser tries arguments twice otherwise, which makes nested calls exponential).

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// Operands that reading a statement may begin: a few readings of each token are honest work.
const FUEL_PER_TOKEN: usize = 32;
const FUEL_LEAST: usize = 20_000;

/// The dialect of this server.
#[derive(Debug)]
pub(crate) struct AzimuthDialect {
    postgres: PostgreSqlDialect,
    /// Operands that may still be begun. The parser tries several readings of nested forms one
    /// after the other, at every level again; without a bound a short text takes it years.
    fuel: Cell<usize>,
}

impl AzimuthDialect {
    /// The dialect for parsing one statement of `tokens` tokens.
    pub(crate) fn new(tokens: usize) -> Self {
        let fuel = Cell::new(FUEL_LEAST + FUEL_PER_TOKEN * tokens);
        Self { postgres: PostgreSqlDialect {}, fuel }
    }
}

macro_rules! forward {
    ($($name:ident)*) => {
        $(fn $name(&self) -> bool {
            self.postgres.$name()
        })*
    };
}

impl Dialect for AzimuthDialect {
    /// The parser takes all that follows `IS DISTINCT FROM` for its right side; it ends where the
    /// precedence of `IS` ends.
    fn parse_infix(
        &self,
        parser: &mut Parser<'_>,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        let (is, not) = (Keyword::IS, Keyword::NOT);
        let distinct = [Keyword::DISTINCT, Keyword::FROM];
        let negated = if parser.parse_keywords(&[is, distinct[0], distinct[1]]) {
            false
        } else if parser.parse_keywords(&[is, not, distinct[0], distinct[1]]) {
            true
        } else {
            return None;
        };
        let left = Box::new(expr.clone());
        let right = parser.parse_subexpr(precedence).map(Box::new);
        Some(right.map(|right| {
            if negated {
                Expr::IsNotDistinctFrom(left, right)
            } else {
                Expr::IsDistinctFrom(left, right)
            }
        }))
    }

    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn parse_prefix(&self, _parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        match self.fuel.get().checked_sub(1) {
            Some(left) => {
                self.fuel.set(left);
                None
            }
            // The one error that an attempt does not swallow.
            None => Some(Err(ParserError::RecursionLimitExceeded)),
        }
    }

    fn supports_string_literal_concatenation_with_newline(&self) -> bool {
        true
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        match parser.peek_token_ref().token {
            Token::Spaceship => Some(Ok(self.prec_value(Precedence::PgOther))),
            _ => self.postgres.get_next_precedence(parser),
        }
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        // Asked only after a special form failed to parse: "reserved" ends the attempt there, which
        // keeps nested broken casts from being tried in every combination.
        matches!(
            keyword,
            Keyword::CAST
                | Keyword::CASE
                | Keyword::EXTRACT
                | Keyword::SUBSTRING
                | Keyword::OVERLAY
        ) || self.postgres.is_reserved_for_identifier(keyword)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.postgres.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        self.postgres.is_delimited_identifier_start(character)
    }

    fn is_identifier_start(&self, character: char) -> bool {
        self.postgres.is_identifier_start(character)
    }

    fn is_identifier_part(&self, character: char) -> bool {
        self.postgres.is_identifier_part(character)
    }

    fn is_custom_operator_part(&self, character: char) -> bool {
        self.postgres.is_custom_operator_part(character)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        self.postgres.prec_value(precedence)
    }

    forward! {
        supports_unicode_string_literal
        supports_filter_during_aggregation
        supports_group_by_expr
        supports_named_fn_args_with_colon_operator
        supports_numeric_literal_underscores
        supports_empty_projections
        allow_extract_custom
        allow_extract_single_quotes
        supports_create_index_with_clause
        supports_explain_with_utility_options
        supports_factorial_operator
        supports_bitwise_shift_operators
        supports_nested_comments
        supports_listen_notify
        supports_load_extension
        supports_comment_on
        supports_insert_table_alias
        supports_string_escape_constant
        supports_array_typedef_with_brackets
        supports_geometric_types
        supports_set_names
        supports_alter_column_type_using
        supports_notnull_operator
        supports_interval_options
        supports_create_table_like_parenthesized
        supports_comment_optimizer_hint
        supports_select_wildcard_with_alias
        supports_comma_separated_trim
        supports_xml_expressions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statements that parse only when a question is forwarded.
    const POSTGRESQL_ONLY: [&str; 14] = [
        r"SELECT U&'\0061'",
        "SELECT count(*) FILTER (WHERE a) FROM t",
        "SELECT a FROM t GROUP BY CUBE (a)",
        "SELECT 1_000",
        "SELECT FROM t",
        "SELECT EXTRACT('year' FROM now())",
        "CREATE INDEX i ON t USING hnsw (v vector_l2_ops) WITH (m = 16)",
        "EXPLAIN (ANALYZE, VERBOSE) SELECT 1",
        "SELECT 1 << 2",
        "SELECT 1 /* a /* b */ c */",
        "COMMENT ON TABLE t IS 'x'",
        "SELECT E'\\n'",
        "SELECT ARRAY[1]::int[]",
        "SET NAMES 'UTF8'",
    ];

    #[test]
    fn whatever_postgresql_reads_is_read() {
        let (ours, theirs) = (AzimuthDialect::new(100), PostgreSqlDialect {});
        for sql in POSTGRESQL_ONLY {
            let expected = Parser::parse_sql(&theirs, sql).unwrap();
            assert_eq!(Parser::parse_sql(&ours, sql).unwrap(), expected, "{sql}");
        }
    }

    #[test]
    fn cosine_distance_binds_tighter_than_comparison() {
        let ours = AzimuthDialect::new(100);
        let grouped = Parser::parse_sql(&ours, "SELECT 0.5 > (a <=> b)").unwrap();
        let text = grouped[0].to_string().replace(['(', ')'], "");
        let plain = Parser::parse_sql(&ours, "SELECT 0.5 > a <=> b").unwrap();
        assert_eq!(plain[0].to_string(), text);
        let datafusion::sql::sqlparser::ast::Statement::Query(query) = &plain[0] else { panic!() };
        let shape = format!("{:?}", query.body);
        let (gt, spaceship) = (shape.find("op: Gt").unwrap(), shape.find("Spaceship").unwrap());
        assert!(spaceship > gt, "the comparison is the outer operator: {shape}");
    }

    #[test]
    fn nested_calls_parse_in_linear_time_and_other_nesting_ends() {
        let nested =
            |open: &str, close: &str| format!("SELECT {}1{}", open.repeat(30), close.repeat(30));
        let dialect = AzimuthDialect::new(100);
        assert_eq!(Parser::parse_sql(&dialect, &nested("abs(", ")")).unwrap().len(), 1);
        for (open, close) in [("ceil(", ")"), ("ARRAY[", "]"), ("try_cast(", " AS int)")] {
            // Either read or refused, and soon: the fuel bounds the attempts.
            let _ = Parser::parse_sql(&AzimuthDialect::new(100), &nested(open, close));
        }
    }
}
