//! Vectors and limits at their edges as binary parameters, and vectors of as many dimensions as
//! there may be, all with an index there. `tests/sql/vector_bad_input.slt` has what can be written
//! as SQL.

use types::SplitMix64;
use types::limits::DIM_MAX;

use crate::support::process;
use crate::wire::{
    Message, Values, Wire, bind, close, code, column, error, execute, kinds, parse, sync,
};

/// Vectors.
const VECTOR: u32 = 16_385;
/// Integers of 64 and of 32 bits.
const BIGINT: u32 = 20;
const INTEGER: u32 = 23;
/// Forms of codes.
const FORMS: [&str; 6] = ["none", "sq8", "sq8_calibrated", "polar8", "polar4", "polar2"];
/// Operator classes and their operators.
const DISTANCES: [(&str, &str); 3] =
    [("vector_l2_ops", "<->"), ("vector_ip_ops", "<#>"), ("vector_cosine_ops", "<=>")];

/// A vector as a binary parameter.
fn binary(numbers: &[f32]) -> Vec<u8> {
    let dim = u16::try_from(numbers.len()).expect("a dimension").to_be_bytes();
    let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
    dim.into_iter().chain([0, 0]).chain(numbers).collect()
}

/// Prepares a statement in the place of the one that had its name.
async fn prepare(session: &mut Wire, name: &str, sql: &str, types: &[u32]) {
    let messages = [close(b'S', name), parse(name, sql, types), sync()].concat();
    let answer = session.ask(&messages).await;
    assert_eq!(kinds(&answer), "31Z", "{sql}: {:?}", error(&answer));
}

/// Executes a prepared statement with binary values; `None` is NULL.
async fn run(session: &mut Wire, name: &str, given: &[Option<&[u8]>]) -> Vec<Message> {
    let values = Values { formats: &[1], values: given, results: &[] };
    session.ask(&[bind("", name, &values), execute("", 0), sync()].concat()).await
}

/// Executes the prepared search `ask` for a vector and a limit.
async fn search(session: &mut Wire, vector: Option<&[u8]>, limit: Option<i64>) -> Vec<Message> {
    let limit = limit.map(i64::to_be_bytes);
    run(session, "ask", &[vector, limit.as_ref().map(<[u8; 8]>::as_slice)]).await
}

/// That many rows came, and none twice.
fn assert_rows(answer: &[Message], expected: usize, what: &str) {
    assert_eq!(code(answer), "", "{what}: {:?}", error(answer));
    let mut found = column(answer);
    assert_eq!(found.len(), expected, "{what}");
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), expected, "{what}: a row twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_parameters_of_a_search_have_an_answer_or_a_code() {
    let server = process().await;
    let mut session = Wire::log_in(server.address()).await;
    session.run("CREATE TABLE few (id int PRIMARY KEY, v vector(3))").await;
    let values = "(1, '[1,2,3]'), (2, NULL), (3, '[0,0,0]'), (4, '[1e-42,0,0]'), (5, '[-3,2,1]')";
    session.run(&format!("INSERT INTO few VALUES {values}")).await;
    let one = binary(&[1.0, 2.0, 3.0]);
    let odd: [(&str, Option<Vec<u8>>); 5] = [
        ("zero", Some(binary(&[0.0, -0.0, 0.0]))),
        ("subnormal", Some(binary(&[1e-45, -1e-42, 0.0]))),
        ("largest", Some(binary(&[f32::MAX, f32::MAX, f32::MIN]))),
        ("an ordinary vector", Some(one.clone())),
        ("NULL", None),
    ];
    let wrong: [(&str, Vec<u8>, &str); 8] = [
        ("NaN", binary(&[1.0, f32::NAN, 3.0]), "22"),
        ("infinity", binary(&[f32::INFINITY, 2.0, 3.0]), "22"),
        ("minus infinity", binary(&[1.0, 2.0, f32::NEG_INFINITY]), "22"),
        ("two dimensions", binary(&[1.0, 2.0]), "22000"),
        ("four dimensions", binary(&[1.0, 2.0, 3.0, 4.0]), "22000"),
        ("no dimensions", binary(&[]), "22"),
        ("a cut vector", one[..9].to_vec(), "22"),
        ("no bytes", Vec::new(), "22"),
    ];
    for (form, (class, operator)) in
        FORMS.into_iter().flat_map(|form| DISTANCES.map(|distance| (form, distance)))
    {
        let create = format!("CREATE INDEX few_v ON few USING hnsw (v {class})");
        session.run(&format!("{create} WITH (quantization = {form})")).await;
        let sql = format!("SELECT id FROM few ORDER BY v {operator} $1 LIMIT");
        prepare(&mut session, "ask", &format!("{sql} $2"), &[VECTOR, BIGINT]).await;
        // Its plan is kept from the second execution on.
        prepare(&mut session, "four", &format!("{sql} 4"), &[VECTOR]).await;
        for (what, vector) in &odd {
            let vector = vector.as_deref();
            for (limit, expected) in
                [(Some(1), 1), (Some(4), 4), (Some(0), 0), (None, 5), (Some(i64::MAX), 5)]
            {
                let what = format!("{what}, {form}, {operator}, limit {limit:?}");
                assert_rows(&search(&mut session, vector, limit).await, expected, &what);
            }
            let answer = run(&mut session, "four", &[vector]).await;
            assert_rows(&answer, 4, &format!("{what}, {form}, {operator}, kept plan"));
            let answer = search(&mut session, vector, Some(-1)).await;
            assert_eq!(code(&answer), "2201W", "{what}, {form}: {:?}", error(&answer));
        }
        for (what, vector, expected) in &wrong {
            let vector = Some(vector.as_slice());
            let first = search(&mut session, vector, Some(2)).await;
            for answer in [first, run(&mut session, "four", &[vector]).await] {
                let found = code(&answer);
                assert!(found.starts_with(*expected), "{what}, {form}: {:?}", error(&answer));
            }
        }
        session.run("DROP INDEX few_v").await;
    }
}

