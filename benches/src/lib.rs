//! Measurements. Real data is read from outside the repository; see `benches/versus/README.md`.
#![forbid(unsafe_code)]

pub mod engine;
pub mod npy;
