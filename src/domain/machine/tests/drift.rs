use std::time::Duration;

use serde_json::json;

use super::sim::{Sim, hosts};
use crate::machine::{Input, Standing};
use crate::write::WriteRequest;

fn converged() -> Sim {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.advance(Duration::from_secs(2));
    sim
}

fn widen(object: &mut k8s_openapi::api::networking::v1::NetworkPolicy) {
    object.spec = serde_json::from_value(json!({"policyTypes": ["Egress"], "egress": [{}]})).unwrap();
}

#[test]
fn a_hand_edit_and_a_deletion_are_put_right_at_once() {
    let mut sim = converged();
    sim.hand_edit(widen);
    sim.assert_allowed(&["192.0.2.1"]);
    sim.advance(Duration::from_secs(5));
    sim.hand_delete();
    sim.assert_allowed(&["192.0.2.1"]);
    sim.assert_condition("Applied", "True", "Applied");
}

#[test]
fn in_a_terminating_or_protected_namespace_nothing_is_written_or_repaired() {
    for standing in [Standing::Terminating, Standing::Protected] {
        let mut sim = converged();
        sim.input(Input::Standing(standing));
        let requests = sim.lanes.len();
        sim.hand_edit(widen);
        sim.advance(Duration::from_secs(86_400));
        sim.hand_edit(|object| object.metadata.labels = None);
        sim.answer("a.example", &["192.0.2.2"]);
        sim.spec(hosts(&["b.example"]));
        sim.advance(Duration::from_secs(86_400));
        sim.hand_delete();
        sim.advance(Duration::from_secs(86_400));
        assert_eq!((sim.lanes.len(), sim.revisions.len()), (requests, 1), "{standing:?}");
        assert!(sim.stored.is_none() && !sim.enforcing, "{standing:?}");
        // The same edits are put right where the namespace may be written to.
        sim.input(Input::Standing(Standing::Normal));
        assert_eq!(sim.revisions.len(), 2, "{standing:?}");
    }
}

#[test]
fn foreign_metadata_is_no_drift_but_our_label_and_owner_are() {
    let mut sim = converged();
    sim.hand_edit(|object| {
        object.metadata.annotations.get_or_insert_default().insert("team/note".into(), "hello".into());
    });
    assert_eq!(sim.revisions.len(), 1);
    sim.hand_edit(|object| object.metadata.labels = None);
    assert!(sim.stored.as_ref().unwrap().metadata.labels.is_some());
    sim.advance(Duration::from_secs(5));
    sim.hand_edit(|object| object.metadata.owner_references = None);
    assert!(sim.stored.as_ref().unwrap().metadata.owner_references.is_some());
}

#[test]
fn a_client_that_rewrites_ten_times_a_second_costs_at_most_20_writes_in_5_minutes() {
    let mut sim = converged();
    for _ in 0..3_000 {
        sim.hand_edit(|object| {
            widen(object);
            object.metadata.managed_fields = serde_json::from_value(json!([{"manager": "rogue"}])).unwrap();
        });
        sim.advance(Duration::from_millis(100));
    }
    assert!((4..=20).contains(&sim.revisions.len()), "{}", sim.revisions.len());
    sim.assert_condition("Applied", "False", "Contested");
    let message = sim.machine.status(sim.now).conditions.into_iter().find(|c| c.type_ == "Applied").unwrap().message;
    assert!(message.contains("rogue"), "{message}");
    assert_eq!(sim.event_reasons().iter().filter(|reason| **reason == "Contested").count(), 1);
    sim.advance(Duration::from_secs(1_200));
    sim.assert_allowed(&["192.0.2.1"]);
    sim.assert_condition("Applied", "True", "Applied");
}

#[test]
fn a_mutating_policy_costs_at_most_20_writes_in_5_minutes_and_is_named() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.mutation = Some(|spec| spec.pod_selector = serde_json::from_value(json!({"matchLabels": {"x": "y"}})).unwrap());
    sim.answer("a.example", &["192.0.2.1"]);
    sim.advance(Duration::from_secs(300));
    assert!((2..=20).contains(&sim.revisions.len()), "{}", sim.revisions.len());
    sim.assert_condition("Applied", "False", "Mutated");
    sim.mutation = None;
    sim.advance(Duration::from_secs(600));
    sim.assert_condition("Applied", "True", "Applied");
}

#[test]
fn what_we_write_ourselves_is_no_drift_when_the_watch_shows_it_before_the_answer() {
    let mut sim = converged();
    sim.hold = true;
    sim.answer("a.example", &["192.0.2.2"]);
    let (_, request) = sim.unanswered.last().cloned().unwrap();
    let WriteRequest::Apply(object) = request else { panic!("an apply") };
    sim.hand_edit(|stored| stored.spec = object.spec.clone());
    assert_eq!(sim.unanswered.len(), 1, "no repair");
}

#[test]
fn an_older_event_of_the_watch_is_no_news() {
    let mut sim = converged();
    let old = sim.stored.clone();
    sim.answer("a.example", &["192.0.2.2"]);
    let writes = sim.revisions.len();
    sim.input(crate::machine::Input::Live(old.map(Box::new)));
    assert_eq!(sim.revisions.len(), writes);
}

#[test]
fn a_deletion_that_the_watch_shows_before_the_answer_to_our_write_is_not_lost() {
    for created in [false, true] {
        let mut sim = Sim::new(hosts(&["a.example"]));
        if created {
            sim.answer("a.example", &["192.0.2.9"]);
        }
        sim.hold = true;
        sim.answer("a.example", &["192.0.2.1"]);
        sim.release_behind_a_deletion();
        sim.advance(Duration::from_secs(2));
        assert!(sim.allowed().contains("192.0.2.1"), "created before: {created}");
    }
}
