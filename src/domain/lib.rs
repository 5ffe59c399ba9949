//! The decisions of egress-controller: pure and synchronous.
//!
//! Time is a parameter ([`time::Now`]), randomness is a parameter, and nothing in this package waits, talks or panics.
//! The actors of the root package feed these machines and perform what they ask for; `render` feeds the same machines
//! from files.
//!
//! ```text
//! EgressPolicy --policy--> ValidatedPolicy --+
//! answers --lookups--> AddressBook --book----+--render--> NetworkPolicy --writes--> API server
//!                                     machine decides when
//! ```
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod answer;
pub mod api;
pub mod book;
pub mod cluster;
mod drift;
pub mod evaluate;
pub mod fair_queue;
pub mod fingerprint;
pub mod fqdn;
pub mod guard;
pub mod lookups;
pub mod machine;
pub mod namespace;
pub mod network_policy;
pub mod object;
pub mod policy;
pub mod ports;
pub mod render;
pub mod settings;
pub mod shard;
pub mod time;
pub mod write;
pub mod writes;
