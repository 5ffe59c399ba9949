//! A small bed, in which every policy names a host of its own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use egress_domain::shard::{ShardId, shard_of};
use egress_testbed::eventually;
use loadtest::handover::bed::Bed;
use loadtest::handover::work::{self, Changed, Order, Pace};
use loadtest::handover::{Options, Size, report};

/// TTL of the answers in seconds.
const TTL: u32 = 2;

/// A bed whose replicas share the shards evenly, and whose NetworkPolicies are right.
pub async fn small(replicas: usize, namespaces: usize, policies: usize, lease: u32) -> Result<Bed> {
    let bed = Bed::start(&Options {
        handovers: 0,
        size: Size { replicas, namespaces, policies },
        lease_duration_seconds: lease,
        seed: 1,
        only: Vec::new(),
        unfenced: false,
        program: Some(PathBuf::from(env!("CARGO_BIN_EXE_loadtest"))),
        pace: Pace { hosts: policies, ttl: TTL, every: Duration::MAX, order: Order::Random },
    })
    .await?;
    bed.whole(bed.patience(8)).await?;
    report::converged(&bed).await?;
    Ok(bed)
}

/// Waits until every NetworkPolicy is right.
pub async fn right(bed: &Bed, changed: &Changed) -> Result<()> {
    eventually(bed.patience(8), async || report::right(bed, changed).await.map(drop)).await
}

/// The NetworkPolicy of a policy.
pub fn key(bed: &Bed, policy: usize) -> (String, String) {
    (work::namespace_of(policy, bed.namespaces), name(policy))
}

/// Its name.
pub fn name(policy: usize) -> String {
    format!("egress-policy-{policy}")
}

/// The pod that the table gives a policy to, and under which shard and epoch.
pub fn holder(bed: &Bed, policy: usize) -> Option<(String, ShardId, u64)> {
    holder_of_namespace(bed, &work::namespace_of(policy, bed.namespaces))
}

/// The same of a namespace, which need not exist.
pub fn holder_of_namespace(bed: &Bed, namespace: &str) -> Option<(String, ShardId, u64)> {
    let table = bed.judge.table()?;
    let shard = shard_of(namespace, table.shard_count());
    let entry = table.shards.get(usize::from(shard.0))?;
    Some((entry.holder.as_deref()?.to_owned(), shard, entry.epoch))
}

/// Waits until the process has ended.
pub async fn ended(bed: &Bed, replica: &loadtest::replica::Replica) -> Result<()> {
    let check = async || {
        ensure!(replica.ended()?.is_some(), "{} still runs", replica.pod);
        Ok(())
    };
    eventually(bed.patience(4), check).await
}
