-- Loading with COPY; vectors are text like any value.
DROP TABLE IF EXISTS places;
CREATE TABLE places (id int PRIMARY KEY, name text, at vector(2));
COPY places FROM STDIN WITH (FORMAT csv, HEADER);
id,name,at
1,"Mole, lower","[7.68,45.06]"
2,Duomo,"[9.19,45.46]"
3,,"[12.33,45.43]"
\.
SELECT id, name, at <-> '[9,45]' AS distance FROM places ORDER BY distance LIMIT 3;
DROP TABLE places;
