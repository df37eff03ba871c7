// node-postgres, with pg-cursor, pg-query-stream, pg-copy-streams and pgvector.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { text } from "node:stream/consumers";

import pg from "pg";
import Cursor from "pg-cursor";
import QueryStream from "pg-query-stream";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import pgvector from "pgvector/pg";

const SECONDS_MAX = 60;
const [address, ...wanted] = process.argv.slice(2);
const [host, port] = address.split(":");
const SERVER = { host, port: Number(port), user: "azimuth", database: "azimuth" };

/** @type {Map<string, (client: pg.Client) => Promise<void>>} */
const tasks = new Map();

/** @param {(client: pg.Client) => Promise<void>} run */
function task(run) {
  tasks.set(run.name, run);
}

/** @param {pg.Client} client @param {string} table @param {string} columns */
async function fresh(client, table, columns) {
  await client.query(`DROP TABLE IF EXISTS ${table}`);
  await client.query(`CREATE TABLE ${table} (${columns})`);
}

/** The SQLSTATE that a promise fails with. */
async function stateOf(promise) {
  const error = await promise.then(() => undefined, (e) => e);
  return error?.code;
}

/** @param {pg.Client} client @param {string} name @param {string} type @param {unknown} value */
async function roundTrip(client, name, type, value) {
  await fresh(client, name, `id integer PRIMARY KEY, v ${type}`);
  await client.query(`INSERT INTO ${name} VALUES (1, $1), (2, NULL)`, [value]);
  const { rows } = await client.query(`SELECT v FROM ${name} ORDER BY id`);
  assert.deepEqual(rows, [{ v: value }, { v: null }], type);
}

async function numbers(client, table, count) {
  await fresh(client, table, "i integer PRIMARY KEY, filler text");
  const lines = Array.from({ length: count }, (_, i) => `${i}\t${"x".repeat(50)}\n`);
  await pipeline(Readable.from(lines), client.query(copyFrom(`COPY ${table} FROM STDIN`)));
}

task(async function createInsertSelect(client) {
  await fresh(client, "node_docs", "id integer PRIMARY KEY, title text NOT NULL");
  const inserted = await client.query("INSERT INTO node_docs VALUES ($1, $2)", [1, "one"]);
  assert.deepEqual([inserted.command, inserted.rowCount], ["INSERT", 1]);
  const found = await client.query("SELECT * FROM node_docs");
  assert.deepEqual(found.rows, [{ id: 1, title: "one" }]);
  assert.deepEqual(found.fields.map((f) => [f.name, f.dataTypeID]), [["id", 23], ["title", 25]]);
});

task(async function bulkInsert(client) {
  await fresh(client, "node_bulk", "id integer PRIMARY KEY, title text");
  const values = Array.from({ length: 1000 }, (_, i) => [i, `row ${i}`]);
  const places = values.map((_, i) => `($${2 * i + 1}, $${2 * i + 2})`).join(",");
  const done = await client.query(`INSERT INTO node_bulk VALUES ${places}`, values.flat());
  assert.equal(done.rowCount, 1000);
  const { rows } = await client.query("SELECT count(*), max(id) FROM node_bulk");
  assert.deepEqual(rows, [{ count: "1000", max: 999 }]);
});

task(async function insertFromUnnest(client) {
  await fresh(client, "node_unnest", "id integer PRIMARY KEY, title text");
  await client.query(
    "INSERT INTO node_unnest SELECT * FROM unnest($1::int[], $2::text[])", [[1, 2], ["a", "b"]]);
  const { rows } = await client.query("SELECT * FROM node_unnest ORDER BY id");
  assert.deepEqual(rows, [{ id: 1, title: "a" }, { id: 2, title: "b" }]);
});

task(async function anyOfArray(client) {
  await numbers(client, "node_any", 5);
  const query = "SELECT i FROM node_any WHERE i = ANY($1) ORDER BY i";
  const { rows } = await client.query(query, [[1, 3, 9]]);
  assert.deepEqual(rows, [{ i: 1 }, { i: 3 }]);
});

task(async function preparedVectorSearch(client) {
  await pgvector.registerTypes(client);
  await fresh(client, "node_vectors", "id integer PRIMARY KEY, embedding vector(3)");
  for (let i = 0; i < 50; i++) {
    await client.query({
      name: "insert", text: "INSERT INTO node_vectors VALUES ($1, $2)",
      values: [i, pgvector.toSql([i, 0, 1])],
    });
  }
  await client.query("CREATE INDEX ON node_vectors USING hnsw (embedding vector_l2_ops)");
  for (const wanted of [10, 20, 30]) {
    const { rows } = await client.query({
      name: "search",
      text: "SELECT id, embedding, embedding <-> $1 AS d FROM node_vectors ORDER BY d LIMIT 1",
      values: [pgvector.toSql([wanted, 0, 1])],
    });
    assert.deepEqual(rows, [{ id: wanted, embedding: [wanted, 0, 1], d: 0 }]);
  }
});

