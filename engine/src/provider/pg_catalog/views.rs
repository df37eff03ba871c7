//! The views of schema `azimuth`: what the server holds and what it is at; and PostgreSQL's view of
//! the same progress.

use catalog::{Collection, Index};
use storage::memtable::{SegmentState, Table};
use storage::{ReadView, Working};

use super::super::scope::Scope;
use super::table::{CatalogTable, Cell, row};
use crate::tuner::{ClassReport, Reason, Tuner};

/// Views of the schema.
pub(super) const VIEWS: [&str; 6] =
    ["collections", "indexes", "progress", "segments", "tuner", "tuner_log"];

fn integer(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn namespace<'a>(view: &'a ReadView, collection: &Collection) -> &'a str {
    let found = view.catalog().namespaces(view.at()).find(|n| n.id == collection.schema);
    found.map_or("", |namespace| namespace.name.as_str())
}

/// Collections that exist, with their tables.
fn tables(view: &ReadView) -> impl Iterator<Item = (&Collection, &Table)> {
    let known = view.catalog().collections(view.at());
    known.filter_map(|collection| Some((collection, &**view.table(collection.id)?)))
}

fn indexes<'a>(view: &'a ReadView, of: &'a Collection) -> impl Iterator<Item = &'a Index> {
    view.catalog().indexes_of(of.id, view.at())
}

/// A view of the schema `azimuth`.
pub(super) fn azimuth(name: &str, view: &ReadView, scope: &Scope) -> CatalogTable {
    match name {
        "collections" => collections(view),
        "indexes" => index_states(view, scope.tuner()),
        "segments" => segments(view),
        "tuner" => search_classes(view, scope.tuner()),
        "tuner_log" => tuner_log(view, scope.tuner()),
        _ => progress(view, scope.store().working()),
    }
}

fn collections(view: &ReadView) -> CatalogTable {
    let mut out = CatalogTable::new(
        "namespace:name collection:name live_rows:int8 ended_rows:int8 history_rows:int8 \
         memory_bytes:int8 file_bytes:int8 retention_seconds:int8 horizon:timestamptz",
    );
    for (collection, table) in tables(view) {
        let rows = table.rows();
        let (live, points) = (i64::from(rows.live()), i64::from(rows.points()));
        let history = rows.segment_states().filter(|part| part.history);
        let horizon = Some(table.horizon().0).filter(|horizon| *horizon > i64::MIN);
        out.push(row![
            namespace(view, collection),
            collection.name.as_str(),
            live,
            points - live,
            integer(history.map(|part| part.rows).sum()),
            integer(table.memory_bytes()),
            integer(rows.segment_states().map(|part| part.file_bytes).sum()),
            collection.retention_micros() / 1_000_000,
            horizon.map_or(Cell::Null, Cell::Integer),
        ]);
    }
    out
}

fn segments(view: &ReadView) -> CatalogTable {
    let mut out = CatalogTable::new(
        "namespace:name collection:name file:text history:bool first_row:int8 rows:int8 \
         ended_rows:int8 bytes:int8",
    );
    for (collection, table) in tables(view) {
        for SegmentState { file, history, first_row, rows, ended, file_bytes } in
            table.rows().segment_states()
        {
            out.push(row![
                namespace(view, collection),
                collection.name.as_str(),
                file,
                history,
                i64::try_from(first_row.0).unwrap_or(i64::MAX),
                integer(rows),
                integer(ended),
                integer(file_bytes),
            ]);
        }
    }
    out
}

fn float(value: Option<f64>) -> Cell {
    value.map_or(Cell::Null, Cell::Float)
}

/// Columns of what is known of searches: recall, its standard error, the samples it comes from, and
/// percentiles of the latency.
macro_rules! known_columns {
    () => {
        " ef_per_row:float8 recall:float8 recall_error:float8 recall_samples:int8 \
         searches:int8 p50_us:float8 p95_us:float8 p99_us:float8"
    };
}

fn known(class: Option<&ClassReport>) -> Vec<Cell> {
    let Some(class) = class else {
        let zero = || Cell::Integer(0);
        let null = || Cell::Null;
        return vec![null(), null(), null(), zero(), zero(), null(), null(), null()];
    };
    let seen = class.latency.searches > 0;
    let latency = |micros: f64| float(Some(micros).filter(|_| seen));
    vec![
        float(class.ratio),
        float(class.expected.map(|expected| expected.recall)),
        float(class.expected.map(|expected| expected.error)),
        #[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
        Cell::Integer(class.samples as i64),
        Cell::Integer(i64::try_from(class.searches).unwrap_or(i64::MAX)),
        latency(class.latency.p50),
        latency(class.latency.p95),
        latency(class.latency.p99),
    ]
}

