//! Options of sequences in the order that the parser below knows; PostgreSQL takes any.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The options in the parser's order, by their first word.
const ORDER: [Keyword; 6] = [
    Keyword::INCREMENT,
    Keyword::MINVALUE,
    Keyword::MAXVALUE,
    Keyword::START,
    Keyword::CACHE,
    Keyword::CYCLE,
];

fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

/// Puts the options of `CREATE SEQUENCE`, and those in brackets after `AS IDENTITY`, in order.
pub(super) fn in_order(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let words: Vec<usize> =
        (0..tokens.len()).filter(|at| !matches!(tokens[*at].token, Token::Whitespace(_))).collect();
    let word = |at: usize| words.get(at).and_then(|at| keyword(&tokens[*at]));
    let mut parts: Vec<std::ops::Range<usize>> = Vec::new();
    if word(0) == Some(Keyword::CREATE) && word(1) == Some(Keyword::SEQUENCE) {
        parts.push(0..tokens.len());
    }
    for at in 0..words.len() {
        if word(at) == Some(Keyword::IDENTITY)
            && let Some(open) = words.get(at + 1)
            && tokens[*open].token == Token::LParen
        {
            let close = tokens[*open..].iter().position(|token| token.token == Token::RParen);
            parts.push(*open..close.map_or(tokens.len(), |close| open + close));
        }
    }
    for part in parts {
        sort_options(&mut tokens[part]);
    }
    tokens
}

fn sort_options(tokens: &mut [TokenWithSpan]) {
    // An option begins at its word, or at the NO before it.
    let mut starts: Vec<(usize, usize)> = Vec::new();
    let mut no = None;
    let mut end = tokens.len();
    for (at, token) in tokens.iter().enumerate() {
        if matches!(token.token, Token::Whitespace(_)) {
            continue;
        }
        let keyword = keyword(token);
        if let Some(place) = ORDER.iter().position(|known| Some(*known) == keyword) {
            starts.push((no.unwrap_or(at), place));
        } else if keyword == Some(Keyword::OWNED) && !starts.is_empty() {
            end = at;
            break;
        }
        no = (keyword == Some(Keyword::NO)).then_some(at);
    }
    let Some((first, _)) = starts.first().copied() else { return };
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([end]);
    let mut options: Vec<(usize, Vec<TokenWithSpan>)> = starts
        .iter()
        .zip(ends)
        .map(|((start, place), end)| (*place, tokens[*start..end].to_vec()))
        .collect();
    options.sort_by_key(|(place, _)| *place);
    let sorted = options.into_iter().flat_map(|(_, tokens)| tokens);
    for (place, token) in tokens[first..end].iter_mut().zip(sorted) {
        *place = token;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    #[test]
    fn options_are_sorted_and_nothing_else_is() {
        let cases = [
            (
                "CREATE SEQUENCE s START WITH 3 NO CYCLE NO MINVALUE INCREMENT BY 2 OWNED BY t.c",
                "CREATE SEQUENCE s INCREMENT BY 2 NO MINVALUE START WITH 3 NO CYCLE OWNED BY t.c",
            ),
            (
                "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 2), b int)",
                "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY (INCREMENT 2 START 5), b int)",
            ),
            ("SELECT start, increment FROM cycle", "SELECT start, increment FROM cycle"),
        ];
        let words = |tokens: &[TokenWithSpan]| -> Vec<String> {
            let plain = tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_)));
            plain.map(|t| t.token.to_string()).collect()
        };
        for (given, expected) in cases {
            let read = |sql: &str| {
                Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().unwrap()
            };
            assert_eq!(words(&in_order(read(given))), words(&read(expected)), "{given}");
        }
    }
}
