//! The API server fails in every way it can, parts of the controller die: nothing is lost, nothing dies in silence.

mod parts;
mod starts;

use std::time::Duration;

use crate::world::many::{Allowed, entry};
use crate::world::revisions::assert_shape;
use crate::world::rules::Rules;
use crate::world::{Options, PATIENCE, Recorder, World, allowed, hosts, ips};
use egress_testbed::dns::RecordType;
use egress_testbed::eventually;
use egress_testbed::proxy::{Action, FaultProxy, Rule, RuleId, Verb};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

/// For what takes many requests, most of them failing.
const LONG: Duration = Duration::from_secs(90);
/// What the controller watches, as a fault rule names it, and by how many watches.
const WATCHED: [(&str, usize); 9] = [
    ("egresspolicies", 1),
    // Ours by label, default denies by name.
    ("networkpolicies", 2),
    // All, and openshift-dns.
    ("namespaces", 2),
    ("servicecidrs", 1),
    ("nodes", 1),
    ("services", 1),
    ("endpointslices", 1),
    ("leases", 1),
    ("egressshardtables", 1),
];

/// Waits until every watch is open: the controller is ready with the lists, a moment before.
async fn every_watch_is_open(proxy: &FaultProxy) {
    for (resource, wanted) in WATCHED {
        let check = async || {
            let open = proxy.open_watches(resource);
            anyhow::ensure!(open == wanted, "{open} watches of {resource} are open, not {wanted}");
            Ok(())
        };
        eventually(PATIENCE, check).await.expect("every watch opens");
    }
}

/// What the controller writes for policies. Only this is slowed down: renewals of Leases are writes, too.
const WRITES: [(Verb, &str); 3] =
    [(Verb::Create, "networkpolicies"), (Verb::Patch, "networkpolicies"), (Verb::Patch, "egresspolicies/status")];

fn delay_writes(proxy: &FaultProxy, by: Duration) {
    for (verb, resource) in WRITES {
        proxy.inject(Rule::delay(by).verb(verb).resource(resource));
    }
}

fn proxied() -> Options {
    Options { proxy: true, ..Options::default() }
}

/// Every revision of every object is of a legal shape; what is not ours is left out by its resourceVersion.
async fn assert_every_shape(recorder: &Recorder, foreign: Option<&str>) {
    let all = recorder.all().await;
    let ours = all.iter().filter(|revision| revision.metadata.resource_version.as_deref() != foreign);
    ours.for_each(assert_shape);
}

