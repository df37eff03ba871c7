//! What the store does on the disk of the temporary directory (`TMPDIR`): commits of 1 to 64 writers,
//! a checkpoint, opening, and reading.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use catalog::{Column, ColumnType, Define, Defined};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use storage::fs::OsFileSystem;
use storage::memtable::vector_field;
use storage::{Command, Effect, Store, StoreOptions, TableWrite};
use types::{Dim, SystemClock, TableId, VectorKind};

const DIM: u32 = 128;
const ROWS_OPEN: i64 = 200_000;
const ROWS_FLUSH: i64 = 65_536;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("azimuth-bench-{}-{name}", std::process::id()));
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Store {
    let options = StoreOptions {
        automatic_checkpoints: false,
        index_threads: 0,
        ..StoreOptions::new(path, 1)
    };
    Store::open(options, Arc::new(OsFileSystem), Arc::new(SystemClock)).unwrap().0
}

fn make_table(store: &Store) -> TableId {
    let view = store.read_view();
    let schema = view.catalog().namespace("public", view.at()).unwrap().id;
    let column = |name: &str, column_type| Column::new(name, column_type, false);
    let columns = vec![column("id", ColumnType::Int8), column("v", ColumnType::Vector(Dim(DIM)))];
    let define = Define::CreateCollection {
        schema,
        name: "t".to_owned(),
        columns,
        primary_key: vec![0],
        retention: None,
        checks: Vec::new(),
        sorted: Vec::new(),
        key_name: None,
        sequences: Vec::new(),
    };
    let applied = store.propose_blocking(Command::Define(define)).unwrap();
    let Effect::Defined(Defined::Collection(id)) = applied.effect else { unreachable!() };
    id
}

fn write(store: &Store, table: TableId, from: i64, to: i64) -> Command {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
    let count = usize::try_from(to - from).unwrap() * DIM as usize;
    let values = Float32Array::from_iter_values((0..count).map(|at| (at % 977) as f32));
    let field = vector_field("v", VectorKind::Vector, Dim(DIM));
    let DataType::FixedSizeList(item, width) = field.data_type().clone() else { unreachable!() };
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, width, Arc::new(values), None));
    let schema =
        Schema::new(vec![Field::new("id", DataType::Int64, false), field.with_nullable(false)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![ids, vectors]).unwrap();
    let read_ts = store.read_view().at();
    Command::Write(vec![TableWrite {
        table,
        version: 0,
        read_ts,
        ended: Vec::new(),
        begun: Some(batch),
    }])
}

fn fill(store: &Store, table: TableId, from: i64, to: i64) {
    for at in (from..to).step_by(10_000) {
        store.propose_blocking(write(store, table, at, to.min(at + 10_000))).unwrap();
    }
}

fn commits(c: &mut Criterion) {
    let scratch = Scratch::new("commit");
    let store = open(&scratch.0);
    let table = make_table(&store);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut next = 0;
    let mut group = c.benchmark_group("commit");
    for writers in [1_i64, 8, 64] {
        group.throughput(Throughput::Elements(writers.unsigned_abs()));
        group.bench_function(format!("{writers} writers, one row each"), |b| {
            b.iter(|| {
                let rows = next..next + writers;
                next += writers;
                let commands = rows.map(|id| write(&store, table, id, id + 1));
                let replies: Vec<_> =
                    commands.map(|command| store.commit_log().propose(command)).collect();
                runtime.block_on(async {
                    let tasks = replies.into_iter().map(|reply| async { reply.await.unwrap() });
                    futures::future::join_all(tasks).await
                })
            });
        });
    }
    group.finish();
}

fn checkpoint(c: &mut Criterion) {
    let scratch = Scratch::new("flush");
    let store = open(&scratch.0);
    let table = make_table(&store);
    let mut next = 0;
    let mut group = c.benchmark_group("checkpoint");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(ROWS_FLUSH.unsigned_abs() * u64::from(4 * DIM + 16)));
    group.bench_function(format!("of {ROWS_FLUSH} new rows"), |b| {
        b.iter_batched(
            || {
                fill(&store, table, next, next + ROWS_FLUSH);
                next += ROWS_FLUSH;
            },
            |()| store.checkpoint().unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn reading(c: &mut Criterion) {
    let scratch = Scratch::new("open");
    let store = open(&scratch.0);
    let id = make_table(&store);
    fill(&store, id, 0, ROWS_OPEN);
    store.close().unwrap();
    drop(store);
    c.bench_function("open: 200,000 rows in segments", |b| b.iter(|| open(&scratch.0)));
    let store = open(&scratch.0);
    let view = store.read_view();
    let table = view.table(id).unwrap();
    let mut key = 0;
    c.bench_function("point read by key, in a segment", |b| {
        b.iter(|| {
            key = (key * 48_271 + 11) % ROWS_OPEN;
            let key: ArrayRef = Arc::new(Int64Array::from(vec![key]));
            black_box(table.find(&[key], view.at()).unwrap()).1.unwrap()
        });
    });
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Bytes(ROWS_OPEN.unsigned_abs() * u64::from(4 * DIM)));
    group.bench_function("sum of all vectors, in segments", |b| {
        b.iter(|| {
            let rows = table.rows();
            rows.chunks()
                .map(|chunk| {
                    let vectors = chunk.batch().unwrap().column(1);
                    let list = vectors.as_any().downcast_ref::<FixedSizeListArray>().unwrap();
                    let values = list.values().as_any().downcast_ref::<Float32Array>().unwrap();
                    arrow::compute::sum::<Float32Type>(values).unwrap()
                })
                .sum::<f32>()
        });
    });
    group.finish();
}

criterion_group!(benches, commits, checkpoint, reading);
criterion_main!(benches);
