//! PostgreSQL's wire protocol, version 3.0, over the engine.
//!
//! One task per connection owns a session. Statements of a simple query run and answer one after
//! the other; rows go out as they are made, with the socket as the only buffer; a cancel request
//! reaches the running statement at any point. Protocol: PostgreSQL 15 manual, chapter 55.
//!
//! The crate knows the engine and no storage.
#![forbid(unsafe_code)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "SQL and Arrow have more kinds than any one place handles"
)]

mod connection;
mod copy_binary;
mod encode;
mod error;
mod extended;
mod listener;
mod message;
mod numeric;
mod parameter;
mod registry;
mod rows;
mod startup;

pub use listener::{Listener, ServerOptions};
