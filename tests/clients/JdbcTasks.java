import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;

/** The JDBC driver of PostgreSQL: each task has a connection of its own. */
public final class JdbcTasks {
    private static final int SECONDS_MAX = 60;
    private static final Map<String, Task> TASKS = new LinkedHashMap<>();
    private static String url;

    private interface Task {
        void run(Connection connection) throws Exception;
    }

    private interface Setter {
        void set(PreparedStatement statement, int place) throws SQLException;
    }

    private JdbcTasks() {}

    public static void main(String[] arguments) {
        url = "jdbc:postgresql://" + arguments[0] + "/azimuth?user=azimuth";
        Set<String> wanted = Set.copyOf(Arrays.asList(arguments).subList(1, arguments.length));
        addTasks();
        addReflection();
        addTypes();
        boolean failed = false;
        for (Map.Entry<String, Task> task : TASKS.entrySet()) {
            if (wanted.isEmpty() || wanted.contains(task.getKey())) {
                String outcome = outcome(task.getValue());
                failed |= !outcome.equals("ok");
                System.out.println("jdbc: " + task.getKey() + ": " + outcome);
            }
        }
        System.exit(failed ? 1 : 0);
    }

    private static String outcome(Task task) {
        var executor = Executors.newSingleThreadExecutor(work -> {
            Thread thread = new Thread(work);
            thread.setDaemon(true);
            return thread;
        });
        Future<String> future = executor.submit(() -> {
            try (Connection connection = connect("")) {
                task.run(connection);
                return "ok";
            }
        });
        try {
            return future.get(SECONDS_MAX, TimeUnit.SECONDS);
        } catch (TimeoutException | InterruptedException late) {
            return "FAILED no end within " + SECONDS_MAX + " s";
        } catch (ExecutionException failure) {
            Throwable cause = failure.getCause();
            String state = cause instanceof SQLException sql ? sql.getSQLState() + " " : "";
            String text = (state + cause).replaceAll("\\s+", " ");
            return "FAILED " + text.substring(0, Math.min(700, text.length()));
        } finally {
            executor.shutdownNow();
        }
    }

    private static Connection connect(String options) throws SQLException {
        return DriverManager.getConnection(url + options);
    }

