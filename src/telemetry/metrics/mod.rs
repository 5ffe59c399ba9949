//! Metrics: one struct per subsystem, registered under its prefix. No label has the name of a policy or a host.

pub mod cluster;
pub mod policies;
pub mod resolver;
pub mod shards;
pub mod watches;
pub mod writer;
