//! The resource definition changes under the running controller; objects older than the schema. On a real API server.

use crate::world::{Options, PATIENCE, World, hosts, ips};
use egress_domain::api::{EgressPolicy, custom_resource_definition};
use egress_testbed::eventually;
use egress_testbed::proxy::{Rule, Verb};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::json;

const NAME: &str = "egresspolicies.platform.example.com";

fn untyped(world: &World, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(world.client.clone(), namespace, &ApiResource::erase::<EgressPolicy>(&()))
}

async fn loosen(world: &World) {
    let mut loose = serde_json::to_value(custom_resource_definition()).unwrap();
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    world.control_plane.apply_crd(&loose.to_string()).await.unwrap();
}

async fn tighten(world: &World) {
    world.control_plane.apply_crd(&serde_json::to_string(&custom_resource_definition()).unwrap()).await.unwrap();
}

async fn works(world: &World, namespace: &str, name: &str) {
    world.create_policy(namespace, name, hosts(&["a.example"])).await;
    world.allows(namespace, name, &["192.0.2.1"]).await;
    world.condition(namespace, name, "Ready", "True", "Ready").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undecodable_policy_from_before_the_schema_hurts_no_other_also_on_relist() {
    let options = Options { proxy: true, without_controller: true, ..Options::default() };
    let mut world = World::with(options).await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), 60);
    let namespace = world.namespace("app").await;
    loosen(&world).await;
    for (name, spec) in
        [("old", json!({"refreshIntervalSeconds": "soon"})), ("older", json!({"destinations": [{"ip": 8}]}))]
    {
        let object = json!({"apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy", "metadata": {"name": name}, "spec": spec});
        let object = serde_json::from_value(object).unwrap();
        let create = async || Ok(untyped(&world, &namespace).create(&PostParams::default(), &object).await?);
        eventually(PATIENCE, create).await.expect("anything is taken once the loose schema is in force");
    }
    tighten(&world).await;
    world.start_controller().await;
    works(&world, &namespace, "first").await;

    // A policy that works becomes undecodable: what it said last stands.
    loosen(&world).await;
    let patch = Patch::Merge(json!({"spec": {"refreshIntervalSeconds": "soon"}}));
    let break_it = async || Ok(untyped(&world, &namespace).patch("first", &PatchParams::default(), &patch).await?);
    eventually(PATIENCE, break_it).await.expect("anything is taken once the loose schema is in force");
    tighten(&world).await;
    let kept = world.network_policy(&namespace, "first").await;

    let listed = world.proxy().count(Verb::List, "egresspolicies");
    let rule = world.proxy().inject(Rule::gone_event(0).resource("egresspolicies").times(1));
    world.proxy().cut_watches("egresspolicies");
    world.proxy().wait_for_hits(rule, 1, PATIENCE).await.expect("the watch is opened again");
    world.proxy().wait_for(Verb::List, "egresspolicies", listed + 1, PATIENCE).await.expect("and the list read anew");
    works(&world, &namespace, "second").await;
    world.replace_spec(&namespace, "second", json!({"destinations": [{"ip": "8.8.8.8"}]})).await;
    world.allows(&namespace, "second", &["8.8.8.8"]).await;
    assert_eq!(world.network_policy(&namespace, "first").await, kept);
    for name in ["egress-old", "egress-older"] {
        assert!(world.network_policies(&namespace).get_opt(name).await.unwrap().is_none());
    }

    // Put right, it is a policy like any other.
    let spec = json!([{"op": "replace", "path": "/spec", "value": {"destinations": [{"ip": "8.8.4.4"}]}}]);
    let patch = Patch::Json::<()>(serde_json::from_value(spec).unwrap());
    for name in ["old", "first"] {
        untyped(&world, &namespace).patch(name, &PatchParams::default(), &patch).await.unwrap();
        world.allows(&namespace, name, &["8.8.4.4"]).await;
    }
    world.delete_policy(&namespace, "first").await;
    world.is_gone(&namespace, "egress-first").await;
    assert!(world.controller().metric("egress_policy_restarts_total", "").await < 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_definition_deleted_and_applied_anew_is_survived_without_a_restart() {
    let world = World::new().await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), 60);
    let namespace = world.namespace("app").await;
    works(&world, &namespace, "web").await;
    let process = world.controller().id();

    let definitions = Api::<CustomResourceDefinition>::all(world.client.clone());
    definitions.delete(NAME, &DeleteParams::default()).await.unwrap();
    let gone = async || {
        anyhow::ensure!(definitions.get_opt(NAME).await?.is_none(), "it still exists");
        Ok(())
    };
    eventually(PATIENCE, gone).await.expect("the definition goes, and every policy with it");
    world.is_gone(&namespace, "egress-web").await;
    world.is_there(&namespace, "default-deny-egress").await;

    tighten(&world).await;
    works(&world, &namespace, "web").await;
    works(&world, &namespace, "other").await;
    world.delete_policy(&namespace, "other").await;
    world.is_gone(&namespace, "egress-other").await;
    world.allows(&namespace, "web", &["192.0.2.1"]).await;
    assert_eq!(world.controller().id(), process);
    world.controller().ready().await;
}
