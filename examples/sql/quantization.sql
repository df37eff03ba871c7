-- What an index keeps of vectors, how much memory that takes, and what a search then does.
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/quantization.sql

DROP TABLE IF EXISTS quantized;
CREATE TABLE quantized (id int PRIMARY KEY, embedding vector(6));
INSERT INTO quantized
  SELECT g, ARRAY[sin(g), cos(g * 1.7), sin(g * 0.37), cos(g * 2.3), sin(g * 3.1), cos(g * 0.11)]
  FROM generate_series(1, 50000) AS s(g);

CREATE INDEX by_sq8 ON quantized USING hnsw (embedding vector_cosine_ops)
  WITH (quantization = sq8);
CREATE INDEX by_polar4 ON quantized USING hnsw (embedding vector_l2_ops)
  WITH (quantization = polar4, oversample = 4);

SELECT index, quantization, rows, covered_rows, memory_bytes, code_bytes FROM azimuth.indexes
  WHERE collection = 'quantized';

EXPLAIN ANALYZE
SELECT id FROM quantized ORDER BY embedding <=> '[0.1,0.9,-0.3,0.2,0.4,-0.5]' LIMIT 5;

-- The same rows by each way: walking the graph, comparing all codes, comparing all vectors.
SET hnsw.strategy = graph;
SELECT id FROM quantized ORDER BY embedding <-> '[0.1,0.9,-0.3,0.2,0.4,-0.5]' LIMIT 5;
SET hnsw.strategy = scan;
SELECT id FROM quantized ORDER BY embedding <-> '[0.1,0.9,-0.3,0.2,0.4,-0.5]' LIMIT 5;
SET hnsw.strategy = exact;
SELECT id FROM quantized ORDER BY embedding <-> '[0.1,0.9,-0.3,0.2,0.4,-0.5]' LIMIT 5;

DROP TABLE quantized;
