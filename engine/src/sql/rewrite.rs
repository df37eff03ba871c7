//! What is done to a statement between parser and planner.
//!
//! [`check`] refuses clauses that the planner would read and drop. [`postgresql`] puts PostgreSQL's
//! qualified names and catalog idioms into forms that the planner knows; each rewrite keeps the
//! meaning.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, Query, Select, SelectItem, SetExpr, SetOperator,
    SetQuantifier, TableFactor, UnaryOperator, Value, Visit as _, VisitMut, Visitor, VisitorMut,
};

use types::VectorKind;

use super::catalog_idioms::{
    call_of_subqueries, is_empty, make_empty, of_catalog, one_row, query_is_empty, when,
};
use super::names::name_repeated;
use super::types::{cast, fold, last_part};
use crate::error::{EngineError, Result};
use crate::interval_text::literal_text;
use crate::provider::DATABASE;

/// Catalog tables that have no rows in this server.
pub(crate) const EMPTY_CATALOGS: [&str; 21] = [
    "pg_auth_members",
    "pg_collation",
    "pg_description",
    "pg_enum",
    "pg_event_trigger",
    "pg_foreign_table",
    "pg_inherits",
    "pg_opclass",
    "pg_partitioned_table",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_range",
    "pg_rewrite",
    "pg_seclabel",
    "pg_shdescription",
    "pg_statistic_ext",
    "pg_tablespace",
    "pg_trigger",
    "pg_foreign_server",
];

struct Checker;

fn refuse(what: &str) -> ControlFlow<EngineError> {
    ControlFlow::Break(EngineError::unsupported(what))
}

/// Refuses a table of another database: there are some that no user is to see.
pub(crate) fn check_relation(name: &ObjectName) -> Result<()> {
    match name.0.as_slice() {
        [database, _, _, ..] if database.as_ident().is_none_or(|d| fold(d) != DATABASE) => {
            let message = format!("cross-database references are not implemented: {name}");
            Err(EngineError::new(types::SqlState::FEATURE_NOT_SUPPORTED, message))
        }
        _ => Ok(()),
    }
}

