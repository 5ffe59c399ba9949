use std::time::Duration;

use serde_json::{Value, json};

use super::sim::{Sim, hosts};
use crate::guard::GuardRail;
use crate::machine::Input;

fn dry(mut spec: Value) -> Value {
    spec["mode"] = json!("DryRun");
    spec
}

#[test]
fn a_dry_run_looks_up_and_reports_but_writes_nothing() {
    let mut sim = Sim::new(dry(hosts(&["a.example"])));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.advance(Duration::from_secs(60));
    assert!(sim.stored.is_none() && !sim.enforcing);
    sim.assert_condition("Applied", "False", "DryRun");
    assert_eq!(sim.machine.status(sim.now).allowed_address_count, Some(1));
    sim.spec(hosts(&["a.example"]));
    sim.assert_allowed(&["192.0.2.1"]);
    assert!(sim.enforcing);
}

#[test]
fn enforce_to_dry_run_freezes_the_object() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.spec(dry(hosts(&["a.example", "b.example"])));
    sim.answer("a.example", &["192.0.2.2"]);
    sim.advance(Duration::from_secs(86_400 * 8));
    sim.answer("a.example", &["192.0.2.2"]);
    sim.hand_edit(|object| object.spec.as_mut().unwrap().egress = None);
    assert_eq!(sim.revisions.len(), 1, "no addition, no expiry, no repair");
    sim.assert_condition("Applied", "False", "DryRunFrozen");
    sim.restart();
    assert_eq!(sim.revisions.len(), 1);
}

#[test]
fn the_guard_rail_still_takes_from_a_frozen_object() {
    for restarted in [false, true] {
        let mut sim = Sim::new(hosts(&["a.example"]));
        sim.answer("a.example", &["192.0.2.1", "192.0.2.2"]);
        sim.spec(dry(hosts(&["a.example"])));
        sim.cluster.guard = GuardRail { nodes: vec!["192.0.2.1".parse().unwrap()], ..sim.cluster.guard.clone() };
        if restarted {
            sim.restart();
        } else {
            sim.input(Input::Cluster(sim.cluster.clone().into()));
        }
        sim.assert_allowed(&["192.0.2.2"]);
        assert_eq!(sim.revisions.len(), 2, "restarted: {restarted}");
        sim.spec(hosts(&["a.example"]));
        sim.assert_allowed(&["192.0.2.2"]);
    }
}
