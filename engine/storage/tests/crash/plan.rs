//! A fixed workload, what a store holds after each of its commands, and the judgement of a store
//! that was recovered somewhere in between.

use std::path::Path;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use catalog::{Alteration, Column, ColumnType, Define, SortedColumn, SortedIndex};
use storage::fs::{CrashPolicy, SimFileSystem};
use storage::memtable::{missing_as, missing_to_text};
use storage::{Command, Store};
use types::{CommitTs, TableId};

use crate::support::{
    MISSING, Row, START_MICROS, Versions, altered_write, assert_kept, change_rows, clock_at,
    create_table, kept_of, made_table, make_table, open, public, row,
};

const STEP_MICROS: i64 = 1_000;
/// What the clock shows after a restart: one hour later.
const RESTART_MICROS: i64 = START_MICROS + 3_600_000_000;

/// A step of the workload; rows are given as key and bytes of the value.
enum Step {
    Create,
    Insert(Vec<(i64, usize)>),
    Delete(Vec<i64>),
    Update(i64, usize),
    Checkpoint,
    /// How long ended versions can be read from now on, in microseconds.
    Retain(i64),
    Vacuum,
    /// What of the table's columns changes.
    Alter(Alteration),
}

/// Entries of one sector and of many, one larger than a log file; several log files before each
/// checkpoint; later checkpoints remove earlier ones, make segments of full chunks, and merge those.
fn script(rounds: i64) -> Vec<Step> {
    let mut steps = vec![
        Step::Create,
        Step::Insert(vec![(1, 10), (2, 700), (3, 5)]),
        Step::Insert(vec![(4, 1_800)]),
        Step::Update(2, 40),
        Step::Insert(vec![(5, 10), (6, 10)]),
        Step::Delete(vec![1]),
        Step::Checkpoint,
        Step::Insert(vec![(1, 900)]),
        Step::Update(4, 2_500),
        Step::Delete(vec![3, 5]),
        Step::Insert(vec![(7, 300), (8, 300), (9, 300)]),
        Step::Update(7, 10),
        Step::Checkpoint,
        Step::Insert(vec![(10, 5_000)]),
        Step::Update(1, 100),
        Step::Delete(vec![10]),
        Step::Checkpoint,
        Step::Insert(vec![(11, 20), (12, 20), (13, 20), (14, 20)]),
        Step::Checkpoint,
        Step::Insert(vec![(15, 20), (16, 20), (17, 20), (18, 20)]),
        Step::Delete(vec![12, 16]),
        Step::Checkpoint,
        Step::Insert(vec![(12, 20)]),
        Step::Update(11, 600),
    ];
    for round in 0..rounds {
        let key = 100 + 10 * round;
        steps.extend([
            Step::Insert((key..key + 5).map(|key| (key, 30)).collect()),
            Step::Delete(vec![key + 1]),
            Step::Checkpoint,
            Step::Update(key + 2, 60),
        ]);
    }
    steps
}

/// Rows that end, are dropped, and are taken to history before they are.
fn vacuuming() -> Vec<Step> {
    vec![
        Step::Retain(0),
        Step::Update(7, 30),
        Step::Delete(vec![8, 13]),
        Step::Vacuum,
        Step::Insert(vec![(21, 5), (22, 5), (23, 5), (24, 5), (25, 5)]),
        Step::Update(2, 15),
        Step::Update(21, 900),
        Step::Retain(3 * STEP_MICROS),
        Step::Delete(vec![22, 23]),
        Step::Update(4, 20),
        Step::Vacuum,
        Step::Insert(vec![(22, 5), (26, 5)]),
        Step::Delete(vec![26]),
        Step::Checkpoint,
        Step::Retain(0),
        Step::Vacuum,
        Step::Update(25, 10),
    ]
}

/// Rows before and after columns come, change and go, in the log and in segments.
fn altering() -> Vec<Step> {
    let value: ArrayRef = Arc::new(Int32Array::from(vec![MISSING]));
    let missing = Some(missing_to_text(&value).expect("a number"));
    let wider = missing_as(missing.as_ref().expect("a value"), ColumnType::Int4, ColumnType::Int8);
    let column = Column::new("added", ColumnType::Int4, true);
    vec![
        Step::Alter(Alteration::AddColumn { column, missing, sequence: None }),
        Step::Insert((31..41).map(|key| (key, 8)).collect()),
        Step::Checkpoint,
        Step::Alter(Alteration::SetType {
            column: 3,
            column_type: ColumnType::Int8,
            missing: Some(wider.expect("a number")),
        }),
        Step::Insert((41..46).map(|key| (key, 8)).collect()),
        Step::Delete(vec![31, 35]),
        Step::Checkpoint,
        Step::Alter(Alteration::AddColumn {
            column: Column::new("last", ColumnType::Int4, true),
            missing: None,
            sequence: None,
        }),
        Step::Update(41, 9),
        Step::Alter(Alteration::DropColumn { column: 3, checks: Vec::new() }),
        Step::Update(42, 9),
    ]
}

