-- How long the past can be read, and dropping what is older.
--   psql -h 127.0.0.1 -p 5433 -U azimuth azimuth -f examples/sql/retention.sql
DROP TABLE IF EXISTS visits;
CREATE TABLE visits (id bigint PRIMARY KEY, page text, seconds int) WITH (retention = '7 days');
INSERT INTO visits SELECT g, 'page ' || g % 50, g % 90 FROM generate_series(1, 50000) AS s(g);
SELECT now() AS before \gset
UPDATE visits SET seconds = 0;

-- Within the retention the past stays, however often ended rows are taken out of the way.
VACUUM visits;
SELECT count(*), sum(seconds) FROM visits AS OF TIMESTAMP :'before';

-- Without retention it is dropped; reading it is refused and not answered in part.
ALTER TABLE visits SET (retention = '0');
VACUUM visits;
SELECT count(*), sum(seconds) FROM visits AS OF TIMESTAMP :'before';
SELECT count(*), sum(seconds) FROM visits;
DROP TABLE visits;
