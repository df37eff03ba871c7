//! Names of a result's columns: unique for the planner, PostgreSQL's for the user.

use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Select, SelectItem,
    SetExpr, Value,
};

use super::types::{fold, last_part};

/// Separates the name a user sees from what makes it unique.
const UNIQUE: char = '\u{1}';

/// The name that a user sees of one that was made unique; `None` of others.
pub(crate) fn shown_name(name: &str) -> Option<&str> {
    name.split_once(UNIQUE).map(|(shown, _)| shown)
}

/// `SELECT a, a`: the planner wants every column to have a name of its own.
pub(crate) fn name_repeated(select: &mut Select) {
    let mut seen = std::collections::HashSet::new();
    // What a wildcard stands for is known later.
    let wild = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let given = select.projection.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
        SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))) => {
            Some(name_of(expr))
        }
        _ => None,
    });
    let mut taken: std::collections::HashSet<String> = given.collect();
    for (at, item) in select.projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let (name, again) = (name_of(expr), !seen.insert(named_alike(expr)));
        // The planner would name a cast like the column that is cast, and take one for the other.
        let is_cast = matches!(expr, Expr::Cast { .. });
        let alias = if again || wild || is_cast && !taken.insert(name.clone()) {
            format!("{name}{UNIQUE}{at}")
        } else if is_cast {
            name
        } else {
            continue;
        };
        let alias = Ident::with_quote('"', alias);
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
    }
}

/// What the planner names an expression by: casts and tables do not count, nor what a subquery asks.
fn named_alike(expr: &Expr) -> Expr {
    match expr {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => named_alike(expr),
        Expr::CompoundIdentifier(parts) => match parts.last() {
            Some(last) => Expr::Identifier(Ident::new(fold(last))),
            None => expr.clone(),
        },
        Expr::Identifier(ident) => Expr::Identifier(Ident::new(fold(ident))),
        // All of them have one name.
        Expr::Subquery(_) => Expr::value(Value::Null),
        Expr::Exists { .. } => Expr::value(Value::Boolean(true)),
        other => other.clone(),
    }
}

/// The names PostgreSQL gives to the columns of a query's result.
pub(crate) fn output_names(query: &Query, columns: usize) -> Option<Vec<Option<String>>> {
    let mut body = &*query.body;
    let select = loop {
        match body {
            SetExpr::Select(select) => break select,
            SetExpr::Query(query) => body = &query.body,
            SetExpr::SetOperation { left, .. } => body = left,
            _ => return None,
        }
    };
    let names: Vec<Option<Option<String>>> = select
        .projection
        .iter()
        .map(|item| match item {
            SelectItem::UnnamedExpr(expr) => Some(Some(name_of(expr))),
            SelectItem::ExprWithAlias { alias, .. } => {
                let name = fold(alias);
                Some(Some(shown_name(&name).unwrap_or(&name).to_owned()))
            }
            _ => None,
        })
        .collect();
    let wildcard = names.iter().position(Option::is_none);
    let Some(wildcard) = wildcard else {
        return (names.len() == columns).then(|| names.into_iter().flatten().collect());
    };
    // A wildcard keeps the names it finds; what stands before and after it is known.
    let after = names.iter().rev().position(Option::is_none).unwrap_or(0);
    let before = names[..wildcard].iter().flatten().cloned();
    let middle = columns.checked_sub(wildcard + after)?;
    let tail = names[names.len() - after..].iter().flatten().cloned();
    Some(before.chain(std::iter::repeat_n(None, middle)).chain(tail).collect())
}

/// PostgreSQL's types of columns that the planner knows as text; `None` where there are none.
pub(crate) fn output_types(query: &Query) -> Option<Vec<Option<&'static str>>> {
    let SetExpr::Select(select) = &*query.body else { return None };
    let json = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => json_type(expr),
        _ => None,
    };
    let types: Vec<Option<&'static str>> = select.projection.iter().map(json).collect();
    types.iter().any(Option::is_some).then_some(types)
}

fn json_type(expr: &Expr) -> Option<&'static str> {
    match expr {
        Expr::Function(function) => match last_part(&function.name).as_str() {
            "json_build_object" => Some("json"),
            "jsonb_build_object" => Some("jsonb"),
            "max" => match &function.args {
                FunctionArguments::List(list) => match list.args.as_slice() {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))] => json_type(arg),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        },
        Expr::Case { conditions, .. } => conditions.iter().find_map(|when| json_type(&when.result)),
        Expr::Nested(inner) => json_type(inner),
        Expr::Subquery(query) => output_types(query)?.into_iter().next()?,
        _ => None,
    }
}

/// PostgreSQL's `FigureColname`: the last name in sight.
fn name_of(expr: &Expr) -> String {
    figured(expr).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// How sure a name is: that of a cast or a CASE gives way to one around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sure {
    Weak,
    Strong,
}

fn figured(expr: &Expr) -> Option<(String, Sure)> {
    let strong = |name: &str| Some((name.to_owned(), Sure::Strong));
    match expr {
        Expr::Identifier(ident) => strong(&fold(ident)),
        Expr::CompoundIdentifier(parts) => strong(&parts.last().map_or_else(String::new, fold)),
        Expr::CompoundFieldAccess { root, access_chain }
            if matches!(access_chain.last(), Some(ast::AccessExpr::Subscript(_))) =>
        {
            let field = access_chain.iter().rev().find_map(|access| match access {
                ast::AccessExpr::Dot(field) => Some(field),
                ast::AccessExpr::Subscript(_) => None,
            });
            figured(field.unwrap_or(root))
        }
        Expr::Function(function) => strong(&called(function)),
        Expr::Cast { expr, data_type, .. } => match figured(expr) {
            Some((name, Sure::Strong)) => strong(&name),
            _ => Some((type_name(data_type), Sure::Weak)),
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => figured(inner),
        Expr::Case { else_result, .. } => {
            match else_result.as_ref().and_then(|result| figured(result)) {
                Some((name, Sure::Strong)) => strong(&name),
                _ => Some(("case".to_owned(), Sure::Weak)),
            }
        }
        Expr::Exists { .. } => strong("exists"),
        Expr::Array(_) => strong("array"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Position { .. } => strong("position"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            Some(ast::TrimWhereField::Both) | None => "btrim",
        }),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::Subquery(query) => strong(&output_names(query, 1)?.into_iter().next().flatten()?),
        _ => None,
    }
}

/// A function as it was written: `unnest(range(...))` stands for others.
fn called(function: &ast::Function) -> String {
    let name = last_part(&function.name);
    let FunctionArguments::List(list) = &function.args else { return name };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(inner)))]
            if name == "unnest" && last_part(&inner.name) == "range" =>
        {
            match &inner.args {
                FunctionArguments::List(list) if list.args.len() == 3 => "generate_series",
                _ => "generate_subscripts",
            }
            .to_owned()
        }
        _ => name,
    }
}

/// PostgreSQL's own name of a type.
fn type_name(data_type: &ast::DataType) -> String {
    if let ast::DataType::Custom(name, _) = data_type {
        return last_part(name);
    }
    match data_type.to_string().to_lowercase().as_str() {
        "integer" | "int" => "int4".to_owned(),
        "bigint" => "int8".to_owned(),
        "smallint" => "int2".to_owned(),
        "boolean" => "bool".to_owned(),
        "double precision" => "float8".to_owned(),
        "real" => "float4".to_owned(),
        name => name.to_owned(),
    }
}
