//! One statement at a time, from tokens that were put right.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use datafusion::sql::sqlparser::ast::{self, visit_expressions};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use types::limits::STATEMENT_DEPTH_MAX;

use super::dialect::AzimuthDialect;
use super::fetch::{self, Fetch};
use super::maintenance::{self, Reindex};
use super::rewrite;
use super::tokens::{self, StatementTokens};
use super::types::parameter_number;
use crate::error::{EngineError, Result};
use crate::prepared::PlanSlot;

/// A statement with more operators than this is dropped on a large stack of its own.
const OPERATORS_SHALLOW: usize = 10;
/// Enough for a tree of the allowed depth in an unoptimised build.
const STACK_BYTES: usize = 32 << 20;

/// A statement, read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ParsedStatement {
    pub(crate) statement: Statement,
    /// Highest parameter number in the statement.
    pub(crate) parameters: usize,
    /// Where a prepared statement keeps its plan.
    pub(crate) plan: Option<Arc<PlanSlot>>,
    /// The columns that the client of a prepared statement was told of.
    pub(crate) described: Option<SchemaRef>,
}

impl ParsedStatement {
    fn of(statement: Statement, parameters: usize) -> Self {
        Self { statement, parameters, plan: None, described: None }
    }

    /// Whether it is `FETCH` or `MOVE`.
    #[must_use]
    pub fn is_fetch(&self) -> bool {
        matches!(self.statement, Statement::Fetch(_))
    }

    /// Whether it reads or writes, and so takes part in a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        let Statement::Sql(tree) = &self.statement else { return false };
        !matches!(
            &***tree,
            ast::Statement::StartTransaction { .. }
                | ast::Statement::Commit { .. }
                | ast::Statement::Rollback { .. }
                | ast::Statement::Savepoint { .. }
                | ast::Statement::ReleaseSavepoint { .. }
                | ast::Statement::Set(_)
                | ast::Statement::Reset(_)
                | ast::Statement::ShowVariable { .. }
                | ast::Statement::Deallocate { .. }
                | ast::Statement::Discard { .. }
        )
    }

    /// A statement of SQL that was read already, with so many parameters.
    pub(crate) fn of_tree(tree: Arc<Tree>, parameters: usize) -> Self {
        Self::of(Statement::Sql(tree), parameters)
    }

    /// Whether a prepared statement keeps a plan for its next execution.
    #[must_use]
    pub fn keeps_plan(&self) -> bool {
        self.plan.as_ref().is_some_and(|slot| slot.query.is_kept())
    }
}

/// What the parser of SQL knows, and what only we know.
#[derive(Debug, Clone)]
pub enum Statement {
    /// A statement of SQL.
    Sql(Arc<Tree>),
    /// `CHECKPOINT`
    Checkpoint,
    /// `CHECK TABLE name`
    CheckTable(ast::ObjectName),
    /// `VACUUM [t, ...]`; all tables when none is named
    Vacuum(Vec<ast::ObjectName>),
    /// `REINDEX`
    Reindex(Reindex),
    /// `FETCH` or `MOVE`
    Fetch(Fetch),
}

/// A syntax tree. Trees are as deep as a statement has operators and are dropped by recursion, so a
/// deep one is dropped on a stack that is large enough, whichever thread lets go of it last.
#[derive(Debug)]
pub struct Tree {
    statement: Option<Box<ast::Statement>>,
    deep: bool,
}

impl Tree {
    pub(crate) fn new(statement: Box<ast::Statement>, deep: bool) -> Arc<Self> {
        Arc::new(Self { statement: Some(statement), deep })
    }

    /// A query taken out of another statement, however deep it is.
    pub(crate) fn of_query(query: &ast::Query) -> Arc<Self> {
        let query = on_large_stack(true, || Box::new(query.clone()));
        Self::new(Box::new(ast::Statement::Query(query)), true)
    }

    /// A copy to change; for a thread of the CPU executor, whose stack is large.
    pub(crate) fn copy(&self) -> Box<ast::Statement> {
        Box::new(ast::Statement::clone(self))
    }

    pub(crate) fn is_deep(&self) -> bool {
        self.deep
    }
}

impl std::ops::Deref for Tree {
    type Target = ast::Statement;

    fn deref(&self) -> &ast::Statement {
        self.statement.as_deref().expect("taken by drop alone")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let statement = self.statement.take();
        on_large_stack(self.deep, || drop(statement));
    }
}

fn on_large_stack<T>(deep: bool, work: impl FnOnce() -> T) -> T {
    if deep { stacker::maybe_grow(STACK_BYTES / 2, STACK_BYTES, work) } else { work() }
}

/// Reads all statements of `sql`. None is read when one cannot be.
///
/// # Errors
/// When the text is not SQL, or is longer or deeper than the limits allow.
pub(crate) fn parse(sql: &str) -> Result<Vec<ParsedStatement>> {
    let read = |statement: StatementTokens| {
        // No deeper than there are operators, brackets and words that nest. A stack of its own costs more
        // than reading a short statement does.
        let deep = statement.operators > OPERATORS_SHALLOW;
        on_large_stack(deep, || parse_one(statement.tokens, deep))
    };
    tokens::statements(sql)?.into_iter().map(read).collect()
}

