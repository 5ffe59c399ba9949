//! A kill -9 between any two writes of a start, on a real API server: no revision is wider or narrower, and the next
//! start makes it good.

use crate::world::rules::Rules;
use crate::world::{Options, PATIENCE, World, hosts, ips};
use egress_testbed::dns::{RecordType, Script};
use egress_testbed::eventually;
use egress_testbed::proxy::{Action, Rule, RuleId, Verb};
use kube::ResourceExt as _;
use kube::api::PostParams;
use serde_json::json;

/// The nth request with this verb for this resource; reads are none.
type Write = (Verb, &'static str, u64);

const OBJECTS: &str = "networkpolicies";
const POLICY: &str = "egresspolicies";
const STATUS: &str = "egresspolicies/status";
/// The seed's object is in the way of the first create, unless the start has read it: then there is no second one.
const SECOND_CREATE: Write = (Verb::Create, OBJECTS, 2);

/// What the controller finds when it starts, and is killed over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    /// A policy, nothing else.
    Fresh,
    /// Objects of the Python operator.
    Seed,
    /// Everything right but one answer.
    NewAnswer,
    /// As before, and after the kill DNS fails.
    NewAnswerThenNoDns,
}

impl Start {
    fn writes(self) -> &'static [Write] {
        match self {
            Self::Fresh => &[(Verb::Create, OBJECTS, 1), SECOND_CREATE, (Verb::Patch, STATUS, 1)],
            Self::Seed => &[
                (Verb::Patch, POLICY, 1),
                (Verb::Create, OBJECTS, 1),
                (Verb::Patch, OBJECTS, 1),
                SECOND_CREATE,
                (Verb::Patch, STATUS, 1),
                (Verb::Create, "events", 1),
            ],
            Self::NewAnswer | Self::NewAnswerThenNoDns => &[(Verb::Patch, OBJECTS, 1), (Verb::Patch, STATUS, 1)],
        }
    }

    fn rules(self) -> Rules<'static> {
        let held: &[&str] = match self {
            Self::Fresh => &[],
            Self::Seed => &["172.16.0.10"],
            Self::NewAnswer | Self::NewAnswerThenNoDns => &["192.0.2.1"],
        };
        Rules { held, justified: &["192.0.2.1", "192.0.2.2"] }
    }
}

fn host_of(namespace: &str) -> String {
    format!("{namespace}.example")
}

