//! A policy's ordinary life on a real API server: created, kept true to DNS, changed, deleted.

mod dry_run;
mod following;
mod guard;
mod namespaces;
mod outages;
mod rendering;
mod telling;

use crate::world::{World, hosts, ips};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_operators_policy_unchanged_gives_the_right_two_networkpolicies_and_follows_dns() {
    let world = World::new().await;
    world.dns.set_host("api.github.com", &ips(&["192.0.2.1", "192.0.2.2"]), 2);
    world.dns.set_host("us1.datadoghq.com", &ips(&["192.0.2.9", "2001:db8::9"]), 60);
    let namespace = world.namespace("app").await;
    let spec = json!({
        "refreshIntervalSeconds": 60,
        "destinations": [{"hostname": "api.github.com"}, {"hostname": "us1.datadoghq.com"}, {"ip": "8.8.8.8"}],
        "namespaces": ["backup-tools", "shared-services"]
    });
    world.create_policy(&namespace, "allow-external-services", spec).await;
    let all = ["192.0.2.1", "192.0.2.2", "192.0.2.9", "2001:db8::9", "8.8.8.8"];
    world.allows(&namespace, "allow-external-services", &all).await;
    let deny = world.is_there(&namespace, "default-deny-egress").await.spec.expect("a spec");
    assert_eq!(serde_json::to_value(&deny).unwrap(), json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    world.condition(&namespace, "allow-external-services", "Ready", "True", "Ready").await;

    world.dns.set_host("api.github.com", &ips(&["192.0.2.3"]), 2);
    let all = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.9", "2001:db8::9", "8.8.8.8"];
    // How soon is tried in `following`.
    world.allows(&namespace, "allow-external-services", &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_policy_takes_its_networkpolicy_along_and_leaves_the_namespace_closed() {
    let world = World::new().await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), 60);
    let namespace = world.namespace("app").await;
    world.create_policy(&namespace, "web", hosts(&["a.example"])).await;
    world.allows(&namespace, "web", &["192.0.2.1"]).await;
    world.is_there(&namespace, "default-deny-egress").await;
    world.delete_policy(&namespace, "web").await;
    world.is_gone(&namespace, "egress-web").await;
    world.is_there(&namespace, "default-deny-egress").await;
}
