//! A segment gives back what was written; any flipped bit is damage that is told.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use types::{Coded as _, RowId, SplitMix64, SqlState, TableId};

use super::{ChunkRows, Identity, Segment, Written, hash_key, write};
use crate::error::StorageError;
use crate::fs::SimFileSystem;
use crate::wal::StoreId;

const PATH: &str = "data/1.segment";
const CHUNK_ROWS: usize = 8;

fn identity() -> Identity {
    let store = StoreId([7; 16]);
    Identity { store, number: 1, table: TableId(9), first_row: RowId(64), chunk_rows: CHUNK_ROWS }
}

fn key(row: usize) -> u64 {
    hash_key(&(row % 5).to_le_bytes())
}

/// Rows `from..to` with value and text after their number.
fn chunk(from: usize, to: usize) -> ChunkRows {
    let numbers = (from..to).map(|row| i64::try_from(row).unwrap());
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers.clone()));
    let texts: ArrayRef =
        Arc::new(StringArray::from_iter_values((from..to).map(|row| "é".repeat(row))));
    let batch = RecordBatch::try_from_iter([("v", values), ("t", texts)]).unwrap();
    let hashes = Some((from..to).map(key).collect());
    let ids = (64 + from as u64..).take(to - from).collect();
    ChunkRows { batch, begins: numbers.map(|row| row * 10).collect(), ids, hashes }
}

fn written(fs: &SimFileSystem, rows: usize) -> (Written, SchemaRef) {
    let schema = chunk(0, 1).batch.schema();
    let chunks = (0..rows).step_by(CHUNK_ROWS).map(|at| Ok(chunk(at, rows.min(at + CHUNK_ROWS))));
    (write(fs, Path::new(PATH), identity(), chunks).unwrap(), schema)
}

/// All that a segment holds.
type Content = (Vec<RecordBatch>, Vec<i64>, Vec<Vec<u32>>);

fn read(fs: &SimFileSystem, written: Written, schema: &SchemaRef) -> Result<Content, StorageError> {
    let segment = Segment::open(fs, Path::new(PATH), (identity(), written), Arc::clone(schema))?;
    let chunks = 0..segment.rows().div_ceil(CHUNK_ROWS);
    let batches: Result<Vec<RecordBatch>, _> = chunks.map(|at| segment.chunk(at)).collect();
    let found = |row| Ok(segment.rows_of_key(key(row))?.collect());
    let keys: Result<Vec<Vec<u32>>, StorageError> = (0..6).map(found).collect();
    let content = (batches?, segment.begins().to_vec(), keys?);
    segment.check()?;
    Ok(content)
}

#[test]
fn what_was_written_is_read() {
    for rows in [1, CHUNK_ROWS, 3 * CHUNK_ROWS + 5] {
        let fs = SimFileSystem::default();
        let (written, schema) = written(&fs, rows);
        let (batches, begins, keys) = read(&fs, written, &schema).unwrap();
        let values = batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values());
        let texts = batches.iter().flat_map(|b| b.column(1).as_string::<i32>());
        let expected = 0..i64::try_from(rows).unwrap();
        assert!(values.copied().eq(expected.clone()));
        assert!(texts.enumerate().all(|(row, text)| text == Some(&"é".repeat(row))));
        assert!(begins.into_iter().eq(expected.map(|row| row * 10)));
        let rows = u32::try_from(rows).unwrap();
        for (remainder, found) in (0..).zip(&keys) {
            let like = (0..rows).rev().filter(|row| row % 5 == remainder % 5);
            assert!(found.iter().copied().eq(like), "rows of key {remainder}: {found:?}");
        }
        let body = batches[0].column(0).to_data().buffers()[0].as_ptr();
        assert!(body.addr().is_multiple_of(64), "columns are aligned");
    }
}

#[test]
fn any_flipped_bit_is_told_with_its_file() {
    let fs = SimFileSystem::default();
    let (written, schema) = written(&fs, 2 * CHUNK_ROWS + 3);
    let files = fs.files();
    for seed in 0..1_000 {
        let (path, bit) = SimFileSystem::random_bit(&files, &mut SplitMix64::new(seed));
        let flipped = fs.fork();
        flipped.flip_bit(&path, bit);
        let error = read(&flipped, written, &schema).unwrap_err();
        assert_eq!(error.sql_state(), SqlState::DATA_CORRUPTED, "seed {seed}: {error}");
        assert!(error.to_string().contains(PATH), "seed {seed}: {error}");
    }
}

#[test]
fn another_file_in_its_place_is_refused() {
    let fs = SimFileSystem::default();
    let (written, schema) = written(&fs, 20);
    let open = |identity, written| {
        Segment::open(&fs, Path::new(PATH), (identity, written), Arc::clone(&schema))
    };
    let others = [
        Identity { number: 2, ..identity() },
        Identity { first_row: RowId(0), ..identity() },
        Identity { table: TableId(8), ..identity() },
        Identity { store: StoreId([8; 16]), ..identity() },
        Identity { chunk_rows: 2 * CHUNK_ROWS, ..identity() },
    ];
    for other in others {
        assert!(open(other, written).is_err(), "{other:?}");
    }
    for other in [Written { rows: 19, ..written }, Written { root: 0, ..written }] {
        assert!(open(identity(), other).is_err(), "{other:?}");
    }
    assert!(open(identity(), written).is_ok());
    fs.truncate(Path::new(PATH), 100);
    assert!(open(identity(), written).is_err());
}