async fn prepare(world: &mut World, start: Start) -> String {
    let namespace = world.namespace("app").await;
    let host = host_of(&namespace);
    world.dns.set_host(&host, &ips(&["192.0.2.1", "192.0.2.2"]), 60);
    match start {
        Start::Fresh => {
            world.create_policy(&namespace, "web", hosts(&[&host])).await;
        }
        Start::Seed => {
            let policy = json!({
                "apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy", "spec": hosts(&[&host]),
                "metadata": {"name": "web", "namespace": namespace, "finalizers": ["kopf.zalando.org/KopfFinalizerMarker"],
                             "annotations": {"kopf.zalando.org/last-handled-configuration": "{}"}}});
            let policy = serde_json::from_value(policy).unwrap();
            world.policies(&namespace).create(&PostParams::default(), &policy).await.unwrap();
            let object = json!({"metadata": {"name": "egress-web"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
                {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
                 "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
                {"to": [{"ipBlock": {"cidr": "172.16.0.10/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}]}});
            let object = serde_json::from_value(object).unwrap();
            world.network_policies(&namespace).create(&PostParams::default(), &object).await.unwrap();
        }
        Start::NewAnswer | Start::NewAnswerThenNoDns => {
            world.dns.set_host(&host, &ips(&["192.0.2.1"]), 60);
            world.start_controller().await;
            world.create_policy(&namespace, "web", hosts(&[&host])).await;
            world.condition(&namespace, "web", "Ready", "True", "Ready").await;
            world.kill_controller();
            world.dns.set_host(&host, &ips(&["192.0.2.1", "192.0.2.2"]), 60);
        }
    }
    namespace
}

/// Waits for the write that the rule meets; false when this start has no such write.
async fn comes(world: &World, start: Start, namespace: &str, write: Write, rule: RuleId) -> bool {
    if (start, write) != (Start::Seed, SECOND_CREATE) {
        world.proxy().wait_for_hits(rule, 1, PATIENCE).await.expect("so many writes come");
        return true;
    }
    let objects = world.network_policies(namespace);
    let decided = async || {
        // In this order: a default deny that the second create made comes after the hit.
        let denied = objects.get_opt("default-deny-egress").await?.is_some();
        let hit = world.proxy().hits(rule) > 0;
        anyhow::ensure!(hit || denied, "no second create");
        Ok(hit)
    };
    eventually(PATIENCE, decided).await.expect("the default deny is created")
}

async fn everything_is_right(world: &World, namespace: &str) {
    world.allows(namespace, "web", &["192.0.2.1", "192.0.2.2"]).await;
    world.is_there(namespace, "default-deny-egress").await;
    world.condition(namespace, "web", "Ready", "True", "Ready").await;
    // Ready may be from before the kill: the count is news, and comes within the interval of the status.
    let counted = async || {
        let status = world.policies(namespace).get("web").await?.status.unwrap_or_default();
        anyhow::ensure!(status.allowed_address_count == Some(2), "{status:?}");
        Ok(())
    };
    eventually(PATIENCE, counted).await.expect("the status becomes right");
    let object = world.network_policy(namespace, "web").await;
    let policy = world.policies(namespace).get("web").await.unwrap();
    let owners: Vec<_> = object.owner_references().iter().map(|owner| Some(owner.uid.clone())).collect();
    assert_eq!(owners, [policy.uid()]);
    assert!(!serde_json::to_string(&policy.metadata).unwrap().contains("kopf.zalando.org/last"));
    assert_eq!(policy.metadata.finalizers, None);
}

async fn a_kill_at_any_write_is_made_good(start: Start) {
    let options = Options { proxy: true, without_controller: true, ..Options::default() };
    let mut world = World::with(options.flag("--status-interval-seconds", 1)).await;
    for action in [Action::Hang, Action::HangAfterCommit, Action::Close] {
        for write in start.writes() {
            println!("{start:?}, {action:?} of {write:?}");
            let (verb, resource, nth) = *write;
            let namespace = prepare(&mut world, start).await;
            // From here on, every write is the controller's.
            let recorder = world.record().await;
            let rule = Rule::new(action.clone()).namespace(&namespace).verb(verb).resource(resource);
            let rule = world.proxy().inject(rule.one_in(nth).times(1));
            world.spawn_controller().await;
            if !comes(&world, start, &namespace, *write, rule).await {
                println!("the start has read what is in the way: no such write");
            }
            world.kill_controller();
            world.proxy().clear();

            if start == Start::NewAnswerThenNoDns {
                for family in [RecordType::A, RecordType::AAAA] {
                    world.dns.set(&host_of(&namespace), family, Script::ServFail);
                }
                world.start_controller().await;
                world.condition(&namespace, "web", "Resolved", "False", "NoneResolved").await;
                start.rules().hold_at(&recorder.revisions(&namespace, "egress-web").await);
                world.dns.set_host(&host_of(&namespace), &ips(&["192.0.2.1", "192.0.2.2"]), 60);
            } else {
                world.start_controller().await;
            }
            everything_is_right(&world, &namespace).await;
            start.rules().hold_at(&recorder.revisions(&namespace, "egress-web").await);
            for deny in recorder.revisions(&namespace, "default-deny-egress").await {
                assert_eq!(json!(deny.spec), json!({"podSelector": {}, "policyTypes": ["Egress"]}));
            }
            world.kill_controller();
            // One policy at a time: the next round counts the writes of its own namespace, at an API server at rest.
            world.delete_policy(&namespace, "web").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_request_about_a_new_policy_is_made_good() {
    a_kill_at_any_write_is_made_good(Start::Fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_request_while_taking_over_is_made_good() {
    a_kill_at_any_write_is_made_good(Start::Seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_request_about_a_new_answer_is_made_good() {
    a_kill_at_any_write_is_made_good(Start::NewAnswer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_request_before_dns_fails_is_made_good() {
    a_kill_at_any_write_is_made_good(Start::NewAnswerThenNoDns).await;
}
