//! A `Cargo.toml` as a list of dependencies, whichever of the four spellings each one uses.

use std::collections::BTreeMap;

use crate::File;
use crate::toml_text::{entries, inline_table, key_parts, strings, unquoted};

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Linked into the crate.
    Normal,
    /// Linked into its tests only.
    Test,
    /// Linked into its build script only.
    Build,
    /// Not a use: the entry of `[workspace.dependencies]`.
    Workspace,
}

/// One dependency of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The key, that is, the name used in code.
    pub name: String,
    /// What it is for.
    pub used: Use,
    /// Its fields without quotes: `workspace`, `version`, `path`, `git`, `package`, …
    pub fields: BTreeMap<String, String>,
    /// Line of its first field, counted from one.
    pub line: usize,
}

impl Dependency {
    /// The field's value, if written.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// The name of the package, which may differ from the key.
    #[must_use]
    pub fn package(&self) -> &str {
        self.field("package").unwrap_or(&self.name)
    }

    /// Whether version and source come from the root manifest.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.field("workspace") == Some("true")
    }
}

/// What the checks need of one `Cargo.toml`.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The manifest itself.
    pub file: File,
    /// Name of the package; empty for a virtual manifest.
    pub name: String,
    /// All dependencies, in order.
    pub dependencies: Vec<Dependency>,
    /// Folders of the workspace members; empty outside the root.
    pub members: Vec<String>,
    /// Where the roots of its library and binaries may be, from the workspace root.
    pub crate_roots: Vec<String>,
}

impl Manifest {
    /// Reads a manifest.
    #[must_use]
    pub fn parse(file: &File) -> Self {
        let (mut name, mut members) = (String::new(), Vec::new());
        let mut roots = vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()];
        let mut dependencies: Vec<Dependency> = Vec::new();
        for entry in entries(&file.text) {
            match (entry.section.as_str(), entry.key.as_str()) {
                ("package", "name") => name = unquoted(&entry.value),
                ("workspace", "members") => members = strings(&entry.value),
                ("lib" | "bin", "path") => roots.push(unquoted(&entry.value)),
                _ => {}
            }
            let mut path = key_parts(&entry.section);
            path.extend(key_parts(&entry.key));
            let Some((used, path)) = dependency_path(&path) else { continue };
            let Some((key, field)) = path.split_first() else { continue };
            let fields = fields(field, &entry.value);
            let known = dependencies
                .iter_mut()
                .find(|known| known.name == *key && known.used == used && !field.is_empty());
            if let Some(known) = known {
                known.fields.extend(fields);
            } else {
                let fields = fields.into_iter().collect();
                let line = entry.line;
                dependencies.push(Dependency { name: key.clone(), used, fields, line });
            }
        }
        let folder = file.path.strip_suffix("Cargo.toml").unwrap_or_default();
        let crate_roots = roots.iter().map(|path| format!("{folder}{path}")).collect();
        Self { file: file.clone(), name, dependencies, members, crate_roots }
    }

    /// The folder of the manifest, relative to the root; empty for the root.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.file.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

/// The use a dependency entry declares and the rest of its path (the name, then perhaps a field).
fn dependency_path(path: &[String]) -> Option<(Use, &[String])> {
    let path = match path {
        [target, _, rest @ ..] if target == "target" => rest,
        [workspace, rest @ ..] if workspace == "workspace" => {
            let [table, rest @ ..] = rest else { return None };
            return (table == "dependencies").then_some((Use::Workspace, rest));
        }
        _ => path,
    };
    let (table, rest) = path.split_first()?;
    let used = match table.as_str() {
        "dependencies" => Use::Normal,
        "dev-dependencies" => Use::Test,
        "build-dependencies" => Use::Build,
        _ => return None,
    };
    Some((used, rest))
}

/// The fields of `name = "1"`, `name = { … }` and `name.field = …` alike.
fn fields(field: &[String], value: &str) -> Vec<(String, String)> {
    if let [field] = field {
        return vec![(field.clone(), unquoted(value))];
    }
    if value.starts_with('{') {
        let pairs = inline_table(value).into_iter();
        return pairs.map(|(key, value)| (key, unquoted(&value))).collect();
    }
    vec![("version".to_owned(), unquoted(value))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_dependency_are_read() {
        let text = "[package]\nname = \"p\"\n[dependencies]\na.workspace = true\nb = \"1\"\n\
            c = { workspace = true, features = [\n \"x\"] }\n[dependencies.d]\npackage = \"dd\"\n\
            workspace = true\n[target.'cfg(unix)'.dependencies]\ne = { path = \"../e\" }\n\
            [dev-dependencies]\na.workspace = true\n[build-dependencies]\nf = \"2\"\n";
        let manifest = Manifest::parse(&File::new("x/p/Cargo.toml", text));
        assert_eq!((manifest.name.as_str(), manifest.folder()), ("p", "x/p"));
        let found: Vec<_> = manifest
            .dependencies
            .iter()
            .map(|found| (found.name.as_str(), found.package(), found.used, found.line))
            .collect();
        let expected = [
            ("a", "a", Use::Normal, 4),
            ("b", "b", Use::Normal, 5),
            ("c", "c", Use::Normal, 6),
            ("d", "dd", Use::Normal, 9),
            ("e", "e", Use::Normal, 12),
            ("a", "a", Use::Test, 14),
            ("f", "f", Use::Build, 16),
        ];
        assert_eq!(found, expected);
        let inherited: Vec<_> =
            manifest.dependencies.iter().map(Dependency::is_inherited).collect();
        assert_eq!(inherited, [true, false, true, true, false, true, false]);
    }

    #[test]
    fn crate_roots_may_be_moved() {
        let text = "[package]\nname = \"p\"\n[lib]\npath = \"runner/lib.rs\"\n";
        let manifest = Manifest::parse(&File::new("p/Cargo.toml", text));
        assert_eq!(manifest.crate_roots, ["p/src/lib.rs", "p/src/main.rs", "p/runner/lib.rs"]);
    }

    #[test]
    fn the_root_lists_members_and_workspace_dependencies() {
        let text = "[workspace]\nmembers = [\"a\", \"b/c\"]\n[workspace.dependencies]\nx = \"1\"\n\
            [workspace.lints.rust]\ny = \"deny\"\n";
        let root = Manifest::parse(&File::new("Cargo.toml", text));
        assert_eq!(root.members, ["a", "b/c"]);
        assert_eq!(root.folder(), "");
        assert_eq!(root.dependencies.len(), 1);
        assert_eq!(root.dependencies[0].used, Use::Workspace);
        assert_eq!(root.dependencies[0].field("version"), Some("1"));
    }
}
