//! Scenarios that start real replicas of the controller, and what judges them.

pub mod fill;
pub mod handover;
pub mod load;
mod lock;
pub mod replica;
pub mod share;
