//! Addresses that no answer may open, and more addresses than a host or a policy may have.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::ensure;
use egress_testbed::dns::{RecordType, Script};
use egress_testbed::eventually;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::world::revisions::Revisions;
use crate::world::{LASTING_TTL, Options, PATIENCE, World, allowed, hosts, ips};

/// Creates a Node with this address and blocks for its pods, and waits until the controller's guard rail has them.
async fn node(world: &World, name: &str, address: &str, pods: &[&str]) {
    let before = world.controller().metric("egress_cluster_changes_total", "").await;
    let node = json!({
        "metadata": {"name": name},
        "spec": {"podCIDR": pods.first(), "podCIDRs": pods},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}
    });
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
    node(&world, "node-1", "192.0.2.10", &["10.244.0.0/24", "fd00:10:244::/64"]).await;
    let guarded = [
        "127.0.0.1",
        "169.254.169.254",
        "169.254.20.10",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.10",
        "203.0.113.5",
        "10.244.0.7",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "fd00:10:244::7",
        "::ffff:192.0.2.7",
        "::ffff:127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "64:ff9b::c000:20a",
        "64:ff9b::af4:7",
    ];
    // The second is beside the blocks of the pods.
    let fine = ["192.0.2.1", "10.244.1.1", "2001:db8::1"];
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
    node(&world, "node-2", "10.244.1.1", &[]).await;
    world.allows(&namespace, "web", &["192.0.2.1", "2001:db8::1"]).await;
    world.refreshes("a.example", 2).await;
    let stored = revisions.up_to_now().await;
    let of_web = stored.iter().filter(|revision| revision.metadata.name.as_deref() == Some("egress-web"));
    let allowed: Vec<Vec<String>> = of_web.map(|revision| allowed(revision).into_iter().collect()).collect();
    assert_eq!(allowed, [vec!["10.244.1.1", "192.0.2.1", "2001:db8::1"], vec!["192.0.2.1", "2001:db8::1"]]);
}

/// So many addresses of a block for benchmarks (RFC 2544), other ones for each host.
fn many(host: u32, count: u32) -> Vec<IpAddr> {
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + host * 4_096;
    (first..first + count).map(|address| IpAddr::V4(Ipv4Addr::from(address))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_four_thousand_addresses_gets_a_thousand_of_them_and_is_then_left_alone() {
    let world = World::new().await;
    let all = many(0, 4_000);
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

/// Three hosts with so many addresses each, which are found once: a policy gets 2,000 of them, in every revision at most.
/// Gives what `AddressesDropped` says and what the policy allows.
async fn three_hosts_fill_a_policy(world: &World, count: u32, reason: &str) -> (String, BTreeSet<String>) {
    for (host, name) in (0..).zip(HOSTS) {
        world.dns.set_host(name, &many(host, count), LASTING_TTL);
    }
    let namespace = world.namespace("app").await;
    let revisions = Revisions::record(world, &namespace).await;
    world.create_policy(&namespace, "web", hosts(&HOSTS)).await;
    let message = world.condition(&namespace, "web", "AddressesDropped", "True", reason).await;
    let full = async || {
        let stored = allowed(&world.network_policy(&namespace, "web").await);
        let told = world.status(&namespace, "web").await["allowedAddressCount"].clone();
        ensure!((stored.len(), &told) == (2_000, &json!(2_000)), "{} are stored, {told} told", stored.len());
        Ok(stored)
    };
    let stored = eventually(PATIENCE, full).await.expect("two thousand pairs");
    let answered: BTreeSet<String> = (0..3).flat_map(|host| texts(&many(host, count))).collect();
    assert!(stored.is_subset(&answered));
    for revision in revisions.up_to_now().await {
        assert!(allowed(&revision).len() <= 2_000, "{} at once", allowed(&revision).len());
    }
    (message, stored)
}

const HOSTS: [&str; 3] = ["a.example", "b.example", "c.example"];

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_hosts_of_many_addresses_get_two_thousand_together_and_a_condition_that_names_the_cap() {
    let world = World::with(Options::default().flag("--status-interval-seconds", 1)).await;
    // Each below the cap of a host, together above that of a policy: the last answer is whole, older ones gave way.
    let (message, stored) = three_hosts_fill_a_policy(&world, 900, "PolicyCap").await;
    let is_last = |name: &&str| message == format!("more addresses than --max-addresses-per-policy: {name}");
    let last = HOSTS.iter().position(is_last).unwrap_or_else(|| panic!("{message}"));
    let last = many(last.try_into().expect("one of three"), 900);
    assert!(texts(&last).iter().all(|address| stored.contains(address)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_hosts_of_four_thousand_addresses_get_two_thousand_together() {
    let world = World::with(Options::default().flag("--status-interval-seconds", 1)).await;
    // Of the two caps the host's is named.
    let (message, stored) = three_hosts_fill_a_policy(&world, 4_000, "HostCap").await;
    assert!(message.starts_with("more addresses than --max-addresses-per-host: "), "{message}");
    for host in 0..3 {
        let of_host = texts(&many(host, 4_000)).into_iter().filter(|address| stored.contains(address)).count();
        assert!(of_host <= 1_000, "{of_host} of {}", HOSTS[host as usize]);
    }
}
