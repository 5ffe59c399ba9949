//! Namespaces that are protected, that end, and that are closed for the first time.

use anyhow::ensure;
use egress_testbed::dns::{RecordType, Script};
use egress_testbed::eventually;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::world::revisions::Revisions;
use crate::world::{Options, PATIENCE, World, hosts, ips};

async fn events(world: &World, namespace: &str) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(world.client.clone(), namespace);
    api.list(&ListParams::default()).await.expect("Events").items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_in_a_protected_namespace_gets_a_condition_and_nothing_else() {
    let world = World::with(Options::default().flag("--protected-namespaces", "prot-*,other")).await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), 1);
    let (protected, tenant) = (world.namespace("prot").await, world.namespace("app").await);
    let revisions = Revisions::record(&world, &protected).await;
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "destinations": [{"hostname": "protected.example"}, {"ip": "8.8.8.8"}]});
    world.create_policy(&protected, "web", spec).await;
    let message = world.condition(&protected, "web", "Applied", "False", "ProtectedNamespace").await;
    assert_eq!(message, "the namespace is protected: nothing is written");
    world.condition(&protected, "web", "Ready", "False", "ProtectedNamespace").await;
    // A tenant that comes later is served, and through three refreshes nothing happens in the protected namespace.
    world.create_policy(&tenant, "web", hosts(&["a.example"])).await;
    world.allows(&tenant, "web", &["192.0.2.1"]).await;
    world.refreshes("a.example", 3).await;
    assert_eq!(revisions.up_to_now().await, []);
    assert_eq!(events(&world, &protected).await, []);
    assert_eq!(world.dns.count("protected.example", RecordType::A), 0, "its hosts are not looked up");
    assert_eq!(world.status(&protected, "web").await["allowedAddressCount"], json!(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_ends_under_load_is_survived_and_disappears() {
    let world = World::with(Options { controller_manager: true, ..Options::default() }).await;
    let pool = ips(&(1..=200)
        .map(|last| format!("198.51.100.{last}"))
        .collect::<Vec<_>>()
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>());
    let names: Vec<String> = (0..8).map(|number| format!("policy-{number}")).collect();
    let (ending, tenant) = (world.namespace("ending").await, world.namespace("app").await);
    for name in &names {
        let host = format!("{name}.example");
        world.dns.set(&host, RecordType::A, Script::round_robin(pool.clone(), 3, 0));
        world.dns.set(&host, RecordType::AAAA, Script::no_data(1));
        world.create_policy(&ending, name, hosts(&[&host])).await;
    }
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), 1);
    world.create_policy(&tenant, "web", hosts(&["a.example"])).await;
    world.condition(&tenant, "web", "Ready", "True", "Ready").await;
    let revisions = Revisions::record(&world, &ending).await;
    for name in &names {
        revisions.nth(&format!("egress-{name}"), 1).await;
    }

    let api: Api<Namespace> = Api::all(world.client.clone());
    api.delete(&ending, &DeleteParams::default()).await.expect("the namespace ends");
    let gone = async || {
        let (code, text) = world.controller().get("/readyz").await?;
        assert_eq!(code, 200, "{text}");
        let namespace = api.get_opt(&ending).await?;
        ensure!(namespace.is_none(), "{namespace:?}");
        Ok(())
    };
    eventually(PATIENCE, gone).await.expect("the namespace disappears");
    let stopped = async || {
        let actors = world.controller().metric("egress_policy_actors", "").await;
        ensure!(actors == 1.0, "{actors} actors");
        Ok(())
    };
    eventually(PATIENCE, stopped).await.expect("only the tenant's policy is served");
    assert_eq!(world.controller().get("/livez").await.expect("a page").0, 200);
    assert_eq!(world.controller().metric("egress_policy_restarts_total", "").await, 0.0);
    let errors: Vec<Value> = world.controller().log().into_iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(errors, Vec::<Value>::new());

    world.dns.set_host("a.example", &ips(&["192.0.2.2"]), 1);
    world.allows(&tenant, "web", &["192.0.2.1", "192.0.2.2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_with_a_selector_that_closes_a_namespace_for_the_first_time_gets_an_event() {
    let world = World::new().await;
    let (partly, wholly) = (world.namespace("partly").await, world.namespace("wholly").await);
    let selected = json!({"podSelector": {"matchLabels": {"app": "web"}}, "destinations": [{"ip": "192.0.2.1"}]});
    // One for all pods says itself that the namespace is closed; the second policy finds it closed.
    world.create_policy(&wholly, "all", json!({"destinations": [{"ip": "192.0.2.1"}]})).await;
    world.is_there(&wholly, "default-deny-egress").await;
    world.create_policy(&wholly, "web", selected.clone()).await;
    world.condition(&wholly, "web", "Ready", "True", "Ready").await;

    let policy = world.create_policy(&partly, "web", selected.clone()).await;
    let event = async || {
        let events = events(&world, &partly).await;
        ensure!(events.len() == 1, "{events:?}");
        Ok(events[0].clone())
    };
    let event = eventually(PATIENCE, event).await.expect("an Event");
    assert_eq!(event.reason.as_deref(), Some("DefaultDenyCreated"));
    assert_eq!(event.type_.as_deref(), Some("Normal"));
    assert_eq!(event.reporting_controller.as_deref(), Some("egress-controller"));
    let note = format!(
        "default-deny-egress now closes the egress of every pod of namespace {partly}; this policy opens it for the pods it selects only"
    );
    assert_eq!(event.note, Some(note));
    let regarding = json!({
        "apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy",
        "namespace": partly, "name": "web", "uid": policy.metadata.uid
    });
    assert_eq!(json!(event.regarding), regarding);
    world.is_there(&partly, "default-deny-egress").await;

    // A further one in the closed namespace, whose own Event would come behind the status that is waited for.
    world.create_policy(&partly, "second", selected).await;
    world.condition(&partly, "second", "Ready", "True", "Ready").await;
    assert_eq!(events(&world, &partly).await.len(), 1);
    assert_eq!(events(&world, &wholly).await, []);
}
