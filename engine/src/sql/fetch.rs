//! `FETCH` and `MOVE`: the parser below knows only some of PostgreSQL's spellings.

use crate::error::{EngineError, Result};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

/// Directions other than forward.
const BACKWARD: [&str; 6] = ["prior", "first", "last", "absolute", "relative", "backward"];

/// Rows that a cursor is to go forward by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Forward {
    Rows(usize),
    All,
    /// Which none can.
    Backward,
}

/// `FETCH` or `MOVE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub(crate) cursor: String,
    pub(crate) forward: Forward,
    /// Whether the rows are passed over.
    pub(crate) moves: bool,
}

/// Reads `FETCH [NEXT | n | ALL | FORWARD [n | ALL]] [FROM | IN] cursor`, without white space;
/// `None` when it begins otherwise.
pub(super) fn fetch(words: &[&Token]) -> Result<Option<Fetch>> {
    let [Token::Word(first), rest @ ..] = words else { return Ok(None) };
    let moves = first.quote_style.is_none() && first.value.eq_ignore_ascii_case("move");
    if first.keyword != Keyword::FETCH && !moves {
        return Ok(None);
    }
    let is = |token: &Token, name: &str| {
        matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(name))
    };
    let (forward, rest) = match rest {
        // A cursor may have the name of a direction.
        [_] => (Forward::Rows(1), rest),
        [next, rest @ ..] if is(next, "next") => (Forward::Rows(1), rest),
        [all, rest @ ..] if is(all, "all") => (Forward::All, rest),
        [forward, rest @ ..] if is(forward, "forward") => match rest {
            [all, rest @ ..] if is(all, "all") => (Forward::All, rest),
            [Token::Number(number, _), rest @ ..] => (rows(number)?, rest),
            _ => (Forward::Rows(1), rest),
        },
        [Token::Number(number, _), rest @ ..] => (rows(number)?, rest),
        [Token::Minus, Token::Number(..), rest @ ..] => (Forward::Backward, rest),
        [direction, rest @ ..] if BACKWARD.iter().any(|name| is(direction, name)) => {
            let rest = match rest {
                [Token::Minus, Token::Number(..), rest @ ..] | [Token::Number(..), rest @ ..] => {
                    rest
                }
                [all, rest @ ..] if is(all, "all") => rest,
                rest => rest,
            };
            (Forward::Backward, rest)
        }
        _ => (Forward::Rows(1), rest),
    };
    let rest = match rest {
        [from, rest @ ..] if is(from, "from") || is(from, "in") => rest,
        rest => rest,
    };
    match rest {
        [Token::Word(name)] => {
            let cursor = match name.quote_style {
                Some(_) => name.value.clone(),
                None => name.value.to_lowercase(),
            };
            Ok(Some(Fetch { cursor, forward, moves }))
        }
        [] => Err(EngineError::syntax("syntax error at end of input")),
        [token, ..] => Err(EngineError::syntax(format!("syntax error at or near \"{token}\""))),
    }
}

fn rows(number: &str) -> Result<Forward> {
    match number.parse() {
        Ok(0) => Ok(Forward::Backward),
        Ok(rows) => Ok(Forward::Rows(rows)),
        Err(_) => Err(EngineError::syntax(format!("syntax error at or near \"{number}\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;
    use types::Coded as _;

    #[test]
    fn every_spelling_is_read_or_refused() {
        let dialect = datafusion::sql::sqlparser::dialect::PostgreSqlDialect {};
        let read = |sql: &str| {
            let tokens = Tokenizer::new(&dialect, sql).tokenize().unwrap();
            let words: Vec<&Token> =
                tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
            fetch(&words)
        };
        let rows = Forward::Rows;
        for (sql, forward, moves) in [
            ("FETCH c", rows(1), false),
            ("FETCH FROM c", rows(1), false),
            ("fetch next from C", rows(1), false),
            ("FETCH 7 IN c", rows(7), false),
            ("FETCH 7 c", rows(7), false),
            ("FETCH ALL FROM c", Forward::All, false),
            ("FETCH FORWARD c", rows(1), false),
            ("FETCH FORWARD 3 FROM c", rows(3), false),
            ("MOVE FORWARD ALL IN c", Forward::All, true),
            ("MOVE 2 FROM c", rows(2), true),
        ] {
            let expected = Fetch { cursor: "c".to_owned(), forward, moves };
            assert_eq!(read(sql).unwrap(), Some(expected), "{sql}");
        }
        assert_eq!(read("FETCH \"All\"").unwrap().unwrap().cursor, "All");
        assert_eq!(read("SELECT 1").unwrap(), None);
        for sql in [
            "FETCH PRIOR FROM c",
            "FETCH BACKWARD 2 FROM c",
            "FETCH BACKWARD ALL c",
            "FETCH -1 FROM c",
            "FETCH 0 FROM c",
            "FETCH ABSOLUTE -1 IN c",
        ] {
            assert_eq!(read(sql).unwrap().unwrap().forward, Forward::Backward, "{sql}");
        }
        for (sql, state) in [
            ("FETCH 1.5 FROM c", "42601"),
            ("FETCH", "42601"),
            ("FETCH FROM c d", "42601"),
            ("FETCH 1 FROM 2", "42601"),
        ] {
            assert_eq!(read(sql).unwrap_err().sql_state().code(), state, "{sql}");
        }
    }
}
