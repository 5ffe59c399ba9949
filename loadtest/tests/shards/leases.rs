//! Leases that a tenant makes in its own namespace, as like ours as it can.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_domain::api::{EgressShardTable, SHARD_TABLE};
use egress_domain::shard::timing::Timing;
use egress_testbed::eventually;
use egress_testbed::proxy::{Action, Rule, Verb, WatchEnd};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use loadtest::handover::bed::OWN_NAMESPACE;
use loadtest::handover::work;
use serde_json::json;

use crate::bed::{ended, small};
use crate::tenant::tenant;

/// Long enough that nobody lapses on a slow machine, which changes the table.
const LEASE: u32 = 15;
/// After a watch was given up: a list, and the watch that follows it.
const OPENED_WITHIN: Duration = Duration::from_secs(5);

/// What a tenant can copy of a Lease: its name, its labels, its spec.
fn copy(lease: &Lease) -> Lease {
    let mut copied = Lease { spec: lease.spec.clone(), ..Lease::default() };
    copied.metadata.name = lease.metadata.name.clone();
    copied.metadata.labels = lease.metadata.labels.clone();
    copied
}

#[track_caller]
fn forbidden<T: std::fmt::Debug>(outcome: kube::Result<T>, what: &str) {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        other => panic!("{what} should be forbidden: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leases_of_a_tenant_move_nothing_and_keep_no_dead_replica_alive() -> Result<()> {
    let mut bed = small(2, 4, 8, LEASE).await?;
    let namespace = work::namespace(0);
    let client = tenant(&bed, &namespace).await?;
    let own = Api::<Lease>::namespaced(client.clone(), &namespace);
    let members = bed.leases().list(&ListParams::default()).await?.items;
    assert_eq!(members.len(), 2, "one for each replica");
    let before = bed.seen().await?;
    let table = bed.judge.table().context("a table")?;

    // Ours are not the tenant's to touch, nor is the table.
    let ours = Api::<Lease>::namespaced(client.clone(), OWN_NAMESPACE);
    forbidden(ours.create(&PostParams::default(), &copy(&members[0])).await, "a Lease in our namespace");
    let forged = Patch::Merge(json!({"spec": {"renewTime": "2099-01-01T00:00:00.000000Z"}}));
    for member in &members {
        let lease = member.name_any();
        forbidden(ours.patch(&lease, &PatchParams::default(), &forged).await, "forging a Lease");
        forbidden(ours.delete(&lease, &DeleteParams::default()).await, "deleting a Lease");
    }
    let tables = Api::<EgressShardTable>::all(client.clone());
    let removed = Patch::Merge(json!({"spec": {"members": null}}));
    forbidden(tables.patch(SHARD_TABLE, &PatchParams::default(), &removed).await, "changing the table");
    forbidden(tables.delete(SHARD_TABLE, &DeleteParams::default()).await, "deleting the table");

    // One that is the same, one that comes and goes, and one of a replica that never was; renewed until 2099.
    for member in &members {
        own.create(&PostParams::default(), &copy(member)).await?;
    }
    let mut stranger = copy(&members[0]);
    stranger.metadata.name = Some("egress-controller-9-9-beef".to_owned());
    if let Some(spec) = &mut stranger.spec {
        spec.holder_identity = Some("beef.0".to_owned());
    }
    own.create(&PostParams::default(), &stranger).await?;
    let renew = {
        let (own, names) = (own.clone(), [members[0].name_any(), stranger.name_any()]);
        async move || -> Result<()> {
            for (number, name) in names.iter().enumerate() {
                let year = 2_090 + rand::random_range(0..10) + number;
                let spec = json!({"spec": {"renewTime": format!("{year}-01-01T00:00:00.000000Z")}});
                own.patch(name, &PatchParams::default(), &Patch::Merge(spec)).await?;
            }
            Ok(())
        }
    };
    let end = tokio::time::Instant::now() + bed.lease * 3 / 2;
    while tokio::time::Instant::now() < end {
        renew().await?;
        let comes_and_goes = members[1].name_any();
        if own.get_opt(&comes_and_goes).await?.is_some() {
            own.delete(&comes_and_goes, &DeleteParams::default()).await?;
        } else {
            own.create(&PostParams::default(), &copy(&members[1])).await?;
        }
        tokio::time::sleep(bed.lease / 20).await;
    }
    let now = bed.judge.table().context("a table")?;
    assert_eq!((&now.members, &now.shards), (&table.members, &table.shards), "nothing moved, nobody joined or went");
    bed.seen().await?;
    assert!(bed.judge.writes_since(before).is_empty(), "nothing was written");

    // The one whose Lease the tenant renews dies: it is found dead all the same.
    let victim = bed.replicas.iter().position(|replica| members[0].name_any().starts_with(&replica.pod));
    let victim = bed.replicas.remove(victim.context("the replica of the Lease")?);
    let (pod, killed) = (victim.pod.clone(), tokio::time::Instant::now());
    drop(victim);
    let taken_over = async || {
        renew().await?;
        let table = bed.judge.table().context("a table")?;
        ensure!(!table.members.contains_key(&*pod), "{pod} is still a member after {:?}", killed.elapsed());
        ensure!(table.held_by(&pod).count() == 0, "{pod} still holds shards");
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(())
    };
    eventually(bed.patience(4), taken_over).await?;
    bed.whole(bed.patience(4)).await?;
    let events = Api::<Event>::namespaced(bed.client.clone(), OWN_NAMESPACE);
    let told = async || {
        let events = events.list(&ListParams::default()).await?.items;
        let of = |event: &Event| event.reason.as_deref() == Some("ShardsTakenOver");
        let notes: Vec<String> =
            events.iter().filter(|event| of(event)).filter_map(|event| event.note.clone()).collect();
        ensure!(notes.iter().any(|note| note.contains(&pod)), "no Event names {pod}: {notes:?}");
        Ok(())
    };
    eventually(bed.patience(1), told).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_the_leases_that_says_nothing_more_is_opened_again() -> Result<()> {
    let bed = small(2, 4, 4, LEASE).await?;
    let proxy = bed.proxy(0);
    // As on a connection that something on the way has forgotten: the server closed nothing, and the client sends nothing.
    let stall = Action::EndWatch { after: 0, how: WatchEnd::Stall };
    let stalled = proxy.inject(Rule::new(stall).verb(Verb::Watch).resource("leases"));
    ensure!(proxy.cut_watches("leases") > 0, "it watches Leases");
    proxy.wait_for_hits(stalled, 1, bed.patience(1)).await?;
    proxy.remove(stalled);
    let opened = proxy.count(Verb::Watch, "leases");
    let silence = Timing { lease: bed.lease }.longest_silence();
    proxy.wait_for(Verb::Watch, "leases", opened + 1, silence + OPENED_WITHIN).await?;

    // It knows that the other lives, and gives it everything when it goes.
    let (leaver, before) = (&bed.replicas[0], bed.judge.table_version());
    leaver.signal("TERM")?;
    ended(&bed, leaver).await?;
    bed.seen().await?;
    let tables = bed.judge.tables_since(before);
    let mut tables = tables.iter().filter_map(|(_, (_, table))| table.as_ref());
    let without = tables.find(|table| !table.members.contains_key(leaver.pod.as_str())).context("it has gone")?;
    assert_eq!(without.free().count(), 0, "no shard is left to whoever takes it");
    Ok(())
}
