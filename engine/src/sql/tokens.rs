//! What has to be put right between tokenizer and parser.
//!
//! * `<+>` arrives as three tokens and `@@@` as two: adjacent ones are joined.
//! * `a>-1` arrives with the operator `>-`; PostgreSQL's rule (manual, section 4.1.3) is that an
//!   operator ends in `+` or `-` only if it holds a tilde, a backtick or one of `! @ # % ^ & | ?`.
//! * `t AS OF TIMESTAMP e` parses in no dialect: it becomes `t FOR SYSTEM_TIME AS OF e`, with the
//!   word TIMESTAMP kept before a string, where it makes a typed literal.
//! * The parser recurses without a limit in places; limits on operators and nesting are checked
//!   here, before it starts.

use std::collections::HashSet;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};
use types::SqlState;
use types::limits::{
    STATEMENT_BYTES_MAX, STATEMENT_DEPTH_MAX, STATEMENT_OPERATORS_MAX, STATEMENT_TOKENS_MAX,
};

use super::create_tokens::with_types;
use super::dialect::AzimuthDialect;
use super::sequence_tokens::in_order;
use crate::error::{EngineError, Result};

/// Brackets may nest deeper than expressions: a `VALUES` row costs one level and no recursion.
const BRACKETS_DEPTH_MAX: usize = 4 * STATEMENT_DEPTH_MAX;

/// The tokens of one statement.
#[derive(Debug)]
pub(crate) struct StatementTokens {
    pub(crate) tokens: Vec<TokenWithSpan>,
    /// Bounds the depth of the tree that they make.
    pub(crate) operators: usize,
}

/// The tokens of each statement of `sql`; statements of white space alone are left out.
pub(crate) fn statements(sql: &str) -> Result<Vec<StatementTokens>> {
    if sql.len() > STATEMENT_BYTES_MAX {
        let message = format!("the statement is longer than {STATEMENT_BYTES_MAX} bytes");
        return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
            .with_hint("Load data with COPY, or in several statements."));
    }
    let dialect = AzimuthDialect::new(0);
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|error| EngineError::syntax(format!("syntax error: {error}")))?;
    let mut statements = Vec::new();
    for part in tokens.split(|token| token.token == Token::SemiColon) {
        if part.iter().all(|token| matches!(token.token, Token::Whitespace(_))) {
            continue;
        }
        let operators = check_limits(part)?;
        let tokens = split_operators(part);
        let tokens = with_types(in_order(as_of(join_operators(tokens))));
        statements.push(StatementTokens { tokens, operators });
    }
    Ok(statements)
}

/// Checks the limits of one statement; the number of operators in it.
fn check_limits(tokens: &[TokenWithSpan]) -> Result<usize> {
    if tokens.len() > STATEMENT_TOKENS_MAX {
        let message = format!("the statement has more than {STATEMENT_TOKENS_MAX} tokens");
        return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
            .with_hint("Load data with COPY, or in several statements."));
    }
    let (mut operators, mut depth, mut intervals) = (0, 0_usize, 0);
    let mut before = &Token::LParen;
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => {
                depth = depth.saturating_sub(1);
                // `int[][]`: a type is as deep as it has brackets.
                operators += usize::from(matches!(before, Token::LBracket));
            }
            Token::Word(word) => {
                operators += weight(word.keyword);
                intervals += usize::from(word.keyword == Keyword::INTERVAL);
            }
            // The sign of a number in a list of values is no operator.
            Token::Minus | Token::Plus if matches!(before, Token::LParen | Token::Comma) => {}
            other => operators += usize::from(is_operator(other)),
        }
        before = &token.token;
        if depth > BRACKETS_DEPTH_MAX || intervals > INTERVALS_MAX {
            return Err(EngineError::too_deep());
        }
        if operators > STATEMENT_OPERATORS_MAX {
            let message =
                format!("the statement has more than {STATEMENT_OPERATORS_MAX} operators");
            return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
                .with_hint("Use IN (...), a join with VALUES, or several statements."));
        }
    }
    Ok(operators)
}

