//! The files of the workspace, and the manifests of packages that Cargo has unpacked on this machine.
//!
//! The only module that opens files or reads the environment. Invariant: paths are relative to the
//! root, use `/`, and come in sorted order, so that findings do too. Files that are not UTF-8 have a
//! path but no text. Left out: version control, build output, caches, symbolic links.

#![expect(clippy::disallowed_methods, reason = "the one door to the disk of a test-only crate")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::File;
use crate::lock::Locked;

/// Folders that hold nothing a commit would carry.
const SKIPPED_FOLDERS: &[&str] =
    &[".git", "target", "azimuth-data", "node_modules", "__pycache__", ".venv", ".idea", ".vscode"];

/// The workspace as read from disk.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Text files, sorted by path.
    pub files: Vec<File>,
    /// Paths of all files and of all folders that hold one.
    pub paths: BTreeSet<String>,
}

impl Tree {
    /// A tree of the given text files.
    #[must_use]
    pub fn of(files: Vec<File>) -> Self {
        let mut tree = Self::default();
        for file in files {
            tree.add_path(&file.path);
            tree.files.push(file);
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    }

    /// Reads everything below `root`.
    ///
    /// # Errors
    ///
    /// When a folder or file below `root` cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let (mut files, mut others) = (Vec::new(), Vec::new());
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let name = entry.file_name();
                let kind = entry.file_type()?;
                if kind.is_dir() && !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    let path = relative(root, &entry.path());
                    match String::from_utf8(fs::read(entry.path())?) {
                        Ok(text) => files.push(File { path, text }),
                        Err(_) => others.push(path),
                    }
                }
            }
        }
        let mut tree = Self::of(files);
        for path in others {
            tree.add_path(&path);
        }
        Ok(tree)
    }

    /// The text file at `path`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust sources.
    pub fn rust_files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// Whether `path` is a folder directly below the root.
    #[must_use]
    pub fn is_top_folder(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        !path.contains('/') && self.paths.iter().any(|other| other.starts_with(&inside))
    }

    fn add_path(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.paths.extend(path.get(..at).map(str::to_owned));
        }
        self.paths.insert(path.to_owned());
    }
}

fn relative(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.join("/")
}

/// Where Cargo unpacks packages: one folder for each registry; none when there is no such folder.
#[must_use]
pub fn registry_folders() -> Vec<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let Some(home) = home else { return Vec::new() };
    let Ok(entries) = fs::read_dir(home.join("registry/src")) else { return Vec::new() };
    let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

/// The manifest of a locked package, if its source is in one of the `registries`.
#[must_use]
pub fn package_manifest(registries: &[PathBuf], package: &Locked) -> Option<File> {
    let folder = format!("{}-{}", package.name, package.version);
    let path = format!("{folder}/Cargo.toml");
    registries.iter().find_map(|registry| {
        let text = fs::read_to_string(registry.join(&path)).ok()?;
        Some(File { path: path.clone(), text })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_knows_its_folders() {
        let tree = Tree::of(vec![File::new("b/c/d.rs", ""), File::new("a.md", "x")]);
        let paths: Vec<_> = tree.paths.iter().map(String::as_str).collect();
        assert_eq!(paths, ["a.md", "b", "b/c", "b/c/d.rs"]);
        assert!(tree.is_top_folder("b"));
        assert!(!tree.is_top_folder("b/c"));
        assert!(!tree.is_top_folder("a.md"));
        assert_eq!(tree.rust_files().count(), 1);
        assert_eq!(tree.file("a.md").map(|file| file.text.as_str()), Some("x"));
    }

    #[test]
    fn this_package_is_read_from_disk_in_order() {
        let tree = Tree::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("our own folder");
        let own = tree.file("src/tree.rs").expect("this very file");
        assert!(own.text.starts_with("//! The files"));
        assert!(tree.files.is_sorted_by(|a, b| a.path <= b.path));
    }
}
