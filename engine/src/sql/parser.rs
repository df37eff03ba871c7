//! One statement at a time, from tokens that were put right.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use types::limits::STATEMENT_DEPTH_MAX;

use super::dialect::AzimuthDialect;
use super::{rewrite, tokens};
use crate::error::{EngineError, Result};

/// A statement, read.
#[derive(Debug, Clone)]
pub struct ParsedStatement {
    pub(crate) statement: Statement,
    /// Highest parameter number in the statement.
    pub(crate) parameters: usize,
}

/// What the parser of SQL knows, and what only we know.
#[derive(Debug, Clone)]
pub enum Statement {
    /// A statement of SQL.
    Sql(Box<ast::Statement>),
    /// `CHECKPOINT`
    Checkpoint,
}

/// Reads all statements of `sql`. None is read when one cannot be.
///
/// # Errors
/// When the text is not SQL, or is longer or deeper than the limits allow.
pub(crate) fn parse(sql: &str) -> Result<Vec<ParsedStatement>> {
    tokens::statements(sql)?.into_iter().map(parse_one).collect()
}

fn parse_one(tokens: Vec<TokenWithSpan>) -> Result<ParsedStatement> {
    let parameters = highest_parameter(&tokens)?;
    let words: Vec<&Token> = tokens
        .iter()
        .map(|token| &token.token)
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .collect();
    if let [Token::Word(word)] = words.as_slice()
        && word.quote_style.is_none()
        && word.value.eq_ignore_ascii_case("checkpoint")
    {
        return Ok(ParsedStatement { statement: Statement::Checkpoint, parameters });
    }
    if let Some(Token::Word(word)) = words.first()
        && word.keyword == Keyword::EXPLAIN
    {
        // The parser answers errors inside EXPLAIN with another reading; find them first.
        check_explained(&tokens)?;
    }
    let dialect = AzimuthDialect::new();
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(STATEMENT_DEPTH_MAX)
        .with_tokens_with_locations(tokens);
    let mut statement = parser.parse_statement()?;
    let rest = parser.peek_token_ref();
    if rest.token != Token::EOF {
        return parser.expected_ref("end of statement", rest).map_err(EngineError::from);
    }
    rewrite::check(&statement)?;
    rewrite::postgresql(&mut statement);
    Ok(ParsedStatement { statement: Statement::Sql(Box::new(statement)), parameters })
}

/// Parses what follows `EXPLAIN [ANALYZE] [VERBOSE] [( options )]` by itself.
fn check_explained(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut depth = 0_usize;
    let starts = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::SELECT
                | Keyword::WITH
                | Keyword::VALUES
                | Keyword::INSERT
                | Keyword::UPDATE
                | Keyword::DELETE
                | Keyword::TABLE
        ),
        _ => false,
    };
    let inner = tokens.iter().position(|token| {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && starts(token)
    });
    let Some(inner) = inner else { return Ok(()) };
    let dialect = AzimuthDialect::new();
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(STATEMENT_DEPTH_MAX)
        .with_tokens_with_locations(tokens[inner..].to_vec());
    parser.parse_statement()?;
    Ok(())
}

fn highest_parameter(tokens: &[TokenWithSpan]) -> Result<usize> {
    let mut highest = 0;
    for token in tokens {
        let Token::Placeholder(text) = &token.token else { continue };
        let number = text.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        match number {
            Some(number) if (1..=types::limits::PARAMETERS_MAX).contains(&number) => {
                highest = highest.max(number);
            }
            Some(_) | None => {
                let message = format!("there is no parameter {text}");
                return Err(EngineError::new(types::SqlState::UNDEFINED_PARAMETER, message));
            }
        }
    }
    Ok(highest)
}
