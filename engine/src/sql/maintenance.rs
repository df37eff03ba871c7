//! `VACUUM` and `REINDEX`, which the parser below does not know, and `DROP INDEX CONCURRENTLY`.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::dialect::AzimuthDialect;
use super::parser::parser;
use crate::error::{EngineError, Result};

/// What `REINDEX` makes again.
#[derive(Debug, Clone)]
pub struct Reindex {
    /// An index, or a table with all its indexes.
    pub(crate) name: ast::ObjectName,
    pub(crate) of_table: bool,
    pub(crate) concurrently: bool,
}

/// The tables that `VACUUM [t, ...]` names.
pub(super) fn vacuumed(
    words: &[&Token],
    tokens: Vec<TokenWithSpan>,
) -> Result<Vec<ast::ObjectName>> {
    match words.get(1) {
        None => return Ok(Vec::new()),
        Some(Token::LParen) => return Err(EngineError::unsupported("VACUUM with options")),
        Some(Token::SingleQuotedString(_)) => {
            return Err(EngineError::syntax("a name is not quoted with single quotes"));
        }
        Some(Token::Word(word))
            if word.quote_style.is_none()
                && ["full", "freeze", "verbose", "analyze"]
                    .contains(&word.value.to_ascii_lowercase().as_str()) =>
        {
            return Err(EngineError::unsupported(format!("VACUUM {word}")));
        }
        Some(_) => {}
    }
    let dialect = AzimuthDialect::new(tokens.len());
    let mut parser = parser(&dialect, tokens);
    parser.expect_keyword(Keyword::VACUUM)?;
    let names = parser.parse_comma_separated(|parser| parser.parse_object_name(false))?;
    parser.expect_token(&Token::EOF)?;
    Ok(names)
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// `REINDEX { INDEX | TABLE } [CONCURRENTLY] name`; `None` for any other statement.
pub(super) fn reindex(words: &[&Token], tokens: &[TokenWithSpan]) -> Result<Option<Reindex>> {
    if !words.first().is_some_and(|token| is_word(token, "reindex")) {
        return Ok(None);
    }
    let of_table = match words.get(1) {
        Some(token) if is_word(token, "index") => false,
        Some(token) if is_word(token, "table") => true,
        Some(other) => return Err(EngineError::unsupported(format!("REINDEX {other}"))),
        None => return Err(EngineError::syntax("REINDEX of nothing")),
    };
    let dialect = AzimuthDialect::new(tokens.len());
    let mut parser: Parser<'_> = parser(&dialect, tokens.to_vec());
    parser.next_token();
    parser.next_token();
    let concurrently = parser.parse_keyword(Keyword::CONCURRENTLY);
    let name = parser.parse_object_name(false)?;
    parser.expect_token(&Token::EOF)?;
    Ok(Some(Reindex { name, of_table, concurrently }))
}

/// `DROP INDEX CONCURRENTLY` without its last word: no statement is kept waiting by another here.
pub(super) fn without_concurrently(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let words: Vec<usize> = (0..tokens.len())
        .filter(|at| !matches!(tokens[*at].token, Token::Whitespace(_)))
        .take(3)
        .collect();
    let found = match words.as_slice() {
        [drop, index, third] => {
            let is = |at: usize, text| is_word(&tokens[at].token, text);
            (is(*drop, "drop") && is(*index, "index") && is(*third, "concurrently"))
                .then_some(*third)
        }
        _ => None,
    };
    if let Some(at) = found {
        tokens.remove(at);
    }
    tokens
}
