//! Every limit of the server, by name. Reaching one is an error with a code, never a hang.

/// Most dimensions of a vector. Also the size of the largest vector a client may send.
pub const DIM_MAX: u32 = 16_000;

/// Most dimensions of a sparse vector; pgvector's limit.
pub const SPARSE_DIM_MAX: u32 = 1_000_000_000;

/// Most numbers of a sparse vector that are not zero; pgvector's limit.
pub const SPARSE_ENTRIES_MAX: usize = 16_000;

/// Most bits of a bit string; pgvector indexes as many.
pub const BIT_LENGTH_MAX: u32 = 64_000;

/// Most bytes of one SQL statement's text. Larger loads go through COPY.
pub const STATEMENT_BYTES_MAX: usize = 8 << 20;

/// Most tokens in one statement, white space included; a plan takes about a kilobyte for each.
pub const STATEMENT_TOKENS_MAX: usize = 500_000;

/// Most operator tokens in one statement; bounds the depth of expression trees.
pub const STATEMENT_OPERATORS_MAX: usize = 1_000;

/// Most levels of nesting that the SQL parser follows.
pub const STATEMENT_DEPTH_MAX: usize = 50;

/// Most bytes of one message from a logged-in client.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Most bytes of a message before login.
pub const STARTUP_BYTES_MAX: usize = 10_000;

/// Most parameters of a statement; the wire protocol counts them in 16 bits.
pub const PARAMETERS_MAX: usize = 65_535;

/// Most bytes of one log entry, which is what one statement or one COPY may write.
pub const ENTRY_BYTES_MAX: usize = 512 << 20;

/// Most living rows of a table.
pub const TABLE_ROWS_MAX: u64 = 1 << 30;

/// Most row versions, living and ended, that a table may hold outside its history for a statement to
/// add more. Below what ordinals can tell apart, for the statements that are under way.
pub const TABLE_VERSIONS_MAX: u64 = (1 << 31) - (1 << 27);

/// How long ended row versions can be read unless the table says otherwise, in microseconds: a day.
pub const RETENTION_DEFAULT_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// Longest retention, in microseconds: a hundred years.
pub const RETENTION_MAX_MICROS: i64 = 100 * 366 * RETENTION_DEFAULT_MICROS;

/// Most columns of a table; PostgreSQL's limit.
pub const COLUMNS_MAX: usize = 1_600;

/// Most columns of a key or a sorted index; PostgreSQL's limit.
pub const KEY_COLUMNS_MAX: usize = 32;

/// Most characters of a `character varying(n)`; PostgreSQL's limit.
pub const VARCHAR_LENGTH_MAX: u32 = 10_485_760;

/// Most digits of a `numeric(precision, scale)`.
pub const NUMERIC_PRECISION_MAX: u8 = 38;

/// Digits after the point of a `numeric` that does not say how many it has.
pub const NUMERIC_SCALE_DEFAULT: u8 = 12;

/// Most bytes of an identifier; PostgreSQL truncates at this length, we refuse.
pub const IDENTIFIER_BYTES_MAX: usize = 63;

/// Cursors of one transaction.
pub const CURSORS_MAX: usize = 1_000;

/// Bytes of the rows of one `FETCH`.
pub const FETCH_BYTES_MAX: usize = 512 << 20;

/// Savepoints of one transaction.
pub const SAVEPOINTS_MAX: usize = 1_000;

/// Least and most links of an HNSW point per layer (`m`); pgvector's range.
pub const HNSW_M: std::ops::RangeInclusive<u32> = 2..=100;

/// Least and most candidates while building (`ef_construction`); pgvector's range.
pub const HNSW_EF_CONSTRUCTION: std::ops::RangeInclusive<u32> = 4..=1_000;

/// Least and most candidates while searching (`hnsw.ef_search`); pgvector's range.
pub const HNSW_EF_SEARCH: std::ops::RangeInclusive<u32> = 1..=1_000;

/// Columns of fewer dimensions are indexed by their full vectors unless an index says otherwise.
pub const QUANTIZED_DIM_MIN: usize = 32;

/// Least and most candidates to rescore per row wanted (`oversample`).
pub const OVERSAMPLE: std::ops::RangeInclusive<u32> = 1..=100;

/// Least and most recall that can be declared (`recall_target`, `hnsw.recall_target`).
pub const RECALL_TARGET: std::ops::RangeInclusive<f64> = 0.5..=0.999;

/// Least and most microseconds of a latency budget (`latency_budget_us`).
pub const LATENCY_BUDGET_US: std::ops::RangeInclusive<u32> = 10..=60_000_000;

/// Connections served at the same time unless the configuration says otherwise.
pub const CONNECTIONS_DEFAULT: usize = 200;

/// Entries that may wait for one group commit.
pub const PROPOSALS_QUEUED_MAX: usize = 4_096;

/// Numbers of `generate_series` in a select list, which are made at once.
pub const SERIES_MAX: u128 = 10_000_000;
