//! Which instants can be read, and what is visible at one.

mod horizon;
mod read_view;
mod retention;

pub use horizon::Pin;
pub(crate) use horizon::Pins;
pub use read_view::ReadView;
pub(crate) use read_view::State;
pub(crate) use retention::{Retention, Thorough};
