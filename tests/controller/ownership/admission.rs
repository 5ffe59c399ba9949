//! The API server's own admission, and clients that insist, against our writes; on a real API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::world::{LASTING_TTL, Options, PATIENCE, World, hosts, ips};
use egress_testbed::eventually;
use egress_testbed::proxy::Verb;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};

const ADMISSION: &str = "admissionregistration.k8s.io";
/// So long a fight is watched in real time; in virtual time src/domain/machine/tests/drift.rs sees more.
const WATCHED: Duration = Duration::from_secs(20);
/// Waits between the writes of a fight.
const BACK_OFF: [u64; 4] = [1, 2, 4, 8];
/// The first write may reach the proxy so much later than it was decided on; the last one then follows it sooner.
const LATE: Duration = Duration::from_secs(1);

fn api(world: &World, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(ADMISSION, "v1", kind));
    Api::all_with(world.client.clone(), &resource)
}

/// Creates an admission policy of this kind for NetworkPolicies named `egress-…`, and its binding.
async fn admit(world: &World, kind: &str, spec: Value, binding: Value) {
    let mut spec = spec;
    spec["failurePolicy"] = json!("Fail");
    spec["matchConstraints"] = json!({"resourceRules": [{"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"], "resources": ["networkpolicies"]}]});
    spec["matchConditions"] = json!([{"name": "ours", "expression": "object.metadata.name.startsWith('egress-')"}]);
    let mut bound = binding;
    bound["policyName"] = json!("test");
    for (kind, spec) in [(kind.to_owned(), spec), (format!("{kind}Binding"), bound)] {
        let object =
            json!({"apiVersion": format!("{ADMISSION}/v1"), "kind": kind, "metadata": {"name": "test"}, "spec": spec});
        let object = serde_json::from_value(object).unwrap();
        api(world, &kind)
            .create(&PostParams::default(), &object)
            .await
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

/// What the API server would store of a NetworkPolicy with this address.
async fn dry_run(world: &World, address: &str) -> kube::Result<NetworkPolicy> {
    let object = json!({"metadata": {"name": "egress-probe"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
        {"to": [{"ipBlock": {"cidr": address}}]}]}});
    let object = serde_json::from_value(object).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    world.network_policies("default").create(&params, &object).await
}

const FORBIDDEN: &str = "203.0.113.66/32";

/// A ValidatingAdmissionPolicy that refuses [`FORBIDDEN`]; returns when it is in force.
async fn forbid(world: &World) {
    let expression = format!(
        "!has(object.spec.egress) || !object.spec.egress.exists(r, has(r.to) && r.to.exists(p, has(p.ipBlock) && p.ipBlock.cidr == '{FORBIDDEN}'))"
    );
    let spec = json!({"validations": [{"expression": expression, "message": "that address is forbidden here"}]});
    admit(world, "ValidatingAdmissionPolicy", spec, json!({"validationActions": ["Deny"]})).await;
    let refused = async || {
        anyhow::ensure!(dry_run(world, FORBIDDEN).await.is_err(), "it is still taken");
        Ok(())
    };
    eventually(PATIENCE, refused).await.expect("the policy is in force");
}

/// Takes away what `admit` made.
async fn lift(world: &World, kind: &str) {
    for kind in [format!("{kind}Binding"), kind.to_owned()] {
        api(world, &kind).delete("test", &DeleteParams::default()).await.unwrap();
    }
}

async fn allow_again(world: &World) {
    lift(world, "ValidatingAdmissionPolicy").await;
    let taken = async || Ok(dry_run(world, FORBIDDEN).await.map(drop)?);
    eventually(PATIENCE, taken).await.expect("the policy is in force no more");
}

/// When the writes of `egress-web` came, the first being its create where there is one.
fn writes(world: &World, namespace: &str) -> Vec<Instant> {
    let log = world.proxy().log();
    let of_namespace = log.iter().filter(|logged| {
        logged.target.resource == "networkpolicies" && logged.target.namespace.as_deref() == Some(namespace)
    });
    let ours = of_namespace.filter(|logged| match logged.target.verb {
        Verb::Patch => logged.target.name.as_deref() == Some("egress-web"),
        // The first create is that of the allow-policy, the second that of the default deny.
        Verb::Create => log
            .iter()
            .find(|l| {
                l.target.verb == Verb::Create
                    && l.target.resource == "networkpolicies"
                    && l.target.namespace.as_deref() == Some(namespace)
            })
            .is_some_and(|first| first.at == logged.at),
        _ => false,
    });
    ours.map(|logged| logged.at).collect()
}