/// The address of the `n`th of many hosts, in one of two generations.
fn address(generation: u8, n: usize) -> String {
    format!("203.0.{}.{}", 113 + usize::from(generation), n % 250 + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_to_writes_that_are_throttled_fail_hang_or_are_committed_without_an_answer() {
    const POLICIES: usize = 60;
    let world = World::with(proxied().flag("--write-timeout-seconds", 2)).await;
    let proxy = world.proxy();
    let inject = |verb, resource: &str| -> Vec<RuleId> {
        let on = |rule: Rule, one_in| proxy.inject(rule.verb(verb).resource(resource).one_in(one_in));
        vec![
            on(Rule::too_many_requests(1), 23),
            on(Rule::status(500, "InternalError"), 13),
            on(Rule::timeout_after_commit(), 11),
            on(Rule::hang(), 29),
            on(Rule::new(Action::HangAfterCommit), 31),
            on(Rule::new(Action::Close), 17),
        ]
    };
    let mut rules = inject(Verb::Create, "networkpolicies");
    rules.extend(inject(Verb::Patch, "networkpolicies"));
    rules.extend(inject(Verb::Patch, "egresspolicies/status"));

    let recorder = world.record().await;
    let namespaces = world.namespaces("app", 6).await;
    let (mut policies, mut first, mut both) = (Vec::new(), Allowed::new(), Allowed::new());
    for n in 0..POLICIES {
        let (namespace, name, host) = (&namespaces[n % 6], format!("p{n}"), format!("h{n}.example"));
        world.dns.set_host(&host, &ips(&[&address(0, n)]), 1);
        policies.push((namespace.clone(), name.clone(), hosts(&[&host])));
        first.extend([entry(namespace, &name, &[&address(0, n)])]);
        both.extend([entry(namespace, &name, &[&address(0, n), &address(1, n)])]);
    }
    world.create_policies(policies).await;
    world.all_allow(LONG, &first).await;
    for n in 0..POLICIES {
        world.dns.set_host(&format!("h{n}.example"), &ips(&[&address(1, n)]), 1);
    }
    world.all_allow(LONG, &both).await;
    world.all_have(POLICIES, "Ready", "True", "Ready").await;
    for namespace in &namespaces {
        world.is_there(namespace, "default-deny-egress").await;
    }
    for rule in rules {
        assert!(proxy.hits(rule) > 0, "{rule:?} has met nothing: the test shows less than it says");
    }
    assert!(world.controller().runs());
    assert_every_shape(&recorder, None).await;
    for n in 0..POLICIES {
        let revisions = recorder.revisions(&namespaces[n % 6], &format!("egress-p{n}")).await;
        Rules { held: &[], justified: &[&address(0, n), &address(1, n)] }.hold_at(&revisions);
    }
}

/// How the watches come back after they were refused.
#[derive(Clone, Copy)]
enum Return {
    Plainly,
    WithGoneEvent,
    WithGoneAtOpen,
}

/// Everything that a watch tells changes while no watch can be opened.
async fn changes_while_no_watch_is_open_are_followed_when_they_come_back(how: Return) {
    let world = World::with(proxied()).await;
    let proxy = world.proxy();
    for (host, address) in [("a", "203.0.113.1"), ("b", "203.0.113.2"), ("node", "203.0.113.7")] {
        world.dns.set_host(&format!("{host}.example"), &ips(&[address]), 600);
    }
    let namespace = world.namespace("app").await;
    for name in ["changed", "edited", "deleted"] {
        world.create_policy(&namespace, name, hosts(&["a.example"])).await;
        world.allows(&namespace, name, &["203.0.113.1"]).await;
    }
    world.create_policy(&namespace, "guarded", hosts(&["a.example", "node.example"])).await;
    world.allows(&namespace, "guarded", &["203.0.113.1", "203.0.113.7"]).await;
    world.is_there(&namespace, "default-deny-egress").await;

    every_watch_is_open(proxy).await;
    let recorder = world.record().await;
    let refused = proxy.inject(Rule::status(503, "ServiceUnavailable").verb(Verb::Watch));
    assert_eq!(proxy.cut_all_watches(), WATCHED.iter().map(|(_, watches)| watches).sum::<usize>());
    // Somebody edits by hand, everything else changes as usual.
    let edit = json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}]}});
    let objects = world.network_policies(&namespace);
    let edited = objects.patch("egress-edited", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    objects.delete("default-deny-egress", &DeleteParams::default()).await.unwrap();
    world.replace_spec(&namespace, "changed", hosts(&["b.example"])).await;
    world.create_policy(&namespace, "created", hosts(&["b.example"])).await;
    world.delete_policy(&namespace, "deleted").await;
    let other = world.namespace("other").await;
    world.create_policy(&other, "first", hosts(&["a.example"])).await;
    let node = json!({"metadata": {"name": "worker"}, "status": {"addresses": [{"type": "InternalIP", "address": "203.0.113.7"}]}});
    let nodes = Api::<Node>::all(world.client.clone());
    nodes.create(&PostParams::default(), &serde_json::from_value(node.clone()).unwrap()).await.unwrap();
    nodes.patch_status("worker", &PatchParams::default(), &Patch::Merge(&node)).await.unwrap();

    let gone = match how {
        Return::Plainly => None,
        Return::WithGoneEvent => Some(Rule::gone_event(0)),
        Return::WithGoneAtOpen => Some(Rule::gone_at_open()),
    };
    let gone: Vec<RuleId> = gone.map_or(Vec::new(), |rule| {
        WATCHED.iter().map(|(resource, _)| proxy.inject(rule.clone().resource(resource).times(1))).collect()
    });
    proxy.remove(refused);
    for rule in gone {
        proxy.wait_for_hits(rule, 1, PATIENCE).await.unwrap();
    }
    world.allows(&namespace, "changed", &["203.0.113.2"]).await;
    world.allows(&namespace, "edited", &["203.0.113.1"]).await;
    world.allows(&namespace, "created", &["203.0.113.2"]).await;
    world.allows(&namespace, "guarded", &["203.0.113.1"]).await;
    world.allows(&other, "first", &["203.0.113.1"]).await;
    world.is_there(&namespace, "default-deny-egress").await;
    world.is_there(&other, "default-deny-egress").await;
    world.is_gone(&namespace, "egress-deleted").await;

    assert_every_shape(&recorder, edited.metadata.resource_version.as_deref()).await;
    let (a, b) = ("203.0.113.1", "203.0.113.2");
    let hold = async |namespace: &str, name: &str, held: &[&str], justified: &[&str]| {
        let mut revisions = recorder.revisions(namespace, &format!("egress-{name}")).await;
        revisions.retain(|revision| revision.metadata.resource_version != edited.metadata.resource_version);
        Rules { held, justified }.hold_at(&revisions);
    };
    // The one that was replaced and the one that is a Node's now are in no revision from here on.
    hold(&namespace, "changed", &[], &[b]).await;
    hold(&namespace, "edited", &[a], &[a]).await;
    hold(&namespace, "created", &[], &[b]).await;
    hold(&namespace, "guarded", &[a], &[a]).await;
    hold(&other, "first", &[], &[a]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_made_while_every_watch_is_cut_are_followed() {
    changes_while_no_watch_is_open_are_followed_when_they_come_back(Return::Plainly).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_made_before_a_watch_ends_with_the_event_410_are_followed() {
    changes_while_no_watch_is_open_are_followed_when_they_come_back(Return::WithGoneEvent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_made_before_a_watch_is_refused_with_410_are_followed() {
    changes_while_no_watch_is_open_are_followed_when_they_come_back(Return::WithGoneAtOpen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_watch_that_is_cut_alone_is_opened_again() {
    let world = World::with(proxied()).await;
    let proxy = world.proxy();
    every_watch_is_open(proxy).await;
    for (resource, watches) in WATCHED {
        let opened = proxy.count(Verb::Watch, resource);
        assert_eq!(proxy.cut_watches(resource), watches, "{resource}");
        let cut = u64::try_from(watches).unwrap();
        proxy.wait_for(Verb::Watch, resource, opened + cut, PATIENCE).await.unwrap();
        every_watch_is_open(proxy).await;
    }
    assert!(world.controller().runs());
}

/// A policy whose spec and whose answers change around an outage.
struct Outage {
    world: World,
    namespace: String,
    recorder: Recorder,
}

impl Outage {
    async fn new() -> Self {
        let world = World::with(proxied()).await;
        world.dns.set_host("a.example", &ips(&["203.0.113.1"]), 1);
        world.dns.set_host("b.example", &ips(&["203.0.113.2"]), 1);
        let namespace = world.namespace("app").await;
        for name in ["changed", "steady"] {
            world.create_policy(&namespace, name, hosts(&["a.example"])).await;
            world.allows(&namespace, name, &["203.0.113.1"]).await;
        }
        let recorder = world.record().await;
        world.replace_spec(&namespace, "changed", hosts(&["b.example"])).await;
        Self { world, namespace, recorder }
    }

    /// Answers change and are heard while the API server is away: each is asked once a second.
    async fn answers_change(&self) {
        let Self { world, .. } = self;
        for (host, new) in [("a.example", "203.0.113.3"), ("b.example", "203.0.113.4")] {
            world.dns.set_host(host, &ips(&[new]), 1);
        }
        let asked = world.dns.count("a.example", RecordType::A);
        world.dns.wait_for_count("a.example", RecordType::A, asked + 4, PATIENCE).await.unwrap();
        self.lives().await;
    }

    async fn lives(&self) {
        assert!(self.world.controller().runs());
        assert_eq!(self.world.controller().get("/livez").await.unwrap(), (200, "OK".to_owned()));
    }

    async fn is_over(&self) {
        let Self { world, namespace, recorder } = self;
        world.allows(namespace, "steady", &["203.0.113.1", "203.0.113.3"]).await;
        // b's first address was perhaps never an answer to this controller: the outage began with the change.
        let check = async || {
            let found = allowed(&world.network_policy(namespace, "changed").await);
            let (least, most) = (["203.0.113.4"], ["203.0.113.2", "203.0.113.4"]);
            let right = least.iter().all(|address| found.contains(*address));
            anyhow::ensure!(right && found.iter().all(|address| most.contains(&address.as_str())), "{found:?}");
            Ok(())
        };
        eventually(PATIENCE, check).await.expect("the changed policy becomes right");
        self.lives().await;
        world.condition(namespace, "changed", "Ready", "True", "Ready").await;
        world.create_policy(namespace, "new", hosts(&["a.example"])).await;
        world.allows(namespace, "new", &["203.0.113.3"]).await;

        assert_every_shape(recorder, None).await;
        for (name, held, justified) in [
            ("steady", &["203.0.113.1"][..], &["203.0.113.1", "203.0.113.3"][..]),
            // What a.example answered meanwhile is still wanted until the watch is back and tells of the new spec.
            ("changed", &["203.0.113.1", "203.0.113.3"], &["203.0.113.2", "203.0.113.4"]),
            ("new", &[], &["203.0.113.3"]),
        ] {
            let revisions = recorder.revisions(namespace, &format!("egress-{name}")).await;
            Rules { held, justified }.hold_at(&revisions);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_connections_are_refused_the_controller_lives_and_afterwards_everything_is_right() {
    let outage = Outage::new().await;
    outage.world.proxy().refuse(true).await.unwrap();
    outage.answers_change().await;
    outage.world.proxy().refuse(false).await.unwrap();
    outage.is_over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_api_server_is_down_the_controller_lives_and_afterwards_everything_is_right() {
    let outage = Outage::new().await;
    outage.world.control_plane.stop_api_server().unwrap();
    outage.answers_change().await;
    outage.world.control_plane.start_api_server().await.unwrap();
    outage.is_over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_answers_slowly_gets_more_writes_at_a_time_and_half_as_many_when_it_is_overloaded() {
    const POLICIES: usize = 250;
    let world = World::with(proxied()).await;
    let (proxy, controller) = (world.proxy(), world.controller());
    delay_writes(proxy, Duration::from_millis(300));
    let recorder = world.record().await;
    world.dns.set_host("a.example", &ips(&["203.0.113.1"]), 600);
    let namespaces = world.namespaces("app", 10).await;
    let policy = |n: usize| (namespaces[n % 10].clone(), format!("p{n}"), hosts(&["a.example"]));
    let expected = (0..POLICIES).map(|n| entry(&namespaces[n % 10], &format!("p{n}"), &["203.0.113.1"])).collect();
    world.create_policies((0..POLICIES).map(policy).collect()).await;
    let limit = "egress_writer_concurrency_limit";
    let grown = controller.metric_is(limit, "", |limit| limit >= 12.0).await;

    let overload = Rule::too_many_requests(1).verb(Verb::Create).resource("networkpolicies").times(1);
    let overload = proxy.inject(overload);
    proxy.wait_for_hits(overload, 1, PATIENCE).await.unwrap();
    // The 429 itself comes with the delay, so this is the limit before it; a busy machine may be too late to see that.
    let before = controller.metric(limit, "").await.max(grown);
    let halved = controller.metric_is(limit, "", |limit| limit < before).await;
    // It may have grown further until the 429 came, and after it when those sent before had made the new limit full.
    assert!(halved <= before / 2.0 + 3.0, "{halved} after {before}");
    assert!(controller.metric("egress_writer_throttled_total", "").await >= 1.0);
    controller.metric_is(limit, "", |limit| limit > halved).await;
    world.all_allow(LONG, &expected).await;
    for revision in recorder.all().await {
        assert_shape(&revision);
        assert!(allowed(&revision).iter().all(|address| address == "203.0.113.1"), "{revision:?}");
    }
}
