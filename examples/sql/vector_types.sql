-- Vectors of half the size, of bits, and sparse ones: columns, indexes, and bits as a first step.
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/vector_types.sql

DROP TABLE IF EXISTS small;
CREATE TABLE small (id int PRIMARY KEY, embedding halfvec(8), signs bit(8));
INSERT INTO small
  SELECT id, v, binary_quantize(v) FROM (
    SELECT g AS id, ARRAY[sin(g), cos(g * 1.7), sin(g * 0.37), cos(g * 2.3), sin(g * 3.1),
                          cos(g * 0.11), sin(g * 5.3), cos(g * 7.7)]::halfvec(8) AS v
    FROM generate_series(1, 20000) AS s(g)) AS made;

CREATE INDEX small_embedding ON small USING hnsw (embedding halfvec_cosine_ops);
CREATE INDEX small_signs ON small USING hnsw (signs bit_hamming_ops);

-- What is kept: 0.1 is the nearest of 16 bits.
SELECT '[0.1,1,65504]'::halfvec;

EXPLAIN ANALYZE
SELECT id FROM small ORDER BY embedding <=> '[0.9,0.1,-0.3,0.2,0.4,-0.5,0,0.3]' LIMIT 5;
SELECT id, embedding FROM small ORDER BY embedding <=> '[0.9,0.1,-0.3,0.2,0.4,-0.5,0,0.3]' LIMIT 5;

-- Bits that differ, and the share of bits in common.
SELECT id, signs, signs <~> '11010001' AS differ FROM small ORDER BY signs <~> '11010001' LIMIT 3;
SELECT B'1100' <%> B'1010' AS jaccard;

-- The nearest by their signs, then in order of their numbers.
SELECT id FROM (
  SELECT id, embedding FROM small
  ORDER BY signs <~> binary_quantize('[0.9,0.1,-0.3,0.2,0.4,-0.5,0.1,0.3]'::vector) LIMIT 200
) AS nearest
ORDER BY embedding <=> '[0.9,0.1,-0.3,0.2,0.4,-0.5,0.1,0.3]' LIMIT 5;

DROP TABLE small;

-- Sparse vectors: words of a text by their numbers, weights of a learned sparse model.
DROP TABLE IF EXISTS words;
CREATE TABLE words (id int PRIMARY KEY, weights sparsevec(30000));
INSERT INTO words VALUES
  (1, '{17:1.5,204:0.5}/30000'), (2, '{17:0.5,9001:2}/30000'), (3, '{9001:1,29999:1}/30000');
CREATE INDEX words_weights ON words USING hnsw (weights sparsevec_ip_ops);
SELECT id, weights <#> '{17:1,9001:1}/30000' AS nearness FROM words
  ORDER BY weights <#> '{17:1,9001:1}/30000' LIMIT 2;
DROP TABLE words;
