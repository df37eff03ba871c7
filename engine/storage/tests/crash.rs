//! The store on a simulated disk: random commands against a model, every crash point of a fixed
//! workload, flipped bits, refused commands, and what happens while a checkpoint is written.
//!
//! Everything goes through `Store` and its log; every test is a function of the seeds and numbers
//! in its messages. `AZIMUTH_GATE=1` tries as much as a release wants.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that meets the unexpected fails"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "fixtures are files, and the environment asks for the size of a run"
)]

#[path = "crash/bit_flips.rs"]
mod bit_flips;
#[path = "crash/crash_points.rs"]
mod crash_points;
#[path = "crash/disk_full.rs"]
mod disk_full;
#[path = "crash/fixtures.rs"]
mod fixtures;
#[path = "crash/plan.rs"]
mod plan;
#[path = "crash/random_commands.rs"]
mod random_commands;
#[path = "crash/rejections.rs"]
mod rejections;
#[path = "crash/support.rs"]
mod support;
#[path = "crash/transactions.rs"]
mod transactions;
#[path = "crash/vacuuming.rs"]
mod vacuuming;
#[path = "crash/while_checkpointing.rs"]
mod while_checkpointing;
