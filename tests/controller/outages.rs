//! DNS fails, differs from server to server, moves, is asked by very many: nothing is narrowed, nothing is asked twice.

mod system;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::world::many::{Allowed, entry};
use crate::world::network::{inside_namespace, loopback_with};
use crate::world::{Options, PATIENCE, World, hosts, ips};
use anyhow::ensure;
use egress_testbed::dns::{DnsServer, RecordType, Script};
use egress_testbed::eventually;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// How long DNS is away: past the first-sight deadline of 5 s and past several back-offs. Other times and 10,000 names
/// are tried in virtual time (`src/domain/lookups/tests/outages.rs`).
const OUTAGE: Duration = Duration::from_secs(20);
/// By when everything is right after it.
const RECOVERY: Duration = Duration::from_secs(15);
/// For a thousand policies on a busy machine.
const LONG: Duration = Duration::from_secs(120);

// ---- DNS fails at start

async fn after_an_outage_at_start_every_policy_is_right_within_fifteen_seconds(failure: Script) {
    const POLICIES: usize = 100;
    let mut world = World::with(Options { without_controller: true, ..Options::default() }).await;
    let namespaces = world.namespaces("app", 10).await;
    let (mut policies, mut nothing, mut expected) = (Vec::new(), Allowed::new(), Allowed::new());
    for n in 0..POLICIES {
        let (namespace, policy) = (&namespaces[n % 10], format!("p{n}"));
        let names: Vec<String> = (0..3).map(|host| format!("h{n}-{host}.example")).collect();
        let addresses: Vec<String> = (0..3).map(|host| format!("203.0.{}.{}", 113 + host, n + 1)).collect();
        for (name, address) in names.iter().zip(&addresses) {
            world.dns.set_host(name, &ips(&[address]), 600);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        policies.push((namespace.clone(), policy.clone(), hosts(&names)));
        nothing.extend([entry(namespace, &policy, &[])]);
        expected.extend([entry(namespace, &policy, &addresses)]);
    }
    world.create_policies(policies).await;
    world.dns.set_all(Some(failure));
    world.start_controller().await;
    let end = tokio::time::Instant::now() + OUTAGE;
    // The first sight has ended without an answer: DNS only.
    world.all_allow(PATIENCE, &nothing).await;
    // The outage lasts as long as it lasts; nothing is waited for.
    tokio::time::sleep_until(end).await;
    world.dns.set_all(None);
    world.all_allow(RECOVERY, &expected).await;
    world.all_have(POLICIES, "Ready", "True", "Ready").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_dns_was_silent_at_start_a_hundred_policies_are_right_within_fifteen_seconds() {
    after_an_outage_at_start_every_policy_is_right_within_fifteen_seconds(Script::Silence).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_dns_said_servfail_at_start_a_hundred_policies_are_right_within_fifteen_seconds() {
    after_an_outage_at_start_every_policy_is_right_within_fifteen_seconds(Script::ServFail).await;
}

// ---- servers that differ

/// The server is asked so many times more for the host, so nothing is still under way from before.
async fn is_asked_again(server: &DnsServer, host: &str) {
    let asked = server.count(host, RecordType::A);
    server.wait_for_count(host, RecordType::A, asked + 3, PATIENCE).await.unwrap();
}

/// Each gives another address of a.example; of passing.example the third one gives another than the first two.
fn differ(servers: &[DnsServer]) {
    for (n, server) in servers.iter().enumerate() {
        server.set_host("a.example", &ips(&[&format!("203.0.113.{}", n + 1)]), 1);
        server.set_host("passing.example", &ips(&[if n == 2 { "203.0.113.13" } else { "203.0.113.11" }]), 1);
    }
}

/// A policy whose addresses go with the minute in which an answer last held them.
fn forgetful() -> Value {
    json!({"retentionSeconds": 0, "destinations": [{"hostname": "a.example"}, {"hostname": "passing.example"}]})
}

/// The third server has gone silent. The first two take back an address of passing.example: when the forgetful policy
/// has lost it, what only the third one gave is at least as old, and it is still there.
async fn only_what_is_taken_back_is_forgotten(world: &World, namespace: &str, staying: &[DnsServer], more: &[&str]) {
    for server in staying {
        is_asked_again(server, "passing.example").await;
    }
    for server in staying {
        server.set_host("passing.example", &ips(&["203.0.113.12"]), 1);
    }
    let kept = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.12", "203.0.113.13"];
    let kept = [&kept[..], more].concat();
    world.allows_within(LONG, namespace, "forgetful", &kept).await;
    for server in staying {
        is_asked_again(server, "a.example").await;
    }
    world.allows(namespace, "forgetful", &kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_that_differ_are_united_and_one_that_stops_removes_nothing() {
    let servers =
        [DnsServer::start().await.unwrap(), DnsServer::start().await.unwrap(), DnsServer::start().await.unwrap()];
    differ(&servers);
    let list: Vec<String> = servers.iter().map(|server| server.addr().to_string()).collect();
    let world = World::with(Options::default().flag("--dns-servers", list.join(","))).await;
    let namespace = world.namespace("app").await;
    world.create_policy(&namespace, "web", hosts(&["a.example"])).await;
    world.create_policy(&namespace, "forgetful", forgetful()).await;
    let union = ["203.0.113.1", "203.0.113.2", "203.0.113.3"];
    world.allows(&namespace, "web", &union).await;
    world.allows(&namespace, "forgetful", &[&union[..], &["203.0.113.11", "203.0.113.13"]].concat()).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    let before = world.versions(&namespace, "web").await;

    servers[2].stop();
    world.controller().metric_is("egress_resolver_servers_down", "", |down| down == 1.0).await;
    only_what_is_taken_back_is_forgotten(&world, &namespace, &servers[..2], &[]).await;
    assert_eq!(world.versions(&namespace, "web").await, before, "neither object was written");

    servers[0].set_host("a.example", &ips(&["203.0.113.4"]), 1);
    world.allows(&namespace, "web", &["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"]).await;
}

// ---- the cluster's own DNS

/// Of the DNS Service, inside the testbed's Service CIDR.
const CLUSTER_IP: &str = "10.96.0.10";

/// The endpoints of the DNS Service that are ready, and those that are not.
fn slice(ready: &[&str], unready: &[&str]) -> Value {
    let all = ready.iter().map(|address| (address, true)).chain(unready.iter().map(|address| (address, false)));
    let endpoints: Vec<Value> =
        all.map(|(address, ready)| json!({"addresses": [address], "conditions": {"ready": ready}})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "kube-dns-a", "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "endpoints": endpoints,
        "ports": [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5353, "protocol": "TCP"}]
    })
}

async fn set_endpoints(world: &World, ready: &[&str], unready: &[&str]) {
    let slices = Api::<EndpointSlice>::namespaced(world.client.clone(), "kube-system");
    let apply = PatchParams::apply("test").force();
    slices.patch("kube-dns-a", &apply, &Patch::Apply(slice(ready, unready))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ready_endpoint_of_the_dns_service_is_asked_and_one_that_is_silent_or_goes_removes_nothing() {
    const ADDRESSES: [&str; 3] = ["192.0.2.53", "192.0.2.54", "192.0.2.55"];
    let name =
        "outages::every_ready_endpoint_of_the_dns_service_is_asked_and_one_that_is_silent_or_goes_removes_nothing";
    if !inside_namespace(name).await {
        return;
    }
    loopback_with(&ADDRESSES).await;
    let mut servers = Vec::new();
    for address in ADDRESSES {
        servers.push(DnsServer::start_on(SocketAddr::new(address.parse().unwrap(), 5353)).await.unwrap());
    }
    differ(&servers);
    let options = Options { without_controller: true, ..Options::default() }.flag("--dns-servers", "cluster");
    let mut world = World::with(options).await;
    let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 5353}]);
    let service = json!({"metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": CLUSTER_IP, "ports": ports}});
    let services = Api::<Service>::namespaced(world.client.clone(), "kube-system");
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    set_endpoints(&world, &ADDRESSES, &[]).await;
    world.start_controller().await;
    let controller = world.controller();
    let namespace = world.namespace("app").await;
    world.create_policy(&namespace, "web", hosts(&["a.example"])).await;
    world.create_policy(&namespace, "forgetful", forgetful()).await;
    // The first is no answer: pods reach the DNS Service by its ClusterIP.
    let union = [CLUSTER_IP, "203.0.113.1", "203.0.113.2", "203.0.113.3"];
    world.allows(&namespace, "web", &union).await;
    world.allows(&namespace, "forgetful", &[&union[..], &["203.0.113.11", "203.0.113.13"]].concat()).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    assert_eq!(controller.metric("egress_resolver_fallback_to_resolv_conf", "").await, 0.0);
    let (before, _, _) = world.versions(&namespace, "web").await;

    // Ready, and without an answer to anything.
    servers[2].set_all(Some(Script::Silence));
    controller.metric_is("egress_resolver_servers_down", "", |down| down == 1.0).await;
    only_what_is_taken_back_is_forgotten(&world, &namespace, &servers[..2], &[CLUSTER_IP]).await;
    assert_eq!(world.versions(&namespace, "web").await.0, before);

    // Not ready, then removed: it is asked no more, the others are, nothing is written.
    set_endpoints(&world, &ADDRESSES[..2], &ADDRESSES[2..]).await;
    controller.metric_is("egress_resolver_servers", "", |servers| servers == 2.0).await;
    is_asked_again(&servers[0], "a.example").await;
    let asked = servers[2].total();
    is_asked_again(&servers[1], "a.example").await;
    assert_eq!(servers[2].total(), asked);
    // Its answers have left the union, as a policy shows that has nothing else to keep them by.
    let union = [CLUSTER_IP, "203.0.113.1", "203.0.113.2", "203.0.113.12"];
    world.allows(&namespace, "forgetful", &union).await;
    set_endpoints(&world, &ADDRESSES[..1], &ADDRESSES[2..]).await;
    controller.metric_is("egress_resolver_servers", "", |servers| servers == 1.0).await;
    is_asked_again(&servers[0], "a.example").await;
    assert_eq!(world.versions(&namespace, "web").await.0, before);

    // A new endpoint has another rotation.
    servers[2].set_all(None);
    servers[2].set_host("a.example", &ips(&["203.0.113.7"]), 1);
    set_endpoints(&world, &[ADDRESSES[0], ADDRESSES[2]], &[]).await;
    let union = [CLUSTER_IP, "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.7"];
    world.allows(&namespace, "web", &union).await;

    // None: resolv.conf of this machine, which nobody answers here.
    let (before, _, _) = world.versions(&namespace, "web").await;
    let failures = failed_lookups(&world).await;
    set_endpoints(&world, &[], &ADDRESSES).await;
    controller.metric_is("egress_resolver_fallback_to_resolv_conf", "", |fallback| fallback == 1.0).await;
    let failed = eventually(PATIENCE, async || {
        let now = failed_lookups(&world).await;
        ensure!(now >= failures + 2.0, "{now} lookups have failed");
        Ok(())
    });
    failed.await.expect("resolv.conf is asked");
    assert_eq!(world.versions(&namespace, "web").await.0, before);
    let asked: u64 = servers.iter().map(DnsServer::total).sum();

    // And back.
    servers[1].set_host("a.example", &ips(&["203.0.113.8"]), 1);
    set_endpoints(&world, &ADDRESSES[1..2], &[]).await;
    let union = [CLUSTER_IP, "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.7", "203.0.113.8"];
    world.allows(&namespace, "web", &union).await;
    assert!(servers.iter().map(DnsServer::total).sum::<u64>() > asked);
    controller.metric_is("egress_resolver_fallback_to_resolv_conf", "", |fallback| fallback == 0.0).await;
}

/// Lookups that were neither answered nor given up.
async fn failed_lookups(world: &World) -> f64 {
    let mut failed = 0.0;
    for outcome in ["timeout", "unreachable", "refused", "servfail"] {
        failed += world.controller().metric("egress_resolver_lookups_total", &format!("outcome=\"{outcome}\"")).await;
    }
    failed
}

// ---- very many

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_policies_with_the_same_host_cost_one_lookup_per_server_family_and_ttl() {
    const POLICIES: usize = 1_000;
    // Short of the 40 s from which a first answer is asked again early (ADR 0022).
    const TTL: Duration = Duration::from_secs(5);
    let servers = [DnsServer::start().await.unwrap(), DnsServer::start().await.unwrap()];
    for server in &servers {
        server.set_host("shared.example", &ips(&["203.0.113.1", "2001:db8::1"]), 5);
    }
    let list = servers.each_ref().map(|server| server.addr().to_string()).join(",");
    let world = World::with(Options::default().flag("--dns-servers", list)).await;
    let namespaces = world.namespaces("app", 20).await;
    let policy = |n: usize| (namespaces[n % 20].clone(), format!("p{n}"), hosts(&["shared.example"]));
    let both = ["203.0.113.1", "2001:db8::1"];
    let expected = (0..POLICIES).map(|n| entry(&namespaces[n % 20], &format!("p{n}"), &both)).collect();
    let started = Instant::now();
    world.create_policies((0..POLICIES).map(policy).collect()).await;
    world.all_allow(LONG, &expected).await;
    // Each of them saw the host for the first time, and only the first one had it asked for.
    for server in &servers {
        for family in [RecordType::A, RecordType::AAAA] {
            let asked = server.count("shared.example", family);
            let took = started.elapsed();
            assert!((1..=1 + took.as_secs() / TTL.as_secs()).contains(&asked), "{family}: {asked} times in {took:?}");
        }
    }

    // Two whole TTLs from the next question on.
    servers.iter().for_each(DnsServer::reset_counts);
    let within = Duration::from_secs(30);
    for server in &servers {
        for family in [RecordType::A, RecordType::AAAA] {
            server.wait_for_count("shared.example", family, 3, within).await.unwrap();
            let times = server.times("shared.example", family);
            for pair in times.windows(2) {
                let gap = pair[1] - pair[0];
                // A busy machine may be late, but no TTL passes without a question.
                assert!(gap >= TTL && gap < TTL * 2, "{family}: asked again after {gap:?}");
            }
            let best = times.windows(2).map(|pair| pair[1] - pair[0]).min().expect("it is asked again");
            assert!(best < TTL + Duration::from_secs(1), "{family}: asked again after {best:?} at best");
        }
        assert_eq!(server.counts().len(), 2, "nothing else is asked for: {:?}", server.counts());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_dead_names_delay_a_live_one_by_less_than_a_second_and_cause_one_event_per_policy() {
    let world = World::new().await;
    world.dns.set_default(Script::Silence);
    let without = best_first_answer(&world, "before").await;

    let namespaces = world.namespaces("dead", 5).await;
    let dead = |n: usize| {
        let names: Vec<String> = (0..10).map(|host| format!("dead-{n}-{host}.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        (namespaces[n % 5].clone(), format!("dead{n}"), hosts(&names))
    };
    world.create_policies((0..50).map(dead).collect()).await;
    // They are asked for: the lanes are as full as they get.
    world.dns.wait_for_total(2 * LIVE + 200, PATIENCE).await.unwrap();
    let with = best_first_answer(&world, "after").await;
    assert!(with < without + Duration::from_secs(1), "{with:?} beside dead names, {without:?} without");

    for n in 0..50 {
        let name = format!("dead{n}");
        world.condition(&namespaces[n % 5], &name, "Resolved", "False", "NoneResolved").await;
    }
    let told = eventually(PATIENCE, async || {
        let told = events_of_policies(&world).await?;
        ensure!(told.len() >= 50, "{} of 50 policies have an Event", told.len());
        Ok(told)
    });
    let told = told.await.expect("each policy says once that its names are dead");
    let expected: BTreeMap<String, Vec<String>> =
        (0..50).map(|n| (format!("dead{n}"), vec!["LookupsFailing".to_owned()])).collect();
    assert_eq!(told, expected);
    // All of them are asked for again, which is no news.
    let asked = world.controller().metric("egress_resolver_lookups_total", "").await;
    world.controller().metric_is("egress_resolver_lookups_total", "", |now| now > asked + 10.0).await;
    assert_eq!(events_of_policies(&world).await.unwrap(), expected);
}

/// Reasons of the Events of every policy that has any.
async fn events_of_policies(world: &World) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let events = Api::<Event>::all(world.client.clone()).list(&ListParams::default()).await?;
    let mut of_policies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events.items {
        let Some(regarding) = event.regarding.filter(|object| object.kind.as_deref() == Some("EgressPolicy")) else {
            continue;
        };
        of_policies.entry(regarding.name.unwrap_or_default()).or_default().push(event.reason.unwrap_or_default());
    }
    Ok(of_policies)
}

/// Live names on each side. The best counts: other tests of this process take the machine for a second now and then;
/// dead names would delay all.
const LIVE: u64 = 3;

/// The shortest time from a policy's creation, each in a namespace of its own, to its NetworkPolicy.
async fn best_first_answer(world: &World, prefix: &str) -> Duration {
    let mut best = Duration::MAX;
    for n in 0..LIVE {
        let (namespace, name) = (world.namespace("live").await, format!("{prefix}{n}"));
        let host = format!("{name}.example");
        world.dns.set_host(&host, &ips(&["203.0.113.1"]), 600);
        let created = Instant::now();
        world.create_policy(&namespace, &name, hosts(&[&host])).await;
        world.allows(&namespace, &name, &["203.0.113.1"]).await;
        best = best.min(created.elapsed());
    }
    best
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ttl_of_zero_is_asked_for_once_per_shortest_refresh() {
    let world = World::with(Options::default().flag("--min-refresh-seconds", 1)).await;
    world.dns.set_host("zero.example", &ips(&["203.0.113.1"]), 0);
    let namespace = world.namespace("app").await;
    world.create_policy(&namespace, "web", hosts(&["zero.example"])).await;
    world.dns.wait_for_count("zero.example", RecordType::A, 5, PATIENCE).await.unwrap();
    let times = world.dns.times("zero.example", RecordType::A);
    for pair in times.windows(2) {
        let gap = pair[1] - pair[0];
        // A second between two questions as they leave; on a busy machine the first may arrive late and the second in time.
        assert!(gap >= Duration::from_millis(800), "asked again after {gap:?}");
    }
    let (asked, took) = (times.len() - 1, times[times.len() - 1] - times[0]);
    assert!(
        took >= Duration::from_millis(950) * u32::try_from(asked).unwrap(),
        "asked {asked} times more within {took:?}"
    );
}
