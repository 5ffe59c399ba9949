//! The resolver against real DNS messages on loopback.

mod bed;
mod failures;
mod questions;
mod schedule;
mod several;
