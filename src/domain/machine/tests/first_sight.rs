use std::time::Duration;

use serde_json::json;

use super::sim::{Sim, hosts};
use crate::answer::LookupFailure;
use crate::machine::{Input, Standing};
use crate::write::Lane;

#[test]
fn the_first_write_waits_for_every_host_and_is_one() {
    let mut sim = Sim::new(hosts(&["a.example", "b.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    assert!(sim.stored.is_none(), "b.example is still unknown");
    sim.answer("b.example", &["192.0.2.2", "2001:db8::2"]);
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2", "2001:db8::2"]);
    assert_eq!(sim.lanes, [Lane::Spec]);
    assert!(sim.enforcing, "the default deny comes after the allow-policy");
    assert_eq!(sim.updates, 1);
}

#[test]
fn a_silent_host_holds_the_first_write_for_five_seconds_at_most() {
    let mut sim = Sim::new(hosts(&["a.example", "dead.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.advance(Duration::from_millis(4_999));
    assert!(sim.stored.is_none());
    sim.advance(Duration::from_millis(1));
    sim.assert_allowed(&["192.0.2.1"]);
    sim.answer("dead.example", &["192.0.2.9"]);
    sim.assert_allowed(&["192.0.2.1", "192.0.2.9"]);
    assert_eq!(sim.lanes, [Lane::Spec, Lane::Added]);
}

#[test]
fn when_every_host_fails_nothing_opens_and_the_namespace_is_closed() {
    let mut sim = Sim::new(hosts(&["a.example", "b.example"]));
    sim.fail("a.example", LookupFailure::ServFail);
    sim.fail("b.example", LookupFailure::Timeout);
    let spec = sim.stored.as_ref().unwrap().spec.as_ref().unwrap();
    assert_eq!(spec.egress.as_ref().unwrap().len(), 1, "the DNS rule only");
    assert!(sim.enforcing);
    sim.assert_condition("Resolved", "False", "NoneResolved");
    sim.assert_condition("Applied", "True", "Applied");
    sim.assert_condition("Ready", "False", "NoneResolved");
}

#[test]
fn a_policy_without_hosts_is_written_at_once() {
    let sim = Sim::new(json!({"destinations": [{"ip": "8.8.8.8"}], "namespaces": ["backup-tools"]}));
    sim.assert_allowed(&["8.8.8.8"]);
    sim.assert_condition("Ready", "True", "Ready");
}

#[test]
fn a_removed_destination_goes_with_the_next_write_and_does_not_wait_for_new_hosts() {
    let mut sim = Sim::new(hosts(&["a.example", "b.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.answer("b.example", &["192.0.2.2"]);
    sim.spec(hosts(&["b.example", "new.example"]));
    sim.assert_allowed(&["192.0.2.2"]);
    assert_eq!(sim.lookups.len(), 2);
    sim.answer("new.example", &["192.0.2.3"]);
    sim.assert_allowed(&["192.0.2.2", "192.0.2.3"]);
}

#[test]
fn an_unchanged_answer_writes_nothing() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    for round in 0..20 {
        sim.answer("a.example", if round % 2 == 0 { &["192.0.2.1", "192.0.2.2"] } else { &["192.0.2.2", "192.0.2.1"] });
        sim.advance(Duration::from_secs(60));
    }
    assert_eq!(sim.revisions.len(), 1);
    assert_eq!(sim.statuses.len(), 1);
}

#[test]
fn a_newer_write_replaces_the_pending_one_and_both_outcomes_are_understood() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.hold = true;
    for last in 2..=5 {
        sim.answer("a.example", &[&format!("192.0.2.{last}")]);
    }
    sim.release();
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"]);
    sim.assert_condition("Applied", "True", "Applied");
    assert_eq!(sim.revisions.len(), 3, "create, the apply in flight, the latest");
}

#[test]
fn protected_and_terminating_namespaces_are_left_alone() {
    for (standing, reason) in [(Standing::Protected, "ProtectedNamespace"), (Standing::Terminating, "Pending")] {
        let mut sim = Sim::new(hosts(&["a.example"]));
        sim.input(Input::Standing(standing));
        assert!(sim.lookups.is_empty());
        sim.answer("a.example", &["192.0.2.1"]);
        sim.advance(Duration::from_secs(60));
        assert!(sim.stored.is_none() && !sim.enforcing, "{standing:?}");
        assert_eq!(sim.condition("Applied").unwrap().1, reason);
    }
}

#[test]
fn hosts_over_the_quota_are_not_looked_up_but_what_they_had_stays() {
    let mut sim = Sim::new(hosts(&["a.example", "b.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.answer("b.example", &["192.0.2.2"]);
    sim.input(Input::HostQuota(1));
    assert_eq!(sim.lookups.len(), 1);
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
    sim.assert_condition("Accepted", "False", "PartlyInvalid");
}
