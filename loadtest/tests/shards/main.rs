//! Few replicas on a real API server, one thing at a time: what changes in the middle of a handover, what tenants forge, and
//! how many shards move.

mod bed;
mod changes;
mod deletions;
mod forgeries;
mod leases;
mod moves;
mod tenant;
mod unseen;
