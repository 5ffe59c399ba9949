//! The API server: clients, watches, writes.

pub mod apply;
mod backoff;
pub mod client;
pub mod cluster;
pub mod config;
pub mod gate;
pub mod load;
pub mod resolv_conf;
pub mod rights;
pub mod shards;
pub mod watch;
