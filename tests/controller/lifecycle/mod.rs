//! A policy's ordinary life on a real API server: created, kept true to DNS, changed, deleted.

mod dry_run;
mod following;
mod guard;
mod namespaces;
mod outages;
mod rendering;
mod telling;

use crate::world::{World, hosts, ips};
use axum::http::Request;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

/// The Python operator's own example, and its names.
const SEED: &str = include_str!("../../../examples/seed.yaml");
const SEED_NAMESPACE: &str = "app-namespace";
const SEED_NAME: &str = "allow-external-services";

/// Sends the example as the file has it.
async fn create_seed(world: &World) {
    let namespace = json!({"metadata": {"name": SEED_NAMESPACE}});
    let namespace: Namespace = serde_json::from_value(namespace).expect("a Namespace");
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.expect("the namespace is stored");
    let place = format!("/apis/platform.example.com/v1alpha1/namespaces/{SEED_NAMESPACE}/egresspolicies");
    let request = Request::post(place).header("content-type", "application/yaml").body(SEED.into());
    let stored: Value = world.client.request(request.expect("a request")).await.expect("the example is accepted");
    assert_eq!(stored["metadata"]["name"], SEED_NAME);
}

/// What its NetworkPolicy is while its hosts have these addresses, in canonical order.
fn seed_allows(addresses: &[&str]) -> Value {
    let blocks: Vec<Value> = addresses.iter().map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect();
    let namespace = |name: &str| json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}});
    json!({
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [
            rendering::dns_rule(),
            {"to": blocks, "ports": [{"protocol": "TCP", "port": 443}]},
            {"to": [namespace("backup-tools"), namespace("shared-services")]}
        ]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_operators_policy_unchanged_gives_the_right_two_networkpolicies_and_follows_dns() {
    let world = World::new().await;
    world.dns.set_host("api.github.com", &ips(&["192.0.2.1", "192.0.2.2"]), 2);
    world.dns.set_host("us1.datadoghq.com", &ips(&["192.0.2.9", "2001:db8::9"]), 60);
    create_seed(&world).await;
    world.condition(SEED_NAMESPACE, SEED_NAME, "Ready", "True", "Ready").await;
    let all = ["8.8.8.8/32", "192.0.2.1/32", "192.0.2.2/32", "192.0.2.9/32", "2001:db8::9/128"];
    assert_eq!(world.spec(SEED_NAMESPACE, SEED_NAME).await, seed_allows(&all));
    let deny = world.is_there(SEED_NAMESPACE, "default-deny-egress").await.spec.expect("a spec");
    assert_eq!(json!(deny), json!({"podSelector": {}, "policyTypes": ["Egress"]}));

    world.dns.set_host("api.github.com", &ips(&["192.0.2.3"]), 2);
    // How soon is tried in `following`.
    let all = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.9", "2001:db8::9", "8.8.8.8"];
    world.allows(SEED_NAMESPACE, SEED_NAME, &all).await;
    let all = ["8.8.8.8/32", "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "192.0.2.9/32", "2001:db8::9/128"];
    assert_eq!(world.spec(SEED_NAMESPACE, SEED_NAME).await, seed_allows(&all));
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
