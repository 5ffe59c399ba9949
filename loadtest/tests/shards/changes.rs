//! An answer and a spec that change in the middle of a handover: written once, by whoever holds the shard then.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_domain::api::EgressPolicy;
use egress_testbed::eventually;
use kube::Api;
use kube::api::{Patch, PatchParams};
use loadtest::handover::audit;
use loadtest::handover::bed::Bed;
use loadtest::handover::work::{self, Changed};
use serde_json::json;

use crate::bed::{ended, holder, key, right, small};

/// The shortest that a slow machine bears: each handover takes a few.
pub const LEASE: u32 = 5;
/// Enough for a replica to hold three.
const POLICIES: usize = 12;

/// When something changes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// Directly after the signal: the former holder drains, is dead, or is stopped.
    Signal,
    /// When the table names the next holder, which has not read anything yet.
    Given,
}

/// The replica that holds most policies, and these.
pub fn busiest(bed: &Bed) -> Result<(usize, Vec<usize>)> {
    let held = |pod: &str| {
        let is_held = |policy: &usize| holder(bed, *policy).is_some_and(|(holder, ..)| holder == pod);
        (0..bed.policies).filter(is_held).collect::<Vec<usize>>()
    };
    let all = bed.replicas.iter().map(|replica| held(&replica.pod)).enumerate();
    all.max_by_key(|(_, held)| held.len()).context("a replica")
}

pub fn change_answer(bed: &Bed, changed: &mut Changed, policy: usize, round: usize) {
    let (host, address) = (bed.pace.host_of(policy), work::address(bed.pace.host_of(policy), round));
    bed.dns.set_host(&work::host(host), &[address], bed.pace.ttl);
    changed.hosts.insert(host, address);
}

pub async fn change_spec(bed: &Bed, changed: &mut Changed, policy: usize, round: usize) -> Result<()> {
    let block = format!("192.0.2.{round}/32");
    let object = work::policy(policy, bed.namespaces, bed.pace.host_of(policy), Some(&block));
    let namespace = work::namespace_of(policy, bed.namespaces);
    let policies = Api::<EgressPolicy>::namespaced(bed.client.clone(), &namespace);
    let patch = Patch::Merge(json!({"spec": object.spec}));
    policies.patch(&format!("policy-{policy}"), &PatchParams::default(), &patch).await?;
    changed.blocks.insert(policy, block);
    Ok(())
}

/// Sends the signal to the busiest replica, and changes the answer of one of its policies and the spec of another.
async fn change_while(bed: &mut Bed, changed: &mut Changed, signal: &str, moment: Moment, round: usize) -> Result<()> {
    let before = bed.seen().await?;
    let (victim, held) = busiest(bed)?;
    let [answer, spec, untouched, ..] = held[..] else { anyhow::bail!("{held:?} are too few policies") };
    let former = bed.replicas[victim].pod.clone();
    bed.replicas[victim].signal(signal)?;
    let given = async || {
        for policy in [answer, spec, untouched] {
            let (pod, ..) = holder(bed, policy).context("nobody holds it")?;
            ensure!(pod != former, "{former} still holds it");
        }
        Ok(())
    };
    if moment == Moment::Given {
        eventually(bed.patience(4), given).await?;
    }
    change_answer(bed, changed, answer, round);
    change_spec(bed, changed, spec, round).await?;
    eventually(bed.patience(8), given).await?;
    right(bed, changed).await?;

    if signal == "STOP" {
        // What it had decided before is all that it knows.
        bed.replicas[victim].signal("CONT")?;
    } else {
        let gone = bed.replicas.remove(victim);
        ended(bed, &gone).await?;
        let next = bed.new_pod(victim).await?;
        bed.replicas.insert(victim, next);
    }
    // The shards move a second time, which writes nothing either.
    bed.whole(bed.patience(8)).await?;
    // Whoever would write twice does it within this: lookups come round, and so do retries.
    tokio::time::sleep(Duration::from_secs(u64::from(2 * bed.pace.ttl)) + bed.lease).await;
    right(bed, changed).await?;
    bed.seen().await?;

    let told = format!("{signal}, {moment:?}: answer of {answer}, spec of {spec}, not {untouched}");
    let writes = bed.judge.writes_since(before);
    assert_eq!(writes, HashMap::from([(key(bed, answer), 1), (key(bed, spec), 1)]), "{told}");
    let stale: Vec<String> = bed.judge.stale().into_iter().map(|violation| violation.told).collect();
    assert_eq!(stale, Vec::<String>::new(), "{told}");
    let audit = audit::read(&bed.audit_log)?;
    let strangers: Vec<String> = bed.judge.by_strangers(&audit).into_iter().map(|violation| violation.told).collect();
    assert_eq!(strangers, Vec::<String>::new(), "{told}");
    assert_eq!((bed.judge.unseen(&audit, before), bed.judge.gaps()), (vec![], vec![]), "{told}");
    Ok(())
}

async fn in_each_moment(signal: &str) -> Result<()> {
    let mut bed = small(2, POLICIES, POLICIES, LEASE).await?;
    let mut changed = Changed::default();
    for (round, moment) in (1..).zip([Moment::Signal, Moment::Given]) {
        change_while(&mut bed, &mut changed, signal, moment, round).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_a_replica_leaves_is_written_once() -> Result<()> {
    in_each_moment("TERM").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_when_a_replica_has_been_killed_is_written_once() -> Result<()> {
    in_each_moment("KILL").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_a_replica_is_stopped_is_written_once_also_when_it_goes_on() -> Result<()> {
    in_each_moment("STOP").await
}
