-- A transaction finds its own rows by the index, goes back to a savepoint, and commits as one.
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/transactions.sql

DROP TABLE IF EXISTS stars;
CREATE TABLE stars (id int PRIMARY KEY, name text, at vector(3));
INSERT INTO stars
  SELECT g, 'star ' || g::text, ARRAY[sin(g), cos(g * 1.7), sin(g * 0.37)]
  FROM generate_series(1, 20000) AS s(g);
CREATE INDEX stars_at ON stars USING hnsw (at vector_l2_ops);

BEGIN;
INSERT INTO stars VALUES (0, 'new', '[0.1,0.2,0.3]');
SELECT id, name, at <-> '[0.1,0.2,0.3]' AS distance FROM stars ORDER BY distance LIMIT 3;
EXPLAIN SELECT id FROM stars ORDER BY at <-> '[0.1,0.2,0.3]' LIMIT 3;

SAVEPOINT before_the_doubtful;
DELETE FROM stars WHERE id % 2 = 0;
SELECT count(*) FROM stars;
ROLLBACK TO before_the_doubtful;
SELECT count(*) FROM stars;

-- Rows in parts, as they were when the cursor was declared.
DECLARE c CURSOR FOR SELECT id, name FROM stars ORDER BY at <-> '[0.1,0.2,0.3]' LIMIT 100;
FETCH 2 FROM c;
DELETE FROM stars WHERE id > 100;
MOVE 96 FROM c;
FETCH ALL FROM c;

-- A table that is there for others when the rows are.
CREATE TABLE named (id int PRIMARY KEY, name text);
INSERT INTO named SELECT id, name FROM stars WHERE id < 3;
COMMIT;

SELECT * FROM named ORDER BY id;
DROP TABLE stars, named;