/// What is known of searches is that of the busiest class.
fn index_states(view: &ReadView, tuner: &Tuner) -> CatalogTable {
    let mut out = CatalogTable::new(concat!(
        "namespace:name collection:name index:name quantization:name rows:int8 \
         covered_rows:int8 memory_bytes:int8 code_bytes:int8 calibrations:int4 \
         recall_target:float8",
        known_columns!()
    ));
    for (collection, table) in tables(view) {
        let contents = table.contents();
        for definition in indexes(view, collection) {
            let Some(index) = contents.index(definition.id) else { continue };
            let mut cells = row![
                namespace(view, collection),
                collection.name.as_str(),
                definition.name.as_str(),
                definition.options.quantization.name(),
                i64::from(contents.rows.points()),
                integer(contents.rows.points_below(index.covered())),
                integer(index.memory_bytes()),
                integer(index.code_bytes()),
                i64::from(index.calibrations()),
                definition.options.recall_target(),
            ];
            cells.extend(known(tuner.of(definition).report().first()));
            out.push(cells);
        }
    }
    out
}

/// One row for each class of searches of each index.
fn search_classes(view: &ReadView, tuner: &Tuner) -> CatalogTable {
    let mut out = CatalogTable::new(concat!(
        "namespace:name collection:name index:name k:text share:text",
        known_columns!()
    ));
    for (collection, _) in tables(view) {
        for definition in indexes(view, collection) {
            for class in tuner.of(definition).report() {
                let mut cells = row![
                    namespace(view, collection),
                    collection.name.as_str(),
                    definition.name.as_str(),
                    class.class.k_text(),
                    class.class.share_text(),
                ];
                cells.extend(known(Some(&class)));
                out.push(cells);
            }
        }
    }
    out
}

/// The last changes of `ef`, of indexes that are still there.
fn tuner_log(view: &ReadView, tuner: &Tuner) -> CatalogTable {
    let mut out = CatalogTable::new(
        "at:timestamptz namespace:name collection:name index:name k:text share:text \
         ef_per_row_before:float8 ef_per_row:float8 recall:float8 p95_us:float8 reason:text",
    );
    for change in tuner.moves() {
        let index = view.catalog().index_by_id(change.index);
        let Some(index) = index.filter(|index| index.life.contains(view.at())) else { continue };
        let Some(collection) = view.catalog().collection_by_id(index.table) else { continue };
        out.push(row![
            change.at,
            namespace(view, collection),
            collection.name.as_str(),
            index.name.as_str(),
            change.class.k_text(),
            change.class.share_text(),
            float(change.from),
            change.to,
            change.recall,
            float(change.p95),
            change.reason.map_or("learned from samples", Reason::name),
        ]);
    }
    out
}

/// One row while a checkpoint or vacuum runs, none otherwise.
fn progress(view: &ReadView, working: Option<Working>) -> CatalogTable {
    let mut out = CatalogTable::new(
        "command:text namespace:name collection:name phase:text chunks_done:int8 chunks_total:int8",
    );
    if let Some(Working { vacuum, table, phase, done, total }) = working {
        let collection = table.and_then(|id| view.catalog().collection_by_id(id));
        let name = |name: Option<&str>| name.map_or(Cell::Null, Cell::from);
        out.push(row![
            if vacuum { "VACUUM" } else { "CHECKPOINT" },
            name(collection.map(|collection| namespace(view, collection))),
            name(collection.map(|collection| collection.name.as_str())),
            phase.name(),
            integer(done),
            integer(total),
        ]);
    }
    out
}

/// `pg_stat_progress_create_index`: indexes whose graph does not cover all rows yet, whether a
/// statement waits for them or not.
pub(super) fn progress_create_index(view: &ReadView) -> CatalogTable {
    let mut out = CatalogTable::new(
        "pid:int4 datid:oid datname:name relid:oid index_relid:oid command:text phase:text \
         lockers_total:int8 lockers_done:int8 current_locker_pid:int8 blocks_total:int8 \
         blocks_done:int8 tuples_total:int8 tuples_done:int8 partitions_total:int8 \
         partitions_done:int8",
    );
    for (collection, table) in tables(view) {
        let contents = table.contents();
        for definition in indexes(view, collection) {
            let Some(index) = contents.index(definition.id) else { continue };
            let (covered, rows) = (index.covered(), &contents.rows);
            if covered >= rows.len() {
                continue;
            }
            let zero = 0_i64;
            out.push(row![
                Cell::Null,
                super::DATABASE_OID,
                super::super::DATABASE,
                collection.id.0,
                definition.id.0,
                "CREATE INDEX",
                "building index",
                zero,
                zero,
                zero,
                zero,
                zero,
                i64::from(rows.points()),
                integer(rows.points_below(covered)),
                zero,
                zero,
            ]);
        }
    }
    out
}
