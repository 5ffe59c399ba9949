//! The API server fails in every way it can, and nothing is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use egress_controller::k8s::gate::Gate;
use egress_domain::object::ObjectKey;
use egress_domain::write::{Lane, PolicyEvent, WriteOutcome, WriteRequest};
use egress_testbed::eventually;
use egress_testbed::proxy::{Action, Rule, Verb};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;

use super::bed::{Bed, PATIENT, SOON, apply, label, network_policy, written};

const RESOURCE: &str = "networkpolicies";

/// Submits creates of so many objects, lets the API server fail by `fault`, and expects all to be written.
async fn check(bed: &mut Bed, count: u32, fault: Rule) -> Result<()> {
    bed.proxy.inject(fault);
    submit_creates(bed, count)?;
    expect_all_written(bed, count).await
}

pub fn submit_creates(bed: &Bed, count: u32) -> Result<()> {
    for n in 0..count {
        let object = Box::new(network_policy(&bed.namespace, &n.to_string()));
        bed.submit(n, bed.object(&n.to_string()), WriteRequest::Create(object))?;
    }
    Ok(())
}

pub async fn expect_all_written(bed: &mut Bed, count: u32) -> Result<()> {
    expect_all(bed, count, |outcome| written(outcome).map(drop)).await
}

/// Expects an answer to each of so many creates, each of them good, and as many objects stored.
async fn expect_all(bed: &mut Bed, count: u32, is_good: impl Fn(WriteOutcome) -> Result<()>) -> Result<()> {
    let mut answered = BTreeSet::new();
    while answered.len() < usize::try_from(count)? {
        let (number, outcome) = bed.answer().await?;
        is_good(outcome)?;
        ensure!(answered.insert(number), "write {number} was answered twice");
    }
    let stored = bed.network_policies().list(&ListParams::default()).await?;
    ensure!(stored.items.len() == answered.len(), "{} objects are stored", stored.items.len());
    Ok(())
}

#[tokio::test]
async fn the_latest_write_of_an_object_wins() -> Result<()> {
    let mut bed = Bed::new().await?;
    let object = bed.create("web").await?;
    bed.proxy.inject(Rule::delay(Duration::from_millis(300)).verb(Verb::Patch).times(1));
    bed.submit(1, bed.object("web"), apply(&object, "1"))?;
    bed.proxy.wait_for(Verb::Patch, RESOURCE, 1, SOON).await?;
    for n in 2..=4 {
        bed.submit(n, bed.object("web"), apply(&object, &n.to_string()))?;
    }
    let answers = [bed.answer().await?, bed.answer().await?];
    assert_eq!(answers.map(|(number, _)| number), [1, 4]);
    bed.drain().await?;
    assert_eq!(bed.proxy.count(Verb::Patch, RESOURCE), 2);
    assert_eq!(bed.snapshot().await?.coalesced, 2);
    assert_eq!(bed.stored("web").await?.as_ref().and_then(label), Some("4"));
    Ok(())
}

#[tokio::test]
async fn a_withdrawn_write_is_not_sent() -> Result<()> {
    let mut bed = Bed::new().await?;
    let object = bed.create("web").await?;
    bed.proxy.inject(Rule::delay(Duration::from_millis(300)).verb(Verb::Patch).times(1));
    bed.submit(1, bed.object("web"), apply(&object, "1"))?;
    bed.proxy.wait_for(Verb::Patch, RESOURCE, 1, SOON).await?;
    bed.submit(2, bed.object("web"), apply(&object, "2"))?;
    bed.writer.cast(egress_controller::actors::writer::WriterMsg::Withdraw(bed.object("web")))?;
    bed.drain().await?;
    assert_eq!(bed.answer().await?.0, 1);
    assert_eq!(bed.stored("web").await?.as_ref().and_then(label), Some("1"));
    Ok(())
}

#[tokio::test]
async fn a_429_with_retry_after_stops_the_queue_and_loses_nothing() -> Result<()> {
    let mut bed = Bed::new().await?;
    // As many as are in flight at first: nothing else can be on its way when the queue stops.
    check(&mut bed, 12, Rule::too_many_requests(1).verb(Verb::Create).times(8)).await?;
    let log = bed.proxy.log();
    let pause = log[8].at.duration_since(log[0].at);
    assert!(pause >= Duration::from_secs(1), "the queue went on after {pause:?}");
    let snapshot = bed.snapshot().await?;
    assert_eq!((snapshot.throttled, snapshot.retried), (8, 8));
    assert!(snapshot.concurrency_limit < 8, "the limit is {}", snapshot.concurrency_limit);
    Ok(())
}

#[tokio::test]
async fn an_internal_error_loses_nothing() -> Result<()> {
    let mut bed = Bed::new().await?;
    check(&mut bed, 30, Rule::status(500, "InternalError").verb(Verb::Create).one_in(3)).await
}

#[tokio::test]
async fn a_broken_connection_loses_nothing() -> Result<()> {
    let mut bed = Bed::new().await?;
    bed.proxy.inject(Rule::new(Action::Close).verb(Verb::Create).one_in(3));
    submit_creates(&bed, 30)?;
    // Others that were under way on the connection may have been stored without an answer.
    let is_good = |outcome| match outcome {
        WriteOutcome::AlreadyExists => Ok(()),
        outcome => written(outcome).map(drop),
    };
    expect_all(&mut bed, 30, is_good).await
}