impl Step {
    /// Ids of rows that end and rows that begin.
    fn rows(&self, number: usize, versions: &Versions) -> (Vec<usize>, Vec<Row>) {
        let alive = |key: i64| versions.alive(key).expect("the script names living rows");
        let sized = |key: i64, bytes: usize| {
            row(key, &format!("row {key} of step {number}: {}", "x".repeat(bytes)))
        };
        match self {
            Self::Create | Self::Checkpoint | Self::Retain(_) | Self::Vacuum | Self::Alter(_) => {
                (Vec::new(), Vec::new())
            }
            Self::Insert(rows) => {
                (Vec::new(), rows.iter().map(|(key, bytes)| sized(*key, *bytes)).collect())
            }
            Self::Delete(keys) => (keys.iter().map(|key| alive(*key)).collect(), Vec::new()),
            Self::Update(key, bytes) => (vec![alive(*key)], vec![sized(*key, *bytes)]),
        }
    }
}

/// What the workload does with a store.
#[derive(Debug)]
enum Action {
    Propose(Command),
    Checkpoint,
    Vacuum,
}

/// The workload with all it should lead to.
#[derive(Debug)]
pub(crate) struct Plan {
    actions: Vec<Action>,
    /// Row versions, had none been dropped, after the first `n` proposals.
    pub(crate) after: Vec<Versions>,
    /// Commit timestamps of the proposals.
    commits: Vec<CommitTs>,
    pub(crate) table: TableId,
    /// The files at the end.
    pub(crate) fs: SimFileSystem,
    /// Changing operations of the whole run, and syncs.
    pub(crate) operations: u64,
    pub(crate) syncs: u64,
}

/// How far a run came.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) fs: SimFileSystem,
    acknowledged: usize,
    proposed: usize,
}

fn log_files(fs: &SimFileSystem) -> usize {
    let log = |path: &Path| path.extension().is_some_and(|ending| ending == "log");
    fs.files().iter().filter(|(path, _)| log(path)).count()
}

impl Plan {
    /// Runs the script once without a crash and notes everything.
    pub(crate) fn record() -> Self {
        Self::follow(&script(0))
    }

    /// The same, followed by vacuums that drop rows.
    pub(crate) fn record_vacuums() -> Self {
        let plan =
            Self::follow(&[script(0), vacuuming()].into_iter().flatten().collect::<Vec<_>>());
        let (store, _) = open(&plan.fs.fork(), &clock_at(RESTART_MICROS)).unwrap();
        let kept = kept_of(&store, plan.table).len();
        assert!(kept < plan.after.last().unwrap().0.len() - 5, "{kept} rows are kept");
        plan
    }

    /// The same, followed by changes of columns.
    pub(crate) fn record_alterations() -> Self {
        let script = [script(0), vacuuming(), altering()];
        Self::follow(&script.into_iter().flatten().collect::<Vec<_>>())
    }

    /// The same, followed by sorted indexes.
    pub(crate) fn record_sorted() -> Self {
        let script = [script(0), vacuuming(), altering(), sorting()];
        Self::follow(&script.into_iter().flatten().collect::<Vec<_>>())
    }

    /// The same, followed by rounds of writes and a checkpoint.
    pub(crate) fn record_rounds(rounds: i64) -> Self {
        Self::follow(&script(rounds))
    }

    fn follow(script: &[Step]) -> Self {
        let fs = SimFileSystem::default();
        let clock = clock_at(START_MICROS);
        let (store, _) = open(&fs, &clock).unwrap();
        let (mut actions, mut commits, mut table) = (Vec::new(), Vec::new(), TableId(0));
        let mut versions = Versions::default();
        let mut after = vec![versions.clone()];
        let mut purged_most = 0;
        for (number, step) in script.iter().enumerate() {
            let (ended, begun) = step.rows(number, &versions);
            let command = match step {
                Step::Checkpoint => {
                    let files = log_files(&fs);
                    assert!(store.checkpoint().unwrap().is_some());
                    purged_most = purged_most.max(files - log_files(&fs));
                    actions.push(Action::Checkpoint);
                    continue;
                }
                Step::Vacuum => {
                    store.vacuum(None).unwrap();
                    actions.push(Action::Vacuum);
                    continue;
                }
                Step::Retain(micros) => {
                    Command::Define(Define::SetRetention { id: table, retention: Some(*micros) })
                }
                Step::Create => Command::Define(create_table(public(&store), "t")),
                Step::Insert(_) | Step::Delete(_) | Step::Update(..) => {
                    let view = store.read_view();
                    let collection = view.catalog().collection_by_id(table).unwrap();
                    let (version, rows) = (collection.version, (&*ended, &*begun));
                    Command::Write(vec![altered_write(collection, version, view.at(), rows)])
                }
                Step::Alter(change) => {
                    let view = store.read_view();
                    let version = view.catalog().collection_by_id(table).unwrap().version;
                    Command::Define(Define::Alter {
                        table,
                        version,
                        rows: None,
                        change: change.clone(),
                    })
                }
            };
            clock.step(STEP_MICROS);
            let applied = store.propose_blocking(command.clone()).unwrap();
            if matches!(step, Step::Create) {
                table = made_table(&applied);
            }
            versions.apply(&ended, &begun, applied.commit_ts);
            let (kept, view) = (kept_of(&store, table), store.read_view());
            assert_kept(view.table(table).unwrap(), &kept, &versions, &format!("step {number}"));
            actions.push(Action::Propose(command));
            commits.push(applied.commit_ts);
            after.push(versions.clone());
        }
        assert!(purged_most >= 2, "no checkpoint removed more than {purged_most} log files");
        drop(store);
        let (operations, syncs) = (fs.operations(), fs.syncs());
        Self { actions, after, commits, table, fs, operations, syncs }
    }

