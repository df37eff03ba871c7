//! `Cargo.lock`: which packages are linked, and that no type of theirs exists twice.

use crate::toml_text::{entries, unquoted};
use crate::{File, Finding};

/// Packages whose types cross our borders; two versions would not fit together.
const SINGLE_PACKAGES: &[&str] = &["tonic", "prost", "object_store", "pgwire", "sqlparser"];

/// Families of packages, of which each member may exist once.
const SINGLE_FAMILIES: &[&str] = &["arrow", "datafusion"];

/// One package of the lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it comes from; `None` for a member of the workspace.
    pub source: Option<String>,
    /// The line of its name, counted from one.
    pub line: usize,
}

/// All packages of a lock file, in order.
#[must_use]
pub fn packages(file: &File) -> Vec<Locked> {
    let mut packages: Vec<Locked> = Vec::new();
    for entry in entries(&file.text).into_iter().filter(|entry| entry.section == "package") {
        let value = unquoted(&entry.value);
        match (entry.key.as_str(), packages.last_mut()) {
            ("name", _) => {
                let (version, source, line) = (String::new(), None, entry.line);
                packages.push(Locked { name: value, version, source, line });
            }
            ("version", Some(package)) => package.version = value,
            ("source", Some(package)) => package.source = Some(value),
            _ => {}
        }
    }
    packages
}

/// Second versions of packages that have to be single.
#[must_use]
pub fn check_single(file: &File, packages: &[Locked]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, package) in packages.iter().enumerate().filter(|(_, package)| is_single(&package.name))
    {
        let earlier = packages.iter().take(at).find(|earlier| earlier.name == package.name);
        if let Some(earlier) = earlier {
            let Locked { name, version, line, .. } = package;
            let problem = format!("`{name}` is there as {} and as {version}", earlier.version);
            let remedy = "bring the crates that ask for it to one version";
            findings.push(file.finding(*line, &problem, remedy));
        }
    }
    findings
}

fn is_single(name: &str) -> bool {
    SINGLE_PACKAGES.contains(&name)
        || SINGLE_FAMILIES.iter().any(|family| {
            name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_versions_are_found() {
        let mut text = String::from("version = 4\n");
        for (name, version) in [
            ("arrow-array", "58.0.0"),
            ("arrow-array", "59.0.0"),
            ("datafusion", "1.0.0"),
            ("prost", "1.0.0"),
            ("prost", "2.0.0"),
            ("rand", "1.0.0"),
            ("rand", "2.0.0"),
        ] {
            let package = format!("\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
            text.push_str(&package);
            text.push_str("source = \"registry\"\ndependencies = [\n \"x\",\n]\n");
        }
        text.push_str("\n[[package]]\nname = \"ours\"\nversion = \"0.0.0\"\n");
        let file = File::new("Cargo.lock", &text);
        let packages = packages(&file);
        assert_eq!(packages.len(), 8);
        assert_eq!(packages[0].source.as_deref(), Some("registry"));
        assert_eq!(packages[7].source, None);
        let findings = check_single(&file, &packages);
        let problems: Vec<_> = findings.iter().map(|finding| finding.problem.as_str()).collect();
        let expected = [
            "`arrow-array` is there as 58.0.0 and as 59.0.0",
            "`prost` is there as 1.0.0 and as 2.0.0",
        ];
        assert_eq!(problems, expected);
        assert_eq!(findings[0].line, packages[1].line);
    }
}
