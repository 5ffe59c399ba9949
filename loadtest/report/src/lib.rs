//! What a run of a load scenario measured, and how it is told.
//!
//! * [`report`]: the figures, plots and latencies of one run, kept as JSON.
//! * [`slo`]: goals for figures, and whether a run held them.
//! * [`compare`]: one run beside an earlier one.
//! * [`terminal`] and [`html`]: the two forms for people.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod compare;
pub mod format;
pub mod html;
pub mod machine;
mod plot;
pub mod report;
pub mod slo;
pub mod terminal;

pub use compare::Comparison;
pub use machine::Machine;
pub use report::{Axis, Figure, Latency, Line, Plot, Report, Scale, Style};
pub use slo::{Bound, Goals, Outcome, Verdict, all_held};

#[cfg(test)]
mod example;
