-- Keys that count by themselves, defaults, and conditions that every row meets.
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/defaults.sql

CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL DEFAULT 'untitled',
    stars int CHECK (stars BETWEEN 1 AND 5),
    written timestamptz DEFAULT now(),
    embedding vector(3)
);

INSERT INTO notes (title, stars, embedding)
    VALUES ('first', 5, '[1,0,0]'), (DEFAULT, NULL, '[0,1,0]')
    RETURNING id, title;

-- Refused with 23514, and nothing changes.
INSERT INTO notes (stars) VALUES (6);

SELECT id, title, written <= now() AS written FROM notes ORDER BY embedding <-> '[1,0,0]' LIMIT 2;

\d notes

DROP TABLE notes;
