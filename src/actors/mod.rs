//! The shell: actors that wait and talk, and leave every decision to `egress_domain`.
//!
//! ```text
//! supervisor -- spawns and watches --> shards, resolver, writer, router -- spawns and restarts --> policy (one each)
//! shards  --Gain, Resume, Stop--> router;   shards --DrainShards--> writer
//! router  --Input-->  policy  --Subscribe-->  resolver  --Resolution-->  policy
//! policy  --Submit--> writer  --Outcome--> policy;   policy --Enforcing--> router
//! ```
//!
//! Mailboxes are unbounded in ractor, so every sender is bounded instead: a watch has one event outstanding (it waits
//! for the router's reply), the resolver has at most one lookup per (server, name, type), and the writer keeps the
//! latest write per object only.

pub mod policy;
pub mod resolver;
pub mod router;
pub mod shards;
pub mod supervisor;
pub mod writer;
