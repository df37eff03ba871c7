//! Checks of the tree itself: who imports whom, file headers and sizes, the code map, words,
//! `unsafe`, licences.
//!
//! Each check is a pure function from text to a list of [`Finding`]s and is tested here on a small
//! bad input; `tests/tidy.rs` runs all of them on the workspace. Only [`tree`] opens files. Nothing
//! outside the standard library is used, so the checks build and run in a second.
//!
//! Not here: formatting (rustfmt), function size and single calls (clippy), advisories (cargo-deny).
//! Rust and TOML are read by their surface, not parsed; where that is approximate, the module says so.

#![forbid(unsafe_code)]

pub mod architecture;
pub mod imports;
pub mod layout;
pub mod licences;
pub mod lock;
pub mod manifest;
pub mod rust_text;
pub mod settings;
pub mod toml_text;
pub mod tree;
pub mod unsafe_code;
pub mod words;

use std::fmt;

/// A text file of the tree.
#[derive(Debug, Clone)]
pub struct File {
    /// Path from the workspace root, with `/` between its parts.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl File {
    /// A file from its path and text.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether the file is Rust source.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// A finding in this file; `line` counts from one.
    #[must_use]
    pub fn finding(&self, line: usize, problem: &str, remedy: &str) -> Finding {
        Finding {
            file: self.path.clone(),
            line,
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}

/// One broken rule: where, what is wrong, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path from the workspace root.
    pub file: String,
    /// Line, counted from one.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    /// The finding for a file that has to exist and does not.
    #[must_use]
    pub fn missing_file(path: &str, remedy: &str) -> Self {
        File::new(path, "").finding(1, "the file is missing", remedy)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, problem, remedy } = self;
        write!(formatter, "{file}:{line}: {problem}; {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_place_problem_remedy() {
        let finding = File::new("a/b.rs", "").finding(7, "it is wrong", "mend it");
        assert_eq!(finding.to_string(), "a/b.rs:7: it is wrong; mend it");
    }
}
