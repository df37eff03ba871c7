-- Reading the past, and repairing a mistake with a query.
DROP TABLE IF EXISTS stock;
CREATE TABLE stock (id int PRIMARY KEY, name text, amount int);
INSERT INTO stock VALUES (1, 'bolts', 100), (2, 'nuts', 250);
SELECT now() AS before \gset

-- the mistake: no WHERE
UPDATE stock SET amount = 0;
SELECT * FROM stock ORDER BY id;

-- as it was
SELECT * FROM stock AS OF TIMESTAMP :'before' ORDER BY id;

-- what changed
SELECT * FROM stock AS OF TIMESTAMP :'before' EXCEPT SELECT * FROM stock;

-- back
DELETE FROM stock;
INSERT INTO stock SELECT * FROM stock AS OF TIMESTAMP :'before';
SELECT * FROM stock ORDER BY id;
DROP TABLE stock;
