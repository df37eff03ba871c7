-- Rows in files. In a terminal: psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/storage.sql

DROP TABLE IF EXISTS readings;
CREATE TABLE readings (id bigint PRIMARY KEY, sensor int, value double precision);
INSERT INTO readings SELECT g, g % 10, g * 0.5 FROM generate_series(1, 20000) AS s(g);

-- Full chunks of rows move to segment files, and the log before that is not needed any more. A server
-- does this by itself as the log grows.
CHECKPOINT;

-- Read in place from the mapped file: by key through the segment's own lookup table.
SELECT * FROM readings WHERE id = 4711;
SELECT sensor, count(*), avg(value) FROM readings GROUP BY sensor ORDER BY sensor LIMIT 3;

-- What is in which file, and what the table takes in memory. While a checkpoint or vacuum runs,
-- azimuth.progress says what it is at.
SELECT file, history, first_row, rows, ended_rows FROM azimuth.segments WHERE collection = 'readings';
SELECT live_rows, ended_rows, history_rows, memory_bytes, retention_seconds FROM azimuth.collections
 WHERE collection = 'readings';

-- Chunks whose least and greatest values leave nothing to find are not read: chunks_pruned.
EXPLAIN ANALYZE SELECT count(*) FROM readings WHERE id BETWEEN 9000 AND 9100;

-- Every byte against its checksum. What is wrong is named: XX001, file and offset.
CHECK TABLE readings;
DROP TABLE readings;
