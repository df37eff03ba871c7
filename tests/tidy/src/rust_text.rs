//! Rust source split into code and comments, line by line.
//!
//! A scanner for comments, strings and character literals only; it builds no tokens. Invariant: code
//! and comment of a line together hold each of its characters once, except that characters inside
//! string and character literals become `_`, so that words in a literal are never taken for code.

/// One line of Rust source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from one.
    pub number: usize,
    /// The code, literals masked with `_`.
    pub code: String,
    /// The comments, with their markers.
    pub comment: String,
}

impl Line {
    /// Whether anything but blanks and comments stands on the line.
    #[must_use]
    pub fn has_code(&self) -> bool {
        !self.code.trim().is_empty()
    }
}

/// An attribute such as `#![forbid(unsafe_code)]`, written without blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The line on which it begins, counted from one.
    pub line: usize,
    /// Its text from `#` to `]`, literals masked, blanks removed.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// Splits source text into lines of code and comment.
#[must_use]
pub fn lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = Line { number: 1, code: String::new(), comment: String::new() };
    for (kind, c) in Scanner::scan(text) {
        if c == '\n' {
            let number = line.number + 1;
            let next = Line { number, code: String::new(), comment: String::new() };
            lines.push(std::mem::replace(&mut line, next));
            continue;
        }
        match kind {
            Kind::Code => line.code.push(c),
            Kind::Comment => line.comment.push(c),
            Kind::Literal if c.is_whitespace() => line.code.push(c),
            Kind::Literal => line.code.push('_'),
        }
    }
    lines.push(line);
    lines
}

/// All attributes, in order.
#[must_use]
pub fn attributes(lines: &[Line]) -> Vec<Attribute> {
    let chars = lines.iter().flat_map(|line| line.code.chars().map(|c| (line.number, c)));
    let mut chars = chars.filter(|(_, c)| !c.is_whitespace()).peekable();
    let mut found = Vec::new();
    while let Some((line, c)) = chars.next() {
        if c != '#' {
            continue;
        }
        let mut text = String::from(c);
        text.extend(chars.next_if(|&(_, c)| c == '!').map(|(_, c)| c));
        let mut depth = 0_usize;
        while let Some((_, c)) = chars.next_if(|&(_, c)| depth > 0 || c == '[') {
            text.push(c);
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                found.push(Attribute { line, text });
                break;
            }
        }
    }
    found
}

/// Byte positions at which `word` stands alone, that is, not inside a longer identifier.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = text.get(..at).and_then(|part| part.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|part| part.chars().next());
        let closed = !word.ends_with(is_identifier);
        !before.is_some_and(is_identifier) && (closed || !after.is_some_and(is_identifier))
    })
}