/// Rows of the wide table that have a direction; one of zeros and one without a vector come after.
const ROWS: usize = 12;

/// A vector of as many whole numbers as there may be.
fn wide_vector(rng: &mut SplitMix64) -> Vec<u8> {
    let mut number = || f32::from(u8::try_from(rng.below(201)).expect("a byte")) - 100.0;
    let numbers: Vec<f32> = (0..DIM_MAX).map(|_| number()).collect();
    binary(&numbers)
}

/// Makes a table of [`ROWS`] and two rows; the vectors that have a direction.
async fn set_up_wide(session: &mut Wire) -> Vec<Vec<u8>> {
    session.run(&format!("CREATE TABLE wide (id int PRIMARY KEY, v vector({DIM_MAX}))")).await;
    prepare(session, "insert", "INSERT INTO wide VALUES ($1, $2)", &[INTEGER, VECTOR]).await;
    let mut rng = SplitMix64::new(16);
    let vectors: Vec<Vec<u8>> = (0..ROWS).map(|_| wide_vector(&mut rng)).collect();
    let zeros = binary(&[0.0_f32].repeat(DIM_MAX as usize));
    let all = vectors.iter().chain([&zeros]).map(|vector| Some(vector.as_slice())).chain([None]);
    for (id, vector) in (0_i32..).zip(all) {
        let answer = run(session, "insert", &[Some(&id.to_be_bytes()[..]), vector]).await;
        assert_eq!(kinds(&answer), "2CZ", "{:?}", error(&answer));
    }
    vectors
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_most_dimensions_are_found_by_every_form() {
    let server = process().await;
    let mut session = Wire::log_in(server.address()).await;
    let vectors = set_up_wide(&mut session).await;
    for (form, (class, operator)) in
        FORMS.into_iter().flat_map(|form| DISTANCES.map(|distance| (form, distance)))
    {
        let create = format!("CREATE INDEX wide_v ON wide USING hnsw (v {class})");
        session.run(&format!("{create} WITH (quantization = {form})")).await;
        let sql = format!("SELECT id FROM wide ORDER BY v {operator} $1 LIMIT $2");
        prepare(&mut session, "ask", &sql, &[VECTOR, BIGINT]).await;
        for strategy in ["graph", "scan"] {
            session.run(&format!("SET hnsw.strategy = {strategy}")).await;
            let what = format!("{form}, {operator}, {strategy}");
            for at in [0, 5, ROWS - 1] {
                let answer = search(&mut session, Some(vectors[at].as_slice()), Some(1)).await;
                assert_eq!(code(&answer), "", "{what}: {:?}", error(&answer));
                assert_eq!(column(&answer), [at.to_string()], "{what}");
            }
            let vector = Some(vectors[0].as_slice());
            for (limit, expected) in [(13, ROWS + 1), (100, ROWS + 2)] {
                assert_rows(&search(&mut session, vector, Some(limit)).await, expected, &what);
            }
        }
        session.run("DROP INDEX wide_v").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_more_dimensions_are_refused() {
    let server = process().await;
    let mut session = Wire::log_in(server.address()).await;
    session.run(&format!("CREATE TABLE wide (id int PRIMARY KEY, v vector({DIM_MAX}))")).await;
    session.run("CREATE INDEX ON wide USING hnsw (v vector_l2_ops)").await;
    let text = format!("[{}1]", "1,".repeat(DIM_MAX as usize));
    for sql in [
        format!("INSERT INTO wide VALUES (1, '{text}')"),
        format!("SELECT id FROM wide ORDER BY v <-> '{text}' LIMIT 1"),
        format!("SELECT vector_dims('{text}'::vector)"),
    ] {
        let answer = session.query(&sql).await;
        assert_eq!((code(&answer), kinds(&answer)), ("53400".to_owned(), "EZ".to_owned()));
    }
    prepare(&mut session, "insert", "INSERT INTO wide VALUES (1, $1)", &[VECTOR]).await;
    let sql = "SELECT id FROM wide ORDER BY v <-> $1 LIMIT 1";
    prepare(&mut session, "search", sql, &[VECTOR]).await;
    let right = binary(&[1.0_f32].repeat(DIM_MAX as usize));
    assert_eq!(kinds(&run(&mut session, "insert", &[Some(right.as_slice())]).await), "2CZ");
    let long = binary(&[1.0_f32].repeat(DIM_MAX as usize + 1));
    for name in ["insert", "search"] {
        let answer = run(&mut session, name, &[Some(long.as_slice())]).await;
        assert!(["22000", "53400"].contains(&code(&answer).as_str()), "{:?}", error(&answer));
    }
    assert_eq!(column(&run(&mut session, "search", &[Some(right.as_slice())]).await), ["1"]);
}
