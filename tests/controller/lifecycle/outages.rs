//! DNS that fails removes nothing, and opens nothing.

use anyhow::ensure;
use egress_testbed::dns::{RecordType, Script};
use egress_testbed::eventually;
use serde_json::json;

use super::rendering::dns_rule;
use crate::world::revisions::Revisions;
use crate::world::{Options, PATIENCE, World, hosts, ips};

const EVERY_ADDRESS: [&str; 4] = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"];

/// A policy that forgets what a successful answer lacks as early as it may, and that is ready.
async fn policy_of_two_families(world: &World) -> String {
    world.dns.set_host("a.example", &ips(&EVERY_ADDRESS), 1);
    let namespace = world.namespace("app").await;
    let spec = json!({"retentionSeconds": 0, "destinations": [{"hostname": "a.example"}]});
    world.create_policy(&namespace, "web", spec).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    world.allows(&namespace, "web", &EVERY_ADDRESS).await;
    namespace
}

fn quick_status() -> Options {
    Options::default().flag("--status-interval-seconds", 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servfail_refused_and_silence_remove_nothing_and_are_told() {
    let world = World::with(quick_status()).await;
    let namespace = policy_of_two_families(&world).await;
    let before = world.resource_version(&namespace, "web").await;
    for (script, reason) in [(Script::ServFail, "SERVFAIL"), (Script::Refused, "REFUSED"), (Script::Silence, "timeout")]
    {
        world.dns.set_all(Some(script));
        let message = world.condition(&namespace, "web", "Resolved", "False", "NoneResolved").await;
        assert_eq!(message, format!("a.example ({reason})"));
        world.dns.wait_for_total(world.dns.total() + 4, PATIENCE).await.expect("it is asked on");
        assert_eq!(world.resource_version(&namespace, "web").await, before, "{reason}");
        world.dns.set_all(None);
        world.condition(&namespace, "web", "Resolved", "True", "AllResolved").await;
    }
    assert_eq!(world.resource_version(&namespace, "web").await, before);
    world.allows(&namespace, "web", &EVERY_ADDRESS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_family_keeps_its_addresses_while_the_other_is_followed() {
    let world = World::with(quick_status()).await;
    let namespace = policy_of_two_families(&world).await;
    let before = world.resource_version(&namespace, "web").await;
    world.dns.set("a.example", RecordType::AAAA, Script::ServFail);
    let told = async || {
        let host = world.status(&namespace, "web").await["hosts"][0].clone();
        ensure!(host["reason"] == "SERVFAIL" && host["addressCount"] == 4, "{host}");
        Ok(())
    };
    eventually(PATIENCE, told).await.expect("the lost family is told");
    world.refreshes("a.example", 5).await;
    assert_eq!(world.resource_version(&namespace, "web").await, before);
    world.condition(&namespace, "web", "Resolved", "True", "AllResolved").await;

    let more = ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    world.dns.set("a.example", RecordType::A, Script::answer(more, 1));
    let every = [&EVERY_ADDRESS[..], &["192.0.2.3"]].concat();
    world.allows(&namespace, "web", &every).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_controller_that_starts_again_without_dns_removes_and_writes_nothing() {
    let mut world = World::with(quick_status()).await;
    let namespace = policy_of_two_families(&world).await;
    let before = world.resource_version(&namespace, "web").await;
    world.kill_controller();
    world.dns.set_all(Some(Script::Silence));
    world.start_controller().await;
    let message = world.condition(&namespace, "web", "Resolved", "False", "NoneResolved").await;
    assert_eq!(message, "a.example (timeout)");
    world.dns.wait_for_total(world.dns.total() + 4, PATIENCE).await.expect("it is asked on");
    assert_eq!(world.resource_version(&namespace, "web").await, before);
    world.dns.set_all(None);
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;

    // Now the port is closed, which no counter of the DNS server shows: the controller counts its lookups.
    world.kill_controller();
    world.dns.stop();
    world.start_controller().await;
    world.condition(&namespace, "web", "Resolved", "False", "NoneResolved").await;
    let failed = async || {
        let lookups = world.controller().metric("egress_resolver_lookups_total", "").await;
        ensure!(lookups >= 4.0, "{lookups} lookups");
        Ok(())
    };
    eventually(PATIENCE, failed).await.expect("it asks on");
    assert_eq!(world.resource_version(&namespace, "web").await, before);
    assert_eq!(world.status(&namespace, "web").await["allowedAddressCount"], json!(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_host_fails_at_first_sight_nothing_opens_and_the_condition_says_why() {
    let world = World::with(quick_status()).await;
    world.dns.set("servfail.example", RecordType::A, Script::ServFail);
    world.dns.set("servfail.example", RecordType::AAAA, Script::ServFail);
    world.dns.set("refused.example", RecordType::A, Script::Refused);
    world.dns.set("refused.example", RecordType::AAAA, Script::Refused);
    world.dns.set_host("nodata.example", &[], 1);
    let namespace = world.namespace("app").await;
    let revisions = Revisions::record(&world, &namespace).await;
    let names = ["servfail.example", "refused.example", "nodata.example", "nowhere.example"];
    world.create_policy(&namespace, "web", hosts(&names)).await;
    let message = world.condition(&namespace, "web", "Resolved", "False", "NoneResolved").await;
    let why =
        "nodata.example (NODATA), nowhere.example (NXDOMAIN), refused.example (REFUSED), servfail.example (SERVFAIL)";
    assert_eq!(message, why);
    world.condition(&namespace, "web", "Ready", "False", "NoneResolved").await;
    world.condition(&namespace, "web", "Applied", "True", "Applied").await;
    let closed = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [dns_rule()]});
    assert_eq!(world.spec(&namespace, "web").await, closed);
    let deny = world.is_there(&namespace, "default-deny-egress").await;
    assert_eq!(json!(deny.spec.expect("a spec")), json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    world.refreshes("nodata.example", 3).await;
    assert_eq!(revisions.up_to_now().await.len(), 2, "the allow-policy and the default deny, each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_dns_server_at_first_sight_closes_the_namespace_at_the_deadline_all_the_same() {
    let world = World::with(quick_status()).await;
    world.dns.set_all(Some(Script::Silence));
    let namespace = world.namespace("app").await;
    let revisions = Revisions::record(&world, &namespace).await;
    world.create_policy(&namespace, "web", hosts(&["a.example", "b.example"])).await;
    let message = world.condition(&namespace, "web", "Resolved", "False", "NoneResolved").await;
    assert_eq!(message, "a.example (timeout), b.example (timeout)");
    let closed = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [dns_rule()]});
    assert_eq!(json!(revisions.nth("egress-web", 0).await.spec.expect("a spec")), closed);
    world.is_there(&namespace, "default-deny-egress").await;

    // First: without an answer of its own it would not exist for the time of an NXDOMAIN.
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), 1);
    world.dns.set_all(None);
    world.allows(&namespace, "web", &["192.0.2.1"]).await;
    assert_eq!(revisions.up_to_now().await.len(), 3, "closed, denied, opened");
}