fn parse_one(tokens: Vec<TokenWithSpan>, deep: bool) -> Result<ParsedStatement> {
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
        return Ok(ParsedStatement::of(Statement::Checkpoint, parameters));
    }
    if let [Token::Word(check), Token::Word(table), _, ..] = words.as_slice()
        && check.keyword == Keyword::CHECK
        && table.keyword == Keyword::TABLE
    {
        let dialect = AzimuthDialect::new(tokens.len());
        let mut parser = parser(&dialect, tokens);
        parser.expect_keywords(&[Keyword::CHECK, Keyword::TABLE])?;
        let name = parser.parse_object_name(false)?;
        parser.expect_token(&Token::EOF)?;
        return Ok(ParsedStatement::of(Statement::CheckTable(name), parameters));
    }
    if let Some(fetch) = fetch::fetch(&words)? {
        return Ok(ParsedStatement::of(Statement::Fetch(fetch), parameters));
    }
    if let Some(Token::Word(word)) = words.first()
        && word.keyword == Keyword::VACUUM
    {
        let names = maintenance::vacuumed(&words, tokens.clone())?;
        return Ok(ParsedStatement::of(Statement::Vacuum(names), parameters));
    }
    if let Some(reindex) = maintenance::reindex(&words, &tokens)? {
        return Ok(ParsedStatement::of(Statement::Reindex(reindex), parameters));
    }
    if let Some(Token::Word(word)) = words.first()
        && word.keyword == Keyword::EXPLAIN
    {
        // The parser answers errors inside EXPLAIN with another reading; find them first.
        check_explained(&tokens)?;
    }
    let tokens = maintenance::without_concurrently(tokens);
    let dialect = AzimuthDialect::new(tokens.len());
    let mut parser = parser(&dialect, tokens);
    let mut statement = Box::new(parser.parse_statement()?);
    let rest = parser.peek_token_ref();
    if rest.token != Token::EOF {
        return parser.expected_ref("end of statement", rest).map_err(EngineError::from);
    }
    if let ast::Statement::Query(query) = &mut *statement
        && let Some(create) = made_by_select(query)
    {
        *statement = ast::Statement::CreateTable(create);
    }
    rewrite::check(&statement)?;
    // Its parameters are for those who execute it.
    let parameters =
        if matches!(*statement, ast::Statement::Prepare { .. }) { 0 } else { parameters };
    match &mut *statement {
        // What a table keeps is put right when it is used.
        ast::Statement::CreateTable(create) => {
            create.query.iter_mut().for_each(|query| rewrite::postgresql(&mut **query));
        }
        ast::Statement::AlterTable(_) | ast::Statement::CreateView(_) => {}
        other => rewrite::postgresql(other),
    }
    Ok(ParsedStatement::of(Statement::Sql(Tree::new(statement, deep)), parameters))
}

/// `SELECT ... INTO name` as `CREATE TABLE name AS SELECT ...`.
fn made_by_select(query: &mut ast::Query) -> Option<ast::CreateTable> {
    let ast::SetExpr::Select(select) = &mut *query.body else { return None };
    let plain = |into: &ast::SelectInto| !into.temporary && !into.unlogged;
    let into = select.into.take_if(|into| plain(into))?;
    let query = Box::new(query.clone());
    Some(CreateTableBuilder::new(into.name).query(Some(query)).build())
}

/// Reads an expression, as it is written.
pub(crate) fn parse_expression(text: &str) -> Result<ast::Expr> {
    let mut statements = tokens::statements(text)?;
    let (Some(only), true) = (statements.pop(), statements.is_empty()) else {
        return Err(EngineError::syntax("not one expression"));
    };
    on_large_stack(true, || {
        let dialect = AzimuthDialect::new(only.tokens.len());
        let mut parser = parser(&dialect, only.tokens);
        let expr = parser.parse_expr()?;
        parser.expect_token(&Token::EOF)?;
        Ok(expr)
    })
}

/// Reads a statement, as it is written.
pub(super) fn parse_statement(text: &str) -> Result<ast::Statement> {
    let mut statements = tokens::statements(text)?;
    let (Some(only), true) = (statements.pop(), statements.is_empty()) else {
        return Err(EngineError::syntax("not one statement"));
    };
    on_large_stack(true, || {
        let dialect = AzimuthDialect::new(only.tokens.len());
        let mut parser = parser(&dialect, only.tokens);
        let statement = parser.parse_statement()?;
        parser.expect_token(&Token::EOF)?;
        Ok(statement)
    })
}

pub(super) fn parser(dialect: &AzimuthDialect, tokens: Vec<TokenWithSpan>) -> Parser<'_> {
    Parser::new(dialect)
        .with_recursion_limit(STATEMENT_DEPTH_MAX)
        .with_tokens_with_locations(tokens)
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
    let dialect = AzimuthDialect::new(tokens.len());
    parser(&dialect, tokens[inner..].to_vec()).parse_statement()?;
    Ok(())
}

/// The same of a statement that was read.
pub(crate) fn highest_placeholder(statement: &ast::Statement) -> usize {
    let mut highest = 0;
    let _ = visit_expressions(statement, |expr| {
        if let ast::Expr::Value(value) = expr
            && let ast::Value::Placeholder(name) = &value.value
        {
            highest = highest.max(parameter_number(name).unwrap_or(0));
        }
        ControlFlow::<()>::Continue(())
    });
    highest
}

fn highest_parameter(tokens: &[TokenWithSpan]) -> Result<usize> {
    let mut highest = 0;
    for token in tokens {
        let Token::Placeholder(text) = &token.token else { continue };
        match parameter_number(text) {
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
