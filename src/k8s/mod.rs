//! The API server: clients, watches, writes.

pub mod apply;
pub mod client;
pub mod cluster;
pub mod gate;
pub mod resolv_conf;
pub mod watch;
