-- A table changes, and the past keeps its columns.
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/alter_table.sql

CREATE TABLE parts (id int PRIMARY KEY, label text, weight int, embedding vector(3));

INSERT INTO parts VALUES (1, 'bolt', 5, '[1,0,0]'), (2, 'nut', 3, '[0,1,0]');

SELECT now() AS before \gset

-- No row is written again for these.
ALTER TABLE parts ADD COLUMN stock int NOT NULL DEFAULT 0 CHECK (stock >= 0),
    ALTER COLUMN weight TYPE numeric(12,2),
    DROP COLUMN label;

UPDATE parts SET weight = 5.25, stock = 7 WHERE id = 1;

SELECT * FROM parts ORDER BY embedding <-> '[1,0,0]';

-- The column that was dropped, and the type of then.
SELECT * FROM parts AS OF TIMESTAMP :'before' ORDER BY embedding <-> '[1,0,0]';

-- Refused with 23514, and nothing changes.
UPDATE parts SET stock = -1;
