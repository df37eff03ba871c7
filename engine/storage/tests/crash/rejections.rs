//! Commands that are logged and change nothing, the same when they are replayed; and a directory
//! that is in use.

use std::path::PathBuf;
use std::sync::Arc;

use catalog::{CatalogError, Define};
use storage::fs::SimFileSystem;
use storage::{Applied, Command, Rejection, StorageError, Store};
use types::{CommitTs, SteppedClock, TableId};

use crate::support::{
    START_MICROS, change_rows, clock_at, create_table, history_of, make_table, open, public, row,
    table_write,
};

/// A store with a table of three rows, the first of which has ended, and an empty table.
struct Shop {
    fs: SimFileSystem,
    clock: Arc<SteppedClock>,
    store: Store,
    full: TableId,
    empty: TableId,
}

fn shop() -> Shop {
    let (fs, clock) = (SimFileSystem::default(), clock_at(START_MICROS));
    let (store, _) = open(&fs, &clock).unwrap();
    let (full, empty) = (make_table(&store, "t"), make_table(&store, "e"));
    change_rows(&store, full, &[], &[row(1, "a"), row(2, "b"), row(3, "c")]).unwrap();
    change_rows(&store, full, &[0], &[]).unwrap();
    Shop { fs, clock, store, full, empty }
}

fn rejection(answer: Result<Applied, StorageError>) -> Rejection {
    match answer {
        Err(StorageError::Rejected(rejection)) => rejection,
        Err(error) => panic!("failed, not rejected: {error}"),
        Ok(applied) => panic!("applied, not rejected: {applied:?}"),
    }
}

/// Proposes; the command must be rejected, now and when it is replayed, and change nothing.
fn assert_rejected(shop: Shop, command: Command, expected: &Rejection) -> Shop {
    let Shop { fs, clock, store, full, empty } = shop;
    let context = format!("{command:?}");
    let histories = |store: &Store| [full, empty].map(|table| history_of(store, table));
    let before = (store.read_view(), histories(&store));
    assert_eq!(rejection(store.propose_blocking(command)), *expected, "{context}");

    let after = store.read_view();
    let position = after.position();
    assert_eq!(position.index, before.0.position().index.next(), "{context}: it is logged");
    assert!(after.at() > before.0.at(), "{context}");
    assert_eq!(histories(&store), before.1, "{context}");
    assert!(after.catalog() == before.0.catalog(), "{context}: the catalog changed");
    drop(store);
    let (store, _) = open(&fs, &clock).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(store.read_view().position(), position, "{context}, replayed");
    assert_eq!(histories(&store), before.1, "{context}, replayed");
    assert!(store.read_view().catalog() == before.0.catalog(), "{context}, replayed");
    Shop { fs, clock, store, full, empty }
}

fn duplicate(row: usize) -> Rejection {
    Rejection::DuplicateKey { constraint: "t_pkey".to_owned(), row }
}

#[test]
fn a_rejected_write_changes_nothing_now_and_when_replayed() {
    let mut shop = shop();
    let (full, empty) = (shop.full, shop.empty);
    let write = |table, ended: &[usize], begun: &[(i64, &str)]| {
        let begun: Vec<_> = begun.iter().map(|(key, value)| row(*key, value)).collect();
        table_write(table, CommitTs(START_MICROS), ended, &begun)
    };
    let beyond_32_bits = {
        let mut write = write(full, &[1], &[]);
        write.ended[0].0 = (1 << 32) | 1;
        write
    };
    let cases = [
        (vec![write(full, &[], &[(2, "again")])], duplicate(0)),
        (vec![write(full, &[], &[(7, "new"), (3, "again")])], duplicate(1)),
        (vec![write(full, &[], &[(7, "new"), (8, "new"), (7, "twice")])], duplicate(2)),
        (vec![write(full, &[1], &[(3, "moved onto another")])], duplicate(0)),
        (vec![write(full, &[0], &[])], Rejection::Conflict),
        (vec![write(full, &[0], &[(1, "ended before")])], Rejection::Conflict),
        (vec![write(full, &[1, 1], &[])], Rejection::Conflict),
        (vec![write(full, &[2, 999], &[(9, "new")])], Rejection::Conflict),
        (vec![beyond_32_bits], Rejection::Conflict),
        (vec![write(empty, &[], &[(1, "x")]), write(full, &[0], &[])], Rejection::Conflict),
        (vec![write(full, &[2], &[]), write(empty, &[0], &[])], Rejection::Conflict),
    ];
    for (writes, expected) in cases {
        shop = assert_rejected(shop, Command::Write(writes), &expected);
    }
    // What was refused to others is still free, and what they could not end still lives.
    let Shop { store, .. } = &shop;
    change_rows(store, full, &[1, 2], &[row(1, "back"), row(2, "new"), row(7, "new")]).unwrap();
    assert_eq!(history_of(store, full).living().collect::<Vec<_>>(), [3, 4, 5]);
}

