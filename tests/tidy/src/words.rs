//! Words that may not reach a commit: unfinished work, debug prints, bare sleeps, names of machines.
//!
//! In Rust, string and character literals are not looked at; in Markdown, inline code is not, so that
//! a text can speak about a forbidden word. Names of machines and of their folders are looked for
//! everywhere but in `Cargo.lock`, which Cargo writes.

use crate::rust_text::{lines, words};
use crate::{File, Finding};

/// Macros for unfinished work.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "dbg!("];

/// Marks of unfinished work; put together from parts, so that this file does not contain them.
const MARK_FIX: &str = concat!("FIX", "ME");
const MARK_LATER: &str = concat!("TO", "DO");

/// The comment that permits a sleep; a reason has to follow.
const SLEEP_ALLOWED: &str = "tidy: sleep allowed because ";

/// Registries' hosts and the folder of this machine.
const HOSTS: &[&str] = &[
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("pypi", ".org"),
    concat!("registry.", "npmjs.org"),
    concat!("deb.", "debian.org"),
];
const WORKPLACE: &str = concat!("/wo", "rk/");

/// Marks and macros of unfinished work.
#[must_use]
pub fn check_unfinished(file: &File) -> Vec<Finding> {
    if file.path == "Cargo.lock" {
        return Vec::new();
    }
    let in_docs = file.path.starts_with("docs/");
    let mut findings = Vec::new();
    for (number, line) in readable_lines(file) {
        for word in UNFINISHED.iter().filter(|word| words(&line, word).next().is_some()) {
            let problem = format!("`{word}` is left in the text");
            findings.push(file.finding(number, &problem, "finish the work or return an error"));
        }
        for _ in words(&line, MARK_FIX) {
            let problem = format!("`{MARK_FIX}` is left in the text");
            findings.push(file.finding(number, &problem, "fix it, or describe the limit in docs/"));
        }
        for at in words(&line, MARK_LATER) {
            let rest = line.get(at + MARK_LATER.len()..).unwrap_or_default();
            if !(in_docs && has_owner(rest)) {
                let problem = format!("`{MARK_LATER}` outside docs/ or without an owner");
                let remedy = format!("do it, or write `{MARK_LATER}(name)` into a file in docs/");
                findings.push(file.finding(number, &problem, &remedy));
            }
        }
    }
    findings
}

/// Tests that are ignored without a reason.
#[must_use]
pub fn check_ignored(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for line in lines(&file.text) {
        for (at, word) in line.code.match_indices("#[ignore") {
            let rest = line.code.get(at + word.len()..).unwrap_or_default().replace(' ', "");
            if !rest.starts_with("=\"") || rest.starts_with("=\"\"") {
                let remedy = "write `#[ignore = \"why\"]`";
                findings.push(file.finding(
                    line.number,
                    "a test is ignored without a reason",
                    remedy,
                ));
            }
        }
    }
    findings
}

/// Sleeps in test files that no comment permits.
#[must_use]
pub fn check_sleeps(file: &File) -> Vec<Finding> {
    if !is_test_file(&file.path) {
        return Vec::new();
    }
    let lines = lines(&file.text);
    let mut findings = Vec::new();
    let mut allowed_above = false;
    for line in &lines {
        let allowed_here = permits_sleep(&line.comment);
        if !allowed_here && !allowed_above && sleeps(&line.code) {
            let remedy = format!(
                "wait for the event itself, or say `// {SLEEP_ALLOWED}…` on this line or above"
            );
            findings.push(file.finding(line.number, "a test sleeps", &remedy));
        }
        allowed_above = allowed_here;
    }
    findings
}

/// Names of registries' hosts and of folders of this machine.
#[must_use]
pub fn check_machines(file: &File) -> Vec<Finding> {
    if file.path == "Cargo.lock" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for host in HOSTS.iter().filter(|host| line.contains(*host)) {
            let problem = format!("the host `{host}` is named");
            findings.push(file.finding(
                at + 1,
                &problem,
                "leave the choice of registry to the user",
            ));
        }
        if line.match_indices(WORKPLACE).any(|(at, _)| starts_a_path(line, at)) {
            let problem = format!("a path below `{WORKPLACE}` is named");
            let remedy = "use a path relative to the root, or one the user gives";
            findings.push(file.finding(at + 1, &problem, remedy));
        }
    }
    findings
}

