-- A view is a query under a name; a search in it uses the indexes of its tables.
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/views.sql

CREATE TABLE papers (id int PRIMARY KEY, year int, title text, embedding vector(3));

INSERT INTO papers VALUES
    (1, 2019, 'old', '[1,0,0]'), (2, 2024, 'near', '[0.9,0.1,0]'), (3, 2025, 'far', '[0,1,0]');

CREATE INDEX ON papers USING hnsw (embedding vector_cosine_ops);

CREATE VIEW recent AS SELECT id, title, embedding FROM papers WHERE year >= 2024;

SELECT id, title FROM recent ORDER BY embedding <=> '[1,0,0]' LIMIT 2;

EXPLAIN SELECT id FROM recent ORDER BY embedding <=> '[1,0,0]' LIMIT 2;