/// How much a word adds to the depth and the cost of planning, in operators.
fn weight(keyword: Keyword) -> usize {
    match keyword {
        // Planning nested rows doubles with every level.
        Keyword::ROW => STATEMENT_OPERATORS_MAX / 10,
        // An arm of a set operation is a whole query.
        Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => {
            STATEMENT_OPERATORS_MAX / 200
        }
        other => usize::from(DEEPENING.contains(&other)),
    }
}

/// The word INTERVAL recurses in the parser without a limit of the parser's own.
const INTERVALS_MAX: usize = 100;

/// Words that make a tree deeper by one level each.
const DEEPENING: [Keyword; 22] = [
    Keyword::AND,
    Keyword::OR,
    Keyword::XOR,
    Keyword::NOT,
    Keyword::IS,
    Keyword::NOTNULL,
    Keyword::IN,
    Keyword::LIKE,
    Keyword::ILIKE,
    Keyword::RLIKE,
    Keyword::REGEXP,
    Keyword::SIMILAR,
    Keyword::BETWEEN,
    Keyword::OVERLAPS,
    Keyword::COLLATE,
    Keyword::AT,
    Keyword::OPERATOR,
    Keyword::JOIN,
    Keyword::CASE,
    Keyword::EXPLAIN,
    Keyword::PREPARE,
    Keyword::INTERVAL,
];

/// Tokens that make an expression tree deeper, by one level each.
fn is_operator(token: &Token) -> bool {
    !matches!(
        token,
        Token::EOF
            | Token::Word(_)
            | Token::Number(..)
            | Token::Char(_)
            | Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::Comma
            | Token::Whitespace(_)
            | Token::LParen
            | Token::RParen
            | Token::LBracket
            | Token::RBracket
            | Token::Period
            | Token::SemiColon
            | Token::Placeholder(_)
    )
}

/// Takes a sign or a comment off the end of an operator it does not belong to.
fn split_operators(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut out = Vec::with_capacity(tokens.len());
    for token in tokens {
        let Token::CustomBinaryOperator(text) = &token.token else {
            out.push(token.clone());
            continue;
        };
        let may_end_in_sign = text.contains(['~', '!', '@', '#', '%', '^', '&', '|', '`', '?']);
        let mut head = text.as_str();
        let mut signs = Vec::new();
        while !may_end_in_sign && head.len() > 1 && head.ends_with(['+', '-']) {
            let sign = if head.ends_with('+') { Token::Plus } else { Token::Minus };
            signs.push(sign);
            head = &head[..head.len() - 1];
        }
        let operator = match head {
            ">" => Token::Gt,
            "<" => Token::Lt,
            ">=" => Token::GtEq,
            "<=" => Token::LtEq,
            "<>" | "!=" => Token::Neq,
            "=" => Token::Eq,
            "<->" => Token::TwoWayArrow,
            "<=>" => Token::Spaceship,
            "*" => Token::Mul,
            "/" => Token::Div,
            other => Token::CustomBinaryOperator(other.to_owned()),
        };
        out.push(TokenWithSpan::new(operator, token.span));
        out.extend(signs.into_iter().rev().map(|sign| TokenWithSpan::new(sign, token.span)));
    }
    out
}

