//! `DECLARE`, `FETCH`, `MOVE` and `CLOSE`: queries whose rows a client takes in parts.
//!
//! A cursor is a query that runs; it waits when nobody fetches, holds the rows it began with, and ends
//! with its transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{CloseCursor, Declare};
use storage::memtable::batch_bytes;
use types::SqlState;
use types::limits::{CURSORS_MAX, FETCH_BYTES_MAX};

use super::{Outcome, Session, done};
use crate::error::{EngineError, Result};
use crate::query::{RowStream, require_select};
use crate::sql::types::fold;
use crate::sql::{Fetch, Forward, Tree};

/// The cursors of a transaction.
pub(super) type Cursors = BTreeMap<String, Cursor>;

/// A query that runs.
#[derive(Debug)]
pub(super) struct Cursor {
    rows: RowStream,
    /// What was read of it and not fetched.
    left: Option<RecordBatch>,
    /// Savepoints that were there when it was declared.
    pub(super) savepoints: usize,
}

impl Cursor {
    /// The next rows, at most `most` of them.
    async fn take(&mut self, most: usize) -> Result<RecordBatch> {
        let (mut batches, mut count, mut bytes) = (Vec::new(), 0, 0);
        while count < most {
            let batch = match self.left.take() {
                Some(batch) => batch,
                None => match self.rows.next().await {
                    Some(batch) => batch?,
                    None => break,
                },
            };
            let wanted = batch.num_rows().min(most - count);
            if wanted < batch.num_rows() {
                self.left = Some(batch.slice(wanted, batch.num_rows() - wanted));
            }
            let taken = batch.slice(0, wanted);
            bytes += batch_bytes(&taken);
            if bytes > FETCH_BYTES_MAX {
                let message = format!("the rows to fetch are more than {FETCH_BYTES_MAX} bytes");
                return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
                    .with_hint("Fetch fewer rows at a time."));
            }
            batches.push(taken);
            count += wanted;
        }
        // The names of the result are not those that the plan has.
        let schema =
            batches.first().map_or_else(|| Arc::clone(self.rows.schema()), RecordBatch::schema);
        Ok(concat_batches(&schema, &batches)?)
    }

    /// Passes rows over; how many there were.
    async fn pass(&mut self, most: usize) -> Result<usize> {
        let mut count = 0;
        while count < most {
            let rows = self.take((most - count).min(PASSED_AT_ONCE)).await?.num_rows();
            if rows == 0 {
                break;
            }
            count += rows;
        }
        Ok(count)
    }
}

/// Rows that are held while others are passed over.
const PASSED_AT_ONCE: usize = 8_192;

fn no_cursor(name: &str) -> EngineError {
    EngineError::new(SqlState::INVALID_CURSOR_NAME, format!("cursor \"{name}\" does not exist"))
}

impl Session {
    /// `DECLARE name CURSOR FOR query`
    pub(super) async fn declare(
        &mut self,
        declares: &[Declare],
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        let [Declare { names, binary, scroll, hold, for_query: Some(query), .. }] = declares else {
            return Err(EngineError::unsupported("DECLARE of anything but a cursor"));
        };
        let [name] = names.as_slice() else {
            return Err(EngineError::unsupported("DECLARE of more than one cursor"));
        };
        EngineError::refuse_present(&[
            (*binary == Some(true), "a BINARY cursor"),
            (*scroll == Some(true), "a SCROLL cursor"),
            (*hold == Some(true), "a cursor WITH HOLD"),
        ])?;
        require_select(query)?;
        let (name, savepoints) = (fold(name), self.check_block("DECLARE CURSOR")?);
        if self.cursors.contains_key(&name) {
            let message = format!("cursor \"{name}\" already exists");
            return Err(EngineError::new(SqlState::DUPLICATE_CURSOR, message));
        }
        if self.cursors.len() >= CURSORS_MAX {
            let message = format!("a transaction has at most {CURSORS_MAX} cursors");
            return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
                .with_hint("Close those that are not needed."));
        }
        match self.select(Tree::of_query(query), None, parameters).await? {
            Outcome::Rows(rows) => {
                self.cursors.insert(name, Cursor { rows, left: None, savepoints });
                Ok(done("DECLARE CURSOR"))
            }
            other => Ok(other),
        }
    }

    /// `FETCH` and `MOVE`
    pub(super) async fn fetch(&mut self, fetch: &Fetch) -> Result<Outcome> {
        let Fetch { cursor: name, forward, moves } = fetch;
        // Taken out while it is read: what fails is gone with its transaction.
        let mut cursor = self.cursors.remove(name).ok_or_else(|| no_cursor(name))?;
        let most = match forward {
            Forward::Rows(rows) => *rows,
            Forward::All => usize::MAX,
            Forward::Backward => {
                let message = "cursor can only scan forward";
                return Err(EngineError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message));
            }
        };
        let outcome = if *moves {
            let passed = self.interruptible(cursor.pass(most)).await?;
            done(&format!("MOVE {passed}"))
        } else {
            let batch = self.interruptible(cursor.take(most)).await?;
            let tag = format!("FETCH {}", batch.num_rows());
            Outcome::Rows(RowStream::of_write(Arc::clone(cursor.rows.schema()), batch, tag))
        };
        self.cursors.insert(name.clone(), cursor);
        Ok(outcome)
    }

    /// `CLOSE`
    pub(super) fn close_cursor(&mut self, cursor: &CloseCursor) -> Result<Outcome> {
        match cursor {
            CloseCursor::All => {
                self.cursors.clear();
                Ok(done("CLOSE CURSOR ALL"))
            }
            CloseCursor::Specific { name } => {
                let name = fold(name);
                self.cursors.remove(&name).ok_or_else(|| no_cursor(&name))?;
                Ok(done("CLOSE CURSOR"))
            }
        }
    }

    /// The columns of a cursor, which is a portal, too.
    #[must_use]
    pub fn cursor(&self, name: &str) -> Option<&SchemaRef> {
        self.cursors.get(name).map(|cursor| cursor.rows.schema())
    }

    /// Closes the cursor of a name, if there is one.
    pub fn forget_cursor(&mut self, name: &str) {
        self.cursors.remove(name);
    }

    /// The columns that `FETCH` answers with; a cursor that is not there is missed when it runs.
    pub(super) fn cursor_columns(&self, fetch: &Fetch) -> Option<SchemaRef> {
        self.cursor(&fetch.cursor).filter(|_| !fetch.moves).map(Arc::clone)
    }
}
