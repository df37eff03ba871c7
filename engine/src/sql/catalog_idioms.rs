//! What tools ask PostgreSQL's catalog for in ways that the planner does not know.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, TableFactor, Value,
    visit_expressions,
};

use super::rewrite::{EMPTY_CATALOGS, binary, call};
use super::types::{cast, fold, last_part};
use crate::array_text::array_items;
use crate::provider::pg_catalog::array_functions::EXPANDED;

/// Puts an expression over arrays and types of the catalog into a form that the planner knows.
pub(super) fn of_catalog(expr: &mut Expr) {
    match expr {
        Expr::AnyOp { left, compare_op, right, .. } if is_written_out(right) => {
            *expr = each(left, compare_op, right, &BinaryOperator::Or);
        }
        Expr::AllOp { left, compare_op, right } if is_written_out(right) => {
            *expr = each(left, compare_op, right, &BinaryOperator::And);
        }
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
            if let Some(list) = listed(right) {
                *expr = Expr::InList { expr: left.clone(), list, negated: false };
            }
        }
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
            if let Some(list) = listed(right) {
                *expr = Expr::InList { expr: left.clone(), list, negated: true };
            }
        }
        // These count from zero.
        Expr::CompoundFieldAccess { root, access_chain }
            if counts_from_zero(root) || access_chain.iter().any(names_counted) =>
        {
            for access in access_chain {
                if let ast::AccessExpr::Subscript(ast::Subscript::Index { index }) = access {
                    let one = Expr::value(Value::Number("1".to_owned(), false));
                    *index = binary(index.clone(), &BinaryOperator::Plus, one);
                }
            }
        }
        Expr::Function(function) if last_part(&function.name) == "_pg_expandarray" => {
            function.name = ObjectName::from(vec![Ident::new(EXPANDED)]);
            *expr = call("unnest", vec![expr.clone()]);
        }
        // A field of a composite: of what is expanded there are two.
        Expr::CompoundFieldAccess { root, access_chain }
            if field_of_place(access_chain).is_some() =>
        {
            if let Some(field) = field_of_place(access_chain) {
                let field = Expr::value(Value::SingleQuotedString(field));
                *expr = call("get_field", vec![Expr::clone(root), field]);
            }
        }
        // The planner knows one character to escape with.
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            escape_by_backslash(pattern, escape_char);
        }
        Expr::Function(function) if last_part(&function.name).starts_with("array") => {
            of_arrays(expr);
        }
        Expr::Function(function) if last_part(&function.name) == "generate_series" => {
            if let Some(series) = series(function) {
                *expr = series;
            }
        }
        Expr::Function(function) if last_part(&function.name) == "generate_subscripts" => {
            if let Some(subscripts) = subscripts(function) {
                *expr = subscripts;
            }
        }
        // Functions of types are kept by name.
        Expr::BinaryOp { left, op: BinaryOperator::NotEq, right }
            if is_type_function(left)
                && matches!(&**right, Expr::Value(value)
                if value.value == Value::Number("0".to_owned(), false)) =>
        {
            *expr = Expr::IsNotNull(left.clone());
        }
        _ => {}
    }
}

/// Writes a pattern with the one character to escape with that the planner knows.
fn escape_by_backslash(pattern: &mut Box<Expr>, escape_char: &mut Option<ast::ValueWithSpan>) {
    if let Some(Value::SingleQuotedString(escape)) = escape_char.as_ref().map(|e| &e.value)
        && escape.chars().count() == 1
        && escape != "\\"
    {
        let text = |text: &str| Expr::value(Value::SingleQuotedString(text.to_owned()));
        let replaced =
            |from: Expr, what: &str, by: &str| call("replace", vec![from, text(what), text(by)]);
        let plain = replaced(Expr::clone(pattern), "\\", "\\\\");
        let doubled = replaced(plain, &format!("{escape}{escape}"), "\u{1}");
        let escaped = replaced(doubled, escape, "\\");
        **pattern = replaced(escaped, "\u{1}", escape);
        *escape_char = None;
    }
}

fn is_empty_catalog(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, args: None, .. } => {
            let schema_ok = match name.0.as_slice() {
                [_] => true,
                [schema, _] => schema.as_ident().is_some_and(|schema| fold(schema) == "pg_catalog"),
                _ => false,
            };
            schema_ok && EMPTY_CATALOGS.contains(&last_part(name).as_str())
        }
        _ => false,
    }
}

