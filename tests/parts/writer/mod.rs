//! The writer against a real API server, directly and through a proxy that makes it fail.

pub mod bed;
mod connections;
mod faults;
mod outcomes;