task(async function transactionRollback(client) {
  await fresh(client, "node_rollback", "id integer PRIMARY KEY");
  await client.query("BEGIN");
  await client.query("INSERT INTO node_rollback VALUES (1)");
  await client.query("ROLLBACK");
  assert.equal((await client.query("SELECT * FROM node_rollback")).rowCount, 0);
});

task(async function savepoint(client) {
  await fresh(client, "node_savepoint", "id integer PRIMARY KEY");
  await client.query("BEGIN; INSERT INTO node_savepoint VALUES (1); SAVEPOINT a");
  assert.equal(await stateOf(client.query("INSERT INTO node_savepoint VALUES (1)")), "23505");
  assert.equal(await stateOf(client.query("SELECT 1")), "25P02");
  await client.query("ROLLBACK TO a");
  await client.query("INSERT INTO node_savepoint VALUES (2)");
  await client.query("COMMIT");
  const { rows } = await client.query("SELECT id FROM node_savepoint ORDER BY id");
  assert.deepEqual(rows.map((r) => r.id), [1, 2]);
});

task(async function errorAndUse(client) {
  for (const [statement, state] of [
    ["SELECT * FROM node_nowhere", "42P01"],
    ["SELECT nothing FROM pg_class", "42703"],
    ["SELEC", "42601"],
    ["SELECT 1 / 0", "22012"],
    ["SELECT $1::int", "22P02"],
  ]) {
    const values = statement.includes("$1") ? ["x"] : [];
    assert.equal(await stateOf(client.query(statement, values)), state, statement);
    assert.deepEqual((await client.query("SELECT 1::int AS one")).rows, [{ one: 1 }]);
  }
});

task(async function integerLiteral(client) {
  const { rows } = await client.query("SELECT 1 AS one, 2147483648 AS large");
  assert.deepEqual(rows, [{ one: 1, large: "2147483648" }]);
});

task(async function scalarTypes(client) {
  const instant = new Date("2001-02-03T04:05:06.789Z");
  for (const [place, [type, value]] of [
    ["boolean", true], ["smallint", -32768], ["integer", 2147483647],
    ["bigint", "-9223372036854775808"], ["real", 1.5], ["double precision", 0.1],
    ["text", "Grüße\n"], ["varchar", "größer"], ["bytea", Buffer.from([0, 1, 255])],
    ["timestamptz", instant], ["timestamp", instant],
  ].entries()) {
    await roundTrip(client, `node_scalar_${place}`, type, value);
  }
});

task(async function numericType(client) {
  await roundTrip(client, "node_numeric", "numeric(10, 2)", "12.50");
});

task(async function uuidType(client) {
  await roundTrip(client, "node_uuid", "uuid", "12345678-1234-5678-1234-567812345678");
});

task(async function jsonbType(client) {
  await roundTrip(client, "node_jsonb", "jsonb", { a: [1, null, { b: "c" }] });
});

task(async function arrayTypes(client) {
  await roundTrip(client, "node_integers", "integer[]", [1, 2, 3]);
  await roundTrip(client, "node_texts", "text[]", ["a", 'b"c', "d,e"]);
});

task(async function serialKeyAndDefaults(client) {
  await fresh(client, "node_serial",
    "id serial PRIMARY KEY, title text, made timestamptz NOT NULL DEFAULT now()");
  for (const id of [1, 2]) {
    const insert = "INSERT INTO node_serial (title) VALUES ($1) RETURNING id, made";
    const { rows: [row] } = await client.query(insert, ["t"]);
    assert.equal(row.id, id);
    assert.ok(row.made instanceof Date);
  }
});

task(async function uniqueConstraint(client) {
  await fresh(client, "node_unique", "id integer PRIMARY KEY, mail text UNIQUE");
  await client.query("INSERT INTO node_unique VALUES (1, 'a')");
  const error = await client.query("INSERT INTO node_unique VALUES (2, 'a')").catch((e) => e);
  assert.deepEqual([error.code, error.constraint], ["23505", "node_unique_mail_key"]);
});

task(async function duplicateKeyFields(client) {
  await fresh(client, "node_fields", "id integer PRIMARY KEY");
  await client.query("INSERT INTO node_fields VALUES (1)");
  const error = await client.query("INSERT INTO node_fields VALUES (1)").catch((e) => e);
  assert.deepEqual(
    [error.code, error.constraint, error.table, error.schema, error.detail],
    ["23505", "node_fields_pkey", "node_fields", "public", "Key (id)=(1) already exists."]);
});

task(async function upsertReturning(client) {
  await fresh(client, "node_upsert", "id integer PRIMARY KEY, title text");
  const upsert = `INSERT INTO node_upsert VALUES ($1, $2)
    ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title RETURNING *`;
  await client.query(upsert, [1, "a"]);
  assert.deepEqual((await client.query(upsert, [1, "b"])).rows, [{ id: 1, title: "b" }]);
});