/// Whether a SELECT joins, inside, a table that has no rows, so that it has none itself.
pub(super) fn is_empty(select: &Select) -> bool {
    let inner = |operator: &JoinOperator| {
        matches!(
            operator,
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_)
        )
    };
    let aggregates = !matches!(&select.group_by, ast::GroupByExpr::Expressions(e, _) if e.is_empty())
        || select.projection.iter().any(has_aggregate);
    !aggregates
        && select.from.iter().any(|from| {
            is_empty_catalog(&from.relation)
                || from
                    .joins
                    .iter()
                    .any(|join| inner(&join.join_operator) && is_empty_catalog(&join.relation))
        })
}

/// Whether a select item calls an aggregate at its top; catalog queries nest none deeper.
fn has_aggregate(item: &SelectItem) -> bool {
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
        return false;
    };
    let Expr::Function(function) = expr else { return false };
    matches!(
        last_part(&function.name).as_str(),
        "count"
            | "sum"
            | "min"
            | "max"
            | "avg"
            | "array_agg"
            | "string_agg"
            | "bool_or"
            | "bool_and"
    )
}

pub(super) fn query_is_empty(query: &Query) -> bool {
    matches!(&*query.body, SetExpr::Select(select) if is_empty(select))
}

/// `CASE WHEN condition THEN result END`
pub(super) fn when(condition: Expr, result: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![ast::CaseWhen { condition, result }],
        else_result: None,
    }
}

/// A subquery of catalog tables that depends on the row: what it looks up is there once, which the
/// planner has to see. Conditions on nothing but the row are given back, to stand outside of it.
pub(super) fn one_row(query: &mut Query) -> Option<Expr> {
    let SetExpr::Select(select) = &mut *query.body else { return None };
    let catalogs = |from: &ast::TableWithJoins| {
        let of = |factor: &TableFactor| {
            matches!(factor, TableFactor::Table { name, args: None, .. }
                if last_part(name).starts_with("pg_"))
        };
        of(&from.relation) && from.joins.iter().all(|join| of(&join.relation))
    };
    let grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(e, _) if e.is_empty());
    if select.from.is_empty()
        || grouped
        || query.limit_clause.is_some()
        || !select.from.iter().all(catalogs)
        || select.projection.iter().any(has_aggregate)
    {
        return None;
    }
    if let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] =
        select.projection.as_mut_slice()
    {
        let inner = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = call("max", vec![inner]);
    }
    let own = tables_of(select);
    let is_outer = |expr: &Expr| is_of_others(expr, &own);
    let (mut outer, mut inner) = (Vec::new(), Vec::new());
    conjuncts(select.selection.take(), &mut |part| {
        if is_outer(&part) { outer.push(part) } else { inner.push(part) }
    });
    let all =
        |parts: Vec<Expr>| parts.into_iter().reduce(|a, b| binary(a, &BinaryOperator::And, b));
    select.selection = all(inner);
    all(outer)
}

fn tables(select: &Select) -> impl Iterator<Item = &TableFactor> {
    select.from.iter().flat_map(|from| {
        let joined = from.joins.iter().map(|join| &join.relation);
        std::iter::once(&from.relation).chain(joined)
    })
}

/// The names by which a SELECT knows its tables.
fn tables_of(select: &Select) -> Vec<String> {
    let name = |factor: &TableFactor| match factor {
        TableFactor::Table { alias: Some(alias), .. } => Some(fold(&alias.name)),
        TableFactor::Table { name, .. } => Some(last_part(name)),
        _ => None,
    };
    tables(select).filter_map(name).collect()
}

/// `(SELECT f(inner, outer) FROM ...)` as `f((SELECT inner FROM ...), outer)` where there is a row.
pub(super) fn call_of_subqueries(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = &*query.body else { return None };
    let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] =
        select.projection.as_slice()
    else {
        return None;
    };
    let Expr::Function(function) = expr else { return None };
    let own = tables_of(select);
    let FunctionArguments::List(list) = &function.args else { return None };
    let outer = |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) if is_of_others(arg, &own));
    let of_catalog = tables(select).all(
        |table| matches!(table, TableFactor::Table { name, .. } if last_part(name).starts_with("pg_")),
    );
    if !of_catalog || !list.args.iter().any(outer) {
        return None;
    }
    let asked = |expr: Expr| {
        let mut query = query.clone();
        if let SetExpr::Select(select) = &mut *query.body {
            select.projection = vec![SelectItem::UnnamedExpr(expr)];
        }
        Expr::Subquery(Box::new(query))
    };
    let mut function = function.clone();
    if let FunctionArguments::List(list) = &mut function.args {
        for arg in &mut list.args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) = arg
                && !is_of_others(arg, &own)
                && !matches!(arg, Expr::Value(_) | Expr::Cast { .. })
            {
                *arg = asked(arg.clone());
            }
        }
    }
    let row = asked(Expr::value(Value::Number("1".to_owned(), false)));
    Some(when(Expr::IsNotNull(Box::new(row)), Expr::Function(function)))
}