    /// Follows the plan until `operations` changing operations have succeeded.
    pub(crate) fn run(&self, operations: u64) -> Run {
        let fs = SimFileSystem::default();
        fs.stop_after(operations);
        self.run_on(fs)
    }

    /// Follows the plan until a proposal fails. A checkpoint that fails is not the end.
    pub(crate) fn run_on(&self, fs: SimFileSystem) -> Run {
        let clock = clock_at(START_MICROS);
        let mut run = Run { fs, acknowledged: 0, proposed: 0 };
        let Ok((store, _)) = open(&run.fs, &clock) else { return run };
        for action in &self.actions {
            let command = match action {
                Action::Propose(command) => command,
                Action::Checkpoint => {
                    let _ = store.checkpoint();
                    continue;
                }
                Action::Vacuum => {
                    let before = store.read_view().position();
                    let _ = store.vacuum(None);
                    assert_eq!(store.read_view().position(), before);
                    continue;
                }
            };
            clock.step(STEP_MICROS);
            run.proposed += 1;
            let Ok(applied) = store.propose_blocking(command.clone()) else {
                let again = store.propose_blocking(Command::Tick);
                assert!(again.is_err(), "the log took an entry after one that failed");
                break;
            };
            assert_eq!(applied.commit_ts, self.commits[run.acknowledged]);
            run.acknowledged += 1;
        }
        run
    }

    /// Opens what a crash left. The store must hold the commands that were acknowledged and perhaps
    /// the one that was proposed, each as a whole, and nothing else.
    pub(crate) fn judge(&self, fs: &SimFileSystem, run: &Run, context: &str) -> Store {
        let opened = open(fs, &clock_at(RESTART_MICROS));
        let (store, report) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(report.damaged.is_empty(), "{context}: {:?}", report.damaged);
        let view = store.read_view();
        // The first entry makes the namespace `public`.
        let commands = usize::try_from(view.position().index.0 - 1).unwrap();
        let Run { acknowledged, proposed, .. } = run;
        assert!(
            (*acknowledged..=*proposed).contains(&commands),
            "{context}: {commands} commands, {acknowledged} acknowledged, {proposed} proposed"
        );
        if commands > 0 {
            assert_eq!(view.at(), self.commits[commands - 1], "{context}");
        }
        assert_eq!(view.table(self.table).is_some(), commands > 0, "{context}");
        if let Some(table) = view.table(self.table) {
            let context = format!("{context}: rows after {commands} commands");
            assert_kept(table, &kept_of(&store, self.table), &self.after[commands], &context);
        }
        store
    }

    /// A recovered store takes writes, and they survive a power cut.
    pub(crate) fn assert_goes_on(&self, fs: &SimFileSystem, store: Store, context: &str) {
        if store.read_view().table(self.table).is_none() {
            assert_eq!(make_table(&store, "t"), self.table, "{context}");
        }
        let written = change_rows(&store, self.table, &[], &[row(1_000, "after the crash")]);
        written.unwrap_or_else(|error| panic!("{context}: {error}"));
        let (expected, position) = (kept_of(&store, self.table), store.read_view().position());
        drop(store);
        let after = fs.crash(CrashPolicy::LoseUnsynced);
        let again = open(&after, &clock_at(RESTART_MICROS));
        let (store, _) = again.unwrap_or_else(|error| panic!("{context}, again: {error}"));
        assert_eq!(store.read_view().position(), position, "{context}, again");
        assert_eq!(kept_of(&store, self.table), expected, "{context}, again");
    }
}

/// Indexes of the key and the value, before and behind a checkpoint.
fn sorting() -> Vec<Step> {
    let index = |name: &str, columns: &[usize], unique| {
        let column = |column: &usize| SortedColumn {
            column: *column,
            descending: false,
            nulls_first: false,
        };
        let columns = columns.iter().map(column).collect();
        let index =
            SortedIndex { oid: 0, name: name.to_owned(), columns, unique, constraint: unique };
        Step::Alter(Alteration::AddSorted { index })
    };
    vec![
        index("t_id_value_key", &[0, 1], true),
        Step::Insert(vec![(700, 20), (701, 3)]),
        Step::Checkpoint,
        index("t_value_idx", &[1], false),
        Step::Insert(vec![(702, 9)]),
        Step::Alter(Alteration::RenameKey { from: "t_value_idx".into(), to: "by_value".into() }),
    ]
}
