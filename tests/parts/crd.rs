//! The resource definition on a real API server: what it takes, what it refuses, and objects older than its rules.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_controller::cli::crd;
use egress_domain::api::EgressPolicy;
use egress_domain::policy::ValidatedPolicy;
use egress_domain::settings::Settings;
use egress_testbed::{ControlPlane, eventually};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// A changed definition is served within a second; a loaded machine is given a multiple.
const SOON: Duration = Duration::from_secs(30);

/// The control plane that tests share, with the definition.
pub async fn served() -> &'static ControlPlane {
    static SERVED: OnceCell<&'static ControlPlane> = OnceCell::const_new();
    let started = SERVED.get_or_init(|| async {
        let control_plane = ControlPlane::shared().await;
        control_plane.apply_crd(&crd::yaml().unwrap()).await.unwrap();
        control_plane
    });
    started.await
}

fn resource() -> ApiResource {
    ApiResource::erase::<EgressPolicy>(&())
}

fn policy(name: &str, spec: Value) -> DynamicObject {
    let object = json!({"apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy",
        "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

async fn create(client: Client, object: &DynamicObject) -> kube::Result<DynamicObject> {
    let strict = PostParams::default();
    Api::namespaced_with(client, "default", &resource()).create(&strict, object).await
}

async fn attempt(spec: Value) -> kube::Result<DynamicObject> {
    let name = format!("test-{:016x}", rand::random::<u64>());
    create(served().await.client(), &policy(&name, spec)).await
}

#[track_caller]
fn refusal(outcome: kube::Result<DynamicObject>, of: &str) -> String {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 422 => status.message.clone(),
        other => panic!("{of} should be refused: {other:?}"),
    }
}

/// The API server takes this spec.
async fn accepts(spec: Value) {
    attempt(spec.clone()).await.unwrap_or_else(|error| panic!("{spec} should be accepted: {error}"));
}

/// The API server refuses this spec with a message that holds `part`.
async fn rejects(spec: Value, part: &str) {
    let message = refusal(attempt(spec.clone()).await, &spec.to_string());
    assert!(message.contains(part), "{spec}: {message}");
}

/// A spec of one destination.
fn one(destination: Value) -> Value {
    json!({"destinations": [destination]})
}

#[tokio::test]
async fn the_definition_is_taken_without_a_warning_and_served() -> Result<()> {
    let control_plane = served().await;
    let generated: Value = serde_saphyr::from_str(&crd::yaml()?)?;
    let dry_run = PatchParams { dry_run: true, ..PatchParams::apply("test").force() };
    let request = kube::core::Request::new("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").patch(
        "egresspolicies.platform.example.com",
        &dry_run,
        &Patch::Apply(&generated),
    )?;
    let answer = control_plane.client().send(request.map(Body::from)).await?;
    assert!(answer.status().is_success(), "{answer:?}");
    assert_eq!(answer.headers().get("warning"), None);

    let definitions = Api::<CustomResourceDefinition>::all(control_plane.client());
    let definition = definitions.get("egresspolicies.platform.example.com").await?;
    let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
    let is = |kind: &str| conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True");
    // NonStructuralSchema would be there, and true.
    assert!(is("Established") && is("NamesAccepted") && !is("NonStructuralSchema"), "{conditions:?}");
    Ok(())
}

#[tokio::test]
async fn the_resource_of_the_python_operator_is_accepted() -> Result<()> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/seed.yaml"))?;
    let value: Value = serde_saphyr::from_str(&text)?;
    accepts(value["spec"].clone()).await;
    Ok(())
}

#[tokio::test]
async fn every_example_is_accepted() -> Result<()> {
    for file in ["addresses", "ports", "selectors"] {
        let path = format!("{}/examples/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        for document in serde_saphyr::from_multiple::<Value>(&std::fs::read_to_string(path)?)? {
            accepts(document["spec"].clone()).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn only_mode_and_pod_selector_are_stored_by_default() -> Result<()> {
    let stored = attempt(one(json!({"hostname": "a.example"}))).await?;
    let expected = json!({"mode": "Enforce", "podSelector": {}, "destinations": [{"hostname": "a.example"}]});
    assert_eq!(stored.data["spec"], expected);
    Ok(())
}

#[tokio::test]
async fn a_destination_is_exactly_one_of_its_kinds() {
    let rule = "exactly one of hostname, ip, cidr and namespace";
    rejects(one(json!({})), rule).await;
    rejects(one(json!({"ports": [{"port": 443}]})), rule).await;
    rejects(one(json!({"hostname": "a.example", "ip": "192.0.2.1"})), rule).await;
    rejects(one(json!({"cidr": "192.0.2.0/24", "namespace": {"name": "a"}})), rule).await;
}

#[tokio::test]
async fn hostnames_have_bounds_and_no_wildcard() {
    accepts(one(json!({"hostname": "a".repeat(254)}))).await;
    accepts(one(json!({"hostname": "_dmarc.Bücher.example."}))).await;
    rejects(one(json!({"hostname": "a".repeat(255)})), "Too long").await;
    rejects(one(json!({"hostname": ""})), "at least 1 chars").await;
    rejects(one(json!({"hostname": "*.example.com"})), "wildcards cannot be resolved").await;
}

#[tokio::test]
async fn addresses_and_blocks_are_such() {
    accepts(one(json!({"ip": "2001:db8::1"}))).await;
    accepts(one(json!({"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}))).await;
    rejects(one(json!({"ip": "300.1.1.1"})), "ip is an IPv4 or IPv6 address").await;
    rejects(one(json!({"ip": "::ffff:192.0.2.1"})), "ip is an IPv4 or IPv6 address").await;
    rejects(one(json!({"ip": "192.0.2.0/24"})), "ip is an IPv4 or IPv6 address").await;
    rejects(one(json!({"cidr": "192.0.2.1"})), "cidr is a block").await;
    rejects(one(json!({"cidr": "192.0.2.0/33"})), "cidr is a block").await;
}

#[tokio::test]
async fn an_except_lies_strictly_inside_its_cidr() {
    let rule = "strictly inside cidr";
    let of = |except: &str| one(json!({"cidr": "192.0.2.0/24", "except": [except]}));
    accepts(of("192.0.2.128/25")).await;
    rejects(of("192.0.2.0/24"), rule).await;
    rejects(of("192.0.0.0/16"), rule).await;
    rejects(of("198.51.100.0/25"), rule).await;
    rejects(of("2001:db8::/32"), rule).await;
    rejects(of("nonsense"), rule).await;
    rejects(one(json!({"ip": "192.0.2.1", "except": ["192.0.2.1/32"]})), "except needs a cidr").await;
    let holes: Vec<String> = (0..17).map(|n| format!("192.0.2.{n}/32")).collect();
    accepts(one(json!({"cidr": "192.0.2.0/24", "except": holes[..16]}))).await;
    rejects(one(json!({"cidr": "192.0.2.0/24", "except": holes})), "at most 16 items").await;
}

#[tokio::test]
async fn ports_are_numbers_in_their_range() {
    let of = |ports: Value| one(json!({"ip": "192.0.2.1", "ports": ports}));
    accepts(of(json!([{"port": 1}, {"port": 65535, "protocol": "SCTP"}, {"port": 80, "endPort": 80}]))).await;
    rejects(of(json!([])), "at least 1 items").await;
    rejects(of(json!([{"port": 0}])), "greater than or equal to 1").await;
    rejects(of(json!([{"port": 65536}])), "less than or equal to 65535").await;
    rejects(of(json!([{"port": 443, "endPort": 65536}])), "less than or equal to 65535").await;
    rejects(of(json!([{"port": "https"}])), "must be of type integer").await;
    rejects(of(json!([{"protocol": "TCP"}])), "port: Required value").await;
    rejects(of(json!([{"port": 443, "protocol": "ICMP"}])), "supported values: \"TCP\", \"UDP\", \"SCTP\"").await;
    rejects(of(json!([{"port": 443, "endPort": 442}])), "endPort is at least port").await;
    let many: Vec<Value> = (1..=17).map(|port| json!({"port": port})).collect();
    accepts(of(json!(many[..16]))).await;
    rejects(of(json!(many)), "at most 16 items").await;
}

#[tokio::test]
async fn times_lists_and_modes_have_their_bounds() {
    accepts(json!({"refreshIntervalSeconds": 86400, "retentionSeconds": 2592000, "mode": "DryRun"})).await;
    accepts(json!({"refreshIntervalSeconds": 1, "retentionSeconds": 0})).await;
    rejects(json!({"refreshIntervalSeconds": 0}), "greater than or equal to 1").await;
    rejects(json!({"refreshIntervalSeconds": 86401}), "less than or equal to 86400").await;
    rejects(json!({"retentionSeconds": 2592001}), "less than or equal to 2592000").await;
    rejects(json!({"mode": "Off"}), "supported values: \"Enforce\", \"DryRun\"").await;
    rejects(json!({"namespaces": ["a".repeat(64)]}), "Too long").await;
    let destinations: Vec<Value> = (0..257).map(|n| json!({"hostname": format!("h{n}.example")})).collect();
    accepts(json!({"destinations": destinations[..256]})).await;
    rejects(json!({"destinations": destinations}), "at most 256 items").await;
    let namespaces: Vec<String> = (0..257).map(|n| format!("n{n}")).collect();
    accepts(json!({"namespaces": namespaces[..256]})).await;
    rejects(json!({"namespaces": namespaces}), "at most 256 items").await;
}

#[tokio::test]
async fn the_largest_object_that_the_bounds_allow_is_accepted() {
    let ports: Vec<Value> = (1..=16).map(|port| json!({"port": port, "endPort": 65535, "protocol": "SCTP"})).collect();
    let holes: Vec<String> = (0..16).map(|n| format!("2001:db8:ffff:ffff:ffff:ffff:ffff:fff{n:x}/128")).collect();
    let destination = json!({"cidr": "2001:db8:ffff:ffff:ffff:ffff:ffff:fff0/124", "except": holes, "ports": ports});
    accepts(json!({"destinations": vec![destination; 256]})).await;
}

#[tokio::test]
async fn a_name_leaves_room_for_the_network_policy() -> Result<()> {
    let client = served().await.client();
    let spec = json!({"namespaces": ["a"]});
    create(client.clone(), &policy(&"a".repeat(246), spec.clone())).await?;
    let message = refusal(create(client, &policy(&"a".repeat(247), spec)).await, "247 characters");
    assert!(message.contains("egress-{name} has at most 253 characters"), "{message}");
    Ok(())
}

/// The definition without any rule or bound: what stood before it.
fn loosened() -> Result<String> {
    let mut definition: Value = serde_saphyr::from_str(&crd::yaml()?)?;
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    *schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    Ok(serde_json::to_string(&definition)?)
}

/// What the Python operator's cluster may hold: each breaks a rule of today.
fn old_specs() -> Vec<(String, Value)> {
    let named = [
        ("two-kinds", one(json!({"hostname": "a.example", "ip": "192.0.2.1"}))),
        ("no-kind", one(json!({}))),
        ("bad-ip", json!({"destinations": [{"ip": "300.1.1.1"}, {"ip": "192.0.2.1"}]})),
        ("wildcard", one(json!({"hostname": "*.example.com"}))),
        ("no-ports", one(json!({"ip": "192.0.2.1", "ports": []}))),
        ("zero-refresh", json!({"refreshIntervalSeconds": 0, "namespaces": ["a"]})),
        ("duplicates", json!({"namespaces": ["a", "a"], "destinations": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.1"}]})),
        ("nulls", json!({"destinations": null, "namespaces": null})),
    ];
    // The rule at the root, which every update of the object concerns.
    let too_long = ("a".repeat(247), json!({"namespaces": ["a"]}));
    named.map(|(name, spec)| (name.to_owned(), spec)).into_iter().chain([too_long]).collect()
}

#[tokio::test]
async fn objects_from_before_the_rules_still_take_a_status_and_decode() -> Result<()> {
    // A control plane of its own: it changes the definition under everybody's feet.
    let control_plane = ControlPlane::builder().start().await?;
    control_plane.apply_crd(&loosened()?).await?;
    let client = control_plane.client();
    let untyped = Api::<DynamicObject>::namespaced_with(client.clone(), "default", &resource());
    for (name, spec) in old_specs() {
        create(client.clone(), &policy(&name, spec)).await.with_context(|| format!("storing {name}"))?;
    }
    create(client.clone(), &policy("undecodable", one(json!({"ip": 8})))).await?;
    control_plane.apply_crd(&crd::yaml()?).await?;
    eventually(SOON, || async {
        let outcome = create(client.clone(), &policy("probe", one(json!({})))).await;
        ensure!(outcome.is_err(), "the rules are not in force yet");
        Ok(())
    })
    .await?;

    for (name, _) in old_specs() {
        let status = json!({"apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy",
            "status": {"observedGeneration": 1, "conditions": [{"type": "Accepted", "status": "False", "reason": "PartlyInvalid",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}]}});
        let apply = PatchParams::apply("egress-controller").force();
        let applied = untyped.patch_status(&name, &apply, &Patch::Apply(&status)).await;
        let applied = applied.with_context(|| format!("status of {name}"))?;
        assert_eq!(applied.data["status"]["observedGeneration"], 1, "{name}");
    }

    let typed = Api::<DeserializeGuard<EgressPolicy>>::namespaced(client, "default");
    let listed = typed.list(&ListParams::default()).await?;
    let mut undecoded = Vec::new();
    for object in listed {
        match object.0 {
            Ok(object) => drop(ValidatedPolicy::parse(&object, &Settings::default())),
            Err(error) => undecoded.extend(error.metadata.name),
        }
    }
    assert_eq!(undecoded, ["undecodable"]);
    Ok(())
}
