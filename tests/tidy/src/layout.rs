//! Headers and sizes of source files.
//!
//! A code line holds something besides blanks and comments; a trailing `#[cfg(test)] mod tests { … }`
//! is not counted. The size of functions is clippy's matter.

use crate::rust_text::{Line, lines};
use crate::{File, Finding};

/// Code lines that one file may have.
pub const CODE_LINES_MAX: usize = 600;

/// A file that does not open with `//!` and some words.
#[must_use]
pub fn check_header(file: &File) -> Option<Finding> {
    let header = file.text.lines().next().and_then(|line| line.strip_prefix("//!"));
    let remedy = "say what the file owns, what always holds, and what it does not do";
    let problem = match header.map(str::trim) {
        None => "the file does not begin with `//!`",
        Some("") => "the `//!` on the first line is empty",
        Some(_) => return None,
    };
    Some(file.finding(1, problem, remedy))
}

/// A file with too much code.
#[must_use]
pub fn check_length(file: &File) -> Option<Finding> {
    let lines = lines(&file.text);
    let tests = trailing_tests(&lines).unwrap_or(lines.len());
    let code: Vec<_> = lines.iter().take(tests).filter(|line| line.has_code()).collect();
    let first_over = code.get(CODE_LINES_MAX)?;
    let problem = format!("{} code lines, {CODE_LINES_MAX} are allowed", code.len());
    let remedy = "split it into modules, each named after its one main type or function";
    Some(file.finding(first_over.number, &problem, remedy))
}

/// Position of the `#[cfg(test)]` of a test module that runs to the end of the file.
fn trailing_tests(lines: &[Line]) -> Option<usize> {
    let start = lines.iter().rposition(|line| line.code.trim().starts_with("#[cfg(test)]"))?;
    let code: String =
        lines.iter().skip(start).flat_map(|line| [line.code.as_str(), "\n"]).collect();
    let body = code.find('{')?;
    let head: Vec<_> = code.get(..body)?.split_whitespace().collect();
    if !head.ends_with(&["mod", "tests"]) {
        return None;
    }
    let mut depth = 0_usize;
    for (at, c) in code.char_indices().skip_while(|&(at, _)| at < body) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let is_last = code.get(at + 1..)?.trim().is_empty();
            return is_last.then_some(start);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let check = |text: &str| check_header(&File::new("a.rs", text));
        assert_eq!(check("//! Owns a.\n\nfn a() {}\n"), None);
        for bad in ["", "fn a() {}\n", "// Owns a.\n", "\n//! Late.\n", "//!\n//! Late.\n"] {
            assert!(check(bad).is_some(), "{bad:?} has to be found");
        }
    }

    #[test]
    fn lengths() {
        let code = "let a = 1; // why\n\n// only a comment\n/* and\nanother */\n";
        let line_of = |text: &str| check_length(&File::new("a.rs", text)).map(|found| found.line);
        let full = code.repeat(CODE_LINES_MAX);
        assert_eq!(line_of(&full), None);
        assert_eq!(line_of(&format!("{full}one_more();\n")), Some(5 * CODE_LINES_MAX + 1));
        let tests =
            "#[cfg(test)]\n#[expect(a, reason = \"{\")]\nmod tests {\n fn b() { \"}\" }\n}\n";
        assert_eq!(line_of(&format!("{full}{tests}")), None);
        assert!(line_of(&format!("{full}{tests}one_more();\n")).is_some(), "not trailing");
        assert!(line_of(&format!("{full}#[cfg(test)]\nmod other {{}}\n")).is_some());
        assert!(line_of(&format!("{full}#[cfg(test)]\nmod tests;\n")).is_some());
    }

    #[test]
    fn a_blank_line_in_a_string_is_blank() {
        let text = "a(\"x\n\ny\");\n";
        assert_eq!(lines(text).iter().filter(|line| line.has_code()).count(), 2);
    }
}