/// The lines with what may speak about forbidden words taken out.
fn readable_lines(file: &File) -> Vec<(usize, String)> {
    if file.is_rust() {
        let lines = lines(&file.text).into_iter();
        return lines
            .map(|line| (line.number, format!("{} {}", line.code, line.comment)))
            .collect();
    }
    let is_markdown = file.path.ends_with(".md");
    let mut in_fence = false;
    let mut readable = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        in_fence ^= line.trim_start().starts_with("```");
        let line = if is_markdown && !in_fence { without_spans(line) } else { line.to_owned() };
        readable.push((at + 1, line));
    }
    readable
}

/// A Markdown line without its inline code: every second part between backticks.
fn without_spans(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

fn has_owner(rest: &str) -> bool {
    let name = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(name, _)| name);
    name.is_some_and(|name| !name.trim().is_empty())
}

fn is_test_file(path: &str) -> bool {
    path.ends_with(".rs") && path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

fn permits_sleep(comment: &str) -> bool {
    comment.split_once(SLEEP_ALLOWED).is_some_and(|(_, reason)| !reason.trim().is_empty())
}

/// A call of a free function `sleep`; a method (`clock.sleep(…)`) or a definition is none.
fn sleeps(code: &str) -> bool {
    ["sleep", "sleep_until"].into_iter().any(|word| {
        words(code, word).any(|at| {
            let before = code.get(..at).unwrap_or_default().trim_end();
            let after = code.get(at + word.len()..).unwrap_or_default().trim_start();
            let own = before.ends_with('.') || before.ends_with("fn");
            after.starts_with('(') && !own
        })
    })
}

fn starts_a_path(line: &str, at: usize) -> bool {
    let before = line.get(..at).and_then(|part| part.chars().next_back());
    !before.is_some_and(|c| c.is_alphanumeric() || "_-./*}".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn unfinished_work_is_found() {
        let found = |path: &str, text: &str| lines_of(&check_unfinished(&File::new(path, text)));
        let rust = format!(
            "todo!();\nunimplemented!(\"a\");\ndbg!(b);\n// {MARK_FIX}: c\n/// {MARK_LATER}(me): d\n\
             let e = \"todo!() {MARK_FIX}\";\nmy_todo!();\n"
        );
        assert_eq!(found("engine/src/a.rs", &rust), [1, 2, 3, 4, 5]);
        let markdown = format!(
            "{MARK_LATER} a\n{MARK_LATER}(me): b\n{MARK_LATER}(): c\nno `{MARK_LATER}`, no `dbg!(`\n\
             ```\ndbg!(d)\n```\n{MARK_FIX}\n"
        );
        assert_eq!(found("docs/A.md", &markdown), [1, 3, 6, 8]);
        assert_eq!(found("README.md", &markdown), [1, 2, 3, 6, 8]);
        assert_eq!(found(".ci/verify.sh", &format!("# {MARK_LATER}(me)\n")), [1]);
        assert!(found("Cargo.lock", &markdown).is_empty());
    }

    #[test]
    fn ignored_tests_need_a_reason() {
        let text =
            "#[ignore]\n#[ignore = \"\"]\n#[ignore = \"slow\"]\n// #[ignore]\n#[ignore=\"b\"]\n";
        assert_eq!(lines_of(&check_ignored(&File::new("a.rs", text))), [1, 2]);
    }

    #[test]
    fn sleeps_in_tests_are_found() {
        let text = "std::thread::sleep(a);\ntokio::time::sleep(a).await;\nsleep(a);\n\
            clock.sleep(a);\npg_sleep(a);\nfn sleep(a: A) {}\nuse std::thread::sleep;\n\
            // tidy: sleep allowed because the peer has no event\nthread::sleep(a);\nsleep(a);\n\
            sleep(a); // tidy: sleep allowed because of b\n// a\nsleep(a); // tidy: sleep allowed because \n";
        let found = |path: &str| lines_of(&check_sleeps(&File::new(path, text)));
        assert_eq!(found("tests/it/a.rs"), [1, 2, 3, 10, 13]);
        assert_eq!(found("engine/src/sql/tests.rs"), [1, 2, 3, 10, 13]);
        assert!(found("engine/src/a.rs").is_empty());
        assert!(found("tests/sql/a.slt").is_empty());
    }

    #[test]
    fn names_of_machines_are_found() {
        let found = |path: &str, text: &str| lines_of(&check_machines(&File::new(path, text)));
        for host in HOSTS {
            let text = format!("a\n# https://{host}/b\n");
            assert_eq!(found("deny.toml", &text), [2]);
            assert!(found("Cargo.lock", &text).is_empty());
        }
        let text = format!(
            "cd {WORKPLACE}main\n\"{WORKPLACE}a\"\nhttps://a.b{WORKPLACE}c\n../a{WORKPLACE}\n"
        );
        assert_eq!(found("docs/A.md", &text), [1, 2]);
    }
}
