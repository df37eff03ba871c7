-- Rows that may be there already, rows that come back, and rows on their way out.
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/upsert.sql

DROP TABLE IF EXISTS pages, visits;
CREATE TABLE pages (url text PRIMARY KEY, visits int, embedding vector(3));
INSERT INTO pages VALUES ('/', 1, '[1,0,0]'), ('/about', 1, '[0,1,0]');

-- A row that is there is counted up, a new one comes.
INSERT INTO pages VALUES ('/', 1, '[1,0,0]'), ('/help', 1, '[0,0,1]')
  ON CONFLICT (url) DO UPDATE SET visits = pages.visits + excluded.visits
  RETURNING url, visits;

-- Only what is not there.
INSERT INTO pages VALUES ('/', 99, NULL) ON CONFLICT DO NOTHING;

-- Joined changes, and what they did.
CREATE TABLE visits (url text, count int);
INSERT INTO visits VALUES ('/help', 41), ('/gone', 7);
UPDATE pages SET visits = pages.visits + v.count FROM visits AS v WHERE v.url = pages.url
  RETURNING pages.url, pages.visits;
DELETE FROM pages USING visits WHERE visits.url = pages.url AND pages.visits > 40
  RETURNING url, embedding <-> '[0,0,0]' AS length;

COPY (SELECT * FROM pages ORDER BY url) TO STDOUT WITH (FORMAT csv, HEADER);
TRUNCATE pages, visits;
SELECT count(*) FROM pages;
DROP TABLE pages, visits;
