//! What is deleted while the next holder reads it: its watches show the end before its read shows the beginning.

use anyhow::{Context as _, Result, ensure};
use egress_domain::api::EgressPolicy;
use egress_domain::object::DEFAULT_DENY;
use egress_testbed::eventually;
use egress_testbed::proxy::{Logged, Rule, Target, Verb};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::DeleteParams;
use loadtest::handover::bed::Bed;
use loadtest::handover::work::{self, Changed};

use crate::bed::{name, small};
use crate::changes::{LEASE, busiest, change_spec};

/// Enough for a replica to hold some.
const POLICIES: usize = 24;
/// Two policies in each namespace.
const NAMESPACES: usize = POLICIES / 2;
const READS: [&str; 2] = ["egresspolicies", "networkpolicies"];

fn network_policies(bed: &Bed, policy: usize) -> Api<NetworkPolicy> {
    Api::namespaced(bed.client.clone(), &work::namespace_of(policy, bed.namespaces))
}

async fn delete(bed: &Bed, policy: usize, object: &str) -> Result<()> {
    let deleted = network_policies(bed, policy).delete(object, &DeleteParams::default()).await;
    deleted.map(drop).with_context(|| format!("deleting {object} of policy {policy}"))
}

/// Waits until it is there.
async fn comes_back(bed: &Bed, policy: usize, object: &str) -> Result<()> {
    eventually(bed.patience(4), async || {
        network_policies(bed, policy).get_opt(object).await?.with_context(|| format!("no {object} of policy {policy}"))
    })
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_while_it_is_read_after_a_handover_stays_deleted_or_is_made_again() -> Result<()> {
    let bed = small(2, NAMESPACES, POLICIES, LEASE).await?;
    let (leaver, held) = busiest(&bed)?;
    let policy = *held.first().context("nobody holds anything")?;
    let namespace = work::namespace_of(policy, bed.namespaces);
    let network_policy =
        held[1..].iter().copied().find(|other| work::namespace_of(*other, bed.namespaces) == namespace);
    let network_policy = network_policy.context("a second policy of the namespace")?;
    let own = (0..POLICIES).find(|policy| !held.contains(policy)).context("the other replica holds nothing")?;
    let proxy = bed.proxy(1 - leaver);
    proxy.reset_counts();
    let hold = |resource| proxy.inject(Rule::hold_answer().verb(Verb::List).resource(resource).namespace(&namespace));
    let rules = READS.map(hold);
    bed.replicas[leaver].signal("TERM")?;
    let read = namespace.clone();
    let both_answered = move |log: &[Logged]| {
        READS.iter().all(|resource| {
            log.iter().any(|logged| {
                let Target { verb, resource: of, namespace, .. } = &logged.target;
                let is_read = *verb == Verb::List && of == resource && namespace.as_ref() == Some(&read);
                is_read && logged.upstream_code == Some(200)
            })
        })
    };
    proxy.wait_for_log(bed.patience(4), both_answered).await?;

    let policies = Api::<EgressPolicy>::namespaced(bed.client.clone(), &namespace);
    drop(policies.delete(&format!("policy-{policy}"), &DeleteParams::default()).await?);
    delete(&bed, network_policy, &name(network_policy)).await?;
    delete(&bed, network_policy, DEFAULT_DENY).await?;
    // Each watch shows what happened in its order: once what comes after is acted upon, it has shown what came before.
    delete(&bed, own, &name(own)).await?;
    comes_back(&bed, own, &name(own)).await?;
    delete(&bed, own, DEFAULT_DENY).await?;
    comes_back(&bed, own, DEFAULT_DENY).await?;
    let mut changed = Changed::default();
    change_spec(&bed, &mut changed, own, 7).await?;
    let block = &changed.blocks[&own];
    eventually(bed.patience(4), async || {
        let object = network_policies(&bed, own).get(&name(own)).await?;
        ensure!(serde_json::to_string(&object)?.contains(block), "the new block is not allowed yet");
        anyhow::Ok(())
    })
    .await?;
    // A read that was given up and repeated would be younger than the deletions.
    assert_eq!(rules.map(|rule| proxy.hits(rule)), [1, 1]);
    rules.into_iter().for_each(|rule| proxy.remove(rule));

    comes_back(&bed, network_policy, &name(network_policy)).await?;
    comes_back(&bed, network_policy, DEFAULT_DENY).await?;
    eventually(bed.patience(4), async || {
        let orphan = network_policies(&bed, policy).get_opt(&name(policy)).await?;
        ensure!(orphan.is_none(), "the NetworkPolicy of a deleted policy is still there");
        anyhow::Ok(())
    })
    .await
}