/// Whether an expression has columns, all of other tables than `own`.
fn is_of_others(expr: &Expr, own: &[String]) -> bool {
    let (mut columns, mut others) = (0, 0);
    let _ = visit_expressions(expr, |expr| {
        match expr {
            Expr::Identifier(_) => columns += 1,
            Expr::CompoundIdentifier(parts) => {
                columns += 1;
                let table = parts.iter().rev().nth(1);
                others += usize::from(table.is_some_and(|of| !own.contains(&fold(of))));
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    columns > 0 && columns == others
}

/// The parts of a chain of ANDs.
fn conjuncts(expr: Option<Expr>, take: &mut impl FnMut(Expr)) {
    match expr {
        Some(Expr::BinaryOp { left, op: BinaryOperator::And, right }) => {
            conjuncts(Some(*left), take);
            conjuncts(Some(*right), take);
        }
        Some(other) => take(other),
        None => {}
    }
}

/// The items of an array that is a constant, for a list.
/// Whether an expression is `ARRAY[a, b]`.
fn is_written_out(array: &Expr) -> bool {
    matches!(array, Expr::Array(array) if !array.elem.is_empty()
        && !array.elem.iter().any(|item| matches!(item, Expr::Array(_))))
}

/// `left op a OR left op b` of `left op ANY (ARRAY[a, b])`, and the like with AND: the planner passes
/// over NULLs in an array.
fn each(left: &Expr, operator: &BinaryOperator, array: &Expr, by: &BinaryOperator) -> Expr {
    let items = match array {
        Expr::Array(array) => array.elem.as_slice(),
        _ => &[],
    };
    let compared = |item: &Expr| {
        let nested = |expr: &Expr| Expr::Nested(Box::new(expr.clone()));
        binary(nested(left), operator, nested(item))
    };
    let all = items.iter().map(compared).reduce(|one, other| binary(one, by, other));
    Expr::Nested(Box::new(all.unwrap_or_else(|| Expr::value(Value::Null))))
}

fn listed(array: &Expr) -> Option<Vec<Expr>> {
    let Expr::Value(value) = array else { return None };
    let Value::SingleQuotedString(text) = &value.value else { return None };
    let items = array_items(text).ok()?;
    if items.is_empty() {
        return None;
    }
    let item = |item: Option<String>| match item {
        Some(text) => Expr::value(Value::SingleQuotedString(text)),
        None => Expr::value(Value::Null),
    };
    Some(items.into_iter().map(item).collect())
}

/// Whether an expression is a column of `pg_index` whose items PostgreSQL counts from zero.
fn counts_from_zero(expr: &Expr) -> bool {
    let name = match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    };
    name.is_some_and(|name| matches!(fold(name).as_str(), "indkey" | "indoption" | "indclass"))
}

/// `.indkey`
fn names_counted(access: &ast::AccessExpr) -> bool {
    matches!(access, ast::AccessExpr::Dot(name) if counts_from_zero(name))
}

/// `generate_series(first, last [, step])` of integers in a select list.
fn series(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let of = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) => Some(arg.clone()),
        _ => None,
    };
    let args: Vec<Expr> = list.args.iter().map(of).collect::<Option<_>>()?;
    let number = |number: &str| Expr::value(Value::Number(number.to_owned(), false));
    let wide = |expr: Expr| cast(expr, ast::DataType::BigInt(None));
    let (first, last, step) = match args.as_slice() {
        [first, last] => (first.clone(), last.clone(), number("1")),
        [first, last, step] => (first.clone(), last.clone(), step.clone()),
        _ => return None,
    };
    // The last one is among them, whichever way they go.
    let beyond =
        binary(wide(last), &BinaryOperator::Plus, call("signum", vec![wide(step.clone())]));
    let range = call("range", vec![wide(first), wide(beyond), wide(step)]);
    Some(call("unnest", vec![range]))
}

/// Functions of arrays that the planner knows by another name.
fn of_arrays(expr: &mut Expr) {
    let Expr::Function(function) = expr else { return };
    let length = |function: &mut Function| {
        function.name = ObjectName::from(vec![Ident::new("array_length")]);
    };
    match last_part(&function.name).as_str() {
        "array" => {
            if let Some(collected) = collected(function) {
                *expr = collected;
            }
        }
        // They begin at one.
        "array_lower" => {
            length(function);
            let known = Expr::IsNotNull(Box::new(expr.clone()));
            *expr = when(known, Expr::value(Value::Number("1".to_owned(), false)));
        }
        "array_upper" => {
            length(function);
            *expr = cast(expr.clone(), ast::DataType::BigInt(None));
        }
        _ => {}
    }
}

/// `ARRAY(SELECT ...)` as a subquery that collects the rows in their order; `None` where that cannot be
/// said.
fn collected(function: &Function) -> Option<Expr> {
    let FunctionArguments::Subquery(query) = &function.args else { return None };
    let mut query = query.clone();
    let order = match query.order_by.take() {
        None => Vec::new(),
        Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(order), .. }) => order,
        Some(_) => return None,
    };
    let plain = query.limit_clause.is_none() && query.fetch.is_none() && query.with.is_none();
    let SetExpr::Select(select) = &mut *query.body else { return None };
    let groups =
        !matches!(&select.group_by, ast::GroupByExpr::Expressions(keys, _) if keys.is_empty());
    if !plain || groups || select.distinct.is_some() || select.having.is_some() {
        return None;
    }
    let [item] = select.projection.as_mut_slice() else { return None };
    let (SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }) = item
    else {
        return None;
    };
    let place = Expr::value(Value::Number("1".to_owned(), false));
    let by = |mut key: ast::OrderByExpr| {
        if key.expr == place {
            key.expr = value.clone();
        }
        key
    };
    let order: Vec<ast::OrderByExpr> = order.into_iter().map(by).collect();
    let Expr::Function(mut aggregate) = call("array_agg", vec![value.clone()]) else { return None };
    if let FunctionArguments::List(list) = &mut aggregate.args
        && !order.is_empty()
    {
        list.clauses.push(ast::FunctionArgumentClause::OrderBy(order));
    }
    *item = SelectItem::UnnamedExpr(Expr::Function(aggregate));
    // Of no rows, an empty array.
    let empty = call("make_array", Vec::new());
    Some(call("coalesce", vec![Expr::Subquery(query), empty]))
}

