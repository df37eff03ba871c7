//! Settings on which other checks rely: clippy's limits, and lints inherited by every member.

use crate::manifest::Manifest;
use crate::toml_text::entries;
use crate::tree::Tree;
use crate::{File, Finding};

/// Limits that clippy holds; see `docs/STYLE.md`.
const CLIPPY_LIMITS: &[(&str, &str)] =
    &[("too-many-lines-threshold", "70"), ("too-many-arguments-threshold", "6")];

/// The root `clippy.toml`: present, alone (one inside a crate would replace it), with our limits.
#[must_use]
pub fn check_clippy(tree: &Tree) -> Vec<Finding> {
    let Some(root) = tree.file("clippy.toml") else {
        return vec![Finding::missing_file("clippy.toml", "write it at the root")];
    };
    let others = tree.files.iter().filter(|file| {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        file.path != root.path && (name == "clippy.toml" || name == ".clippy.toml")
    });
    let remedy = "remove it: it would replace the root's settings, not add to them";
    let mut findings: Vec<_> =
        others.map(|file| file.finding(1, "this is a second clippy.toml", remedy)).collect();
    findings.extend(check_limits(root));
    findings
}

fn check_limits(file: &File) -> Vec<Finding> {
    let entries = entries(&file.text);
    let mut findings = Vec::new();
    for (key, value) in CLIPPY_LIMITS {
        let entry = entries.iter().find(|entry| entry.key == *key);
        if entry.is_none_or(|entry| entry.value != *value) {
            let line = entry.map_or(1, |entry| entry.line);
            let problem = format!("`{key}` is not {value}");
            findings.push(file.finding(line, &problem, &format!("write `{key} = {value}`")));
        }
    }
    findings
}

/// A member that does not inherit the workspace's lints.
#[must_use]
pub fn check_lints(manifest: &Manifest) -> Option<Finding> {
    let inherits = entries(&manifest.file.text).into_iter().any(|entry| {
        let place = (entry.section.as_str(), entry.key.as_str());
        matches!(place, ("lints", "workspace") | ("", "lints.workspace")) && entry.value == "true"
    });
    let problem = "the workspace lints are not inherited";
    let remedy = "add `[lints]` with `workspace = true`";
    (!inherits).then(|| manifest.file.finding(1, problem, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "too-many-lines-threshold = 70\ntoo-many-arguments-threshold = 6\n";

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let files = files.iter().map(|(path, text)| File::new(path, text)).collect();
        check_clippy(&Tree::of(files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn clippy_settings_are_checked() {
        assert!(problems(&[("clippy.toml", LIMITS)]).is_empty());
        assert!(problems(&[])[0].starts_with("clippy.toml:1: the file is missing"));
        let loose = LIMITS.replace("70", "700");
        assert!(
            problems(&[("clippy.toml", &loose)])[0].contains("`too-many-lines-threshold` is not")
        );
        assert_eq!(problems(&[("clippy.toml", "")]).len(), 2);
        let second = problems(&[("clippy.toml", LIMITS), ("engine/clippy.toml", LIMITS)]);
        assert!(second[0].starts_with("engine/clippy.toml:1:"));
    }

    #[test]
    fn lints_have_to_be_inherited() {
        let check = |text: &str| check_lints(&Manifest::parse(&File::new("a/Cargo.toml", text)));
        assert_eq!(check("[package]\nname = \"a\"\n[lints]\nworkspace = true\n"), None);
        assert!(check("[package]\nname = \"a\"\n").is_some());
        assert!(check("[package]\nname = \"a\"\n[lints]\nworkspace = false\n").is_some());
    }
}