/// How often the status of `web` was written.
fn statuses(world: &World, namespace: &str) -> usize {
    let log = world.proxy().log();
    let of_status = log.iter().filter(|logged| {
        (logged.target.verb, logged.target.resource.as_str()) == (Verb::Patch, "egresspolicies/status")
            && logged.target.namespace.as_deref() == Some(namespace)
    });
    of_status.count()
}

/// A fight costs few statuses, too: not one per edit, at most one per write.
fn assert_few_statuses(world: &World, namespace: &str) {
    let (statuses, writes) = (statuses(world, namespace), writes(world, namespace).len());
    assert!((1..=writes).contains(&statuses), "{statuses} statuses beside {writes} writes");
}

fn assert_back_off(writes: &[Instant]) {
    assert_eq!(writes.len(), 1 + BACK_OFF.len(), "at 0, 1, 3, 7 and 15 s: {writes:?}");
    for (pair, wait) in writes.windows(2).zip(BACK_OFF) {
        let waited = pair[1] - pair[0];
        // One that came late makes the wait after it shorter, but not the whole.
        assert!(waited * 2 >= Duration::from_secs(wait), "{waited:?} instead of {wait} s");
    }
    let (whole, least) = (writes[BACK_OFF.len()] - writes[0], Duration::from_secs(BACK_OFF.iter().sum()));
    assert!(whole + LATE >= least, "{whole:?} from the first to the last, not {least:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutating_admission_policy_is_named_in_the_condition_and_costs_few_writes() {
    let world = World::with(Options { proxy: true, ..Options::default() }).await;
    let expression =
        r#"[JSONPatch{op: "add", path: "/spec/podSelector", value: {"matchLabels": {"injected": "by-admission"}}}]"#;
    let spec = json!({"reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]});
    admit(&world, "MutatingAdmissionPolicy", spec, json!({})).await;
    let mutates = async || {
        let labels = dry_run(&world, FORBIDDEN).await?.spec.and_then(|spec| spec.pod_selector?.match_labels);
        anyhow::ensure!(labels.is_some(), "it is not in force yet");
        Ok(())
    };
    eventually(PATIENCE, mutates).await.expect("the policy is in force");
    let namespace = world.namespace("app").await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), LASTING_TTL);
    world.create_policy(&namespace, "web", hosts(&["a.example"])).await;
    let message = world.condition(&namespace, "web", "Applied", "False", "Mutated").await;
    assert!(message.contains("mutating admission policy"), "{message}");
    world.is_there(&namespace, "default-deny-egress").await;
    let first = writes(&world, &namespace)[0];
    // Not a wait for something: this is how long it is watched.
    tokio::time::sleep_until((first + WATCHED).into()).await;
    assert_back_off(&writes(&world, &namespace));
    assert_few_statuses(&world, &namespace);
    world.condition(&namespace, "web", "Applied", "False", "Mutated").await;

    lift(&world, "MutatingAdmissionPolicy").await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    let selector = world.network_policy(&namespace, "web").await.spec.unwrap().pod_selector;
    assert_eq!(selector, Some(Default::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_keeps_rewriting_is_named_and_costs_few_writes_and_after_it_all_is_right() {
    let world = Arc::new(World::with(Options { proxy: true, ..Options::default() }).await);
    let namespace = world.namespace("app").await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), LASTING_TTL);
    world.create_policy(&namespace, "web", hosts(&["a.example"])).await;
    world.condition(&namespace, "web", "Ready", "True", "Ready").await;
    assert_eq!(writes(&world, &namespace).len(), 1, "the create");
    world.proxy().reset_counts();

    let stop = Arc::new(AtomicBool::new(false));
    let meddler = tokio::spawn({
        let (world, namespace, stop) = (Arc::clone(&world), namespace.clone(), Arc::clone(&stop));
        async move {
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            for round in 0_u8.. {
                tick.tick().await;
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let wide = json!([{"to": [{"ipBlock": {"cidr": format!("198.51.100.{}/32", round % 250)}}]}]);
                world.hand_edit(&namespace, "egress-web", "gitops-sync", json!({"spec": {"egress": wide}})).await;
            }
        }
    });
    let message = world.condition(&namespace, "web", "Applied", "False", "Contested").await;
    assert!(message.contains("gitops-sync"), "{message}");
    let first = writes(&world, &namespace)[0];
    // Not a wait for something: this is how long it is watched.
    tokio::time::sleep_until((first + WATCHED).into()).await;
    assert_back_off(&writes(&world, &namespace));
    assert_few_statuses(&world, &namespace);
    let note = world.event(&namespace, "web", "Contested").await;
    assert!(note.contains("egress-web"), "{note}");
    stop.store(true, Ordering::Relaxed);
    meddler.await.unwrap();
    world.allows(&namespace, "web", &["192.0.2.1"]).await;
    assert_eq!(writes(&world, &namespace).len(), 2 + BACK_OFF.len(), "one write put it right");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_the_server_refuses_keeps_the_old_object_until_it_is_allowed_again() {
    let world = World::with(Options::default().flag("--retry-interval-seconds", 1)).await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1"]), 1);
    let (by_spec, by_dns, fresh) =
        (world.namespace("app").await, world.namespace("app").await, world.namespace("app").await);
    world.create_policy(&by_spec, "web", json!({"destinations": [{"ip": "192.0.2.1"}]})).await;
    world.create_policy(&by_dns, "web", hosts(&["a.example"])).await;
    for namespace in [&by_spec, &by_dns] {
        world.condition(namespace, "web", "Ready", "True", "Ready").await;
    }
    forbid(&world).await;
    let before = [world.network_policy(&by_spec, "web").await, world.network_policy(&by_dns, "web").await];
    let both = json!({"destinations": [{"ip": "192.0.2.1"}, {"ip": "203.0.113.66"}]});
    world.replace_spec(&by_spec, "web", both.clone()).await;
    world.dns.set_host("a.example", &ips(&["192.0.2.1", "203.0.113.66"]), 1);
    world.create_policy(&fresh, "web", both).await;
    for namespace in [&by_spec, &by_dns, &fresh] {
        let message = world.condition(namespace, "web", "Applied", "False", "Rejected").await;
        assert!(message.contains("that address is forbidden here"), "{message}");
        world.condition(namespace, "web", "Ready", "False", "Rejected").await;
        world.is_there(namespace, "default-deny-egress").await;
    }
    let after = [world.network_policy(&by_spec, "web").await, world.network_policy(&by_dns, "web").await];
    assert_eq!(after, before);
    assert!(world.network_policies(&fresh).get_opt("egress-web").await.unwrap().is_none());

    allow_again(&world).await;
    for namespace in [&by_spec, &by_dns, &fresh] {
        world.allows(namespace, "web", &["192.0.2.1", "203.0.113.66"]).await;
        world.condition(namespace, "web", "Ready", "True", "Ready").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_policy_recovers_at_once_when_its_spec_changes() {
    // The retry interval is the shipped five minutes: nothing here waits for it.
    let world = World::new().await;
    forbid(&world).await;
    let (changed, fresh) = (world.namespace("app").await, world.namespace("app").await);
    world.create_policy(&changed, "web", json!({"destinations": [{"ip": "192.0.2.1"}]})).await;
    world.allows(&changed, "web", &["192.0.2.1"]).await;
    let both = json!({"destinations": [{"ip": "192.0.2.1"}, {"ip": "203.0.113.66"}]});
    world.replace_spec(&changed, "web", both.clone()).await;
    world.create_policy(&fresh, "web", both).await;
    for namespace in [&changed, &fresh] {
        world.condition(namespace, "web", "Applied", "False", "Rejected").await;
        world.replace_spec(namespace, "web", json!({"destinations": [{"ip": "192.0.2.2"}]})).await;
        world.allows(namespace, "web", &["192.0.2.2"]).await;
        world.condition(namespace, "web", "Ready", "True", "Ready").await;
    }
    // Back to what stands: nothing is left to write, and the trouble is over all the same.
    world.replace_spec(&changed, "web", json!({"destinations": [{"ip": "203.0.113.66"}]})).await;
    world.condition(&changed, "web", "Applied", "False", "Rejected").await;
    world.replace_spec(&changed, "web", json!({"destinations": [{"ip": "192.0.2.2"}]})).await;
    world.condition(&changed, "web", "Ready", "True", "Ready").await;
    // For the next test of this control plane.
    allow_again(&world).await;
}
