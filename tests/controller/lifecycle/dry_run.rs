//! `mode: DryRun`, from the start and later.

use anyhow::ensure;
use egress_testbed::eventually;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::rendering::dns_rule;
use crate::world::revisions::Revisions;
use crate::world::{Options, PATIENCE, World, allowed, ips};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_writes_nothing_and_its_status_reports_the_addresses() {
    let world = World::new().await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1", "2001:db8::1"]), 1);
    world.dns.set_host("b.example", &ips(&["192.0.2.2"]), 1);
    let namespace = world.namespace("app").await;
    let revisions = Revisions::record(&world, &namespace).await;
    let destinations = json!([{"hostname": "a.example"}, {"hostname": "b.example"}]);
    world.create_policy(&namespace, "web", json!({"mode": "DryRun", "destinations": destinations})).await;
    world.condition(&namespace, "web", "Applied", "False", "DryRun").await;
    world.refreshes("a.example", 3).await;

    let status = world.status(&namespace, "web").await;
    assert_eq!(status["allowedAddressCount"], json!(3));
    assert_eq!(status["hostCount"], json!(2));
    let hosts = json!([
        {"hostname": "a.example", "addressCount": 2, "addresses": ["192.0.2.1", "2001:db8::1"]},
        {"hostname": "b.example", "addressCount": 1, "addresses": ["192.0.2.2"]}
    ]);
    assert_eq!(status["hosts"], hosts);
    world.condition(&namespace, "web", "Resolved", "True", "AllResolved").await;
    world.condition(&namespace, "web", "Ready", "False", "DryRun").await;
    let present = world.network_policies(&namespace).list(&ListParams::default()).await.expect("a list");
    assert_eq!(present.items, []);
    assert_eq!(revisions.up_to_now().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enforce_to_dry_run_freezes_the_networkpolicy_and_back_puts_it_right() {
    let world = World::with(Options::default().flag("--status-interval-seconds", 1)).await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), 1);
    let namespace = world.namespace("app").await;
    let spec = |mode: &str| json!({"mode": mode, "destinations": [{"hostname": "a.example"}]});
    world.create_policy(&namespace, "web", spec("Enforce")).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    world.replace_spec(&namespace, "web", spec("DryRun")).await;
    world.condition(&namespace, "web", "Applied", "False", "DryRunFrozen").await;

    // A hand edit that no enforcing policy would let stand, and an answer that it would add.
    let edit = json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]}]}});
    let api = world.network_policies(&namespace);
    let edited =
        api.patch("egress-web", &PatchParams::default(), &Patch::Merge(&edit)).await.expect("the edit is stored");
    assert_eq!(allowed(&edited), ["198.51.100.0/24".to_owned()].into());
    world.dns.set_host("a.example", &ips(&["192.0.2.2"]), 1);
    let reported = async || {
        let addresses = world.status(&namespace, "web").await["hosts"][0]["addresses"].clone();
        ensure!(addresses == json!(["192.0.2.1", "192.0.2.2"]), "{addresses}");
        Ok(())
    };
    eventually(PATIENCE, reported).await.expect("the status reports the new answer");
    world.refreshes("a.example", 3).await;
    assert_eq!(Some(world.resource_version(&namespace, "web").await), edited.metadata.resource_version);
    world.is_there(&namespace, "default-deny-egress").await;

    world.replace_spec(&namespace, "web", spec("Enforce")).await;
    world.allows(&namespace, "web", &["192.0.2.1", "192.0.2.2"]).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    let rule = json!({
        "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}, {"ipBlock": {"cidr": "192.0.2.2/32"}}],
        "ports": [{"protocol": "TCP", "port": 443}]
    });
    let expected = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [dns_rule(), rule]});
    assert_eq!(world.spec(&namespace, "web").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_networkpolicy_keeps_what_would_expire_and_loses_what_becomes_a_nodes_address() {
    let world = World::with(Options::default().flag("--status-interval-seconds", 1)).await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1", "192.0.2.2"]), 1);
    let namespace = world.namespace("app").await;
    // Without retention an enforcing policy forgets with the first answer that lacks them.
    let spec = |mode: &str| json!({"mode": mode, "retentionSeconds": 0, "destinations": [{"hostname": "a.example"}]});
    world.create_policy(&namespace, "web", spec("Enforce")).await;
    world.allows(&namespace, "web", &["192.0.2.1", "192.0.2.2"]).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    world.replace_spec(&namespace, "web", spec("DryRun")).await;
    world.condition(&namespace, "web", "Applied", "False", "DryRunFrozen").await;
    let revisions = Revisions::record(&world, &namespace).await;
    world.dns.set_host("a.example", &ips(&["192.0.2.3"]), 1);
    let reported = async || {
        let count = world.status(&namespace, "web").await["allowedAddressCount"].clone();
        ensure!(count == json!(3), "{count} addresses");
        Ok(())
    };
    eventually(PATIENCE, reported).await.expect("the status reports the new answer");
    world.refreshes("a.example", 3).await;
    assert_eq!(revisions.up_to_now().await, [], "no expiry, no addition");

    let node = json!({"metadata": {"name": "worker"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}});
    let node = serde_json::from_value(node).expect("a Node");
    Api::<Node>::all(world.client.clone()).create(&PostParams::default(), &node).await.expect("the Node is stored");
    world.allows(&namespace, "web", &["192.0.2.2"]).await;
    world.refreshes("a.example", 3).await;
    world.condition(&namespace, "web", "Applied", "False", "DryRunFrozen").await;
    let rule = json!({"to": [{"ipBlock": {"cidr": "192.0.2.2/32"}}], "ports": [{"protocol": "TCP", "port": 443}]});
    let expected = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [dns_rule(), rule]});
    let specs: Vec<_> = revisions.up_to_now().await.into_iter().map(|revision| json!(revision.spec)).collect();
    assert_eq!(specs, [expected], "one write, and nothing but that address");
}
