//! Answers that change, answers that do not, and a spec that changes.

use std::time::Duration;

use anyhow::ensure;
use egress_testbed::dns::{RecordType, Script};
use egress_testbed::eventually;
use egress_testbed::proxy::Verb;
use serde_json::{Value, json};

use super::rendering::dns_rule;
use crate::world::revisions::Revisions;
use crate::world::{Options, PATIENCE, World, hosts, ips};

/// What no single change takes on top of its bound, not even while other tests have the machine.
const CEILING: Duration = Duration::from_secs(10);

/// Changes the host's address three times, each right after an answer: the whole TTL lies ahead. None may take too long,
/// the quickest not longer than the bound: other tests of this process take the machine for a second now and then.
async fn follows_within(world: &World, ttl: u32, bound: Duration) {
    let host = format!("ttl-{ttl}.example");
    world.dns.set_host(&host, &ips(&["192.0.2.1"]), ttl);
    let namespace = world.namespace("app").await;
    world.create_policy(&namespace, "web", hosts(&[&host])).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    let (mut expected, mut best) = (vec!["192.0.2.1"], Duration::MAX);
    for address in ["192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        world.refreshes(&host, 1).await;
        // From the answer on: a change that this machine makes late must not look like one that was followed soon.
        let answered = world.dns.times(&host, RecordType::A).into_iter().next_back().expect("an answer");
        world.dns.set_host(&host, &ips(&[address]), ttl);
        expected.push(address);
        world.allows(&namespace, "web", &expected).await;
        let took = answered.elapsed();
        assert!(took <= bound + CEILING, "TTL {ttl} s: {address} was committed after {took:?}, bound {bound:?}");
        best = best.min(took);
    }
    assert!(best <= bound, "TTL {ttl} s: the quickest change was committed after {best:?}, bound {bound:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_changes_again_and_again_is_committed_within_ttl_or_floor_and_a_second() {
    // The floor, --min-refresh-seconds, is 1 here.
    let world = World::new().await;
    follows_within(&world, 0, Duration::from_secs(2)).await;
    follows_within(&world, 1, Duration::from_secs(2)).await;
    follows_within(&world, 3, Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_refreshes_of_unchanged_answers_in_rotated_order_write_nothing() {
    // A status that is written at each refresh shows: nothing holds it back for longer than a refresh.
    let options = Options { proxy: true, ..Options::default() };
    let world = World::with(options.flag("--status-interval-seconds", 1)).await;
    let rotations =
        ["1 2 3 4", "2 3 4 1", "3 4 1 2", "4 1 2 3"].map(|order| order.split(' ').collect::<Vec<_>>()).concat();
    let pool = |prefix: &str| {
        ips(&rotations
            .iter()
            .map(|last| format!("{prefix}{last}"))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>())
    };
    world.dns.set("a.example", RecordType::A, Script::round_robin(pool("192.0.2."), 4, 1));
    world.dns.set("a.example", RecordType::AAAA, Script::round_robin(pool("2001:db8::"), 4, 0));
    let namespace = world.namespace("app").await;
    let revisions = Revisions::record(&world, &namespace).await;
    world.create_policy(&namespace, "web", hosts(&["a.example"])).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    let told = async || {
        let count = world.status(&namespace, "web").await["allowedAddressCount"].clone();
        ensure!(count == json!(8), "{count} addresses");
        Ok(())
    };
    eventually(PATIENCE, told).await.expect("the status has all there is to tell");
    let before = world.versions(&namespace, "web").await;
    // Requests, too: a patch that changes nothing leaves a resourceVersion alone.
    let patches = || ["networkpolicies", "egresspolicies/status"].map(|it| world.proxy().count(Verb::Patch, it));
    let patched = patches();
    world.refreshes("a.example", 20).await;
    assert!(world.dns.count("a.example", RecordType::AAAA) >= 20, "both families are refreshed");
    assert_eq!(world.versions(&namespace, "web").await, before);
    assert_eq!(patches(), patched);
    assert_eq!(world.network_policy(&namespace, "web").await.metadata.generation, Some(1));
    assert_eq!(revisions.up_to_now().await.len(), 2, "the allow-policy and the default deny, each once");
}

fn rule(addresses: &[&str], port: u16) -> Value {
    let to: Vec<Value> =
        addresses.iter().map(|address| json!({"ipBlock": {"cidr": format!("{address}/32")}})).collect();
    json!({"to": to, "ports": [{"protocol": "TCP", "port": port}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_left_the_spec_is_gone_with_the_very_next_write() {
    let world = World::new().await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), 1);
    world.dns.set_host("b.example", &ips(&["192.0.2.2"]), 1);
    let namespace = world.namespace("app").await;
    let revisions = Revisions::record(&world, &namespace).await;
    let a = json!({"hostname": "a.example"});
    let b = json!({"hostname": "b.example"});
    let ip = json!({"ip": "198.51.100.1"});
    let everything = json!({"destinations": [a, b, ip], "namespaces": ["backup-tools"]});
    world.create_policy(&namespace, "web", everything).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    let backup =
        json!({"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "backup-tools"}}}]});
    let selector = json!({"matchLabels": {"app": "web"}});
    let b_elsewhere = json!({"hostname": "b.example", "ports": [{"port": 8443}]});
    // Each spec, and the selector and rules of the one write that it causes.
    let steps = [
        (json!({}), json!({}), vec![rule(&["192.0.2.1", "192.0.2.2", "198.51.100.1"], 443), backup.clone()]),
        (
            json!({"destinations": [b, ip], "namespaces": ["backup-tools"]}),
            json!({}),
            vec![rule(&["192.0.2.2", "198.51.100.1"], 443), backup.clone()],
        ),
        (
            json!({"destinations": [b], "namespaces": ["backup-tools"]}),
            json!({}),
            vec![rule(&["192.0.2.2"], 443), backup],
        ),
        (json!({"destinations": [b]}), json!({}), vec![rule(&["192.0.2.2"], 443)]),
        (json!({"podSelector": selector, "destinations": [b]}), selector.clone(), vec![rule(&["192.0.2.2"], 443)]),
        (
            json!({"podSelector": selector, "destinations": [b_elsewhere]}),
            selector.clone(),
            vec![rule(&["192.0.2.2"], 8443)],
        ),
        (json!({"podSelector": selector}), selector.clone(), vec![]),
    ];
    for (number, (spec, selector, rules)) in steps.iter().enumerate() {
        if number > 0 {
            assert_eq!(revisions.of("egress-web").len(), number, "no write without a cause");
            world.replace_spec(&namespace, "web", spec.clone()).await;
        }
        let egress = [vec![dns_rule()], rules.clone()].concat();
        let expected = json!({"podSelector": selector, "policyTypes": ["Egress"], "egress": egress});
        let stored = revisions.nth("egress-web", number).await;
        assert_eq!(json!(stored.spec.expect("a spec")), expected, "write {number}");
        assert_eq!(stored.metadata.generation, i64::try_from(number + 1).ok());
    }
    // The host that came back is looked up and allowed again.
    world.replace_spec(&namespace, "web", hosts(&["a.example"])).await;
    world.allows(&namespace, "web", &["192.0.2.1"]).await;
    let asked = world.dns.count("b.example", RecordType::A);
    world
        .dns
        .wait_for_count("a.example", RecordType::A, world.dns.count("a.example", RecordType::A) + 3, PATIENCE)
        .await
        .expect("asked");
    assert!(world.dns.count("b.example", RecordType::A) <= asked + 1, "a host that left is not looked up any more");
    revisions.up_to_now().await;
}