impl Visitor for Checker {
    type Break = EngineError;

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<EngineError> {
        match check_relation(relation) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<EngineError> {
        match factor {
            TableFactor::Table {
                name, with_hints, partitions, sample, with_ordinality, ..
            } => {
                if last_part(name) == "only" {
                    return refuse("ONLY");
                }
                if sample.is_some() {
                    return refuse("TABLESAMPLE");
                }
                if *with_ordinality {
                    return refuse("WITH ORDINALITY");
                }
                if !with_hints.is_empty() || !partitions.is_empty() {
                    return refuse("a table hint or PARTITION clause");
                }
                ControlFlow::Continue(())
            }
            TableFactor::Derived { sample: Some(_), .. } => refuse("TABLESAMPLE"),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<EngineError> {
        if !query.locks.is_empty() {
            return refuse("FOR UPDATE or FOR SHARE");
        }
        if query.fetch.as_ref().is_some_and(|fetch| fetch.with_ties || fetch.percent) {
            return refuse("FETCH ... WITH TIES or PERCENT");
        }
        if query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some() {
            return refuse("this clause of a query");
        }
        check_set_operations(&query.body)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<EngineError> {
        use ast::DataType as Sql;
        match expr {
            Expr::SimilarTo { .. } => refuse("SIMILAR TO"),
            Expr::AtTimeZone { .. } => refuse("AT TIME ZONE"),
            Expr::Cast {
                data_type:
                    Sql::Char(_)
                    | Sql::Character(_)
                    | Sql::Varchar(Some(_))
                    | Sql::CharVarying(Some(_))
                    | Sql::CharacterVarying(Some(_)),
                ..
            } => refuse("a cast to a type with a length"),
            Expr::BinaryOp { left, op, right }
                if !matches!(op, BinaryOperator::Eq | BinaryOperator::NotEq)
                    && (is_row(left) || is_row(right)) =>
            {
                refuse("this comparison of rows")
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<EngineError> {
        if select.into.is_some() {
            return refuse("SELECT INTO");
        }
        if !select.connect_by.is_empty() {
            return refuse("CONNECT BY");
        }
        if select.top.is_some() || !select.lateral_views.is_empty() || select.prewhere.is_some() {
            return refuse("this clause of SELECT");
        }
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item
                && alias.quote_style == Some('\'')
            {
                let message = format!("syntax error at or near \"'{}'\"", alias.value);
                return ControlFlow::Break(
                    EngineError::syntax(message)
                        .with_hint("Write a typed constant as a cast: '...'::type."),
                );
            }
        }
        ControlFlow::Continue(())
    }
}

fn is_row(expr: &Expr) -> bool {
    matches!(expr, Expr::Tuple(_))
}

/// The planner's `EXCEPT ALL` and `INTERSECT ALL` do not count copies.
fn check_set_operations(body: &SetExpr) -> ControlFlow<EngineError> {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else {
        return ControlFlow::Continue(());
    };
    let all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
    if all && matches!(op, SetOperator::Except | SetOperator::Intersect | SetOperator::Minus) {
        return refuse(&format!("{op} ALL"));
    }
    check_set_operations(left)?;
    check_set_operations(right)
}

/// Refuses what would be read and dropped.
pub(crate) fn check(statement: &ast::Statement) -> Result<()> {
    match statement.visit(&mut Checker) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct InstantFinder;

impl Visitor for InstantFinder {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { version: Some(_), .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Whether a statement reads a table as of an instant that it names.
pub(crate) fn names_instant(statement: &ast::Statement) -> bool {
    statement.visit(&mut InstantFinder).is_break()
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if query_is_empty(query) {
            // No rows have no order, and the columns it names are about to go.
            query.order_by = None;
        }
        if let Some(ast::LimitClause::LimitOffset { limit, offset, .. }) = &mut query.limit_clause {
            let counts = limit.iter_mut().chain(offset.iter_mut().map(|offset| &mut offset.value));
            counts.for_each(count_parameter);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        // Functions are in no schema.
        if let TableFactor::Table { name, args: Some(_), .. } = factor
            && let [schema, function] = name.0.as_slice()
            && schema.as_ident().is_some_and(|schema| fold(schema) == "pg_catalog")
        {
            name.0 = vec![function.clone()];
        }
        if let TableFactor::UNNEST { alias: Some(alias), array_exprs, .. } = factor
            && alias.columns.is_empty()
            && array_exprs.len() == 1
        {
            let name = alias.name.clone();
            alias.columns.push(ast::TableAliasColumnDef { name, data_type: None });
        }
        // The one column of a function has the function's alias for a name.
        if let TableFactor::Table { name, alias: Some(alias), args: Some(_), .. } = factor
            && alias.columns.is_empty()
            && matches!(last_part(name).as_str(), "generate_series" | "unnest")
        {
            let name = alias.name.clone();
            alias.columns.push(ast::TableAliasColumnDef { name, data_type: None });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if is_empty(select) {
            make_empty(select);
        }
        name_repeated(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        of_catalog(expr);
        match expr {
            Expr::Subquery(query) if query_is_empty(query) => *expr = Expr::value(Value::Null),
            Expr::Subquery(query) => {
                if let Some(call) = call_of_subqueries(query) {
                    *expr = call;
                } else if let Some(condition) = one_row(query) {
                    let result = std::mem::replace(expr, Expr::value(Value::Null));
                    *expr = when(condition, result);
                }
            }
            Expr::Exists { subquery, negated } if query_is_empty(subquery) => {
                *expr = Expr::value(Value::Boolean(*negated));
            }
            Expr::Collate { expr: inner, collation }
                if matches!(last_part(collation).as_str(), "default" | "C" | "POSIX") =>
            {
                *expr = Expr::clone(inner);
            }
            Expr::Function(Function { name, args: FunctionArguments::Subquery(query), .. })
                if last_part(name) == "array" && query_is_empty(query) =>
            {
                *expr = call("make_array", Vec::new());
            }
            Expr::BinaryOp { left, op, right } if is_row(left) || is_row(right) => {
                if let Some(compared) = compare_rows(left, op, right) {
                    *expr = compared;
                }
            }
            Expr::InList { expr: row, list, negated } if is_row(row) => {
                if let Some(compared) = row_in_list(row, list, *negated) {
                    *expr = compared;
                }
            }
            Expr::Interval(interval) => rewrite_interval(interval),
            Expr::CompoundFieldAccess { access_chain, .. } => {
                access_chain.iter_mut().for_each(give_bounds);
            }
            // The planner would put the sign before the first number of its text alone.
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner }
                if matches!(**inner, Expr::Interval(_)) =>
            {
                **inner = Expr::Nested(Box::new(Expr::clone(inner)));
            }
            Expr::Cast { .. } => {
                give_dimension(expr);
                rewrite_reg_cast(expr);
            }
            Expr::Identifier(ident)
                if ident.quote_style.is_none()
                    && matches!(
                        fold(ident).as_str(),
                        "current_schema" | "current_role" | "current_database"
                    ) =>
            {
                *expr = call(&fold(ident), Vec::new());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) if function.name.0.len() == 2 => strip_catalog(function),
            Expr::BinaryOp { op, .. } => {
                if let Some(plain) = plain_operator(op) {
                    *op = plain;
                }
            }
            Expr::Value(value) => {
                let (text, length) = match &value.value {
                    Value::SingleQuotedByteStringLiteral(bits) => (bits.clone(), bits.len()),
                    Value::HexStringLiteral(digits) => (format!("x{digits}"), 4 * digits.len()),
                    _ => return ControlFlow::Continue(()),
                };
                let text = Expr::value(Value::SingleQuotedString(text));
                *expr = cast(text, ast::DataType::Bit(u64::try_from(length).ok()));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `pg_catalog.f` is `f`.
fn strip_catalog(function: &mut Function) {
    let qualified = function.name.0.first().and_then(ast::ObjectNamePart::as_ident);
    if qualified.is_some_and(|schema| fold(schema) == "pg_catalog") {
        function.name = ObjectName::from(vec![Ident::new(last_part(&function.name))]);
    }
}

/// `OPERATOR(pg_catalog.~)` is `~`.
fn plain_operator(operator: &BinaryOperator) -> Option<BinaryOperator> {
    let BinaryOperator::PGCustomBinaryOperator(parts) = operator else { return None };
    Some(match parts.last()?.as_str() {
        "~" => BinaryOperator::PGRegexMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        ">" => BinaryOperator::Gt,
        _ => return None,
    })
}

/// A call of a function.
pub(crate) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// `'[1,2]'::vector` is a `vector(2)`: the type is known from the text, or from the cast below.
fn give_dimension(expr: &mut Expr) {
    let Expr::Cast { expr: inner, data_type: ast::DataType::Custom(name, modifiers), .. } = expr
    else {
        return;
    };
    let kind = VectorKind::from_name(&last_part(name));
    // The type of a sparse vector does not say its dimension.
    let kind = kind.filter(|kind| modifiers.is_empty() && *kind != VectorKind::Sparsevec);
    let Some(kind) = kind else { return };
    give_dimension(inner);
    match &**inner {
        Expr::Value(value) => {
            if let Value::SingleQuotedString(text) = &value.value
                && let Ok(vector) = udfs::parse_vector(kind, text)
            {
                modifiers.push(vector.row().len().to_string());
            }
        }
        Expr::Cast { data_type: ast::DataType::Custom(name, known), .. }
            if VectorKind::from_name(&last_part(name)).is_some() =>
        {
            modifiers.clone_from(known);
        }
        _ => {}
    }
}

/// `(a, b) = (c, d)` is `a = c AND b = d`, and `<>` its opposite.
fn compare_rows(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    let (Expr::Tuple(left), Expr::Tuple(right)) = (left, right) else { return None };
    if left.len() != right.len() {
        return None;
    }
    let join = match op {
        BinaryOperator::Eq => BinaryOperator::And,
        _ => BinaryOperator::Or,
    };
    let pairs = left.iter().zip(right).map(|(left, right)| binary(left.clone(), op, right.clone()));
    let joined = pairs.reduce(|all, pair| binary(all, &join, pair))?;
    Some(Expr::Nested(Box::new(joined)))
}

/// `left operator right`
pub(super) fn binary(left: Expr, op: &BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) }
}

/// `(a, b) IN ((1, 2), (3, 4))`
fn row_in_list(row: &Expr, list: &[Expr], negated: bool) -> Option<Expr> {
    let rows: Option<Vec<Expr>> =
        list.iter().map(|item| compare_rows(row, &BinaryOperator::Eq, item)).collect();
    let any = rows?.into_iter().reduce(|any, row| binary(any, &BinaryOperator::Or, row))?;
    let any = Expr::Nested(Box::new(any));
    Some(match negated {
        true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(any) },
        false => any,
    })
}

/// A name cast to `regclass` and the like is an oid; an oid cast to it is a name.
fn rewrite_reg_cast(expr: &mut Expr) {
    let Expr::Cast { expr: inner, data_type, .. } = expr else { return };
    // An id by way of a name, whatever it is of.
    if let ast::DataType::Custom(name, _) = data_type
        && last_part(name) == "oid"
        && let Expr::Cast { expr: named, data_type: ast::DataType::Regclass, .. } = &**inner
    {
        *expr = call("regclass_in", vec![Expr::clone(named)]);
        return;
    }
    let kind = match data_type {
        ast::DataType::Regclass => "regclass".to_owned(),
        ast::DataType::Custom(name, _) => last_part(name),
        _ => return,
    };
    if !matches!(kind.as_str(), "regclass" | "regtype" | "regnamespace") {
        return;
    }
    let text = matches!(&**inner, Expr::Value(value)
        if matches!(value.value, Value::SingleQuotedString(_) | Value::Placeholder(_)));
    let direction = if text { "in" } else { "out" };
    *expr = call(&format!("{kind}_{direction}"), vec![Expr::clone(inner)]);
}

/// A parameter of LIMIT or OFFSET is a `bigint`; nothing else tells its type.
fn count_parameter(expr: &mut Expr) {
    if matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_))) {
        *expr = cast(expr.clone(), ast::DataType::BigInt(None));
    }
}

/// Puts PostgreSQL's forms into ones the planner knows.
pub(crate) fn postgresql(statement: &mut impl VisitMut) {
    let _ = statement.visit(&mut Rewriter);
}

/// The same of an expression.
pub(crate) fn postgresql_expression(expr: &mut Expr) {
    let _ = expr.visit(&mut Rewriter);
}

/// Reads the text of an interval as PostgreSQL does. What cannot be read is left to be refused by the
/// planner.
fn rewrite_interval(interval: &mut ast::Interval) {
    let Expr::Value(value) = &mut *interval.value else { return };
    let Value::SingleQuotedString(text) = &mut value.value else { return };
    // `YEAR TO MONTH` is how the text is written, and says nothing of a number.
    let unit = match interval.last_field {
        Some(_) => None,
        None => interval.leading_field.as_ref().map(ToString::to_string),
    };
    if let Ok(read) = literal_text(text, unit.as_deref()) {
        *text = read;
        interval.leading_field = None;
        interval.last_field = None;
    }
}

/// A part of an array from its begin, or to its end.
fn give_bounds(access: &mut ast::AccessExpr) {
    let number = |number: i32| Expr::value(Value::Number(number.to_string(), false));
    if let ast::AccessExpr::Subscript(ast::Subscript::Slice {
        lower_bound,
        upper_bound,
        stride: None,
    }) = access
    {
        lower_bound.get_or_insert_with(|| number(1));
        upper_bound.get_or_insert_with(|| number(i32::MAX));
    }
}
