//! Addresses that no answer may open, and more addresses than a host may have.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::ensure;
use egress_testbed::dns::{RecordType, Script};
use egress_testbed::eventually;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::world::revisions::Revisions;
use crate::world::{Options, PATIENCE, World, allowed, hosts, ips};

/// Creates a Node with this address, and waits until the controller's guard rail has it.
async fn node(world: &World, name: &str, address: &str) {
    let before = world.controller().metric("egress_cluster_changes_total", "").await;
    let node =
        json!({"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    let node: Node = serde_json::from_value(node).expect("a Node");
    let api: Api<Node> = Api::all(world.client.clone());
    api.create(&PostParams::default(), &node).await.expect("the Node is stored");
    let known = async || {
        let changes = world.controller().metric("egress_cluster_changes_total", "").await;
        ensure!(changes > before, "{changes} changes");
        Ok(())
    };
    eventually(PATIENCE, known).await.expect("the Node is known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guarded_address_is_in_no_revision_in_none_of_its_forms() {
    let world = World::with(Options::default().flag("--deny-answer-cidr", "203.0.113.0/24")).await;
    node(&world, "node-1", "192.0.2.10").await;
    let guarded = [
        "127.0.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.10",
        "203.0.113.5",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:192.0.2.7",
        "::ffff:127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "64:ff9b::c000:20a",
    ];
    let fine = ["192.0.2.1", "10.0.0.1", "2001:db8::1"];
    world.dns.set_host("a.example", &ips(&[&guarded[..], &fine].concat()), 1);
    world.dns.set_host("service.example", &ips(&["10.96.0.1", "10.96.255.254"]), 1);
    let namespace = world.namespace("app").await;
    let revisions = Revisions::record(&world, &namespace).await;
    world.create_policy(&namespace, "web", hosts(&["a.example", "service.example"])).await;
    let dropped = world.condition(&namespace, "web", "AddressesDropped", "True", "GuardRail").await;
    assert_eq!(dropped, "answers hold addresses of the cluster, a node or the platform: a.example");
    let local = world.condition(&namespace, "web", "Resolved", "False", "ClusterLocalName").await;
    assert_eq!(local, "service.example: inside the cluster, use a namespace destination");
    world.refreshes("a.example", 3).await;

    // An allowed address becomes that of a Node: it goes, though DNS still gives it.
    node(&world, "node-2", "10.0.0.1").await;
    world.allows(&namespace, "web", &["192.0.2.1", "2001:db8::1"]).await;
    world.refreshes("a.example", 2).await;
    let stored = revisions.up_to_now().await;
    let of_web = stored.iter().filter(|revision| revision.metadata.name.as_deref() == Some("egress-web"));
    let allowed: Vec<Vec<String>> = of_web.map(|revision| allowed(revision).into_iter().collect()).collect();
    assert_eq!(allowed, [vec!["10.0.0.1", "192.0.2.1", "2001:db8::1"], vec!["192.0.2.1", "2001:db8::1"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_four_thousand_addresses_gets_a_thousand_of_them_and_is_then_left_alone() {
    let world = World::new().await;
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    let all: Vec<IpAddr> = (0..4_000).map(|number| IpAddr::V4(Ipv4Addr::from(first + number))).collect();
    world.dns.set("big.example", RecordType::A, Script::answer(all.clone(), 1));
    let namespace = world.namespace("app").await;
    let revisions = Revisions::record(&world, &namespace).await;
    world.create_policy(&namespace, "web", hosts(&["big.example"])).await;
    let message = world.condition(&namespace, "web", "AddressesDropped", "True", "HostCap").await;
    assert_eq!(message, "more addresses than --max-addresses-per-host: big.example");
    let before = world.versions(&namespace, "web").await;
    world.refreshes("big.example", 6).await;
    assert_eq!(world.versions(&namespace, "web").await, before);
    let stored = allowed(&world.network_policy(&namespace, "web").await);
    assert_eq!(stored.len(), 1_000);
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert!(stored.iter().all(|address| all.contains(address)));
    assert_eq!(world.status(&namespace, "web").await["allowedAddressCount"], json!(1_000));
    assert_eq!(revisions.up_to_now().await.len(), 2, "the allow-policy and the default deny, each once");
}
