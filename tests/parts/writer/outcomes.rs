//! What the API server says for good, in the words of the policy machines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use egress_controller::k8s::gate::{Denied, Gate};
use egress_domain::api::{EgressPolicyStatus, FENCE_ANNOTATION};
use egress_domain::object::ObjectKey;
use egress_domain::write::{WriteOutcome, WriteRequest};
use egress_testbed::proxy::Verb;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::DeleteParams;

use super::bed::{Bed, PATIENT, STAMP, apply, label, network_policy, written};

const FINALIZER: &str = "kopf.zalando.org/KopfFinalizerMarker";
const ANNOTATION: &str = "kopf.zalando.org/last-handled-configuration";

/// A policy with so many blocks.
fn large(bed: &Bed, blocks: u32) -> NetworkPolicy {
    let mut object = network_policy(&bed.namespace, "large");
    let peer = |n: u32| NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + n)), except: None }),
        ..NetworkPolicyPeer::default()
    };
    let rule = NetworkPolicyEgressRule { to: Some((0..blocks).map(peer).collect()), ports: None };
    if let Some(spec) = &mut object.spec {
        spec.egress = Some(vec![rule]);
    }
    object
}

#[tokio::test]
async fn a_create_gives_the_object_as_stored_and_a_second_one_already_exists() -> Result<()> {
    let mut bed = Bed::new().await?;
    let stored = bed.create("web").await?;
    assert!(stored.metadata.uid.is_some() && stored.metadata.resource_version.is_some());
    let managers = stored.metadata.managed_fields.unwrap_or_default();
    assert_eq!(managers.iter().filter_map(|entry| entry.manager.as_deref()).collect::<Vec<_>>(), ["egress-controller"]);
    let again = WriteRequest::Create(Box::new(network_policy(&bed.namespace, "web")));
    assert_eq!(bed.write(bed.object("web"), again).await?, WriteOutcome::AlreadyExists);
    Ok(())
}

#[tokio::test]
async fn an_absent_object_reads_as_none() -> Result<()> {
    let mut bed = Bed::new().await?;
    assert_eq!(bed.write(bed.object("web"), WriteRequest::Read).await?, WriteOutcome::Read(None));
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_terminates_or_is_missing_is_gone() -> Result<()> {
    let mut bed = Bed::new().await?;
    let stored = bed.create("old").await?;
    // No controller manager: it stays terminating.
    Api::<Namespace>::all(bed.client.clone()).delete(&bed.namespace, &DeleteParams::default()).await?;
    let create = WriteRequest::Create(Box::new(network_policy(&bed.namespace, "web")));
    assert_eq!(bed.write(bed.object("web"), create).await?, WriteOutcome::NamespaceGone);
    // What exists may still be changed.
    written(bed.write(bed.object("old"), apply(&stored, "1")).await?)?;
    let missing = ObjectKey::DefaultDeny("no-such-namespace".into());
    let create = WriteRequest::Create(Box::new(network_policy("no-such-namespace", "web")));
    assert_eq!(bed.write(missing, create).await?, WriteOutcome::NamespaceGone);
    Ok(())
}

#[tokio::test]
async fn an_apply_never_touches_another_object_of_the_name_and_never_creates_one() -> Result<()> {
    let mut bed = Bed::new().await?;
    let first = bed.create("web").await?;
    bed.network_policies().delete("egress-web", &DeleteParams::default()).await?;
    assert_eq!(bed.write(bed.object("web"), apply(&first, "1")).await?, WriteOutcome::Stale);
    assert_eq!(bed.stored("web").await?, None);
    let second = bed.create("web").await?;
    assert_eq!(bed.write(bed.object("web"), apply(&first, "1")).await?, WriteOutcome::Stale);
    assert_eq!(bed.stored("web").await?, Some(second));
    Ok(())
}

#[tokio::test]
async fn a_refused_object_is_rejected_with_the_servers_words() -> Result<()> {
    let mut bed = Bed::new().await?;
    let mut object = large(&bed, 1);
    let peers = object.spec.as_mut().and_then(|spec| spec.egress.as_mut()).and_then(|rules| rules[0].to.as_mut());
    if let Some(block) = peers.and_then(|peers| peers[0].ip_block.as_mut()) {
        block.cidr = "192.0.2.1/99".to_owned();
    }
    let outcome = bed.write(bed.object("large"), WriteRequest::Create(Box::new(object))).await?;
    let WriteOutcome::Rejected(message) = outcome else { anyhow::bail!("{outcome:?}") };
    assert!(message.contains("192.0.2.1/99"), "{message}");
    Ok(())
}

#[tokio::test]
async fn an_object_beyond_the_limit_of_etcd_or_of_the_server_is_too_large() -> Result<()> {
    let mut bed = Bed::new().await?;
    // 52,000 blocks are 2 MB of JSON, but 1.2 MB in etcd: they pass.
    for (blocks, fits) in [(52_000, true), (80_000, false), (90_000, false)] {
        let object = Box::new(large(&bed, blocks));
        let outcome = bed.write(bed.object("large"), WriteRequest::Create(object)).await?;
        match outcome {
            WriteOutcome::Written(_) => assert!(fits, "{blocks} blocks were written"),
            WriteOutcome::TooLarge(message) => {
                assert!(!fits && message.contains("large"), "{blocks} blocks: {message}")
            }
            outcome => anyhow::bail!("{blocks} blocks: {outcome:?}"),
        }
        bed.network_policies().delete("egress-large", &DeleteParams::default()).await.ok();
    }
    Ok(())
}

fn owner(uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "platform.example.com/v1alpha1".to_owned(),
        kind: "EgressPolicy".to_owned(),
        name: "web".to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        ..OwnerReference::default()
    }
}