#[tokio::test]
async fn a_timeout_after_the_commit_ends_in_already_exists_for_a_create_and_in_success_for_an_apply() -> Result<()> {
    let mut bed = Bed::new().await?;
    bed.proxy.inject(Rule::timeout_after_commit().times(1));
    let object = Box::new(network_policy(&bed.namespace, "web"));
    let outcome = bed.write(bed.object("web"), WriteRequest::Create(object)).await?;
    assert_eq!(outcome, WriteOutcome::AlreadyExists);
    let WriteOutcome::Read(Some(object)) = bed.write(bed.object("web"), WriteRequest::Read).await? else {
        anyhow::bail!("it is there");
    };
    bed.proxy.inject(Rule::timeout_after_commit().times(1));
    let object = written(bed.write(bed.object("web"), apply(&object, "1")).await?)?;
    assert_eq!(label(&object), Some("1"));
    assert_eq!(bed.proxy.count(Verb::Patch, RESOURCE), 2);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up_and_the_write_sent_again() -> Result<()> {
    // A healthy answer of a busy machine comes sooner.
    let mut bed = Bed::with(Gate::open(), Duration::from_secs(3)).await?;
    check(&mut bed, 1, Rule::hang().verb(Verb::Create).times(2)).await?;
    assert_eq!(bed.proxy.count(Verb::Create, RESOURCE), 3);
    let limit = bed.snapshot().await?.concurrency_limit;
    assert_eq!(limit, 2, "two time-outs halve the limit twice");
    Ok(())
}

#[tokio::test]
async fn while_connections_are_refused_the_queue_waits_and_then_writes_everything() -> Result<()> {
    let mut bed = Bed::new().await?;
    bed.proxy.refuse(true).await?;
    submit_creates(&bed, 30)?;
    eventually(SOON, || async {
        ensure!(bed.snapshot().await?.unreachable, "reachable");
        Ok(())
    })
    .await?;
    bed.proxy.refuse(false).await?;
    expect_all_written(&mut bed, 30).await?;
    let snapshot = bed.snapshot().await?;
    assert!(!snapshot.unreachable);
    assert!(snapshot.concurrency_limit >= 8, "a server that is away is not overloaded: {}", snapshot.concurrency_limit);
    Ok(())
}

#[tokio::test]
async fn five_hundred_pending_writes_are_drained() -> Result<()> {
    let mut bed = Bed::new().await?;
    submit_creates(&bed, 500)?;
    assert_eq!(bed.drain().await?.finished, 500);
    expect_all_written(&mut bed, 500).await?;
    let snapshot = bed.snapshot().await?;
    assert_eq!((snapshot.pending.values().sum::<usize>(), snapshot.in_flight), (0, 0));
    assert!(snapshot.concurrency_limit > 8, "the limit grew to {}", snapshot.concurrency_limit);
    assert_eq!(bed.drain().await?.finished, 0);
    Ok(())
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_published_once() -> Result<()> {
    let mut bed = Bed::with(Gate::open(), PATIENT).await?;
    let policy = bed.egress_policy("web", &[], &[]).await?;
    bed.proxy.inject(Rule::timeout_after_commit().resource("events").times(1));
    let event = PolicyEvent {
        uid: policy.metadata.uid.unwrap_or_default(),
        reason: "NameConflict",
        note: "somebody else's".to_owned(),
        warning: true,
    };
    let key = ObjectKey::Event(bed.policy("web"), 1);
    let outcome = bed.write(key, WriteRequest::Event(Box::new(event.clone()))).await?;
    assert_eq!((outcome, bed.proxy.count(Verb::Create, "events")), (WriteOutcome::Written(None), 2));
    let events = Api::<Event>::namespaced(bed.client.clone(), &bed.namespace).list(&ListParams::default()).await?;
    let [stored] = events.items.as_slice() else { anyhow::bail!("{} Events", events.items.len()) };
    assert_eq!(stored.note, Some(event.note));
    assert_eq!(stored.regarding.as_ref().and_then(|regarding| regarding.uid.as_ref()), Some(&event.uid));
    assert_eq!(stored.reporting_controller.as_deref(), Some("egress-controller"));
    Ok(())
}

#[tokio::test]
async fn a_lane_that_matters_passes_the_others() -> Result<()> {
    let mut bed = Bed::new().await?;
    // Holds as many as are in flight at first, so that the rest waits.
    bed.proxy.inject(Rule::delay(Duration::from_millis(300)).verb(Verb::Get).times(8));
    for n in 0..40 {
        let lane = if n == 39 { Lane::Spec } else { Lane::Checkpoint };
        bed.submit_in(lane, n, bed.object(&n.to_string()), WriteRequest::Read)?;
    }
    for _ in 0..40 {
        assert_eq!(bed.answer().await?.1, WriteOutcome::Read(None));
    }
    assert_eq!(bed.proxy.log()[8].target.name.as_deref(), Some("egress-39"));
    Ok(())
}
