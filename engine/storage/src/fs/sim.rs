//! A file system in memory that crashes on demand.
//!
//! Model: a file has durable bytes and current bytes; writes change the current ones and mark
//! 512-byte sectors dirty; `sync_data` makes them durable. A directory's names work the same way
//! with `sync_dir`. A crash keeps all that is durable and, of the rest, what [`CrashPolicy`] says:
//! sectors are atomic and independent of each other, as a disk's cache leaves them.
//!
//! [`SimFileSystem::stop_after`] makes every operation past the n-th changing one fail, which is
//! how a test enumerates all crash points of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::buffer::Buffer;
use types::SplitMix64;

use super::{DirectoryLock, File, FileSystem};

const SECTOR: usize = 512;

/// What becomes of bytes and names that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPolicy {
    /// All are lost: a power cut with an honest, empty-handed cache.
    LoseUnsynced,
    /// All survive: the process died, the machine did not.
    KeepAll,
    /// Every dirty sector and every unsynced name survives or not by the flip of a seeded coin.
    Random(u64),
}

#[derive(Debug, Default, Clone)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    current: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    operations: u64,
    stop_after: Option<u64>,
    /// Syncs of files and directories so far.
    syncs: u64,
    /// The sync that fails.
    fail_sync: Option<u64>,
    capacity: Option<u64>,
    locked: bool,
}

impl State {
    /// Counts a changing operation; fails once the run is to be stopped.
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.stop_after {
            Some(limit) if self.operations > limit => Err(io::Error::other("simulated crash")),
            Some(_) | None => Ok(()),
        }
    }

    /// Counts a sync; whether it is the one to fail.
    fn sync_fails(&mut self) -> bool {
        self.syncs += 1;
        self.fail_sync == Some(self.syncs - 1)
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.current.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// A simulated file system; clones share the same files.
#[derive(Debug, Default, Clone)]
pub struct SimFileSystem {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    inode: usize,
}

#[derive(Debug)]
struct SimLock {
    state: Arc<Mutex<State>>,
}

impl DirectoryLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).locked = false;
    }
}

impl SimFileSystem {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changing operations so far: writes, syncs, creations, renames, removals.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets `operations` more changing operations succeed and fails all later ones.
    pub fn stop_after(&self, operations: u64) {
        let mut state = self.state();
        state.stop_after = Some(state.operations + operations);
    }

    /// Syncs of files and directories so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Lets `syncs` more syncs succeed and fails the one after; nothing is synced by it, then or
    /// later.
    pub fn fail_sync_after(&self, syncs: u64) {
        let mut state = self.state();
        state.fail_sync = Some(state.syncs + syncs);
    }

    /// Limits the bytes of all files together; writing past it fails like a full disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = Some(bytes);
    }

    /// The files as they are found after a crash now. The old instance keeps failing afterwards.
    #[must_use]
    pub fn crash(&self, policy: CrashPolicy) -> Self {
        let mut state = self.state();
        state.stop_after = Some(0);
        let mut rng = SplitMix64::new(match policy {
            CrashPolicy::Random(seed) => seed,
            CrashPolicy::LoseUnsynced | CrashPolicy::KeepAll => 0,
        });
        let mut keep = || match policy {
            CrashPolicy::LoseUnsynced => false,
            CrashPolicy::KeepAll => true,
            CrashPolicy::Random(_) => rng.below(2) == 1,
        };
        let mut names = state.durable.clone();
        let paths: BTreeSet<&PathBuf> = state.current.keys().chain(state.durable.keys()).collect();
        for path in paths {
            let (old, new) = (state.durable.get(path), state.current.get(path));
            if old != new && keep() {
                match new {
                    Some(inode) => names.insert(path.clone(), *inode),
                    None => names.remove(path),
                };
            }
        }
        let inodes = state.inodes.iter().map(|inode| survive(inode, &mut keep)).collect();
        let survivor = State { inodes, current: names.clone(), durable: names, ..State::default() };
        Self { state: Arc::new(Mutex::new(survivor)) }
    }

    /// Flips one bit of a file, durably. `bit` counts from the first byte's least significant bit.
    ///
    /// # Panics
    /// When there is no such file or bit.
    pub fn flip_bit(&self, path: &Path, bit: u64) {
        let mut state = self.state();
        let inode = state.current[path];
        let at = usize::try_from(bit / 8).expect("files fit in memory");
        let inode = &mut state.inodes[inode];
        inode.current[at] ^= 1 << (bit % 8);
        inode.durable.clone_from(&inode.current);
    }

    /// Cuts a file, durably.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn truncate(&self, path: &Path, size: usize) {
        let mut state = self.state();
        let inode = state.current[path];
        let inode = &mut state.inodes[inode];
        inode.current.truncate(size);
        inode.durable.clone_from(&inode.current);
    }

    /// Current sizes of all files.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let size = |inode: &usize| state.inodes[*inode].current.len() as u64;
        state.current.iter().map(|(path, inode)| (path.clone(), size(inode))).collect()
    }

    /// Current bytes of all files.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let bytes = |inode: &usize| state.inodes[*inode].current.clone();
        state.current.iter().map(|(path, inode)| (path.clone(), bytes(inode))).collect()
    }

    /// A bit of one of `files`, given with their sizes; every bit of all of them is as likely.
    ///
    /// # Panics
    /// When no file holds anything.
    pub fn random_bit(files: &[(PathBuf, u64)], rng: &mut SplitMix64) -> (PathBuf, u64) {
        let mut bit = rng.below(files.iter().map(|(_, size)| size * 8).sum());
        for (path, size) in files {
            if bit < size * 8 {
                return (path.clone(), bit);
            }
            bit -= size * 8;
        }
        unreachable!("the bit lies in one of the files")
    }

    /// A copy that shares nothing with this one.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state();
        let copy = State {
            inodes: state.inodes.clone(),
            current: state.current.clone(),
            durable: state.durable.clone(),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(copy)) }
    }
}

