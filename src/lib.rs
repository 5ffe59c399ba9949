//! egress-controller: keeps NetworkPolicies true to the outside hosts a tenant may reach.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod actors;
pub mod app;
pub mod cli;
pub mod clock;
pub mod dns;
pub mod files;
pub mod k8s;
pub mod server;
pub mod shutdown;
pub mod telemetry;
