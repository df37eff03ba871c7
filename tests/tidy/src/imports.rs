//! Who may import whom: the table of `docs/ARCHITECTURE.md` as data, and the checks that hold it.
//!
//! Edges between our crates hold for every kind of dependency, so that a test does not bring back a
//! circle either. Bans on other people's crates hold for what is linked into the crate or its build
//! script; tests may use what they need. [`check_paths`] looks for a path as written and so misses
//! one that is put together from a grouped `use`.

use std::collections::BTreeMap;

use crate::manifest::{Dependency, Manifest, Use};
use crate::rust_text::{has_word, lines};
use crate::toml_text::{entries, key_parts};
use crate::{File, Finding};

/// What a crate may import.
#[derive(Debug)]
struct Rule {
    name: &'static str,
    /// The crates of ours it may import.
    ours: &'static [&'static str],
    external: External,
}

/// Which crates of others a crate may import; a name ending in `*` stands for the whole family.
#[derive(Debug)]
enum External {
    Only(&'static [&'static str]),
    Not(&'static [&'static str]),
}

use External::{Not, Only};

/// For tests, benches and examples: the engine, the server end to end, and what is measured alone.
const MEASURED: &[&str] = &["engine", "server", "vector", "storage", "catalog", "types"];

const RULES: &[Rule] = &[
    Rule { name: "types", ours: &[], external: Only(&["thiserror", "serde"]) },
    Rule {
        name: "vector",
        ours: &["types"],
        external: Not(&["tokio*", "arrow*", "datafusion*", "rayon*", "rand*"]),
    },
    Rule { name: "text", ours: &["types"], external: Not(&["datafusion*"]) },
    Rule { name: "catalog", ours: &["types"], external: Not(&["tokio*", "datafusion*", "arrow*"]) },
    Rule {
        name: "storage",
        ours: &["types", "vector", "text", "catalog"],
        external: Not(&["datafusion*", "openraft*", "tonic*", "pgwire*", "opentelemetry*"]),
    },
    Rule { name: "udfs", ours: &["types", "vector"], external: Not(&["tonic*", "hyper*"]) },
    Rule {
        name: "engine",
        ours: &["types", "vector", "catalog", "storage", "udfs"],
        external: Not(&["openraft*", "tonic*", "pgwire*", "arrow-flight", "toml*", "clap*"]),
    },
    Rule {
        name: "replication",
        ours: &["types", "catalog", "storage"],
        external: Not(&["datafusion*"]),
    },
    Rule { name: "cluster", ours: &["engine", "replication"], external: Not(&[]) },
    Rule { name: "flight", ours: &["engine", "types"], external: Not(&["openraft*", "pgwire*"]) },
    Rule {
        name: "pgwire-server",
        ours: &["engine", "types"],
        external: Not(&["openraft*", "arrow-flight"]),
    },
    Rule {
        name: "server",
        ours: &[
            "types",
            "vector",
            "text",
            "catalog",
            "storage",
            "udfs",
            "engine",
            "replication",
            "cluster",
            "flight",
            "pgwire-server",
        ],
        external: Not(&[]),
    },
    Rule { name: "tests", ours: MEASURED, external: Not(&[]) },
    Rule { name: "benches", ours: MEASURED, external: Not(&[]) },
    Rule { name: "examples", ours: MEASURED, external: Not(&[]) },
    Rule { name: "tidy", ours: &[], external: Only(&[]) },
];

/// Paths of the standard library or of a permitted crate that a folder may still not use.
const BANNED_PATHS: &[(&str, &str)] = &[
    ("engine/types/src/", "std::fs"),
    ("engine/types/src/", "std::net"),
    ("engine/vector/src/", "std::fs"),
    ("engine/vector/src/", "std::net"),
    ("engine/catalog/src/", "std::fs"),
    ("engine/catalog/src/", "std::net"),
    ("udfs/src/", "std::net"),
    ("udfs/src/", "tokio::net"),
];

/// The folder of each member by the name of its package.
pub type MemberFolders = BTreeMap<String, String>;

/// Edges that the table does not allow.
#[must_use]
pub fn check_edges(manifest: &Manifest, root: &Manifest) -> Vec<Finding> {
    let Some(rule) = rule(&manifest.name) else {
        let problem = format!("crate `{}` is not in the import table", manifest.name);
        let remedy = "add it to docs/ARCHITECTURE.md and tests/tidy/src/imports.rs";
        return vec![manifest.file.finding(1, &problem, remedy)];
    };
    let edges = manifest.dependencies.iter();
    edges.filter_map(|edge| check_edge(&manifest.file, rule, edge, root)).collect()
}

