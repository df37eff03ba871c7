-- Recall that is declared, joins and ranges as filters of a search.
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/declared_recall.sql

DROP TABLE IF EXISTS works, shelves;
CREATE TABLE works (id int PRIMARY KEY, shelf int, embedding vector(6));
INSERT INTO works
  SELECT g, g % 100, ARRAY[sin(g), cos(g * 1.7), sin(g * 0.37), cos(g * 2.3), sin(g * 3.1), cos(g * 0.11)]
  FROM generate_series(1, 50000) AS s(g);
CREATE TABLE shelves (id int PRIMARY KEY, room text);
INSERT INTO shelves SELECT g, 'room ' || (g % 5)::text FROM generate_series(0, 99) AS s(g);

CREATE INDEX works_embedding ON works USING hnsw (embedding vector_l2_ops)
  WITH (quantization = sq8, recall_target = 0.98, latency_budget_us = 2000);

-- What is expected of a search, and how good this one was.
EXPLAIN (ANALYZE, RECALL)
SELECT id FROM works ORDER BY embedding <-> '[0.1,0.9,-0.3,0.2,0.4,-0.5]' LIMIT 10;

-- A session's own target.
SET hnsw.recall_target = 0.9;
EXPLAIN (ANALYZE, RECALL)
SELECT id FROM works ORDER BY embedding <-> '[0.1,0.9,-0.3,0.2,0.4,-0.5]' LIMIT 10;
RESET hnsw.recall_target;

-- What the server has learned of the searches that came.
SELECT k, share, searches, recall_samples, ef_per_row, recall, p95_us FROM azimuth.tuner;
SELECT at, ef_per_row_before, ef_per_row, recall, reason FROM azimuth.tuner_log;

-- A join says which rows are searched.
EXPLAIN ANALYZE
SELECT w.id, s.room FROM works w JOIN shelves s ON s.id = w.shelf
  WHERE s.room = 'room 3' ORDER BY w.embedding <-> '[0.1,0.9,-0.3,0.2,0.4,-0.5]' LIMIT 5;

-- All rows within a distance: the codes rule most of them out.
EXPLAIN ANALYZE
SELECT count(*) FROM works WHERE embedding <-> '[0.1,0.9,-0.3,0.2,0.4,-0.5]' < 0.5;
SELECT count(*) FROM works WHERE embedding <-> '[0.1,0.9,-0.3,0.2,0.4,-0.5]' < 0.5;

-- A condition between the tables: the search goes on until enough rows meet it.
EXPLAIN ANALYZE
SELECT works.id, shelves.room FROM works JOIN shelves ON shelves.id = works.shelf AND works.id > shelves.id * 400
  ORDER BY embedding <-> '[0.1,0.9,-0.3,0.2,0.4,-0.5]' LIMIT 5;

DROP TABLE works, shelves;