/// `generate_subscripts(array, 1)`
fn subscripts(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(array)), ..] = list.args.as_slice() else {
        return None;
    };
    let number = |number: &str| Expr::value(Value::Number(number.to_owned(), false));
    let first = if counts_from_zero(array) { "0" } else { "1" };
    let length = call("array_length", vec![array.clone()]);
    let length = cast(length, ast::DataType::BigInt(None));
    let end = binary(length, &BinaryOperator::Plus, number(first));
    Some(call("unnest", vec![call("range", vec![number(first), end])]))
}

/// The field, when it is one of `information_schema._pg_expandarray`.
fn field_of_place(chain: &[ast::AccessExpr]) -> Option<String> {
    match chain {
        [ast::AccessExpr::Dot(Expr::Identifier(field))] => {
            Some(fold(field)).filter(|field| matches!(field.as_str(), "x" | "n"))
        }
        _ => None,
    }
}

/// Whether an expression is a column of `pg_type` that holds a function.
fn is_type_function(expr: &Expr) -> bool {
    let name = match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    };
    name.is_some_and(|name| {
        matches!(fold(name).as_str(), "typinput" | "typoutput" | "typreceive" | "typsend")
    })
}

/// Keeps the number and names of columns, and no rows.
pub(super) fn make_empty(select: &mut Select) {
    for (at, item) in select.projection.iter_mut().enumerate() {
        let alias = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => name.clone(),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) if !parts.is_empty() => {
                parts[parts.len() - 1].clone()
            }
            _ => Ident::new(format!("column{}", at + 1)),
        };
        *item = SelectItem::ExprWithAlias { expr: Expr::value(Value::Null), alias };
    }
    select.from.clear();
    select.selection = Some(Expr::value(Value::Boolean(false)));
}
