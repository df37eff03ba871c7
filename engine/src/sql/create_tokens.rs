//! `CREATE TABLE t (a, b) AS query`: the parser below wants types behind the names.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// The type that stands behind a name of such a list, which no statement can name without quotes.
pub(crate) const UNTYPED: &str = "azimuth untyped";

fn is_keyword(token: &TokenWithSpan, keyword: Keyword) -> bool {
    matches!(&token.token, Token::Word(word)
        if word.quote_style.is_none() && word.keyword == keyword)
}

/// Puts types behind the names of a list of columns that `AS` follows.
pub(super) fn with_types(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let words: Vec<usize> =
        (0..tokens.len()).filter(|at| !matches!(tokens[*at].token, Token::Whitespace(_))).collect();
    let is = |at: usize, keyword| words.get(at).is_some_and(|w| is_keyword(&tokens[*w], keyword));
    if !is(0, Keyword::CREATE) || !is(1, Keyword::TABLE) {
        return tokens;
    }
    let is_token =
        |at: usize, token: &Token| words.get(at).is_some_and(|w| tokens[*w].token == *token);
    let Some(open) = (2..words.len()).find(|at| is_token(*at, &Token::LParen)) else {
        return tokens;
    };
    let mut names = Vec::new();
    let mut at = open + 1;
    loop {
        match words.get(at).map(|word| &tokens[*word].token) {
            Some(Token::Word(_)) => names.push(words[at]),
            _ => return tokens,
        }
        if is_token(at + 1, &Token::RParen) {
            break;
        }
        if !is_token(at + 1, &Token::Comma) {
            return tokens;
        }
        at += 2;
    }
    if !is(at + 2, Keyword::AS) {
        return tokens;
    }
    let mut typed = Vec::with_capacity(tokens.len() + 2 * names.len());
    for (at, token) in tokens.into_iter().enumerate() {
        let span = token.span;
        typed.push(token);
        if names.contains(&at) {
            let word = Word {
                value: UNTYPED.to_owned(),
                quote_style: Some('"'),
                keyword: Keyword::NoKeyword,
            };
            typed.push(TokenWithSpan { token: Token::Word(word), span });
        }
    }
    typed
}
