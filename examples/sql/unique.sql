-- Values that may be there once, and rows found by them.
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/unique.sql

CREATE TABLE people (id bigserial PRIMARY KEY, email text UNIQUE, born date);

INSERT INTO people (email, born)
SELECT 'reader' || i || '@example.org', date '1950-01-01' + i FROM generate_series(1, 20000) AS g(i);

-- Refused with 23505, which names the value; nothing changes.
INSERT INTO people (email) VALUES ('reader7@example.org');

-- The row that has the address gets the new date.
INSERT INTO people (email, born) VALUES ('reader7@example.org', '1977-07-07')
ON CONFLICT (email) DO UPDATE SET born = excluded.born RETURNING *;

CREATE INDEX ON people (born);

-- By the index: CollectionLookup.
EXPLAIN SELECT count(*) FROM people WHERE born BETWEEN '1960-01-01' AND '1960-01-31';
SELECT count(*) FROM people WHERE born BETWEEN '1960-01-01' AND '1960-01-31';

DROP TABLE people;