/// Joins `< + >` and `@@ @` when nothing stands between them.
fn join_operators(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let touches = |left: &TokenWithSpan, right: &TokenWithSpan| left.span.end == right.span.start;
    for token in tokens {
        match out.as_slice() {
            [.., first, second]
                if token.token == Token::Gt
                    && second.token == Token::Plus
                    && first.token == Token::Lt
                    && touches(first, second)
                    && touches(second, &token) =>
            {
                let span = first.span.union(&token.span);
                out.truncate(out.len() - 2);
                let operator = Token::CustomBinaryOperator("<+>".to_owned());
                out.push(TokenWithSpan::new(operator, span));
            }
            [.., first]
                if token.token == Token::AtSign
                    && first.token == Token::AtAt
                    && touches(first, &token) =>
            {
                let span = first.span.union(&token.span);
                out.pop();
                let operator = Token::CustomBinaryOperator("@@@".to_owned());
                out.push(TokenWithSpan::new(operator, span));
            }
            _ => out.push(token),
        }
    }
    out
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(w)
        if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Puts `FOR SYSTEM_TIME` before `AS OF TIMESTAMP`.
fn as_of(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let blank = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let solid: Vec<usize> = (0..tokens.len()).filter(|at| !blank(&tokens[*at])).collect();
    let mut insert_at = HashSet::new();
    let mut drop_at = HashSet::new();
    for (place, window) in solid.windows(3).enumerate() {
        let [a, o, t] = [window[0], window[1], window[2]].map(|at| &tokens[at]);
        let after_version_word = place
            .checked_sub(1)
            .map(|before| &tokens[solid[before]])
            .is_some_and(|t| ["system_time", "timestamp", "version"].iter().any(|w| is_word(t, w)));
        if !is_word(a, "as") || !is_word(o, "of") || !is_word(t, "timestamp") || after_version_word
        {
            continue;
        }
        insert_at.insert(window[0]);
        let next = solid.get(place + 3).map(|at| &tokens[*at].token);
        if !matches!(next, Some(Token::SingleQuotedString(_))) {
            drop_at.insert(window[2]);
        }
    }
    let mut out = Vec::with_capacity(tokens.len() + 4 * insert_at.len());
    for (at, token) in tokens.into_iter().enumerate() {
        if insert_at.contains(&at) {
            for word in ["FOR", "SYSTEM_TIME"] {
                out.push(TokenWithSpan::new(Token::make_word(word, None), token.span));
                out.push(TokenWithSpan::new(Token::Whitespace(Whitespace::Space), token.span));
            }
        }
        if !drop_at.contains(&at) {
            out.push(token);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(sql: &str) -> String {
        let tokens = statements(sql).unwrap();
        let solid = tokens[0].tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_)));
        solid.map(|t| t.token.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn operators_are_cut_and_joined_as_postgresql_reads_them() {
        let cases = [
            ("a>-1", "a > - 1"),
            ("a>=-1", "a >= - 1"),
            ("a<>-1", "a <> - 1"),
            ("v<->-w", "v <-> - w"),
            ("a<+>b", "a <+> b"),
            ("a < +b > c", "a < + b > c"),
            ("a @@@ 'x'", "a @@@ 'x'"),
            ("v<#>-1", "v <#>- 1"),
        ];
        for (sql, expected) in cases {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    #[test]
    fn as_of_becomes_what_the_parser_knows() {
        let cases = [
            (
                "t AS OF TIMESTAMP '2026-01-01' x",
                "t FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01' x",
            ),
            ("t AS OF TIMESTAMP now()", "t FOR SYSTEM_TIME AS OF now ( )"),
            ("t as of timestamp $1", "t FOR SYSTEM_TIME as of $1"),
            ("t FOR SYSTEM_TIME AS OF TIMESTAMP 'x'", "t FOR SYSTEM_TIME AS OF TIMESTAMP 'x'"),
            ("'t AS OF TIMESTAMP x'", "'t AS OF TIMESTAMP x'"),
        ];
        for (sql, expected) in cases {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    #[test]
    fn statements_are_split_outside_of_strings() {
        assert_eq!(statements(" ; SELECT ';' ; /* ; */ ;SELECT 2;").unwrap().len(), 2);
    }

    #[test]
    fn limits_hold_before_the_parser_starts() {
        let deep = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        let wide = format!("SELECT 1{}", "+1".repeat(STATEMENT_OPERATORS_MAX + 1));
        let intervals = format!("SELECT {}", "INTERVAL ".repeat(10_000));
        let long = format!("SELECT '{}'", "x".repeat(STATEMENT_BYTES_MAX));
        for sql in [deep, wide, intervals, long] {
            let error = statements(&sql).unwrap_err();
            assert_eq!(
                types::Coded::sql_state(&error),
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                "{error}"
            );
        }
    }
}
