//! Every check of `tidy` on the workspace it lives in; a failure lists all findings of one kind.

#![forbid(unsafe_code)]

use std::path::Path;

use tidy::imports::MemberFolders;
use tidy::manifest::Manifest;
use tidy::tree::{Tree, package_manifest, registry_folders};
use tidy::{
    File, Finding, architecture, imports, layout, licences, lock, settings, unsafe_code, words,
};

/// Packages whose manifest declares no licence, and the licence that their files hold.
const LICENCE_EXCEPTIONS: &[(&str, &str)] = &[];

/// The workspace with its manifests read.
struct Workspace {
    tree: Tree,
    root: Manifest,
    members: Vec<Manifest>,
}

fn tree() -> Tree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Tree::read(&root).expect("every file of the workspace can be read")
}

fn workspace() -> Workspace {
    let tree = tree();
    let manifest =
        |path: &str| Manifest::parse(tree.file(path).expect("a manifest of each member"));
    let root = manifest("Cargo.toml");
    let members: Vec<_> =
        root.members.iter().map(|folder| manifest(&format!("{folder}/Cargo.toml"))).collect();
    assert!(members.len() > 1, "the members are listed in the root manifest");
    Workspace { tree, root, members }
}

fn architecture_text(tree: &Tree) -> &File {
    tree.file(architecture::PATH).expect("docs/ARCHITECTURE.md exists")
}

fn assert_none(findings: impl IntoIterator<Item = Finding>) {
    let findings: Vec<_> = findings.into_iter().map(|finding| finding.to_string()).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn crates_import_only_what_the_table_allows() {
    let Workspace { tree, root, members } = workspace();
    assert_none(members.iter().flat_map(|member| imports::check_edges(member, &root)));
    assert_none(tree.rust_files().flat_map(imports::check_paths));
}

#[test]
fn versions_and_sources_stand_in_the_root_manifest() {
    let Workspace { root, members, .. } = workspace();
    let folders: MemberFolders =
        members.iter().map(|member| (member.name.clone(), member.folder().to_owned())).collect();
    let loose = members.iter().flat_map(imports::check_inherited);
    assert_none(loose.chain(imports::check_sources(&root, &folders)));
}

#[test]
fn sources_open_with_a_header() {
    assert_none(tree().rust_files().filter_map(layout::check_header));
}

#[test]
fn sources_are_short() {
    assert_none(tree().rust_files().filter_map(layout::check_length));
}

#[test]
fn clippy_has_our_limits() {
    assert_none(settings::check_clippy(&tree()));
}

#[test]
fn members_inherit_the_lints() {
    assert_none(workspace().members.iter().filter_map(settings::check_lints));
}

#[test]
fn architecture_names_paths_that_exist() {
    let tree = tree();
    assert_none(architecture::check_paths(architecture_text(&tree), &tree));
}

#[test]
fn architecture_names_every_crate() {
    let Workspace { tree, root, .. } = workspace();
    assert_none(architecture::check_members(architecture_text(&tree), &root.members));
}

#[test]
fn architecture_names_every_module() {
    let tree = tree();
    assert_none(architecture::check_modules(architecture_text(&tree), &tree));
}

#[test]
fn nothing_is_left_unfinished() {
    assert_none(tree().files.iter().flat_map(words::check_unfinished));
}

#[test]
fn ignored_tests_say_why() {
    assert_none(tree().rust_files().flat_map(words::check_ignored));
}

#[test]
fn tests_do_not_sleep() {
    assert_none(tree().rust_files().flat_map(words::check_sleeps));
}

#[test]
fn no_machine_is_named() {
    assert_none(tree().files.iter().flat_map(words::check_machines));
}

#[test]
fn unsafe_code_stays_in_its_files() {
    assert_none(tree().rust_files().flat_map(unsafe_code::check_places));
}

#[test]
fn crate_roots_ban_unsafe_code() {
    let Workspace { tree, members, .. } = workspace();
    let roots = members.iter().flat_map(|member| &member.crate_roots);
    let roots: Vec<_> = roots.filter_map(|path| tree.file(path)).collect();
    assert!(roots.len() > 1, "crate roots are found");
    assert_none(roots.into_iter().filter_map(unsafe_code::check_root));
}

#[test]
fn licences_are_allowed() {
    let tree = tree();
    let lock_file = tree.file("Cargo.lock").expect("Cargo.lock is committed");
    let deny = tree.file("deny.toml").expect("deny.toml exists at the root");
    let allowed = licences::allow_list(deny);
    let registries = registry_folders();
    let mut findings = licences::check_allow_list(deny);
    let mut skipped = Vec::new();
    for package in lock::packages(lock_file).iter().filter(|package| package.source.is_some()) {
        let Some(manifest) = package_manifest(&registries, package) else {
            skipped.push(format!("{} {}", package.name, package.version));
            continue;
        };
        let exception = LICENCE_EXCEPTIONS.iter().find(|(name, _)| *name == package.name);
        let licence = licences::declared(&manifest)
            .or_else(|| exception.map(|(_, licence)| (*licence).to_owned()));
        findings.extend(licences::check_package(lock_file, package, licence.as_deref(), &allowed));
    }
    if !skipped.is_empty() {
        let names = skipped.join(", ");
        println!("{} packages skipped, their source is not on disk: {names}", skipped.len());
    }
    assert_none(findings);
}

#[test]
fn shared_packages_are_locked_once() {
    let tree = tree();
    let lock_file = tree.file("Cargo.lock").expect("Cargo.lock is committed");
    let packages = lock::packages(lock_file);
    assert!(!packages.is_empty(), "the lock file lists packages");
    assert_none(lock::check_single(lock_file, &packages));
}