#[tokio::test]
async fn owner_references_are_repaired_on_exactly_the_version_that_was_read() -> Result<()> {
    let mut bed = Bed::new().await?;
    let mut object = network_policy(&bed.namespace, "web");
    object.metadata.owner_references = Some(vec![owner("old")]);
    let created = bed.write(bed.object("web"), WriteRequest::Create(Box::new(object))).await?;
    let mut stored = written(created)?;
    let stale = stored.clone();
    stored.metadata.owner_references = Some(vec![owner("new")]);
    let repaired = bed.write(bed.object("web"), WriteRequest::RepairOwners(Box::new(stored))).await?;
    assert_eq!(written(repaired)?.metadata.owner_references, Some(vec![owner("new")]));
    let outcome = bed.write(bed.object("web"), WriteRequest::RepairOwners(Box::new(stale))).await?;
    assert_eq!(outcome, WriteOutcome::Stale);
    let kept = bed.stored("web").await?.context("it is there")?;
    assert_eq!(kept.metadata.owner_references, Some(vec![owner("new")]));
    Ok(())
}

#[tokio::test]
async fn only_the_version_that_was_meant_is_deleted() -> Result<()> {
    let mut bed = Bed::new().await?;
    let metadata = bed.create("web").await?.metadata;
    let (uid, version) = (metadata.uid.unwrap_or_default(), metadata.resource_version.unwrap_or_default());
    let delete =
        |uid: &str, version: &str| WriteRequest::Delete { uid: uid.to_owned(), resource_version: version.to_owned() };
    for request in [delete("another", &version), delete(&uid, "1")] {
        assert_eq!(bed.write(bed.object("web"), request).await?, WriteOutcome::Stale);
    }
    assert_eq!(bed.write(bed.object("web"), delete(&uid, &version)).await?, WriteOutcome::Written(None));
    assert_eq!(bed.stored("web").await?, None);
    assert_eq!(bed.write(bed.object("web"), delete(&uid, &version)).await?, WriteOutcome::Stale);
    Ok(())
}