    private static void equal(Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError("got " + actual + ", expected " + expected);
        }
    }

    private static void execute(Connection connection, String... statements) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            for (String text : statements) {
                statement.execute(text);
            }
        }
    }

    private static void fresh(Connection connection, String table, String columns)
            throws SQLException {
        execute(connection, "DROP TABLE IF EXISTS " + table,
                "CREATE TABLE " + table + " (" + columns + ")");
    }

    /** The rows of a query, each a list of its columns' objects. */
    private static List<List<Object>> rows(Connection connection, String query)
            throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet result = statement.executeQuery(query)) {
            return rows(result);
        }
    }

    private static List<List<Object>> rows(ResultSet result) throws SQLException {
        List<List<Object>> rows = new ArrayList<>();
        while (result.next()) {
            List<Object> row = new ArrayList<>();
            for (int place = 1; place <= result.getMetaData().getColumnCount(); place++) {
                row.add(result.getObject(place));
            }
            rows.add(row);
        }
        return rows;
    }

    /** Some columns of the rows of a result. */
    private static List<List<String>> columns(ResultSet result, String... names)
            throws SQLException {
        List<List<String>> rows = new ArrayList<>();
        while (result.next()) {
            List<String> row = new ArrayList<>();
            for (String name : names) {
                row.add(result.getString(name));
            }
            rows.add(row);
        }
        return rows;
    }

    private static void fails(Connection connection, String statement, String state) {
        try {
            execute(connection, statement);
        } catch (SQLException error) {
            equal(statement + " " + error.getSQLState(), statement + " " + state);
            return;
        }
        throw new AssertionError(statement + " did not fail");
    }

    private static void numbers(Connection connection, String table, int count) throws Exception {
        fresh(connection, table, "i integer PRIMARY KEY, filler text");
        StringBuilder data = new StringBuilder();
        for (int i = 0; i < count; i++) {
            data.append(i).append('\t').append("x".repeat(50)).append('\n');
        }
        connection.unwrap(PGConnection.class).getCopyAPI()
                .copyIn("COPY " + table + " FROM STDIN", new StringReader(data.toString()));
    }

    private static PGobject vector(float... numbers) throws SQLException {
        PGobject vector = new PGobject();
        vector.setType("vector");
        vector.setValue(Arrays.toString(numbers).replace(" ", ""));
        return vector;
    }

    private static void addTasks() {
        TASKS.put("createInsertSelect", connection -> {
            fresh(connection, "jdbc_docs", "id integer PRIMARY KEY, title text NOT NULL");
            try (var insert = connection.prepareStatement("INSERT INTO jdbc_docs VALUES (?, ?)")) {
                insert.setInt(1, 1);
                insert.setString(2, "one");
                equal(insert.executeUpdate(), 1);
            }
            equal(rows(connection, "SELECT * FROM jdbc_docs"), List.of(List.of(1, "one")));
        });
        for (boolean rewrite : new boolean[] {false, true}) {
            TASKS.put(rewrite ? "batchInsertRewritten" : "batchInsert", connection -> {
                fresh(connection, "jdbc_batch", "id integer PRIMARY KEY, title varchar");
                try (var own = connect("&reWriteBatchedInserts=" + rewrite);
                        var insert = own.prepareStatement(
                                "INSERT INTO jdbc_batch (id, title) VALUES (?, ?)")) {
                    own.setAutoCommit(false);
                    for (int i = 0; i < 1000; i++) {
                        insert.setInt(1, i);
                        insert.setString(2, "row " + i);
                        insert.addBatch();
                    }
                    equal(insert.executeBatch().length, 1000);
                    own.commit();
                }
                equal(rows(connection, "SELECT count(*), max(id) FROM jdbc_batch"),
                        List.of(List.of(1000L, 999)));
            });
        }
        TASKS.put("preparedVectorSearch", connection -> {
            fresh(connection, "jdbc_vectors", "id integer PRIMARY KEY, embedding vector(3)");
            try (var insert = connection.prepareStatement(
                    "INSERT INTO jdbc_vectors VALUES (?, ?)")) {
                for (int i = 0; i < 50; i++) {
                    insert.setInt(1, i);
                    insert.setObject(2, vector(i, 0, 1));
                    insert.addBatch();
                }
                insert.executeBatch();
            }
            execute(connection,
                    "CREATE INDEX ON jdbc_vectors USING hnsw (embedding vector_l2_ops)");
            try (var search = connection.prepareStatement(
                    "SELECT id, embedding FROM jdbc_vectors ORDER BY embedding <-> ? LIMIT ?")) {
                for (int wanted = 10; wanted < 20; wanted++) {  // from the fifth on it is named
                    search.setObject(1, vector(wanted, 0, 1));
                    search.setInt(2, 1);
                    try (ResultSet found = search.executeQuery()) {
                        found.next();
                        equal(found.getInt(1), wanted);
                        equal(found.getString(2), "[" + wanted + ",0,1]");
                    }
                }
            }
        });
        TASKS.put("transactionRollback", connection -> {
            fresh(connection, "jdbc_rollback", "id integer PRIMARY KEY");
            connection.setAutoCommit(false);
            execute(connection, "INSERT INTO jdbc_rollback VALUES (1)");
            connection.rollback();
            equal(rows(connection, "SELECT * FROM jdbc_rollback"), List.of());
        });
        TASKS.put("savepoint", connection -> {
            fresh(connection, "jdbc_savepoint", "id integer PRIMARY KEY");
            connection.setAutoCommit(false);
            execute(connection, "INSERT INTO jdbc_savepoint VALUES (1)");
            Savepoint savepoint = connection.setSavepoint("before");
            fails(connection, "INSERT INTO jdbc_savepoint VALUES (1)", "23505");
            fails(connection, "SELECT 1", "25P02");
            connection.rollback(savepoint);
            execute(connection, "INSERT INTO jdbc_savepoint VALUES (2)");
            connection.commit();
            equal(rows(connection, "SELECT id FROM jdbc_savepoint ORDER BY id"),
                    List.of(List.of(1), List.of(2)));
        });
        TASKS.put("isolationLevels", connection -> {
            for (int level : new int[] {Connection.TRANSACTION_READ_COMMITTED,
                    Connection.TRANSACTION_REPEATABLE_READ,
                    Connection.TRANSACTION_SERIALIZABLE}) {
                connection.setTransactionIsolation(level);
                equal(connection.getTransactionIsolation(), level);
            }
        });
        TASKS.put("errorAndUse", connection -> {
            fails(connection, "SELECT * FROM jdbc_nowhere", "42P01");
            fails(connection, "SELECT nothing FROM pg_class", "42703");
            fails(connection, "SELEC 1", "42601");
            fails(connection, "SELECT 1 / 0", "22012");
            fails(connection, "SELECT 'x'::integer", "22P02");
            equal(rows(connection, "SELECT 1::int"), List.of(List.of(1)));
        });
        TASKS.put("integerLiteral", connection -> equal(
                rows(connection, "SELECT 1, 2147483648"), List.of(List.of(1, 2147483648L))));
        TASKS.put("errorFields", connection -> {
            fresh(connection, "jdbc_fields", "id integer PRIMARY KEY");
            execute(connection, "INSERT INTO jdbc_fields VALUES (1)");
            try {
                execute(connection, "INSERT INTO jdbc_fields VALUES (1)");
            } catch (PSQLException error) {
                var message = error.getServerErrorMessage();
                equal(message.getConstraint(), "jdbc_fields_pkey");
                equal(message.getTable(), "jdbc_fields");
            }
        });
        TASKS.put("generatedKeys", connection -> {
            fresh(connection, "jdbc_keys", "id serial PRIMARY KEY, title text");
            try (var insert = connection.prepareStatement(
                    "INSERT INTO jdbc_keys (title) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
                for (int wanted = 1; wanted < 3; wanted++) {
                    insert.setString(1, "t");
                    insert.executeUpdate();
                    try (ResultSet keys = insert.getGeneratedKeys()) {
                        keys.next();
                        equal(keys.getInt("id"), wanted);
                    }
                }
            }
        });
        TASKS.put("upsertReturning", connection -> {
            fresh(connection, "jdbc_upsert", "id bigint PRIMARY KEY, title text");
            try (var upsert = connection.prepareStatement(
                    "INSERT INTO jdbc_upsert VALUES (?, ?) ON CONFLICT (id) DO UPDATE "
                    + "SET title = EXCLUDED.title RETURNING id, title")) {
                for (String title : List.of("a", "b")) {
                    upsert.setLong(1, 1);
                    upsert.setString(2, title);
                    equal(rows(upsert.executeQuery()), List.of(List.of(1L, title)));
                }
            }
        });
        TASKS.put("largeResultStream", connection -> {
            numbers(connection, "jdbc_stream", 20_000);
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(500);
                long total = 0;
                ResultSet result = statement.executeQuery("SELECT * FROM jdbc_stream");
                while (result.next()) {
                    total += result.getInt("i");
                }
                equal(total, 199_990_000L);
            }
        });
        TASKS.put("copy", connection -> {
            fresh(connection, "jdbc_copy", "id integer PRIMARY KEY, title text");
            CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
            equal(copy.copyIn("COPY jdbc_copy FROM STDIN (FORMAT csv)",
                    new StringReader("1,\"a,b\"\n2,\n")), 2L);
            StringWriter out = new StringWriter();
            copy.copyOut("COPY (SELECT * FROM jdbc_copy ORDER BY id) TO STDOUT", out);
            equal(out.toString(), "1\ta,b\n2\t\\N\n");
        });
        String join = "SELECT count(*) FROM %1$s a, %1$s b WHERE a.i + b.i = 7";
        TASKS.put("queryTimeout", connection -> {
            numbers(connection, "jdbc_timeout", 20_000);
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                statement.executeQuery(join.formatted("jdbc_timeout"));
                throw new AssertionError("there was no timeout");
            } catch (SQLException error) {
                equal(error.getSQLState(), "57014");
            }
            equal(rows(connection, "SELECT 1::int"), List.of(List.of(1)));
        });
        TASKS.put("listenNotify", connection -> {
            execute(connection, "LISTEN jdbc_news", "NOTIFY jdbc_news, 'hello'");
            var heard = connection.unwrap(PGConnection.class).getNotifications(5000);
            equal(heard[0].getParameter(), "hello");
        });
        TASKS.put("scrollableResult", connection -> {
            numbers(connection, "jdbc_scroll", 10);
            try (Statement statement = connection.createStatement(
                    ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
                ResultSet result = statement.executeQuery(
                        "SELECT i, filler FROM jdbc_scroll ORDER BY i");
                result.absolute(5);
                equal(result.getInt(1), 4);
                result.updateString("filler", "changed");
                result.updateRow();
            }
            equal(rows(connection, "SELECT filler FROM jdbc_scroll WHERE i = 4"),
                    List.of(List.of("changed")));
        });
    }

    private static void addReflection() {
        TASKS.put("metadataTables", connection -> {
            fresh(connection, "jdbc_tables", "id integer PRIMARY KEY");
            var found = connection.getMetaData().getTables(
                    null, "public", "jdbc\\_tables", new String[] {"TABLE"});
            equal(columns(found, "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE"),
                    List.of(List.of("public", "jdbc_tables", "TABLE")));
        });
        TASKS.put("metadataColumns", connection -> {
            fresh(connection, "jdbc_columns", "id bigint PRIMARY KEY, title text NOT NULL, "
                    + "price double precision, embedding vector(3)");
            var found = connection.getMetaData().getColumns(null, "public", "jdbc_columns", "%");
            equal(columns(found, "COLUMN_NAME", "TYPE_NAME", "NULLABLE", "ORDINAL_POSITION",
                            "DATA_TYPE"),
                    List.of(List.of("id", "int8", "0", "1", "" + Types.BIGINT),
                            List.of("title", "text", "0", "2", "" + Types.VARCHAR),
                            List.of("price", "float8", "1", "3", "" + Types.DOUBLE),
                            List.of("embedding", "vector", "1", "4", "" + Types.OTHER)));
        });
        TASKS.put("metadataPrimaryKeys", connection -> {
            fresh(connection, "jdbc_primary", "a integer, b integer, PRIMARY KEY (b, a)");
            var found = connection.getMetaData().getPrimaryKeys(null, "public", "jdbc_primary");
            equal(Set.copyOf(columns(found, "COLUMN_NAME", "KEY_SEQ", "PK_NAME")),
                    Set.of(List.of("a", "2", "jdbc_primary_pkey"),
                            List.of("b", "1", "jdbc_primary_pkey")));
        });
        TASKS.put("metadataIndexes", connection -> {
            fresh(connection, "jdbc_indexed", "id integer PRIMARY KEY, embedding vector(3)");
            execute(connection, "CREATE INDEX jdbc_hnsw ON jdbc_indexed "
                    + "USING hnsw (embedding vector_cosine_ops)");
            var found = connection.getMetaData()
                    .getIndexInfo(null, "public", "jdbc_indexed", false, true);
            equal(columns(found, "INDEX_NAME", "COLUMN_NAME", "NON_UNIQUE"),
                    List.of(List.of("jdbc_indexed_pkey", "id", "f"),
                            List.of("jdbc_hnsw", "embedding", "t")));
        });
        TASKS.put("metadataForeignKeys", connection -> {
            execute(connection, "DROP TABLE IF EXISTS jdbc_child");
            fresh(connection, "jdbc_parent", "id integer PRIMARY KEY");
            fresh(connection, "jdbc_child",
                    "id integer PRIMARY KEY, parent integer REFERENCES jdbc_parent");
            var found = connection.getMetaData().getImportedKeys(null, "public", "jdbc_child");
            equal(columns(found, "PKTABLE_NAME", "PKCOLUMN_NAME", "FKCOLUMN_NAME"),
                    List.of(List.of("jdbc_parent", "id", "parent")));
        });
        TASKS.put("metadataNoForeignKeys", connection -> {
            fresh(connection, "jdbc_alone", "id integer PRIMARY KEY");
            DatabaseMetaData data = connection.getMetaData();
            equal(columns(data.getImportedKeys(null, "public", "jdbc_alone"), "FK_NAME"),
                    List.of());
            equal(columns(data.getExportedKeys(null, "public", "jdbc_alone"), "FK_NAME"),
                    List.of());
        });
        TASKS.put("metadataSchemas", connection -> {
            var found = columns(connection.getMetaData().getSchemas(), "TABLE_SCHEM");
            equal(found.contains(List.of("public")), true);
            equal(found.contains(List.of("pg_catalog")), true);
            equal(columns(connection.getMetaData().getCatalogs(), "TABLE_CAT")
                    .contains(List.of("azimuth")), true);
        });
        TASKS.put("metadataTypes", connection -> {
            var found = columns(connection.getMetaData().getTypeInfo(), "TYPE_NAME", "DATA_TYPE");
            equal(found.contains(List.of("int4", "" + Types.INTEGER)), true);
            equal(found.contains(List.of("text", "" + Types.VARCHAR)), true);
        });
        TASKS.put("resultMetadata", connection -> {
            fresh(connection, "jdbc_result", "id integer PRIMARY KEY, title text");
            try (var query = connection.prepareStatement(
                    "SELECT id, title AS name, count(*) FROM jdbc_result GROUP BY id, title")) {
                var data = query.getMetaData();
                equal(data.getColumnCount(), 3);
                equal(data.getColumnTypeName(1), "int4");
                equal(data.getColumnLabel(2), "name");
                equal(data.getColumnLabel(3), "count");
                equal(data.isAutoIncrement(1), false);
                equal(data.isNullable(1), 0);
            }
        });
    }

    private static void roundTrip(
            Connection connection, String table, String type, Setter setter, Object expected)
            throws SQLException {
        fresh(connection, table, "id integer PRIMARY KEY, v " + type);
        try (var insert = connection.prepareStatement("INSERT INTO " + table + " VALUES (?, ?)")) {
            insert.setInt(1, 1);
            setter.set(insert, 2);
            insert.executeUpdate();
            insert.setInt(1, 2);
            insert.setObject(2, null);
            insert.executeUpdate();
        }
        String query = "SELECT v FROM " + table + " ORDER BY id";
        try (var select = connection.prepareStatement(query)) {
            for (int round = 0; round < 7; round++) {  // text first, binary after the fifth
                ResultSet result = select.executeQuery();
                result.next();
                Object found = expected instanceof LocalDateTime || expected instanceof LocalDate
                                || expected instanceof OffsetDateTime
                        ? result.getObject(1, expected.getClass())
                        : result.getObject(1);
                if (found instanceof byte[] bytes) {
                    found = Arrays.toString(bytes);
                }
                if (found instanceof java.sql.Array array) {
                    found = Arrays.toString((Object[]) array.getArray());
                }
                equal(type + " " + found, type + " " + expected);
                result.next();
                equal(result.getObject(1), null);
            }
        }
    }

    private static void addTypes() {
        TASKS.put("scalarTypes", connection -> {
            LocalDateTime instant = LocalDateTime.of(2001, 2, 3, 4, 5, 6, 789_012_000);
            OffsetDateTime aware = instant.atOffset(ZoneOffset.UTC);
            LocalDate day = LocalDate.of(1999, 12, 31);
            roundTrip(connection, "jdbc_bool", "boolean", (s, i) -> s.setBoolean(i, true), true);
            roundTrip(connection, "jdbc_int2", "smallint",
                    (s, i) -> s.setShort(i, (short) -32768), -32768);
            roundTrip(connection, "jdbc_int4", "integer",
                    (s, i) -> s.setInt(i, Integer.MAX_VALUE), Integer.MAX_VALUE);
            roundTrip(connection, "jdbc_int8", "bigint",
                    (s, i) -> s.setLong(i, Long.MIN_VALUE), Long.MIN_VALUE);
            roundTrip(connection, "jdbc_real", "real", (s, i) -> s.setFloat(i, 1.5f), 1.5f);
            roundTrip(connection, "jdbc_double", "double precision",
                    (s, i) -> s.setDouble(i, 0.1), 0.1);
            roundTrip(connection, "jdbc_text", "text", (s, i) -> s.setString(i, "Grüße"), "Grüße");
            roundTrip(connection, "jdbc_bytea", "bytea",
                    (s, i) -> s.setBytes(i, new byte[] {0, 1, -1}), "[0, 1, -1]");
            roundTrip(connection, "jdbc_date", "date", (s, i) -> s.setObject(i, day), day);
            roundTrip(connection, "jdbc_timestamp", "timestamp",
                    (s, i) -> s.setObject(i, instant), instant);
            roundTrip(connection, "jdbc_timestamptz", "timestamptz",
                    (s, i) -> s.setObject(i, aware), aware);
        });
        TASKS.put("sqlDateAndTimestamp", connection -> {
            Date day = Date.valueOf("1999-12-31");
            Timestamp instant = Timestamp.valueOf("2001-02-03 04:05:06.789012");
            roundTrip(connection, "jdbc_sql_date", "date", (s, i) -> s.setDate(i, day), day);
            roundTrip(connection, "jdbc_sql_timestamp", "timestamp",
                    (s, i) -> s.setTimestamp(i, instant), instant);
        });
        TASKS.put("varcharWithLength", connection -> roundTrip(connection, "jdbc_varchar",
                "varchar(10)", (s, i) -> s.setString(i, "ten"), "ten"));
        TASKS.put("numericType", connection -> roundTrip(connection, "jdbc_numeric",
                "numeric(10, 2)", (s, i) -> s.setBigDecimal(i, new BigDecimal("12.50")),
                new BigDecimal("12.50")));
        TASKS.put("uuidType", connection -> {
            UUID value = new UUID(1, 2);
            roundTrip(connection, "jdbc_uuid", "uuid", (s, i) -> s.setObject(i, value), value);
        });
        TASKS.put("jsonbType", connection -> {
            fresh(connection, "jdbc_jsonb", "id integer PRIMARY KEY, v jsonb");
            PGobject json = new PGobject();
            json.setType("jsonb");
            json.setValue("{\"a\": [1, null]}");
            try (var insert = connection.prepareStatement("INSERT INTO jdbc_jsonb VALUES (1, ?)")) {
                insert.setObject(1, json);
                insert.executeUpdate();
            }
            equal(rows(connection, "SELECT v, v #>> '{a,0}' FROM jdbc_jsonb"),
                    List.of(List.of(json, "1")));
        });
        TASKS.put("arrayType", connection -> roundTrip(connection, "jdbc_array", "text[]",
                (s, i) -> s.setArray(i, connection.createArrayOf("text", new String[] {"a", "b"})),
                "[a, b]"));
        TASKS.put("anyOfArray", connection -> {
            numbers(connection, "jdbc_any", 5);
            try (var query = connection.prepareStatement(
                    "SELECT i FROM jdbc_any WHERE i = ANY(?) ORDER BY i")) {
                query.setArray(1, connection.createArrayOf("int4", new Integer[] {1, 3, 9}));
                equal(rows(query.executeQuery()), List.of(List.of(1), List.of(3)));
            }
        });
    }
}
