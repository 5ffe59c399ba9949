//! Parts of the controller die, and the process ends.

use std::time::{Duration, Instant};

use egress_domain::api::EgressPolicy;
use egress_testbed::eventually;
use egress_testbed::proxy::{Rule, Verb};
use kube::Api;
use kube::api::ListParams;

use super::{address, assert_every_shape, delay_writes, proxied};
use crate::world::many::{Allowed, entry};
use crate::world::rules::Rules;
use crate::world::{Options, PATIENCE, World, hosts, ips};

/// `--drain-timeout-seconds` where a drain must come to its end, on a busy machine too: more than the shipped 25 s.
const DRAIN_SECONDS: u64 = 90;
/// Delay of each write until the pending ones were counted: hardly any is done by then.
const UNTIL_COUNTED: Duration = Duration::from_millis(1_500);
/// Afterwards: they are drained in time, and the process is seen draining.
const WHILE_DRAINED: Duration = Duration::from_millis(400);

// ---- parts of the controller die

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_one_policy_restarts_it_alone_and_it_follows_dns_again() {
    let world = World::new().await;
    let namespace = world.namespace("app").await;
    world.dns.set_host("crashing.example", &ips(&["203.0.113.1"]), 1);
    world.create_policy(&namespace, "crashing", hosts(&["crashing.example"])).await;
    for (name, host) in [("one", "one.example"), ("two", "two.example")] {
        world.dns.set_host(host, &ips(&["203.0.113.9"]), 1);
        world.create_policy(&namespace, name, hosts(&[host])).await;
    }
    for name in ["crashing", "one", "two"] {
        world.condition(&namespace, name, "Ready", "True", "Ready").await;
    }
    let others = [world.versions(&namespace, "one").await, world.versions(&namespace, "two").await];
    let (_, generation, _) = world.versions(&namespace, "crashing").await;
    let recorder = world.record().await;

    let answer = world.controller().post(&format!("/debug/crash/policy/{namespace}/crashing")).await.unwrap();
    assert_eq!(answer.0, 202);
    world.controller().metric_is("egress_policy_restarts_total", "", |restarts| restarts == 1.0).await;
    world.dns.set_host("crashing.example", &ips(&["203.0.113.2"]), 1);
    world.allows(&namespace, "crashing", &["203.0.113.1", "203.0.113.2"]).await;
    // One change of the spec: it never was narrower in between.
    assert_eq!(world.versions(&namespace, "crashing").await.1, generation.map(|generation| generation + 1));
    let rules = Rules { held: &["203.0.113.1"], justified: &["203.0.113.1", "203.0.113.2"] };
    rules.hold_at(&recorder.revisions(&namespace, "egress-crashing").await);
    assert_eq!([world.versions(&namespace, "one").await, world.versions(&namespace, "two").await], others);
    assert_eq!(world.controller().metric("egress_policy_restarts_total", "").await, 1.0);
    assert_eq!(world.controller().metric("egress_policy_actors", "").await, 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_changed_while_its_policy_restarts_is_followed() {
    let world = World::new().await;
    let namespace = world.namespace("app").await;
    world.dns.set_host("a.example", &ips(&["203.0.113.1"]), 600);
    world.dns.set_host("b.example", &ips(&["203.0.113.2"]), 600);
    world.create_policy(&namespace, "web", hosts(&["a.example"])).await;
    world.allows(&namespace, "web", &["203.0.113.1"]).await;
    let recorder = world.record().await;
    world.controller().post(&format!("/debug/crash/policy/{namespace}/web")).await.unwrap();
    world.controller().metric_is("egress_policy_restarts_total", "", |restarts| restarts == 1.0).await;
    world.replace_spec(&namespace, "web", hosts(&["b.example"])).await;
    world.allows(&namespace, "web", &["203.0.113.2"]).await;
    let rules = Rules { held: &[], justified: &["203.0.113.2"] };
    rules.hold_at(&recorder.revisions(&namespace, "egress-web").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_writer_ends_the_process_with_an_error_that_names_it() {
    let world = World::new().await;
    assert_eq!(world.controller().post("/debug/crash/writer").await.unwrap().0, 202);
    let status = world.controller().ended(PATIENCE).await;
    assert_eq!(status.code(), Some(2));
    world.controller().says("error: actor writer died").await;
}

// ---- the end of the process

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_termination_signal_drains_five_hundred_pending_writes() {
    const POLICIES: usize = 620;
    // Only NetworkPolicies of policies, so that the count is exact.
    let options = Options { without_controller: true, ..proxied() }.flag("--default-deny", "off");
    let mut world = World::with(options.flag("--drain-timeout-seconds", DRAIN_SECONDS)).await;
    delay_writes(world.proxy(), UNTIL_COUNTED);
    let namespaces = world.namespaces("app", 10).await;
    let (mut policies, mut expected) = (Vec::new(), Allowed::new());
    for n in 0..POLICIES {
        let (namespace, name, host) = (&namespaces[n % 10], format!("p{n}"), format!("h{n}.example"));
        world.dns.set_host(&host, &ips(&[&address(0, n)]), 600);
        policies.push((namespace.clone(), name.clone(), hosts(&[&host])));
        expected.extend([entry(namespace, &name, &[&address(0, n)])]);
    }
    world.create_policies(policies).await;
    let recorder = world.record().await;
    world.spawn_controller().await;
    let controller = world.controller();
    // Every answer has been passed on: each policy has decided, or has what it needs in its mailbox.
    let decided = async || {
        let state = controller.state().await;
        let ended = state["resolver"]["ended"].as_object().map(|all| all.values().filter_map(|n| n.as_u64()).sum());
        anyhow::ensure!(ended == Some(2 * POLICIES as u64), "{ended:?} lookups");
        Ok(())
    };
    eventually(PATIENCE, decided).await.expect("every host is looked up");
    let statuses = controller.metric_is("egress_writer_pending", "status", |pending| pending >= 1.0).await;
    let specs = controller.metric("egress_writer_pending", "spec").await;
    assert!(specs >= 500.0, "only {specs} are pending: the test shows less than it says");

    world.proxy().clear();
    delay_writes(world.proxy(), WHILE_DRAINED);
    controller.signal("TERM");
    let closed = async || {
        let (code, text) = controller.get("/readyz").await?;
        anyhow::ensure!(code == 503, "{code} {text}");
        Ok(text)
    };
    assert_eq!(eventually(PATIENCE, closed).await.unwrap(), "not ready: shutting down\n");
    assert!(controller.runs(), "it still drains");
    let within = Duration::from_secs(DRAIN_SECONDS) + PATIENCE;
    assert_eq!(controller.ended(within).await.code(), Some(0));
    let drained = controller.says("\"drained\"").await;
    assert!(drained["written"].as_u64().is_some_and(|written| written >= 500), "{drained}");
    assert_eq!(world.all_allowed().await.unwrap(), expected);
    assert_every_shape(&recorder, None).await;
    let all = Api::<EgressPolicy>::all(world.client.clone()).list(&ListParams::default()).await.unwrap();
    let told = all.iter().filter(|policy| policy.status.is_some()).count();
    assert!(told as f64 >= statuses, "{told} statuses are written, {statuses} were pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_drain_that_hangs_at_once() {
    let world = World::with(proxied()).await;
    let hang = world.proxy().inject(Rule::hang().verb(Verb::Create).resource("networkpolicies"));
    world.dns.set_host("a.example", &ips(&["203.0.113.1"]), 600);
    let namespace = world.namespace("app").await;
    world.create_policy(&namespace, "web", hosts(&["a.example"])).await;
    world.proxy().wait_for_hits(hang, 1, PATIENCE).await.unwrap();
    let controller = world.controller();
    controller.signal("TERM");
    controller.says("a second signal ends the process at once").await;
    assert!(controller.runs(), "it still drains");
    let second = Instant::now();
    controller.signal("TERM");
    assert_eq!(controller.ended(PATIENCE).await.code(), Some(130));
    assert!(second.elapsed() < Duration::from_secs(2), "it took {:?}", second.elapsed());
}