#[test]
fn a_write_to_a_dropped_table_is_rejected() {
    let shop = shop();
    let (full, empty) = (shop.full, shop.empty);
    shop.store.propose_blocking(Command::Define(Define::DropCollection { id: full })).unwrap();
    let at = shop.store.read_view().at();
    let writes =
        vec![table_write(empty, at, &[], &[row(1, "x")]), table_write(full, at, &[1], &[])];
    let shop = assert_rejected(shop, Command::Write(writes), &Rejection::TableGone);
    let inserts = vec![table_write(full, at, &[], &[row(9, "x")])];
    assert_rejected(shop, Command::Write(inserts), &Rejection::TableGone);
}

#[test]
fn a_write_to_an_unknown_table_is_rejected_and_does_not_prevent_the_next_start() {
    let shop = shop();
    let at = shop.store.read_view().at();
    let inserts = vec![table_write(TableId(7), at, &[], &[row(1, "x")])];
    let shop = assert_rejected(shop, Command::Write(inserts), &Rejection::TableGone);
    let deletes = vec![table_write(TableId(7), at, &[0], &[])];
    assert_rejected(shop, Command::Write(deletes), &Rejection::TableGone);
}

#[test]
fn a_rejected_definition_changes_nothing_now_and_when_replayed() {
    let mut shop = shop();
    let public = public(&shop.store);
    let gone = || Rejection::Catalog(CatalogError::Gone);
    let taken = |name: &str| Rejection::Catalog(CatalogError::RelationExists(name.to_owned()));
    let cases = [
        (create_table(public, "t"), taken("t")),
        (create_table(public, "t_pkey"), taken("t_pkey")),
        (Define::DropCollection { id: TableId(7) }, gone()),
        (
            Define::CreateNamespace { name: "public".to_owned() },
            Rejection::Catalog(CatalogError::NamespaceExists("public".to_owned())),
        ),
        (
            Define::DropNamespace { id: public, cascade: false },
            Rejection::Catalog(CatalogError::NamespaceNotEmpty("public".to_owned())),
        ),
    ];
    for (define, expected) in cases {
        shop = assert_rejected(shop, Command::Define(define), &expected);
    }
    // A refused definition takes no id: the next table gets the one behind the last table's two.
    assert_eq!(make_table(&shop.store, "next"), TableId(shop.empty.0 + 2));
}

#[test]
fn a_directory_is_opened_once_at_a_time() {
    let Shop { fs, clock, store, full, .. } = shop();
    for _ in 0..2 {
        let error = open(&fs, &clock).unwrap_err();
        let StorageError::InUse(directory) = &error else { panic!("{error}") };
        assert_eq!(*directory, PathBuf::from("data"));
    }
    change_rows(&store, full, &[], &[row(9, "still served")]).unwrap();
    let expected = history_of(&store, full);
    drop(store);
    let (store, _) = open(&fs, &clock).unwrap();
    assert_eq!(history_of(&store, full), expected);
}
