-- Nearest neighbours with filters. Run with psql against any server:
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/vector_search.sql
DROP TABLE IF EXISTS films;
CREATE TABLE films (id bigint PRIMARY KEY, title text NOT NULL, year int, mood vector(3));
INSERT INTO films VALUES
  (1, 'A quiet harbour', 1953, '[0.9, 0.1, 0.2]'),
  (2, 'Night train',     1959, '[0.3, 0.9, 0.4]'),
  (3, 'The long winter', 1971, '[0.8, 0.3, 0.1]'),
  (4, 'Carousel',        1988, '[0.1, 0.2, 0.9]');
CREATE INDEX ON films USING hnsw (mood vector_cosine_ops) WITH (m = 16, ef_construction = 64);

-- the two nearest of the younger films
SELECT title, mood <=> '[0.8, 0.2, 0.2]' AS distance
  FROM films WHERE year > 1955 ORDER BY distance LIMIT 2;

-- like another row
SELECT title FROM films WHERE id <> 1
  ORDER BY mood <=> (SELECT mood FROM films WHERE id = 1) LIMIT 1;

-- what the plan does, and what it did
EXPLAIN ANALYZE SELECT title FROM films ORDER BY mood <=> '[0.8, 0.2, 0.2]' LIMIT 2;
DROP TABLE films;
