//! Where `unsafe` may stand, and that every other crate forbids it at its root.

use crate::rust_text::{attributes, lines, words};
use crate::{File, Finding};

/// Files and folders (ending in `/`) that may hold unsafe code.
const ALLOWED: &[&str] = &[
    "engine/vector/src/kernels/",
    "engine/vector/src/pages.rs",
    "engine/storage/src/fs/heap.rs",
    "engine/storage/src/fs/mmap.rs",
];

/// Files that declare those modules and so may lift the ban for them.
const LIFTING: &[&str] =
    &["engine/vector/src/lib.rs", "engine/storage/src/fs.rs", "engine/storage/src/fs/mod.rs"];

/// Crates that hold such a file: their root denies what the others forbid.
const DENYING: &[&str] = &["engine/vector/", "engine/storage/"];

/// Unsafe code, or a lifted ban, outside the allowed files.
#[must_use]
pub fn check_places(file: &File) -> Vec<Finding> {
    if ALLOWED.iter().any(|place| is_at(&file.path, place)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let lines = lines(&file.text);
    let remedy =
        "write it without, or move it to the vector's kernels and pages or storage's heap and mmap";
    for line in &lines {
        for _ in words(&line.code, "unsafe") {
            findings.push(file.finding(line.number, "`unsafe` may not stand here", remedy));
        }
    }
    if LIFTING.contains(&file.path.as_str()) {
        return findings;
    }
    for attribute in attributes(&lines) {
        let lifts = attribute.text.contains("allow(") || attribute.text.contains("expect(");
        if lifts && words(&attribute.text, "unsafe_code").next().is_some() {
            let problem = "the ban on unsafe code is lifted here";
            findings.push(file.finding(attribute.line, problem, remedy));
        }
    }
    findings
}

/// A crate root (`lib.rs` or `main.rs`) without the ban on unsafe code.
#[must_use]
pub fn check_root(file: &File) -> Option<Finding> {
    let may_deny = DENYING.iter().any(|folder| file.path.starts_with(folder));
    let bans = attributes(&lines(&file.text)).into_iter().any(|attribute| {
        let inner = attribute.text.strip_prefix("#![").unwrap_or_default();
        let level = inner.starts_with("forbid(") || (may_deny && inner.starts_with("deny("));
        level && words(inner, "unsafe_code").next().is_some()
    });
    let level = if may_deny { "deny" } else { "forbid" };
    let problem = format!("the crate root does not {level} unsafe code");
    let remedy = format!("add `#![{level}(unsafe_code)]`");
    (!bans).then(|| file.finding(1, &problem, &remedy))
}

fn is_at(path: &str, place: &str) -> bool {
    path == place || (place.ends_with('/') && path.starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_found(path: &str, text: &str) -> Vec<usize> {
        check_places(&File::new(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn unsafe_code_is_found_where_it_may_not_be() {
        let text = "//! No unsafe.\nlet a = \"unsafe\";\nunsafe { b() }\n#[unsafe(no_mangle)]\nfn c() {}\n";
        assert_eq!(lines_found("engine/src/a.rs", text), [3, 4]);
        assert_eq!(lines_found("engine/vector/src/hnsw.rs", text), [3, 4]);
        assert_eq!(lines_found("engine/storage/src/fs/mmap.rs.rs", text), [3, 4]);
        assert!(lines_found("engine/vector/src/kernels/avx2.rs", text).is_empty());
        assert!(lines_found("engine/storage/src/fs/mmap.rs", text).is_empty());
    }

    #[test]
    fn the_ban_is_lifted_only_beside_the_allowed_files() {
        let text = "//! A.\n#[allow(\n    unsafe_code,\n    reason = \"b\"\n)]\nmod kernels;\n";
        assert_eq!(lines_found("engine/src/lib.rs", text), [2]);
        assert_eq!(lines_found("engine/vector/src/hnsw.rs", text), [2]);
        assert!(lines_found("engine/vector/src/lib.rs", text).is_empty());
        assert!(lines_found("engine/src/lib.rs", "#![forbid(unsafe_code)]\n").is_empty());
    }

    #[test]
    fn roots_ban_unsafe_code() {
        let is_good = |path: &str, text: &str| check_root(&File::new(path, text)).is_none();
        let (forbid, deny) = ("//! A.\n#![forbid(unsafe_code)]\n", "#![deny(a, unsafe_code)]\n");
        assert!(is_good("engine/src/lib.rs", forbid));
        assert!(!is_good("engine/src/lib.rs", deny));
        assert!(is_good("engine/storage/src/lib.rs", deny));
        assert!(is_good("engine/storage/src/lib.rs", forbid));
        for bad in ["", "// #![forbid(unsafe_code)]\n", "#[forbid(unsafe_code)]\nmod a;\n"] {
            assert!(!is_good("engine/src/lib.rs", bad), "{bad:?} has to be found");
            assert!(!is_good("engine/storage/src/lib.rs", bad), "{bad:?} has to be found");
        }
    }
}
