//! The log against a model of it: reopening, torn tails, damage, failing disks, forged bytes.
//!
//! Everything goes through [`recover`] and [`LogWriter`] on a simulated disk with small files.
//! Every test is a function of the seeds it names in its messages.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use types::{CommitTs, Lsn, SplitMix64, Term};

use super::frame::{self, Link};
use super::log_file::{self, FileHeader};
use super::sector::{self, SECTOR};
use super::{Entry, LogOptions, LogPosition, LogWriter, RecoveryReport, StoreId, recover};
use crate::error::StorageError;
use crate::fs::{CrashPolicy, FileSystem, SimFileSystem, read_all};

const DIRECTORY: &str = "data/log";
/// A header and 15 sectors for frames.
const FILE_BYTES: usize = 8 << 10;

/// What opening a log gave.
#[derive(Debug)]
struct Opened {
    writer: LogWriter,
    report: RecoveryReport,
    entries: Vec<Entry>,
}

fn open_as(
    sim: &SimFileSystem,
    file_bytes: usize,
    checkpoint: Option<(StoreId, LogPosition)>,
    seed: u64,
) -> Result<Opened, StorageError> {
    let fs: Arc<dyn FileSystem> = Arc::new(sim.clone());
    let may_be_fresh = checkpoint.is_none();
    let options = LogOptions { directory: DIRECTORY.into(), file_bytes, may_be_fresh };
    let mut entries = Vec::new();
    let (writer, report) = recover(&fs, &options, checkpoint, SplitMix64::new(seed), |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(Opened { writer, report, entries })
}

fn open(sim: &SimFileSystem) -> Result<Opened, StorageError> {
    open_as(sim, FILE_BYTES, None, sim.operations())
}

fn random_bytes(size: usize, rng: &mut SplitMix64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    let blank = rng.below(4) == 0; // blank payloads look like blank sectors
    while bytes.len() < size {
        let word = if blank { 0 } else { rng.next_u64() };
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Entries that continue a log, with payloads of the given sizes.
fn entries_after(position: LogPosition, sizes: &[usize], rng: &mut SplitMix64) -> Vec<Entry> {
    let mut last = position;
    let mut entries = Vec::new();
    for size in sizes {
        let gap = 1 + i64::try_from(rng.below(1_000)).unwrap();
        last.index = last.index.next();
        last.commit_ts = CommitTs(last.commit_ts.0 + gap);
        let payload = random_bytes(*size, rng);
        let LogPosition { term, index, commit_ts } = last;
        entries.push(Entry { term, index, commit_ts, payload });
    }
    entries
}

/// Appends a frame to the log and to the model of it; returns the bytes of its sectors.
fn append(
    writer: &mut LogWriter,
    sizes: &[usize],
    rng: &mut SplitMix64,
    model: &mut Vec<Entry>,
) -> usize {
    let batch = entries_after(writer.position(), sizes, rng);
    writer.append(&batch).unwrap();
    let sectors = sector::sectors_for(frame::frame_bytes(&batch));
    model.extend(batch);
    sectors * SECTOR
}

fn position_of(entry: &Entry) -> LogPosition {
    LogPosition { term: entry.term, index: entry.index, commit_ts: entry.commit_ts }
}

fn end_of(entries: &[Entry]) -> LogPosition {
    entries.last().map_or(LogPosition::START, position_of)
}

const SPARE: &str = "data/log/spare.tmp";

/// The files of the log with their sizes; the spare is none.
fn files(sim: &SimFileSystem) -> Vec<(PathBuf, u64)> {
    sim.files().into_iter().filter(|(path, _)| path != Path::new(SPARE)).collect()
}

fn paths(sim: &SimFileSystem) -> Vec<PathBuf> {
    files(sim).into_iter().map(|(path, _)| path).collect()
}

fn read(sim: &SimFileSystem, path: &Path) -> Vec<u8> {
    read_all(&*sim.open(path).unwrap()).unwrap()
}

/// Puts a file in the place of whatever has the name, durably.
fn put(sim: &SimFileSystem, path: &Path, bytes: &[u8]) {
    let _ = sim.remove(path);
    let file = sim.create(path).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync_data().unwrap();
    sim.sync_dir(Path::new(DIRECTORY)).unwrap();
}

/// The file that opening names as damaged; `None` when the log opens. Refusing changes nothing.
fn refusal(
    sim: &SimFileSystem,
    checkpoint: Option<(StoreId, LogPosition)>,
    context: &str,
) -> Option<PathBuf> {
    let (before, operations) = (sim.contents(), sim.operations());
    let error = open_as(sim, FILE_BYTES, checkpoint, 99).err()?;
    assert_eq!(sim.operations(), operations, "{context}: a refused log is left alone");
    assert!(sim.contents() == before, "{context}: a refused log is left as it was");
    let StorageError::Corrupt { path, .. } = error else { panic!("{context}: {error}") };
    Some(path)
}

fn assert_damaged(
    sim: &SimFileSystem,
    checkpoint: Option<(StoreId, LogPosition)>,
    file: &Path,
    context: &str,
) {
    assert_eq!(refusal(sim, checkpoint, context).as_deref(), Some(file), "{context}");
}

/// An opened log takes another entry and keeps it through a power cut.
fn assert_goes_on(sim: &SimFileSystem, mut opened: Opened, context: &str) {
    let mut rng = SplitMix64::new(5);
    let more = entries_after(opened.writer.position(), &[600], &mut rng);
    opened.writer.append(&more).unwrap();
    opened.entries.extend(more);
    let after = sim.crash(CrashPolicy::LoseUnsynced);
    let again = open(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(again.entries == opened.entries, "{context}: the log lost entries");
}

/// A frame of the last file.
#[derive(Debug, Clone, Copy)]
struct Placed {
    from: usize,
    to: usize,
    /// Entries of the log up to and with this frame.
    entries: usize,
}

/// A log of five files: two runs of two files each, then the last one with `frames`.
struct Written {
    sim: SimFileSystem,
    store: StoreId,
    last_file: PathBuf,
    frames: Vec<Placed>,
    model: Vec<Entry>,
}

fn written(seed: u64, frames: &[&[usize]]) -> Written {
    let sim = SimFileSystem::default();
    let mut rng = SplitMix64::new(seed);
    let mut model = Vec::new();
    for run in 0..2 {
        let mut writer = open_as(&sim, FILE_BYTES, None, seed + run).unwrap().writer;
        for _ in 0..6 {
            append(&mut writer, &[900, 30], &mut rng, &mut model);
        }
    }
    let mut writer = open_as(&sim, FILE_BYTES, None, seed + 2).unwrap().writer;
    let mut placed = Vec::new();
    let mut from = SECTOR;
    for sizes in frames {
        let to = from + append(&mut writer, sizes, &mut rng, &mut model);
        placed.push(Placed { from, to, entries: model.len() });
        from = to;
    }
    assert!(from <= FILE_BYTES, "the frames fit into the last file");
    let files = paths(&sim);
    assert_eq!(files.len(), 5);
    let (store, last_file) = (writer.store_id(), files[4].clone());
    Written { sim, store, last_file, frames: placed, model }
}

/// Payload sizes of a frame: mostly small, some larger than a file.
fn random_sizes(rng: &mut SplitMix64) -> Vec<usize> {
    let mut sizes = Vec::new();
    for _ in 0..=rng.below(5) {
        let bound = if rng.below(25) == 0 { 20_000 } else { 3_001 };
        sizes.push(usize::try_from(rng.below(bound)).unwrap());
    }
    sizes
}

#[test]
fn what_was_appended_is_read_back_after_every_reopening() {
    const OPENINGS: usize = 5;
    for (seed, file_bytes) in (0..).zip([8 << 10, 16 << 10, 64 << 10, 8 << 10, 32 << 10]) {
        let mut rng = SplitMix64::new(seed);
        let mut sim = SimFileSystem::default();
        let mut model: Vec<Entry> = Vec::new();
        for opening in 0..OPENINGS {
            let context = format!("seed {seed}, opening {opening}");
            let opened = open_as(&sim, file_bytes, None, rng.next_u64());
            let mut opened = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(opened.entries == model, "{context}: entries differ");
            assert_eq!(opened.report.entries, model.len() as u64, "{context}");
            assert_eq!(opened.report.torn, None, "{context}");
            assert_eq!(opened.writer.position(), end_of(&model), "{context}");
            for (index, entry) in (1..).zip(&opened.entries) {
                assert_eq!(entry.index, Lsn(index), "{context}");
            }
            for _ in 0..25 {
                let sizes = random_sizes(&mut rng);
                append(&mut opened.writer, &sizes, &mut rng, &mut model);
            }
            if opening.is_multiple_of(2) {
                sim = sim.crash(CrashPolicy::LoseUnsynced);
            }
        }
        let files = files(&sim).len();
        assert!(
            files > OPENINGS,
            "seed {seed}: {files} files, none was begun because one was full"
        );
    }
}

#[test]
fn a_file_cut_at_any_byte_loses_only_the_frames_it_cuts() {
    let log = written(11, &[&[100], &[10, 20], &[1_200], &[900, 40, 500], &[1_800]]);
    let [.., third, _, last] = log.frames[..] else { panic!("five frames") };
    for cut in third.from..=last.to {
        let context = format!("cut at {cut}");
        let sim = log.sim.fork();
        sim.truncate(&log.last_file, cut);
        let opened = open(&sim).unwrap_or_else(|error| panic!("{context}: {error}"));
        let kept = log.frames.iter().rfind(|frame| frame.to <= cut).unwrap();
        assert!(opened.entries == log.model[..kept.entries], "{context}: entries differ");
        assert_eq!(opened.writer.position(), end_of(&log.model[..kept.entries]), "{context}");
        let torn = (cut > kept.to).then(|| (log.last_file.clone(), kept.to as u64));
        assert_eq!(opened.report.torn, torn, "{context}");
        if cut.is_multiple_of(53) {
            assert_goes_on(&sim, opened, &context);
        }
    }
}

#[test]
fn a_frame_that_lacks_any_of_its_sectors_is_cut_off_whole() {
    let log = written(12, &[&[100], &[3_500]]);
    let [before, last] = log.frames[..] else { panic!("two frames") };
    let sectors = (last.to - last.from) / SECTOR;
    assert_eq!(sectors, 8);
    for missing in 1..1_u32 << sectors {
        let context = format!("sectors {missing:#b} missing");
        let sim = log.sim.fork();
        let file = sim.open(&log.last_file).unwrap();
        for sector in (0..sectors).filter(|sector| (missing >> *sector) & 1 == 1) {
            file.write_at((last.from + sector * SECTOR) as u64, &[0; SECTOR]).unwrap();
        }
        file.sync_data().unwrap();
        let opened = open(&sim).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(opened.entries == log.model[..before.entries], "{context}: entries differ");
        let any_left = missing.count_ones() as usize != sectors;
        let torn = any_left.then(|| (log.last_file.clone(), last.from as u64));
        assert_eq!(opened.report.torn, torn, "{context}");
        assert_goes_on(&sim, opened, &context);
    }
}

#[test]
fn a_write_that_did_not_finish_is_there_whole_or_not_at_all() {
    let log = written(13, &[&[100]]);
    let (mut there, mut gone) = (0, 0);
    for (seed, size) in (0..).zip([300, 900, 3_000, 7_000].into_iter().cycle().take(240)) {
        let context = format!("seed {seed}, payload of {size} bytes");
        let sim = log.sim.fork();
        let mut writer = open(&sim).unwrap().writer;
        let (mut rng, mut model) = (SplitMix64::new(seed), log.model.clone());
        append(&mut writer, &[10], &mut rng, &mut model); // makes the file
        let batch = entries_after(writer.position(), &[size], &mut rng);
        sim.stop_after(1); // the write happens, the sync does not
        writer.append(&batch).unwrap_err();
        let after = sim.crash(CrashPolicy::Random(seed));
        let opened = open(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
        if opened.entries == model {
            gone += 1;
        } else {
            assert!(opened.entries == [&model[..], &batch[..]].concat(), "{context}");
            there += 1;
        }
        assert_goes_on(&after, opened, &context);
    }
    assert!(there > 0 && gone > 0, "{there} writes were there, {gone} were gone");
}

#[test]
fn any_flipped_bit_is_damage() {
    const FLIPS: u64 = 2_000;
    let log = written(14, &[&[100], &[1_200], &[40, 500], &[900]]);
    let all = files(&log.sim);
    let headers: Vec<_> = all.iter().map(|(path, _)| (path.clone(), SECTOR as u64)).collect();
    let mut unnoticed = Vec::new();
    for seed in 0..FLIPS {
        let mut rng = SplitMix64::new(seed);
        let files = match seed % 4 {
            0 => &headers[..],
            1 => &all[4..], // the last file: its frames and the blank sectors behind them
            _ => &all[..],
        };
        let (path, bit) = SimFileSystem::random_bit(files, &mut rng);
        let context = format!("seed {seed}: byte {}, bit {}, {path:?}", bit / 8, bit % 8);
        let sim = log.sim.fork();
        sim.flip_bit(&path, bit);
        match refusal(&sim, None, &context) {
            Some(named) => assert_eq!(named, path, "{context}"),
            None => {
                let opened = open(&sim).unwrap();
                assert!(opened.entries == log.model, "{context}: opened with other entries");
                unnoticed.push(context);
            }
        }
    }
    let count = unnoticed.len();
    assert_eq!(count, 0, "{count} of {FLIPS} flips were not noticed: {unnoticed:#?}");
}

#[test]
fn a_file_cut_inside_its_header_is_damage() {
    let log = written(15, &[&[100]]);
    for cut in 0..SECTOR {
        let sim = log.sim.fork();
        sim.truncate(&log.last_file, cut);
        assert_damaged(&sim, None, &log.last_file, &format!("cut at {cut}"));
    }
}

#[test]
fn a_missing_or_misplaced_file_is_damage() {
    let log = written(16, &[&[100]]);
    let files = paths(&log.sim);
    for gone in 0..files.len() - 1 {
        let sim = log.sim.fork();
        sim.remove(&files[gone]).unwrap();
        assert_damaged(&sim, None, &files[gone + 1], &format!("file {gone} is missing"));
    }
    for first in 0..files.len() - 1 {
        let sim = log.sim.fork();
        put(&sim, &files[first], &read(&log.sim, &files[first + 1]));
        put(&sim, &files[first + 1], &read(&log.sim, &files[first]));
        assert_damaged(&sim, None, &files[first], &format!("file {first} and the next swapped"));
    }
    let sim = log.sim.fork();
    let stray = Path::new(DIRECTORY).join("6.log");
    put(&sim, &stray, b"");
    assert_damaged(&sim, None, &stray, "a file of another name");
}

#[test]
fn a_file_of_another_store_is_damage() {
    let log = written(17, &[&[100]]);
    let other = written(1_000, &[&[100]]);
    assert_ne!(log.store, other.store);
    let files = paths(&log.sim);
    let checkpoint = Some((log.store, position_of(&log.model[3])));
    for foreign in 0..files.len() {
        let sim = log.sim.fork();
        put(&sim, &files[foreign], &read(&other.sim, &files[foreign]));
        let context = format!("file {foreign} is another store's");
        assert_damaged(&sim, checkpoint, &files[foreign], &context);
        // Without a checkpoint the first file says whose the log is.
        assert_damaged(&sim, None, &files[foreign.max(1)], &context);
    }
}

#[test]
fn a_log_that_does_not_meet_the_checkpoint_is_damage() {
    let log = written(18, &[&[100]]);
    let files = paths(&log.sim);
    let at =
        |lsn: u64| Some((log.store, position_of(&log.model[usize::try_from(lsn - 1).unwrap()])));
    let sim = log.sim.fork();
    sim.remove(&files[0]).unwrap();
    sim.remove(&files[1]).unwrap();
    let first = log_file::read_header(&sim, &files[2]).unwrap().first_index.0;
    assert_damaged(&sim, None, &files[2], "no checkpoint, no first file");
    assert_damaged(&sim, at(first - 2), &files[2], "one entry is missing");
    let opened = open_as(&sim, FILE_BYTES, at(first - 1), 1).unwrap();
    assert!(opened.entries == log.model[usize::try_from(first - 1).unwrap()..]);
    assert_goes_on_behind(&sim, opened, at(first - 1));

    let end = end_of(&log.model);
    let beyond =
        LogPosition { index: end.index.next(), commit_ts: end.commit_ts.successor(), ..end };
    let last = &log.last_file;
    assert_damaged(&log.sim, Some((log.store, beyond)), last, "the log ends too early");
    let empty = SimFileSystem::default();
    assert_damaged(&empty, Some((log.store, end)), Path::new(DIRECTORY), "there is no log");
}

/// As [`assert_goes_on`], for a log whose beginning a checkpoint replaces.
fn assert_goes_on_behind(
    sim: &SimFileSystem,
    mut opened: Opened,
    checkpoint: Option<(StoreId, LogPosition)>,
) {
    append(&mut opened.writer, &[600], &mut SplitMix64::new(5), &mut opened.entries);
    let after = sim.crash(CrashPolicy::KeepAll);
    let again = open_as(&after, FILE_BYTES, checkpoint, 2).unwrap();
    assert!(again.entries == opened.entries);
}

#[test]
fn a_failed_sync_closes_the_log_and_loses_nothing_durable() {
    let policies = [CrashPolicy::LoseUnsynced, CrashPolicy::KeepAll, CrashPolicy::Random(1)];
    for policy in policies {
        let log = written(19, &[&[100]]);
        let mut writer = open(&log.sim).unwrap().writer;
        let mut rng = SplitMix64::new(19);
        let mut model = log.model.clone();
        append(&mut writer, &[2_000], &mut rng, &mut model);
        log.sim.fail_sync_after(0);
        let refused = entries_after(writer.position(), &[700, 20], &mut rng);
        let error = writer.append(&refused).unwrap_err();
        assert!(matches!(error, StorageError::Io { .. }), "{policy:?}: {error}");
        assert_eq!(writer.position(), end_of(&model), "{policy:?}");
        for _ in 0..3 {
            let error = writer.append(&refused).unwrap_err();
            assert!(matches!(error, StorageError::Poisoned(_)), "{policy:?}: {error}");
        }
        // Only the process dies: the page cache still shows what the disk may not have. What is
        // read from it has to be made durable before it counts.
        let restarted = log.sim.fork();
        let opened = open(&restarted).unwrap();
        assert!(opened.entries == [&model[..], &refused[..]].concat(), "{policy:?}");
        assert_goes_on(&restarted, opened, "after a restart");

        let after = log.sim.crash(policy);
        let opened = open(&after).unwrap_or_else(|error| panic!("{policy:?}: {error}"));
        assert!(opened.entries == model, "{policy:?}: entries differ");
        assert_goes_on(&after, opened, "after a crash");
    }
}

/// A log whose only file has room for three sectors.
fn nearly_full(seed: u64) -> (SimFileSystem, LogWriter, Vec<Entry>, SplitMix64) {
    let sim = SimFileSystem::default();
    let mut writer = open(&sim).unwrap().writer;
    let (mut model, mut rng) = (Vec::new(), SplitMix64::new(seed));
    for _ in 0..4 {
        append(&mut writer, &[1_200], &mut rng, &mut model);
    }
    sim.remove(Path::new(SPARE)).unwrap();
    (sim, writer, model, rng)
}

#[test]
fn a_full_disk_refuses_only_what_needs_a_new_file() {
    for spare in (0..FILE_BYTES).step_by(900) {
        let context = format!("{spare} bytes are left");
        let (sim, mut writer, mut model, mut rng) = nearly_full(20);
        let used: u64 = sim.files().iter().map(|(_, size)| size).sum();
        sim.set_capacity(used + spare as u64);
        for _ in 0..2 {
            let large = entries_after(writer.position(), &[3_000], &mut rng);
            let error = writer.append(&large).unwrap_err();
            assert!(matches!(error, StorageError::DiskFull), "{context}: {error}");
            assert_eq!(writer.position(), end_of(&model), "{context}");
        }
        append(&mut writer, &[100], &mut rng, &mut model);

        let half_made = sim.fork().crash(CrashPolicy::KeepAll);
        let opened = open(&half_made).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(opened.entries == model, "{context}: entries differ after a crash");
        let is_log = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "log");
        assert!(paths(&half_made).iter().all(is_log), "{context}: {:?}", paths(&half_made));

        sim.set_capacity(u64::MAX);
        append(&mut writer, &[3_000], &mut rng, &mut model);
        append(&mut writer, &[10], &mut rng, &mut model);
        let after = sim.crash(CrashPolicy::LoseUnsynced);
        let opened = open(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(opened.entries == model, "{context}: entries differ");
    }
}

#[test]
fn a_failed_sync_of_a_new_file_closes_the_log() {
    let (sim, mut writer, model, mut rng) = nearly_full(21);
    sim.fail_sync_after(0);
    let large = entries_after(writer.position(), &[3_000], &mut rng);
    let error = writer.append(&large).unwrap_err();
    assert!(matches!(error, StorageError::Io { .. }), "{error}");
    let small = entries_after(writer.position(), &[10], &mut rng);
    for entries in [large, small] {
        let answer = writer.append(&entries);
        assert!(matches!(answer, Err(StorageError::Poisoned(_))), "{answer:?}");
    }
    let opened = open(&sim.crash(CrashPolicy::LoseUnsynced)).unwrap();
    assert!(opened.entries == model);
}

/// The header of a log's first file.
fn first_header() -> FileHeader {
    let first = Link { number: 1, previous_crc: 0 };
    FileHeader { store: StoreId([1; 16]), number: 1, first, first_index: Lsn(1), salt: 7 }
}

/// A log of one file that holds one frame.
fn log_of(header: &FileHeader, frame: &[u8]) -> SimFileSystem {
    let sim = SimFileSystem::default();
    let sectors = sector::scatter(frame, sector::stamp(header.salt, header.first.number));
    let bytes = [header.encode().as_slice(), sectors.as_slice()].concat();
    put(&sim, &log_file::path_of(Path::new(DIRECTORY), header.number), &bytes);
    sim
}

/// What the header of a forged frame says.
#[derive(Debug, Clone, Copy)]
struct Forged {
    number: u64,
    first_index: u64,
    count: u32,
    records: u64,
}

/// A frame whose checksums are right, whatever it says.
fn forge(says: Forged, records: &[u8], salt: u64) -> Vec<u8> {
    let seed = u32::try_from(salt & 0xFFFF_FFFF).unwrap();
    let mut out = b"AZFR\0\0\0\0".to_vec();
    out.extend_from_slice(&says.number.to_le_bytes());
    out.extend_from_slice(&says.first_index.to_le_bytes());
    out.extend_from_slice(&says.count.to_le_bytes());
    out.extend_from_slice(&[0; 12]); // group, checksum of the frame before, flags
    out.extend_from_slice(&says.records.to_le_bytes());
    let header = crc32c::crc32c_append(seed, &out[8..frame::HEADER_BYTES]);
    out[4..8].copy_from_slice(&header.to_le_bytes());
    out.extend_from_slice(records);
    let whole = crc32c::crc32c_append(seed, &out);
    out.extend_from_slice(&whole.to_le_bytes());
    out
}

#[test]
fn a_forged_length_ends_in_no_panic() {
    let header = first_header();
    let lengths = [0, 1, 1 << 40, 1 << 63, u64::MAX - 52, u64::MAX - 51, u64::MAX];
    for records in lengths {
        let says = Forged { number: 1, first_index: 1, count: 1, records };
        let sim = log_of(&header, &forge(says, &[0; 100], header.salt));
        let any_entries = open(&sim).is_ok_and(|opened| !opened.entries.is_empty());
        assert!(!any_entries, "a frame that says {records}");
    }
}

#[test]
fn forged_positions_end_in_no_panic() {
    let header = first_header();
    let entry =
        |index| Entry { term: Term(1), index, commit_ts: CommitTs(1), payload: vec![1; 10] };
    let cases = [
        FileHeader { first_index: Lsn(0), ..header },
        FileHeader { first_index: Lsn(u64::MAX), ..header },
        FileHeader { number: u64::MAX, ..header },
        FileHeader { first: Link { number: u64::MAX, previous_crc: 0 }, ..header },
    ];
    for case in cases {
        for index in [Lsn(1), Lsn(u64::MAX)] {
            let (frame, _) = frame::encode(&[entry(index)], case.first, case.salt);
            let _ = open(&log_of(&case, &frame));
        }
    }
}

/// The same cases at every run.
fn fixed(cases: u32) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0x5EED);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(fixed(300))]

    #[test]
    fn random_bytes_are_no_header(
        bytes in prop::collection::vec(any::<u8>(), 0..700),
        salt in any::<u64>(),
    ) {
        prop_assert!(FileHeader::decode(Path::new(DIRECTORY), &bytes).is_err());
        prop_assert!(frame::decode_header(&bytes, salt).is_err());
    }

    #[test]
    fn a_changed_frame_is_never_read(
        sizes in prop::collection::vec(0_usize..400, 1..5),
        changes in prop::collection::vec((any::<u32>(), 1_u8..), 1..4),
        seed in any::<u64>(),
    ) {
        let mut rng = SplitMix64::new(seed);
        let entries = entries_after(LogPosition::START, &sizes, &mut rng);
        let link = Link { number: 1, previous_crc: 0 };
        let (whole, crc) = frame::encode(&entries, link, seed);
        let header = frame::decode_header(&whole, seed).unwrap();
        prop_assert_eq!(header.frame_bytes(), whole.len());
        prop_assert_eq!(frame::decode(&whole, &header, seed), Ok((entries, crc)));

        let mut changed = whole.clone();
        for (at, mask) in changes {
            let at = at as usize % changed.len();
            changed[at] ^= mask;
        }
        if changed != whole {
            prop_assert!(frame::decode(&changed, &header, seed).is_err());
        }
    }

    #[test]
    fn forged_records_end_in_no_panic(
        records in prop::collection::vec(any::<u8>(), 0..300),
        first_index in any::<u64>(),
        count in prop_oneof![0_u32..4, any::<u32>()],
        salt in any::<u64>(),
        begins_like_a_record in any::<bool>(),
    ) {
        let mut records = records;
        if begins_like_a_record && records.len() >= 4 {
            records[..4].copy_from_slice(&[1, 0, 0, 0]);
        }
        let length = records.len() as u64;
        let says = Forged { number: 1, first_index, count, records: length };
        let frame = forge(says, &records, salt);
        let Ok(header) = frame::decode_header(&frame, salt) else { return Ok(()) };
        prop_assert_eq!(header.frame_bytes(), frame.len());
        let read = frame::decode(&frame, &header, salt);
        prop_assert!(count == 0 || read.is_err() || records.len() >= 32);
    }
}
