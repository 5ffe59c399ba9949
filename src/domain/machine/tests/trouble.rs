use std::time::Duration;

use super::sim::{Sim, hosts};
use crate::machine::Input;
use crate::write::{WriteOutcome, WriteRequest};

fn reject_applies(request: &WriteRequest) -> Option<WriteOutcome> {
    matches!(request, WriteRequest::Apply(_)).then(|| WriteOutcome::Rejected("no".to_owned()))
}

fn reject_all(request: &WriteRequest) -> Option<WriteOutcome> {
    (!matches!(request, WriteRequest::Read)).then(|| WriteOutcome::TooLarge("2 MiB".to_owned()))
}

#[test]
fn a_refused_write_keeps_the_old_object_and_says_so_and_is_tried_again_in_5_minutes() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.refusal = Some(reject_applies);
    sim.answer("a.example", &["192.0.2.2"]);
    sim.assert_allowed(&["192.0.2.1"]);
    sim.assert_condition("Applied", "False", "Rejected");
    assert!(sim.event_reasons().contains(&"Rejected"));
    let asked = sim.lanes.len();
    sim.advance(Duration::from_secs(299));
    assert_eq!(sim.lanes.len(), asked);
    sim.refusal = None;
    sim.advance(Duration::from_secs(2));
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
    sim.assert_condition("Applied", "True", "Applied");
}

#[test]
fn a_first_write_that_is_refused_closes_the_namespace_all_the_same() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.refusal = Some(reject_all);
    sim.answer("a.example", &["192.0.2.1"]);
    assert!(sim.enforcing && sim.stored.is_none());
    sim.assert_condition("Applied", "False", "TooLarge");
}

#[test]
fn other_content_is_tried_at_once_after_a_refusal() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.refusal = Some(reject_applies);
    sim.answer("a.example", &["192.0.2.2"]);
    sim.refusal = None;
    sim.spec(hosts(&["b.example"]));
    sim.assert_allowed(&[]);
}

#[test]
fn an_object_that_is_replaced_under_our_hands_is_reread_and_written() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    let mut other = sim.stored.clone().unwrap();
    other.metadata.uid = Some("np-other".to_owned());
    sim.stored = Some(other);
    sim.answer("a.example", &["192.0.2.2"]);
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
    sim.stored = None;
    sim.answer("a.example", &["192.0.2.3"]);
    sim.advance(Duration::from_secs(5));
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
}

#[test]
fn a_fenced_write_that_was_stored_all_the_same_is_not_stored_again_under_the_next_epoch() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.hold = true;
    sim.answer("a.example", &["192.0.2.2"]);
    sim.release_behind_the_fence();
    sim.assert_condition("Applied", "False", "Fenced");
    let (revisions, reads) = (sim.revisions.len(), sim.reads);
    sim.input(Input::Resumed { status_lost: false });
    assert_eq!((sim.revisions.len(), sim.reads), (revisions, reads + 1));
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
    sim.assert_condition("Applied", "True", "Applied");
}

#[test]
fn a_fenced_write_that_was_not_stored_is_written_once_under_the_next_epoch() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.refusal = Some(|request| matches!(request, WriteRequest::Apply(_)).then_some(WriteOutcome::Fenced));
    sim.answer("a.example", &["192.0.2.2"]);
    sim.refusal = None;
    let revisions = sim.revisions.len();
    sim.input(Input::Resumed { status_lost: false });
    assert_eq!(sim.revisions.len(), revisions + 1);
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
    sim.assert_condition("Applied", "True", "Applied");
}

#[test]
fn a_change_whose_write_is_replaced_by_a_look_at_the_object_is_written_after_it() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.hold = true;
    sim.answer("a.example", &["192.0.2.1"]);
    let (create, _) = sim.commit_without_answer();
    sim.answer("a.example", &["192.0.2.2"]);
    // Sent again, the create finds the object there. In the queue the look at it takes the place of the apply.
    sim.input(Input::Outcome { seq: create, outcome: WriteOutcome::AlreadyExists });
    let kinds: Vec<bool> = sim.unanswered.iter().map(|(_, request)| matches!(request, WriteRequest::Read)).collect();
    assert_eq!(kinds, [false, true], "an apply, then the look");
    sim.unanswered.remove(0);
    sim.release();
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
}
