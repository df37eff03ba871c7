//! The server as its clients meet it: the wire protocol, input that is wrong on purpose, kills and
//! what is there after them.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests: they may fail, print, measure time and damage files"
)]

mod bad_input;
mod bad_vectors;
mod copy;
mod crash;
mod garbage;
mod lifecycle;
mod protocol;
mod recall;
mod recovery;
mod support;
mod transactions;
mod wire;
