//! Bytes that are not of the protocol: each gets an error or a clean end, and neither another
//! session nor a row that was there before notices.

use std::net::SocketAddr;

use tests::ProcessServer;
use types::SplitMix64;
use types::limits::MESSAGE_BYTES_MAX;

use crate::support::process;
use crate::wire::{
    CANCEL, Message, SSL, VERSION, Values, Wire, bind, code, column, describe, error, execute,
    flush, kinds, message, packet, parse, query, startup, sync,
};

const SEED: u64 = 20_261_123;
/// Connections that begin with random bytes.
const OPENINGS: u32 = 800;
/// Sessions that are sent random messages.
const RANDOM_MESSAGES: u32 = 800;
/// Sessions that are sent messages which were right until some bytes were changed.
const DAMAGED_MESSAGES: u32 = 1_600;
/// Memory that the server may have gained by all of it.
const GROWTH_KIB_MAX: u64 = 64 << 10;
/// Connections between two looks at what must not change.
const BETWEEN_LOOKS: u32 = 200;

/// A server with some rows, and a session that was there before anything bad happened.
struct Witness {
    server: ProcessServer,
    session: Wire,
}

impl Witness {
    async fn start() -> Self {
        let server = process().await;
        let mut session = Wire::log_in(server.address()).await;
        for sql in [
            "CREATE TABLE kept (id bigint PRIMARY KEY, tag text, v vector(3))",
            "INSERT INTO kept SELECT i, 'row', '[1,2,3]' FROM generate_series(1, 100) AS g(i)",
            "CREATE TABLE scratch (id bigint PRIMARY KEY, tag text)",
        ] {
            session.run(sql).await;
        }
        Self { server, session }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The old session and a new one both read what was there before.
    async fn check(&mut self, after: &str) {
        let mut fresh = Wire::log_in(self.server.address()).await;
        for session in [&mut self.session, &mut fresh] {
            let sums = session.run("SELECT sum(id) + count(*) FROM kept").await;
            assert_eq!(column(&sums), ["5150"], "after {after}");
        }
    }
}

/// Sends bytes as the first thing, then says goodbye; what the server answers.
async fn opening(address: SocketAddr, bytes: &[u8]) -> Vec<Message> {
    let mut wire = Wire::open(address).await;
    wire.send(bytes).await;
    wire.end().await;
    wire.rest().await
}

/// Sends bytes in a session, then says goodbye; what the server answers.
async fn in_session(address: SocketAddr, bytes: &[u8]) -> Vec<Message> {
    let mut wire = Wire::log_in(address).await;
    wire.send(bytes).await;
    wire.end().await;
    wire.rest().await
}

fn hello_of_tls() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 0, 0xC8, 1, 0, 0, 0xC4, 3, 3];
    hello.extend((0..194).map(|n: u8| n.wrapping_mul(37)));
    hello
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_startup_message_is_refused() {
    let mut witness = Witness::start().await;
    let huge = [&0x7FFF_FFFF_u32.to_be_bytes()[..], b"abc"].concat();
    let long = [&10_001_u32.to_be_bytes()[..], &VERSION.to_be_bytes(), b"user"].concat();
    let odd = packet(VERSION, b"user\0azimuth\0database\0\0");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "08P01"),
        ("TLS without asking", hello_of_tls(), "08P01"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "08P01"),
        ("a huge length", huge, "08P01"),
        ("a negative length", vec![0xFF; 12], "08P01"),
        ("no length", vec![0; 12], "08P01"),
        ("a length of four", vec![0, 0, 0, 4], "08P01"),
        ("too long", long, "08P01"),
        ("version 2", packet(2 << 16, b""), "0A000"),
        ("version 4", packet(4 << 16, b""), "0A000"),
        ("no end", packet(VERSION, b"user"), "08P01"),
        ("a name without value", odd, "08P01"),
        ("not UTF-8", packet(VERSION, b"user\0\xFF\xFE\0\0"), "08P01"),
        ("no user", startup(&[]), "28P01"),
        ("another user", startup(&[("user", "nobody")]), "28P01"),
        ("another database", startup(&[("user", "azimuth"), ("database", "x")]), "3D000"),
        ("a wrong setting", startup(&[("user", "azimuth"), ("nonsense", "1")]), "42704"),
        ("half a message", startup(&[("user", "azimuth")])[..12].to_vec(), ""),
        ("a key nobody has", packet(CANCEL, &[7; 8]), ""),
        ("a cut request to cancel", packet(CANCEL, &[7; 4]), "0A000"),
        ("nothing", Vec::new(), ""),
    ];
    for (what, bytes, expected) in cases {
        let answer = opening(witness.address(), &bytes).await;
        assert_eq!(code(&answer), expected, "{what}");
        assert!(answer.len() <= 1, "{what}: {}", kinds(&answer));
        witness.check(what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_is_declined_and_nothing_may_follow_before_the_answer() {
    let mut witness = Witness::start().await;
    let mut wire = Wire::open(witness.address()).await;
    wire.send(&packet(SSL, b"")).await;
    assert_eq!(wire.byte().await, b'N');
    wire.send(&hello_of_tls()).await;
    assert_eq!(code(&wire.rest().await), "08P01");
    let early = [packet(SSL, b""), startup(&[("user", "azimuth")])].concat();
    assert_eq!(code(&opening(witness.address(), &early).await), "08P01");
    witness.check("requests for TLS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_ends_its_session_with_an_error() {
    let mut witness = Witness::start().await;
    let too_long = u32::try_from(MESSAGE_BYTES_MAX + 1).expect("32 bits").to_be_bytes();
    let length = |kind: u8, length: [u8; 4]| [&[kind][..], &length].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("kind zero", vec![0, 0, 0, 0, 4], "08P01"),
        ("an unknown kind", message(b'y', b""), "08P01"),
        ("a length of three", length(b'Q', [0, 0, 0, 3]), "08P01"),
        ("a negative length", length(b'Q', [0xFF; 4]), "08P01"),
        ("a query beyond the limit", length(b'Q', too_long), "53400"),
        ("copy data beyond the limit", length(b'd', too_long), "53400"),
        ("a query without end", message(b'Q', b"SELECT 1"), "08P01"),
        ("bytes behind a query", message(b'Q', b"SELECT 1\0SELECT 2\0"), "08P01"),
        ("a query that is not UTF-8", message(b'Q', b"SELECT '\xFF'\0"), "22021"),
        ("a name that is not UTF-8", message(b'P', b"\xC3\0SELECT 1\0\0\0"), "22021"),
        ("more types announced", message(b'P', b"a\0SELECT 1\0\xFF\xFF"), "08P01"),
        ("a cut bind", message(b'B', b"a\0b\0"), "08P01"),
        ("more values announced", message(b'B', b"\0\0\0\0\xFF\xFF"), "08P01"),
        ("a huge value", message(b'B', b"\0\0\0\0\0\x01\x7F\xFF\xFF\xFF\0\0"), "08P01"),
        ("a value of length -2", message(b'B', b"\0\0\0\0\0\x01\xFF\xFF\xFF\xFE\0\0"), "08P01"),
        ("an unknown format", message(b'B', b"\0\0\0\x01\0\x07\0\0\0\0"), "08P01"),
        ("a cut execute", message(b'E', b"\0\0"), "08P01"),
        ("something else described", message(b'D', b"Xa\0"), "08P01"),
        ("something else closed", message(b'C', b"Xa\0"), "08P01"),
        ("a sync with a body", message(b'S', b"x"), "08P01"),
        ("a password", message(b'p', b"secret\0"), "08P01"),
        ("a cut query", query("SELECT 1")[..9].to_vec(), ""),
        ("a cut length", vec![b'Q', 0, 0], ""),
    ];
    for (what, bytes, expected) in cases {
        let answer = in_session(witness.address(), &bytes).await;
        assert_eq!(code(&answer), expected, "{what}");
        assert!(answer.len() <= 1, "{what}: {}", kinds(&answer));
        if expected == "08P01" {
            assert_eq!(error(&answer)[&'S'], "FATAL", "{what}");
        }
        witness.check(what).await;
    }
    let half = [query("SELECT 1"), message(b'y', b""), query("SELECT 2")].concat();
    let answer = in_session(witness.address(), &half).await;
    assert_eq!(kinds(&answer), "TDCZE", "the query before the bad message is answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_numbers_of_values_and_formats_are_errors_of_one_statement() {
    let mut witness = Witness::start().await;
    let mut wire = Wire::log_in(witness.address()).await;
    let one: &[Option<&[u8]>] = &[Some(&b"1"[..])];
    let two: &[Option<&[u8]>] = &[Some(&b"1"[..]), Some(&b"2"[..])];
    let prepare = parse("s", "SELECT id, tag FROM kept WHERE id = $1", &[]);
    assert_eq!(kinds(&wire.ask(&[prepare, sync()].concat()).await), "1Z");
    let cases = [
        Values::default(),
        Values { values: two, ..Values::default() },
        Values { formats: &[0, 0], values: one, results: &[] },
        Values { formats: &[], values: one, results: &[0, 0, 0] },
    ];
    for values in cases {
        let messages = [bind("", "s", &values), execute("", 0), sync()].concat();
        let answer = wire.ask(&messages).await;
        assert_eq!((code(&answer), kinds(&answer)), ("08P01".to_owned(), "EZ".to_owned()));
    }
    let right = Values { formats: &[0], values: one, results: &[0, 0] };
    let answer = wire.ask(&[bind("", "s", &right), execute("", 0), sync()].concat()).await;
    assert_eq!(kinds(&answer), "2DCZ");
    witness.check("wrong numbers").await;
}

fn bytes(rng: &mut SplitMix64, most: u64) -> Vec<u8> {
    let length = rng.below(most);
    (0..length).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
}

fn position(rng: &mut SplitMix64, length: usize) -> usize {
    usize::try_from(rng.below(u64::try_from(length).expect("a length"))).expect("a position")
}

/// A message of a random kind, with a random body and, often, a length that is not its own.
fn random_message(rng: &mut SplitMix64) -> Vec<u8> {
    let known = b"QPBDECHSXdcfpF";
    let kind = known[position(rng, known.len())];
    let body = bytes(rng, 120);
    let mut whole = message(kind, &body);
    match rng.below(4) {
        0 => whole[1..5].copy_from_slice(&u32::try_from(rng.below(300)).unwrap().to_be_bytes()),
        1 => whole[1..5].copy_from_slice(&rng.next_u64().to_le_bytes()[..4]),
        _ => {}
    }
    whole
}

/// Messages that are right.
fn right_messages() -> Vec<Vec<u8>> {
    let id: &[Option<&[u8]>] = &[Some(&[0, 0, 0, 0, 0, 0, 0, 7][..])];
    let binary = Values { formats: &[1], values: id, results: &[1] };
    let three: &[u8] = &[0, 3, 0, 0, 0x3F, 0x80, 0, 0, 0x40, 0, 0, 0, 0x40, 0x40, 0, 0];
    let vector: &[Option<&[u8]>] = &[Some(three)];
    let vector = Values { formats: &[1], values: vector, results: &[1] };
    let copied = [query("COPY scratch FROM STDIN"), message(b'd', b"1\tone\n2\t\\N\n")].concat();
    vec![
        query("SELECT count(*), max(tag) FROM kept WHERE tag = 'row' AND id < 50"),
        [
            parse("a", "SELECT id, tag, v FROM kept WHERE id = $1", &[20]),
            describe(b'S', "a"),
            bind("p", "a", &binary),
            describe(b'P', "p"),
            execute("p", 1),
            sync(),
        ]
        .concat(),
        [
            parse("", "SELECT id FROM kept ORDER BY v <-> $1 LIMIT 3", &[]),
            bind("", "", &vector),
            execute("", 2),
            flush(),
            execute("", 0),
            sync(),
        ]
        .concat(),
        [copied.clone(), message(b'c', b"")].concat(),
        [copied, message(b'f', b"no more\0")].concat(),
    ]
}

/// Changes a few bytes: others in their place, some more, or some less.
fn damage(rng: &mut SplitMix64, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=rng.below(4) {
        let at = position(rng, bytes.len());
        let byte = rng.next_u64().to_le_bytes()[0];
        match rng.below(8) {
            0..=3 => bytes[at] = byte,
            4 => bytes[at] ^= 1 << (byte % 8),
            5 => bytes.insert(at, byte),
            6 if bytes.len() > 1 => {
                bytes.remove(at);
            }
            _ if at > 0 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

/// Memory of a process in KiB; zero where the system does not tell.
fn resident_kib(pid: Option<u32>) -> u64 {
    let path = format!("/proc/{}/status", pid.expect("the server runs"));
    let status = std::fs::read_to_string(path).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// No answer may tell of a bug: every error is one of the client's.
fn check_codes(what: &[u8], answer: &[Message]) {
    for error in answer.iter().filter(|message| message.kind == 'E') {
        let fields = error.fields();
        let ours = ["XX", "58"].iter().any(|class| fields[&'C'].starts_with(*class));
        assert!(!ours, "{fields:?} after {}", what.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_malformed_messages_change_nothing() {
    println!("seed {SEED}");
    let mut rng = SplitMix64::new(SEED);
    let mut witness = Witness::start().await;
    let address = witness.address();
    let right = right_messages();
    for messages in &right {
        let answer = in_session(address, messages).await;
        assert!(kinds(&answer).ends_with('Z'), "{}", kinds(&answer));
    }
    let before = resident_kib(witness.server.pid());
    for number in 0..OPENINGS {
        let sent = bytes(&mut rng, 200);
        check_codes(&sent, &opening(address, &sent).await);
        if number % BETWEEN_LOOKS == 0 {
            witness.check("random openings").await;
        }
    }
    for number in 0..RANDOM_MESSAGES {
        let sent = random_message(&mut rng);
        check_codes(&sent, &in_session(address, &sent).await);
        if number % BETWEEN_LOOKS == 0 {
            witness.check("random messages").await;
        }
    }
    for number in 0..DAMAGED_MESSAGES {
        let from = right[position(&mut rng, right.len())].clone();
        let sent = damage(&mut rng, from);
        check_codes(&sent, &in_session(address, &sent).await);
        if number % BETWEEN_LOOKS == 0 {
            witness.check("damaged messages").await;
        }
    }
    witness.check("all of it").await;
    let growth = resident_kib(witness.server.pid()).saturating_sub(before);
    let total = OPENINGS + RANDOM_MESSAGES + DAMAGED_MESSAGES;
    println!("{total} malformed messages, {growth} KiB more memory");
    assert!(growth <= GROWTH_KIB_MAX, "{growth} KiB more memory");
}