fn check_edge(file: &File, rule: &Rule, edge: &Dependency, root: &Manifest) -> Option<Finding> {
    let inherited = root.dependencies.iter().find(|entry| entry.name == edge.name);
    let package = match inherited {
        Some(entry) if edge.is_inherited() => entry.package(),
        _ => edge.package(),
    };
    if self::rule(package).is_some() {
        let problem = format!("`{}` may not import our `{package}`", rule.name);
        let remedy = "move the code, or change the table in docs/ARCHITECTURE.md and tests/tidy";
        return (!rule.ours.contains(&package)).then(|| file.finding(edge.line, &problem, remedy));
    }
    let banned = match rule.external {
        Only(allowed) => !allowed.contains(&package),
        Not(banned) => banned.iter().any(|pattern| is_of_family(package, pattern)),
    };
    let problem = format!("`{}` may not use the crate `{package}`", rule.name);
    let remedy = "do this work in a crate that may, see the import table in docs/ARCHITECTURE.md";
    (banned && edge.used != Use::Test).then(|| file.finding(edge.line, &problem, remedy))
}

/// Uses of a banned path in a source file.
#[must_use]
pub fn check_paths(file: &File) -> Vec<Finding> {
    let banned = BANNED_PATHS.iter().filter(|(folder, _)| file.path.starts_with(folder));
    let banned: Vec<_> = banned.map(|(_, path)| *path).collect();
    if banned.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for line in lines(&file.text) {
        for path in banned.iter().filter(|path| has_word(&line.code, path)) {
            let problem = format!("`{path}` may not be used in this crate");
            let remedy =
                "take values in and give values out; a crate above does the input and output";
            findings.push(file.finding(line.number, &problem, remedy));
        }
    }
    findings
}

/// Dependencies of a member that do not take version and source from the root manifest.
#[must_use]
pub fn check_inherited(manifest: &Manifest) -> Vec<Finding> {
    let loose = manifest.dependencies.iter().filter(|edge| !edge.is_inherited());
    let remedy = "write `workspace = true` and put version or path into [workspace.dependencies]";
    loose
        .map(|edge| {
            let problem = format!("`{}` is not inherited from the workspace", edge.name);
            manifest.file.finding(edge.line, &problem, remedy)
        })
        .chain(check_patches(&manifest.file))
        .collect()
}

/// Wildcard versions and foreign sources in `[workspace.dependencies]`.
#[must_use]
pub fn check_sources(root: &Manifest, members: &MemberFolders) -> Vec<Finding> {
    let entries = root.dependencies.iter().filter(|entry| entry.used == Use::Workspace);
    entries
        .filter_map(|entry| {
            let (problem, remedy) = source_problem(entry, members)?;
            let problem = format!("`{}` {problem}", entry.name);
            Some(root.file.finding(entry.line, &problem, remedy))
        })
        .chain(check_patches(&root.file))
        .collect()
}

fn source_problem(
    entry: &Dependency,
    members: &MemberFolders,
) -> Option<(&'static str, &'static str)> {
    if entry.field("git").is_some() || entry.field("registry").is_some() {
        return Some(("comes from elsewhere than the public registry", "use a published version"));
    }
    if let Some(path) = entry.field("path") {
        let ours = members.get(entry.package()).is_some_and(|folder| folder == path);
        let remedy = "name the folder of the member with this name, or use a published version";
        return (!ours).then_some(("has a path that is not one of our crates", remedy));
    }
    let version = entry.field("version").unwrap_or("*");
    let remedy = "write the version it was tested with";
    version.contains('*').then_some(("has a wildcard version or none", remedy))
}

fn check_patches(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for entry in entries(&file.text) {
        let parts = key_parts(&entry.section);
        if parts.first().is_some_and(|first| first == "patch" || first == "replace") {
            let problem = format!("`{}` replaces the source of a crate", entry.key);
            findings.push(file.finding(entry.line, &problem, "use a published version"));
        }
    }
    findings
}

fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// `arrow*` stands for `arrow` and every `arrow-…`.
fn is_of_family(package: &str, pattern: &str) -> bool {
    let package = package.replace('_', "-");
    match pattern.strip_suffix('*') {
        Some(family) => package
            .strip_prefix(family)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
        None => package == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str, text: &str) -> Manifest {
        Manifest::parse(&File::new(path, text))
    }

    fn edge_problems(name: &str, dependencies: &str) -> Vec<String> {
        let root = "[workspace.dependencies]\ncolumns = { package = \"arrow\", version = \"1\" }\n";
        let text = format!("[package]\nname = \"{name}\"\n{dependencies}");
        let root = manifest("Cargo.toml", root);
        let findings = check_edges(&manifest("x/Cargo.toml", &text), &root);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn forbidden_edges_are_found() {
        let cases = [
            ("types", "vector"),
            ("vector", "storage"),
            ("catalog", "storage"),
            ("storage", "engine"),
            ("udfs", "storage"),
            ("udfs", "engine"),
            ("engine", "pgwire-server"),
            ("engine", "server"),
            ("pgwire-server", "storage"),
            ("pgwire-server", "flight"),
            ("flight", "replication"),
            ("replication", "engine"),
            ("cluster", "server"),
            ("server", "tests"),
            ("benches", "tests"),
            ("tidy", "types"),
            ("types", "tokio"),
            ("vector", "arrow-array"),
            ("vector", "rand"),
            ("vector", "rayon"),
            ("catalog", "tokio-util"),
            ("storage", "datafusion"),
            ("storage", "opentelemetry_sdk"),
            ("udfs", "hyper-util"),
            ("engine", "toml"),
            ("engine", "clap"),
            ("tidy", "serde"),
            ("nobody", "serde"),
        ];
        for (name, dependency) in cases {
            for section in ["dependencies", "target.'cfg(unix)'.dependencies"] {
                let problems =
                    edge_problems(name, &format!("[{section}]\n{dependency}.workspace = true\n"));
                assert_eq!(problems.len(), 1, "{name} imports {dependency}: {problems:?}");
            }
        }
    }

    #[test]
    fn allowed_edges_pass() {
        let cases = [
            ("types", "serde"),
            ("vector", "types"),
            ("vector", "random-name"),
            ("storage", "catalog"),
            ("storage", "arrow"),
            ("udfs", "datafusion"),
            ("engine", "udfs"),
            ("engine", "arrow"),
            ("flight", "engine"),
            ("pgwire-server", "types"),
            ("server", "replication"),
            ("tests", "server"),
            ("benches", "vector"),
        ];
        for (name, dependency) in cases {
            let problems =
                edge_problems(name, &format!("[dependencies]\n{dependency}.workspace = true\n"));
            assert_eq!(problems, [""; 0], "{name} imports {dependency}");
        }
    }

    #[test]
    fn renaming_a_crate_does_not_hide_it() {
        let text = "[dependencies]\ncolumns.workspace = true\n";
        let problem = "x/Cargo.toml:4: `catalog` may not use the crate `arrow`";
        assert!(edge_problems("catalog", text)[0].starts_with(problem));
    }

    #[test]
    fn tests_may_use_other_crates_but_no_upper_crate() {
        assert!(edge_problems("vector", "[dev-dependencies]\nrand.workspace = true\n").is_empty());
        let upper = edge_problems("vector", "[dev-dependencies]\nengine.workspace = true\n");
        assert_eq!(upper.len(), 1);
    }

    #[test]
    fn banned_paths_are_found_in_code_only() {
        let text = "//! No std::fs.\nuse std::fs::File;\nlet a = \"std::net\";\n";
        let lines_of = |path: &str| -> Vec<usize> {
            check_paths(&File::new(path, text)).iter().map(|finding| finding.line).collect()
        };
        assert_eq!(lines_of("engine/types/src/a.rs"), [2]);
        assert_eq!(lines_of("engine/storage/src/a.rs"), [0; 0]);
        let socket = File::new("udfs/src/a.rs", "use tokio::net::TcpStream;\n");
        assert_eq!(check_paths(&socket).len(), 1);
    }

    #[test]
    fn versions_outside_the_root_are_found() {
        let text = "[package]\nname = \"p\"\n[dependencies]\na = \"1\"\nb.workspace = true\n\
            c = { path = \"../c\" }\n[dev-dependencies]\nd = { git = \"u\" }\n[patch.crates-io]\ne = { git = \"u\" }\n";
        let findings = check_inherited(&manifest("p/Cargo.toml", text));
        let lines: Vec<_> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [4, 6, 8, 10]);
    }

    #[test]
    fn wildcards_and_foreign_sources_are_found() {
        let text = "[workspace.dependencies]\na = \"1\"\nb = \"*\"\nc = { version = \"1.*\" }\n\
            d = { git = \"u\" }\ne = { path = \"../e\" }\nours = { path = \"x/ours\" }\nf = {}\n\
            [patch.crates-io]\ng = { path = \"g\" }\n";
        let members = MemberFolders::from([("ours".to_owned(), "x/ours".to_owned())]);
        let findings = check_sources(&manifest("Cargo.toml", text), &members);
        let lines: Vec<_> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [3, 4, 5, 6, 8, 10]);
    }
}
