//! `docs/ARCHITECTURE.md` against the tree: its paths exist, and its code map is complete.
//!
//! Words are taken from inline code and from fenced blocks. A word is a path when its first part is a
//! folder at the root, or when it ends like one of our files. Paths are written from the root; a path
//! whose first part is no folder at the root (`session.rs`, `sql/parser.rs`) stands for any file that
//! ends so. Braces are expanded; of a path with `*` or `<…>` only the folder before it has to exist.
//! Commands, links, absolute paths and anything with `::` are not paths.

use std::collections::BTreeSet;

use crate::tree::Tree;
use crate::{File, Finding};

/// The text that is checked.
pub const PATH: &str = "docs/ARCHITECTURE.md";

/// Crates of which each module is named in the text.
const MAPPED_CRATES: &[&str] = &["engine", "engine/storage", "engine/vector"];

/// Sources that are not modules with a name of their own.
const UNNAMED_MODULES: &[&str] = &["lib", "main", "mod", "tests", "bin"];

/// A word set as code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    line: usize,
    text: String,
    in_fence: bool,
}

/// Paths in the text that do not exist.
#[must_use]
pub fn check_paths(text: &File, tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for word in words(&text.text) {
        for path in expand_braces(&word.text).iter().filter_map(|word| as_path(word, tree)) {
            if !exists(&path, tree) {
                let problem = format!("`{path}` does not exist");
                findings.push(text.finding(
                    word.line,
                    &problem,
                    "correct the path or add the file",
                ));
            }
        }
    }
    findings
}

/// Workspace members that the section "Code map" does not name by their folder.
#[must_use]
pub fn check_members(text: &File, members: &[String]) -> Vec<Finding> {
    let Some((start, end)) = code_map(&text.text) else {
        let remedy = "add a section \"Code map\" that says what each crate owns";
        return vec![text.finding(1, "there is no code map", remedy)];
    };
    let words = words(&text.text);
    let words: Vec<_> = words.iter().filter(|word| (start..end).contains(&word.line)).collect();
    let unnamed = members.iter().filter(|member| !words.iter().any(|word| names(word, member)));
    unnamed
        .map(|member| {
            let problem = format!("the code map does not name the crate `{member}`");
            text.finding(start, &problem, "add its folder in backticks and what it owns")
        })
        .collect()
}

/// Modules of the mapped crates that the text does not name.
#[must_use]
pub fn check_modules(text: &File, tree: &Tree) -> Vec<Finding> {
    let words = words(&text.text);
    let named: BTreeSet<&str> = words
        .iter()
        .flat_map(|word| word.text.split(['/', ':', '{', '}', ',']))
        .map(|part| part.strip_suffix(".rs").unwrap_or(part))
        .collect();
    let line = code_map(&text.text).map_or(1, |(start, _)| start);
    let mut findings = Vec::new();
    for folder in MAPPED_CRATES {
        for module in modules(folder, tree).into_iter().filter(|module| !named.contains(module)) {
            let problem = format!("the module `{module}` of `{folder}/src` is not named");
            let remedy = "name it in backticks and say what it owns";
            findings.push(text.finding(line, &problem, remedy));
        }
    }
    findings
}

/// All words set as code, with their lines.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut in_fence = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
            continue;
        }
        // Outside a fence, every second part between backticks is code.
        let parts =
            if in_fence { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for word in parts.into_iter().flat_map(str::split_whitespace) {
            let word = word.trim_matches([',', ';', ':', '(', ')', '"']).trim_end_matches('.');
            words.push(Word { line: at + 1, text: word.to_owned(), in_fence });
        }
    }
    words
}

/// First line of the section "Code map" and the line after its last.
fn code_map(text: &str) -> Option<(usize, usize)> {
    let mut in_fence = false;
    let headings = text.lines().zip(1..).filter(|(line, _)| {
        in_fence ^= line.trim_start().starts_with("```");
        !in_fence && line.starts_with('#')
    });
    let level = |line: &str| line.chars().take_while(|&c| c == '#').count();
    let mut headings = headings.map(|(line, number)| (level(line), line, number));
    let (own, _, start) = headings.find(|(_, line, _)| line.to_lowercase().contains("code map"))?;
    let end = headings.find(|&(other, _, _)| other <= own).map(|(_, _, number)| number);
    Some((start, end.unwrap_or(usize::MAX)))
}

/// Whether a word names the crate in the folder `member`, directly or by a path into its sources.
fn names(word: &Word, member: &str) -> bool {
    let text = word.text.trim_end_matches('/');
    let folder = member.rsplit('/').next().unwrap_or(member);
    text == member
        || text.strip_prefix(member).is_some_and(|rest| rest.starts_with("/src"))
        || (word.in_fence && word.text.ends_with('/') && text == folder)
}

fn modules<'a>(folder: &str, tree: &'a Tree) -> BTreeSet<&'a str> {
    let prefix = format!("{folder}/src/");
    let inside = tree.paths.iter().filter_map(|path| path.strip_prefix(&prefix));
    inside
        .filter(|path| path.contains('/') || path.ends_with(".rs"))
        .filter_map(|path| path.split('/').next())
        .map(|part| part.strip_suffix(".rs").unwrap_or(part))
        .filter(|module| !UNNAMED_MODULES.contains(module))
        .collect()
}