/// Whether `word` stands alone somewhere in `text`.
#[must_use]
pub fn has_word(text: &str, word: &str) -> bool {
    words(text, word).next().is_some()
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Scanner {
    chars: Vec<char>,
    kinds: Vec<Kind>,
}

impl Scanner {
    fn scan(text: &str) -> Vec<(Kind, char)> {
        let mut scanner = Self { chars: text.chars().collect(), kinds: Vec::new() };
        while let Some(c) = scanner.next() {
            match (c, scanner.ahead(1)) {
                ('/', Some('/')) => scanner.line_comment(),
                ('/', Some('*')) => scanner.block_comment(),
                ('"', _) => scanner.string(),
                ('r', Some('"' | '#')) => scanner.raw_string(),
                ('\'', _) => scanner.character(),
                _ => scanner.take(Kind::Code),
            }
        }
        scanner.kinds.into_iter().zip(scanner.chars).collect()
    }

    fn next(&self) -> Option<char> {
        self.ahead(0)
    }

    fn ahead(&self, count: usize) -> Option<char> {
        self.chars.get(self.kinds.len() + count).copied()
    }

    fn behind(&self, count: usize) -> Option<char> {
        self.kinds.len().checked_sub(count).and_then(|at| self.chars.get(at).copied())
    }

    fn take(&mut self, kind: Kind) {
        if self.kinds.len() < self.chars.len() {
            self.kinds.push(kind);
        }
    }

    fn line_comment(&mut self) {
        while self.next().is_some_and(|c| c != '\n') {
            self.take(Kind::Comment);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(c) = self.next() {
            let pair = (c, self.ahead(1));
            if pair == ('/', Some('*')) {
                depth += 1;
                self.take(Kind::Comment);
            } else if pair == ('*', Some('/')) {
                depth -= 1;
                self.take(Kind::Comment);
            }
            self.take(Kind::Comment);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.take(Kind::Code);
        while let Some(c) = self.next() {
            if c == '"' {
                return self.take(Kind::Code);
            }
            if c == '\\' {
                self.take(Kind::Literal);
            }
            self.take(Kind::Literal);
        }
    }

    /// At an `r`: a raw string with its hashes, or only a letter (as in `r#type` or `for`).
    fn raw_string(&mut self) {
        let prefix = usize::from(matches!(self.behind(1), Some('b' | 'c')));
        let mut hashes = 0;
        while self.ahead(1 + hashes) == Some('#') {
            hashes += 1;
        }
        let inside_word = self.behind(1 + prefix).is_some_and(is_identifier);
        if inside_word || self.ahead(1 + hashes) != Some('"') {
            return self.take(Kind::Code);
        }
        for _ in 0..hashes + 2 {
            self.take(Kind::Code);
        }
        while let Some(c) = self.next() {
            let closes = c == '"' && (1..=hashes).all(|count| self.ahead(count) == Some('#'));
            if closes {
                for _ in 0..=hashes {
                    self.take(Kind::Code);
                }
                return;
            }
            self.take(Kind::Literal);
        }
    }

    /// At a quote: a character literal, or only the quote of a lifetime.
    fn character(&mut self) {
        let escaped = self.ahead(1) == Some('\\');
        if !escaped && self.ahead(2) != Some('\'') {
            return self.take(Kind::Code);
        }
        self.take(Kind::Code);
        if escaped {
            self.take(Kind::Literal);
        }
        self.take(Kind::Literal);
        while self.next().is_some_and(|c| c != '\'' && c != '\n') {
            self.take(Kind::Literal);
        }
        self.take(Kind::Code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        lines(text).into_iter().map(|line| line.code).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn comments_and_literals_leave_the_code() {
        let cases = [
            ("a // b", "a "),
            ("a /* b /* c */ d */ e", "a  e"),
            ("/* a\nb */ c", "\n c"),
            ("\"// no\" // yes", "\"__ __\" "),
            (r#"f("a\"b") g"#, r#"f("____") g"#),
            (r###"r#"a"b"# c"###, r###"r#"___"# c"###),
            (r###"br#"x"# for r#type"###, r###"br#"_"# for r#type"###),
            (r#"r"\" a"#, r#"r"_" a"#),
            ("'\"' x '\\'' 'a y<'b>", "'_' x '__' 'a y<'b>"),
            ("'\\u{1F600}' z", "'_________' z"),
            ("\"a\n b\" c", "\"_\n _\" c"),
        ];
        for (text, expected) in cases {
            assert_eq!(code(text), expected, "of {text}");
        }
    }

    #[test]
    fn comments_are_kept_apart() {
        let lines = lines("a(); // why\n\n// alone\n");
        let comments: Vec<_> = lines.iter().map(|line| line.comment.as_str()).collect();
        assert_eq!(comments, ["// why", "", "// alone", ""]);
        assert_eq!(lines.iter().filter(|line| line.has_code()).count(), 1);
    }

    #[test]
    fn attributes_are_joined_over_lines() {
        let source =
            "#![forbid(unsafe_code)]\n#[allow(\n    a, reason = \"b ]\"\n)]\nlet x = y[0];\n";
        let found: Vec<_> =
            attributes(&lines(source)).into_iter().map(|found| (found.line, found.text)).collect();
        let expected = [
            (1, "#![forbid(unsafe_code)]".to_owned()),
            (2, "#[allow(a,reason=\"__\")]".to_owned()),
        ];
        assert_eq!(found, expected);
        assert_eq!(attributes(&lines("#[a([1][2])] b[3]"))[0].text, "#[a([1][2])]");
    }

    #[test]
    fn words_stand_alone() {
        assert!(has_word("unsafe { x }", "unsafe"));
        assert!(has_word("a(unsafe)", "unsafe"));
        assert!(!has_word("forbid(unsafe_code)", "unsafe"));
        assert!(!has_word("my_dbg!(x)", "dbg!("));
        assert!(has_word("dbg!(x)", "dbg!("));
    }
}