task(async function cursor(client) {
  await numbers(client, "node_cursor", 1000);
  const open = client.query(new Cursor("SELECT i FROM node_cursor ORDER BY i"));
  assert.deepEqual((await open.read(2)).map((r) => r.i), [0, 1]);
  assert.deepEqual((await open.read(2)).map((r) => r.i), [2, 3]);
  await open.close();
  assert.deepEqual((await client.query("SELECT 1::int AS one")).rows, [{ one: 1 }]);
});

task(async function largeResultStream(client) {
  await numbers(client, "node_stream", 20000);
  let total = 0;
  for await (const row of client.query(new QueryStream("SELECT * FROM node_stream"))) {
    total += row.i;
  }
  assert.equal(total, 199_990_000);
});

task(async function copyInAndOut(client) {
  await fresh(client, "node_copy", "id integer PRIMARY KEY, title text");
  const input = client.query(copyFrom("COPY node_copy FROM STDIN WITH (FORMAT csv)"));
  await pipeline(Readable.from(['1,"a,b"\n', "2,\n"]), input);
  assert.equal(input.rowCount, 2);
  const query = "COPY (SELECT * FROM node_copy ORDER BY id) TO STDOUT";
  assert.equal(await text(client.query(copyTo(query))), "1\ta,b\n2\t\\N\n");
});

task(async function timeout(client) {
  await numbers(client, "node_long", 20000);
  const limited = new pg.Client({ ...SERVER, statement_timeout: 500 });
  await limited.connect();
  const query = "SELECT count(*) FROM node_long a, node_long b WHERE a.i + b.i = 7";
  assert.equal(await stateOf(limited.query(query)), "57014");
  await limited.end();
  assert.deepEqual((await client.query("SELECT 1::int AS one")).rows, [{ one: 1 }]);
});

task(async function cancelBackend(client) {
  await numbers(client, "node_cancel", 20000);
  const other = new pg.Client(SERVER);
  await other.connect();
  const { rows: [{ pid }] } = await client.query("SELECT pg_backend_pid() AS pid");
  setTimeout(() => other.query("SELECT pg_cancel_backend($1)", [pid]).catch(() => {}), 500);
  const query = "SELECT count(*) FROM node_cancel a, node_cancel b WHERE a.i + b.i = 7";
  assert.equal(await stateOf(client.query(query)), "57014");
  await other.end();
});

task(async function pool(client) {
  await fresh(client, "node_pool", "id integer PRIMARY KEY");
  const made = new pg.Pool({ ...SERVER, max: 4 });
  await Promise.all(Array.from({ length: 40 }, (_, i) =>
    made.query("INSERT INTO node_pool VALUES ($1)", [i])));
  const { rows } = await made.query("SELECT sum(id)::int AS s FROM node_pool");
  assert.deepEqual(rows, [{ s: 780 }]);
  await made.end();
});

task(async function listenNotify(client) {
  await client.query("LISTEN node_news");
  const heard = new Promise((resolve) => client.once("notification", resolve));
  await client.query("SELECT pg_notify('node_news', 'hello')");
  assert.equal((await heard).payload, "hello");
});

task(async function reflection(client) {
  await fresh(client, "node_reflect", "a integer NOT NULL, b text, PRIMARY KEY (a)");
  const { rows } = await client.query(
    `SELECT column_name, data_type, is_nullable, column_default, ordinal_position
       FROM information_schema.columns
      WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position`,
    ["node_reflect"]);
  assert.deepEqual(rows.map(Object.values),
    [["a", "integer", "NO", null, 1], ["b", "text", "YES", null, 2]]);
  const keys = await client.query(
    `SELECT conname, contype, pg_get_constraintdef(oid) AS definition
       FROM pg_constraint WHERE conrelid = 'node_reflect'::regclass`);
  assert.deepEqual(keys.rows,
    [{ conname: "node_reflect_pkey", contype: "p", definition: "PRIMARY KEY (a)" }]);
});

let failed = false;
for (const [name, run] of tasks) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const client = new pg.Client(SERVER);
  client.on("error", () => {});
  let timer;
  try {
    await client.connect();
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no end within ${SECONDS_MAX} s`)),
        SECONDS_MAX * 1000);
    });
    await Promise.race([run(client), late]);
    console.log(`node-pg: ${name}: ok`);
  } catch (error) {
    failed = true;
    const reason = `${error.code ?? ""} ${error.message}`.replace(/\s+/g, " ").slice(0, 700);
    console.log(`node-pg: ${name}: FAILED ${reason}`);
  }
  clearTimeout(timer);
  client.connection.stream.destroy();
}
process.exit(failed ? 1 : 0);