/// What is left of a file: its durable bytes and those dirty sectors that `keep` keeps.
fn survive(inode: &Inode, keep: &mut impl FnMut() -> bool) -> Inode {
    let mut bytes = inode.durable.clone();
    for &sector in &inode.dirty {
        let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(inode.current.len()));
        if from < to && keep() {
            if bytes.len() < to {
                bytes.resize(to, 0);
            }
            bytes[from..to].copy_from_slice(&inode.current[from..to]);
        }
    }
    Inode { current: bytes.clone(), durable: bytes, dirty: BTreeSet::new() }
}

impl File for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.step()?;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let to = from + bytes.len();
        let named = state.current.values().map(|inode| &state.inodes[*inode]);
        let used: u64 = named.map(|inode| inode.current.len() as u64).sum();
        let growth = to.saturating_sub(state.inodes[self.inode].current.len()) as u64;
        if growth > 0 && state.capacity.is_some_and(|capacity| used + growth > capacity) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let inode = &mut state.inodes[self.inode];
        if inode.current.len() < to {
            inode.current.resize(to, 0);
        }
        inode.current[from..to].copy_from_slice(bytes);
        if !bytes.is_empty() {
            inode.dirty.extend(from / SECTOR..=(to - 1) / SECTOR);
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = state.inodes[self.inode].current.get(from..from + buffer.len());
        buffer.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.inodes[self.inode].current.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.step()?;
        let fails = state.sync_fails();
        let inode = &mut state.inodes[self.inode];
        let dirty = std::mem::take(&mut inode.dirty);
        if fails {
            // Linux marks the pages clean after a failed fsync: they will never be written.
            return Err(io::Error::other("simulated fsync failure"));
        }
        inode.durable.resize(inode.current.len(), 0);
        for sector in dirty {
            let bytes = sector * SECTOR..((sector + 1) * SECTOR).min(inode.current.len());
            inode.durable[bytes.clone()].copy_from_slice(&inode.current[bytes]);
        }
        Ok(())
    }
}

impl FileSystem for SimFileSystem {
    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        self.state().step()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.current.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        state.step()?;
        if state.current.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.current.insert(path.to_owned(), inode);
        Ok(Box::new(SimFile { state: Arc::clone(&self.state), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let inode = self.state().inode(path)?;
        Ok(Box::new(SimFile { state: Arc::clone(&self.state), inode }))
    }

    fn map(&self, path: &Path) -> io::Result<Buffer> {
        let state = self.state();
        let inode = state.inode(path)?;
        Ok(Buffer::from_slice_ref(&state.inodes[inode].current))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let inode = state.inode(from)?;
        state.current.remove(from);
        state.current.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.inode(path)?;
        state.current.remove(path);
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if state.sync_fails() {
            return Err(io::Error::other("simulated fsync failure"));
        }
        let inside = |path: &PathBuf| path.parent() == Some(directory);
        let mut durable = std::mem::take(&mut state.durable);
        durable.retain(|path, _| !inside(path));
        durable.extend(
            state.current.iter().filter(|(path, _)| inside(path)).map(|(p, i)| (p.clone(), *i)),
        );
        state.durable = durable;
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        Ok(Box::new(SimLock { state: Arc::clone(&self.state) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fs: &SimFileSystem) -> Vec<u8> {
        fs.open(Path::new("d/a")).map_or(Vec::new(), |f| super::super::read_all(&*f).unwrap())
    }

    #[test]
    fn only_what_was_synced_survives_a_power_cut() {
        let fs = SimFileSystem::default();
        let file = fs.create(Path::new("d/a")).unwrap();
        file.write_at(0, b"one").unwrap();
        file.sync_data().unwrap();
        assert_eq!(written(&fs.crash(CrashPolicy::LoseUnsynced)), b"", "the name was not synced");

        let fs = SimFileSystem::default();
        let file = fs.create(Path::new("d/a")).unwrap();
        file.write_at(0, b"one").unwrap();
        file.sync_data().unwrap();
        fs.sync_dir(Path::new("d")).unwrap();
        file.write_at(3, b"two").unwrap();
        assert_eq!(written(&fs), b"onetwo");
        assert_eq!(written(&fs.crash(CrashPolicy::KeepAll)), b"onetwo");
        assert!(file.write_at(6, b"x").is_err(), "the old instance is dead");
        assert_eq!(written(&fs.fork().crash(CrashPolicy::LoseUnsynced)), b"one");
    }

    #[test]
    fn sectors_are_torn_independently() {
        let fs = SimFileSystem::default();
        let file = fs.create(Path::new("d/a")).unwrap();
        fs.sync_dir(Path::new("d")).unwrap();
        file.write_at(0, &[1; 4 * SECTOR]).unwrap();
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let bytes = written(&fs.crash(CrashPolicy::Random(seed)));
            let sector = |i: usize| bytes.get(i * SECTOR).copied().unwrap_or(0);
            seen.insert([0, 1, 2, 3].map(sector));
        }
        assert_eq!(seen.len(), 16, "every subset of four sectors");
    }
}