/// The path that a word stands for, cut before its first placeholder; `None` if it is no path.
fn as_path(word: &str, tree: &Tree) -> Option<String> {
    let word = word.split('#').next().unwrap_or(word);
    let word = word.strip_prefix("./").unwrap_or(word);
    let word = word
        .split_once(".rs:")
        .map_or(word, |(path, _)| word.get(..path.len() + 3).unwrap_or(word));
    let is_ending = word.starts_with('.') && word.matches(['.', '/']).count() == 1;
    if is_ending
        || word.starts_with(['/', '~', '-'])
        || word.starts_with("..")
        || word.contains("::")
        || word.contains("//")
        || word.contains(['$', '=', '|', '\\', '"', '(', '@'])
    {
        return None;
    }
    let in_tree = word.contains('/') && tree.is_top_folder(first_part(word));
    if !in_tree && ![".rs", ".md", ".toml"].iter().any(|ending| word.ends_with(ending)) {
        return None;
    }
    let whole: Vec<_> =
        word.split('/').take_while(|part| !part.contains(['*', '<', '…'])).collect();
    let path = whole.join("/").trim_end_matches('/').to_owned();
    (!path.is_empty()).then_some(path)
}

fn exists(path: &str, tree: &Tree) -> bool {
    if tree.paths.contains(path) {
        return true;
    }
    let ending = format!("/{path}");
    let is_relative = !path.contains('/') || !tree.is_top_folder(first_part(path));
    is_relative && tree.paths.iter().any(|other| other.ends_with(&ending))
}

fn first_part(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// `a/{b,c}.rs` stands for `a/b.rs` and `a/c.rs`.
fn expand_braces(word: &str) -> Vec<String> {
    let Some((before, rest)) = word.split_once('{') else { return vec![word.to_owned()] };
    let Some((inside, after)) = rest.split_once('}') else { return vec![word.to_owned()] };
    let items = inside.split(',');
    items.flat_map(|item| expand_braces(&format!("{before}{item}{after}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let paths = [
            ".ci/verify.sh",
            "README.md",
            "docs/adr/0001-a.md",
            "engine/Cargo.toml",
            "engine/src/lib.rs",
            "engine/src/session.rs",
            "engine/src/sql/parser.rs",
            "engine/storage/src/wal/frame.rs",
            "engine/vector/src/flat.rs",
            "engine/vector/src/notes.txt",
        ];
        Tree::of(paths.iter().map(|path| File::new(path, "")).collect())
    }

    fn text(text: &str) -> File {
        File::new(PATH, text)
    }

    #[test]
    fn dead_paths_are_found() {
        let cases = [
            "`engine/src/gone.rs`",
            "`engine/gone/`",
            "`gone.rs`",
            "`sql/gone.rs`",
            "`src/session.rs:7` and `engine/session.rs`",
            "run `.ci/gone.sh now`",
            "`.cargo/config.toml`",
            "`engine/src/{session,gone}.rs`",
            "`docs/gone/*.md`",
            "`./docs/adr/0002-b.md#why`",
            "```\ngone.toml (settings)\n```",
        ];
        for case in cases {
            let findings = check_paths(&text(&format!("\n{case}\n")), &tree());
            assert_eq!(findings.len(), 1, "{case}: {findings:?}");
        }
    }

    #[test]
    fn live_paths_and_other_words_pass() {
        let cases = [
            "`engine/src/session.rs`, `engine/src/`, `engine`, `README.md`, `session.rs`",
            "`sql/parser.rs` `engine/src/session.rs:12` `engine/{src,storage}` `.ci/verify.sh`",
            "`docs/adr/NNNN-*.md` `*.rs` `engine/src/<crate>.rs` `.ci/verify.sh --all`",
            "`storage::fs` `/etc/azimuth.toml` `https://example.org/a.md` `~/a.toml` `a/b` `x.txt` `.rs`",
            "`../a.md` `.slt`",
            "engine/src/gone.rs outside of code",
            "```\nengine/ src/ session.rs (one), frame.rs.\n```",
        ];
        for case in cases {
            assert_eq!(check_paths(&text(case), &tree()), [], "{case}");
        }
    }

    #[test]
    fn every_member_is_in_the_code_map() {
        let members = ["engine".to_owned(), "engine/storage".to_owned(), "udfs".to_owned()];
        let problems = |body: &str| -> Vec<String> {
            check_members(&text(body), &members).into_iter().map(|found| found.problem).collect()
        };
        assert_eq!(problems("# A\n`engine`\n"), ["there is no code map"]);
        let missing = |name: &str| format!("the code map does not name the crate `{name}`");
        let some = "## Code map\n`engine/storage/`\n```\n# sh\n```\n### more\n`udfs/src/lib.rs`\n## End\n`engine`\n";
        assert_eq!(problems(some), [missing("engine")]);
        let fenced = "## The code map\n```\nengine/\n  storage/ crate\n  udf/\n```\n";
        assert_eq!(problems(fenced), [missing("udfs")]);
        assert!(problems("# Code map\n`engine` `engine/storage` `udfs`\n").is_empty());
    }

    #[test]
    fn every_module_is_named() {
        let problems = |body: &str| check_modules(&text(body), &tree()).len();
        assert_eq!(problems("# Code map\nsession sql wal flat\n"), 4);
        assert_eq!(problems("`engine/src/session.rs` `sql` `storage::wal`\n"), 1);
        assert_eq!(problems("`engine/src/{session,sql}/` `wal/frame.rs` `flat.rs`\n"), 0);
    }
}