#[tokio::test]
async fn the_status_of_a_policy_is_never_written_to_another_of_its_name() -> Result<()> {
    let mut bed = Bed::new().await?;
    let first = bed.egress_policy("web", &[], &[]).await?.metadata.uid.unwrap_or_default();
    bed.delete_egress_policy("web").await?;
    let second = bed.egress_policy("web", &[], &[]).await?.metadata.uid.unwrap_or_default();
    let status = |uid: &str, generation| WriteRequest::Status {
        uid: uid.to_owned(),
        status: Box::new(EgressPolicyStatus { observed_generation: Some(generation), ..EgressPolicyStatus::default() }),
    };
    let key = ObjectKey::Status(bed.policy("web"));
    assert_eq!(bed.write(key.clone(), status(&first, 1)).await?, WriteOutcome::Stale);
    assert_eq!(bed.egress_policies().await?.get("web").await?.status, None);
    assert_eq!(bed.write(key.clone(), status(&second, 2)).await?, WriteOutcome::Written(None));
    let stored = bed.egress_policies().await?.get("web").await?;
    assert_eq!(stored.status.and_then(|status| status.observed_generation), Some(2));
    // The same again changes nothing, not even the version.
    assert_eq!(bed.write(key.clone(), status(&second, 2)).await?, WriteOutcome::Written(None));
    let again = bed.egress_policies().await?.get("web").await?;
    assert_eq!(again.metadata.resource_version, stored.metadata.resource_version);
    bed.delete_egress_policy("web").await?;
    assert_eq!(bed.write(key, status(&second, 3)).await?, WriteOutcome::Stale);
    Ok(())
}

#[tokio::test]
async fn exactly_the_kopf_marks_are_removed() -> Result<()> {
    let mut bed = Bed::new().await?;
    bed.egress_policy("web", &[FINALIZER, "example.com/keep"], &[ANNOTATION, "keep"]).await?;
    let key = ObjectKey::Metadata(bed.policy("web"));
    for _ in 0..2 {
        assert_eq!(bed.write(key.clone(), WriteRequest::RemoveKopf).await?, WriteOutcome::Written(None));
    }
    assert_eq!(bed.proxy.count(Verb::Patch, "egresspolicies"), 1, "the second time there was nothing to do");
    let metadata = bed.egress_policies().await?.get("web").await?.metadata;
    assert_eq!(metadata.finalizers, Some(vec!["example.com/keep".to_owned()]));
    assert_eq!(metadata.annotations.unwrap_or_default().into_keys().collect::<Vec<_>>(), ["keep"]);
    Ok(())
}

#[tokio::test]
async fn a_policy_that_only_the_kopf_finalizer_holds_goes() -> Result<()> {
    let mut bed = Bed::new().await?;
    bed.egress_policy("web", &[FINALIZER], &[ANNOTATION]).await?;
    bed.delete_egress_policy("web").await?;
    assert!(bed.egress_policies().await?.get_opt("web").await?.is_some(), "the finalizer holds it");
    let key = ObjectKey::Metadata(bed.policy("web"));
    for _ in 0..2 {
        assert_eq!(bed.write(key.clone(), WriteRequest::RemoveKopf).await?, WriteOutcome::Written(None));
        assert!(bed.egress_policies().await?.get_opt("web").await?.is_none());
    }
    Ok(())
}

#[tokio::test]
async fn what_the_gate_stamps_carries_the_stamp_and_what_it_denies_is_not_sent() -> Result<()> {
    let open = Arc::new(AtomicBool::new(true));
    let asked = open.clone();
    let gate = Gate::new(move |_, stamp| match asked.load(Ordering::SeqCst) && stamp == STAMP {
        true => Ok(()),
        false => Err(Denied),
    });
    let mut bed = Bed::with(gate, PATIENT).await?;
    let stamp = |object: &NetworkPolicy| object.metadata.annotations.as_ref()?.get(FENCE_ANNOTATION).cloned();
    let stored = bed.create("web").await?;
    assert_eq!(stamp(&stored).as_deref(), Some("17/4711"));
    open.store(false, Ordering::SeqCst);
    assert_eq!(bed.write(bed.object("web"), apply(&stored, "1")).await?, WriteOutcome::Fenced);
    assert_eq!(bed.proxy.count(Verb::Patch, "networkpolicies"), 0);
    open.store(true, Ordering::SeqCst);
    let stored = written(bed.write(bed.object("web"), apply(&stored, "2")).await?)?;
    assert_eq!((label(&stored), stamp(&stored).as_deref()), (Some("2"), Some("17/4711")));
    // A delete stamps first, in a request of its own.
    let delete = WriteRequest::Delete {
        uid: stored.metadata.uid.unwrap_or_default(),
        resource_version: stored.metadata.resource_version.unwrap_or_default(),
    };
    assert_eq!(bed.write(bed.object("web"), delete).await?, WriteOutcome::Written(None));
    assert_eq!(bed.proxy.count(Verb::Patch, "networkpolicies"), 2);
    assert_eq!(bed.stored("web").await?, None);
    Ok(())
}
