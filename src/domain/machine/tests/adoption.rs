use std::time::Duration;

use serde_json::{Value, json};

use super::sim::{Sim, foreign, hosts};
use crate::answer::LookupFailure;
use crate::settings::{Adoption, Settings};

fn seed_spec() -> Value {
    json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
        {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
         "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
        {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}, {"ipBlock": {"cidr": "172.16.0.10/32"}}],
         "ports": [{"protocol": "TCP", "port": 443}]},
        {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "backup-tools"}}}]}]})
}

#[test]
fn an_object_of_the_python_operator_is_taken_over_with_one_write_after_first_sight() {
    let mut sim = Sim::with(hosts(&["a.example"]), Some(foreign(seed_spec())), Settings::default());
    assert!(sim.revisions.is_empty());
    sim.assert_allowed(&["192.0.2.1", "172.16.0.10"]);
    sim.answer("a.example", &["192.0.2.1"]);
    assert_eq!(sim.revisions.len(), 1);
    sim.assert_allowed(&["192.0.2.1"]);
    let adopted = sim.events.iter().find(|event| event.reason == "Adopted").unwrap();
    assert!(adopted.note.contains("172.16.0.10/32") && !adopted.note.contains("192.0.2.1"), "{}", adopted.note);
    sim.restart();
    sim.answer("a.example", &["192.0.2.1"]);
    assert_eq!(sim.revisions.len(), 1);
}

#[test]
fn an_unlabelled_object_that_no_watch_shows_is_found_by_the_create() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.stored = Some(foreign(seed_spec()));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.assert_allowed(&["192.0.2.1"]);
    assert_eq!((sim.revisions.len(), sim.reads), (1, 1));
}

#[test]
fn taking_over_waits_for_dns() {
    let mut sim = Sim::with(hosts(&["a.example", "b.example"]), Some(foreign(seed_spec())), Settings::default());
    sim.fail("a.example", LookupFailure::Timeout);
    sim.fail("b.example", LookupFailure::Timeout);
    sim.advance(Duration::from_secs(120));
    assert!(sim.revisions.is_empty(), "no host has answered: nothing is known better");
    sim.answer("a.example", &["192.0.2.1"]);
    assert!(sim.revisions.is_empty(), "b.example may be about to answer");
    sim.advance(Duration::from_secs(10));
    assert_eq!(sim.revisions.len(), 1, "b.example stays dead");
}

#[test]
fn somebody_elses_object_is_left_alone_and_taken_up_within_5_minutes_of_going_away() {
    let mut spec = seed_spec();
    spec["egress"][1]["ports"][0]["port"] = json!(8443);
    for (object, adoption) in [(foreign(spec), Adoption::Seed), (foreign(seed_spec()), Adoption::Never)] {
        let settings = Settings { adoption, ..Settings::default() };
        let mut sim = Sim::with(hosts(&["a.example"]), Some(object), settings);
        sim.answer("a.example", &["192.0.2.1"]);
        sim.advance(Duration::from_secs(900));
        assert!(sim.revisions.is_empty());
        sim.assert_condition("Applied", "False", "NameConflict");
        assert!(sim.enforcing, "fail closed");
        assert_eq!(
            sim.event_reasons().iter().filter(|reason| **reason == "NameConflict").count(),
            2,
            "one in 10 minutes"
        );
        sim.stored = None;
        sim.advance(Duration::from_secs(300));
        sim.assert_allowed(&["192.0.2.1"]);
        sim.assert_condition("Applied", "True", "Applied");
    }
}

#[test]
fn an_annotation_hands_a_foreign_object_over() {
    let mut object = foreign(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}));
    object.metadata.annotations.get_or_insert_default().insert("platform.example.com/adopt".into(), "true".into());
    let mut sim = Sim::with(hosts(&["a.example"]), Some(object), Settings::default());
    sim.answer("a.example", &["192.0.2.1"]);
    sim.assert_allowed(&["192.0.2.1"]);
}
