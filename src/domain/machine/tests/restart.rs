use std::time::Duration;

use serde_json::json;

use super::sim::{Sim, hosts};
use crate::answer::LookupFailure;
use crate::api::BOOK_ANNOTATION;

const DAY: Duration = Duration::from_secs(86_400);

fn converged() -> Sim {
    let mut sim = Sim::new(hosts(&["a.example", "b.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.answer("b.example", &["192.0.2.2"]);
    sim.advance(Duration::from_secs(3));
    sim
}

#[test]
fn a_restart_writes_nothing_when_nothing_changed() {
    let mut sim = converged();
    let statuses = sim.statuses.len();
    sim.restart();
    assert!(sim.enforcing, "the default deny is looked after from the start");
    sim.answer("a.example", &["192.0.2.1"]);
    sim.answer("b.example", &["192.0.2.2"]);
    sim.advance(Duration::from_secs(30));
    assert_eq!(sim.revisions.len(), 1);
    assert_eq!(sim.statuses.len(), statuses, "an equal status is not written again");
}

#[test]
fn a_restart_with_dns_down_removes_nothing() {
    let mut sim = converged();
    sim.restart();
    for failure in [LookupFailure::ServFail, LookupFailure::Refused, LookupFailure::Timeout] {
        sim.fail("a.example", failure);
        sim.fail("b.example", failure);
        sim.advance(DAY * 6);
    }
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
    assert!(sim.event_reasons().contains(&"LookupsFailing"));
}

#[test]
fn a_destination_removed_while_down_goes_at_start_before_any_answer() {
    let mut sim = converged();
    sim.spec_while_down(hosts(&["b.example"]));
    sim.restart();
    sim.assert_allowed(&["192.0.2.2"]);
}

#[test]
fn a_networkpolicy_opened_for_everybody_while_down_is_closed_to_the_book_with_dns_down() {
    for spec in [json!({"policyTypes": ["Egress"], "egress": [{}]}), json!({"policyTypes": ["Ingress"]})] {
        let mut sim = converged();
        sim.edit_while_down(|object| object.spec = serde_json::from_value(spec).unwrap());
        sim.restart();
        sim.fail("a.example", LookupFailure::ServFail);
        sim.fail("b.example", LookupFailure::ServFail);
        sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
    }
}

#[test]
fn a_networkpolicy_widened_while_down_is_put_right_at_start() {
    let mut sim = converged();
    sim.edit_while_down(|object| {
        let spec = object.spec.as_mut().unwrap();
        spec.egress
            .get_or_insert_default()
            .push(serde_json::from_value(json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]})).unwrap());
    });
    sim.restart();
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn a_book_that_names_more_than_the_live_spec_allows_widens_nothing() {
    let mut sim = converged();
    sim.edit_while_down(|object| {
        let book = r#"{"v":1,"hosts":{"a.example":{"192.0.2.1":29395000,"203.0.113.66":29395000}}}"#;
        object.metadata.annotations.get_or_insert_default().insert(BOOK_ANNOTATION.to_owned(), book.to_owned());
    });
    sim.restart();
    assert!(!sim.allowed().contains("203.0.113.66"));
}

#[test]
fn a_poisoned_status_changes_nothing_but_itself() {
    let mut sim = converged();
    let mut status = sim.statuses.last().cloned().unwrap();
    status.hosts[0].addresses = vec!["203.0.113.66".to_owned()];
    status.hosts[0].address_count = 2;
    let (revisions, statuses) = (sim.revisions.len(), sim.statuses.len());
    sim.boot_again(Some(status));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.answer("b.example", &["192.0.2.2"]);
    assert_eq!((sim.revisions.len(), sim.statuses.len()), (revisions, statuses + 1));
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn a_lost_book_keeps_every_block_until_the_hosts_have_answered() {
    for book in [None, Some("garbage"), Some(r#"{"v":99,"hosts":{}}"#)] {
        let mut sim = converged();
        sim.edit_while_down(|object| {
            let annotations = object.metadata.annotations.get_or_insert_default();
            annotations.remove(BOOK_ANNOTATION);
            annotations.extend(book.map(|text| (BOOK_ANNOTATION.to_owned(), text.to_owned())));
        });
        sim.restart();
        sim.fail("a.example", LookupFailure::Timeout);
        sim.fail("b.example", LookupFailure::Timeout);
        sim.advance(Duration::from_secs(60));
        sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
        sim.answer("a.example", &["192.0.2.1"]);
        sim.answer("b.example", &["192.0.2.3"]);
        sim.assert_allowed(&["192.0.2.1", "192.0.2.3"]);
        assert_eq!(sim.revisions.len(), 2, "one write");
        assert!(sim.event_reasons().contains(&"BookLost"));
    }
}

#[test]
fn a_start_that_does_not_see_its_object_reads_the_book_before_it_narrows_anything() {
    let mut sim = converged();
    let object = sim.stored.take();
    // The label is gone, so the watch shows nothing.
    sim.restart();
    sim.stored = object;
    sim.edit_while_down(|object| object.metadata.labels = None);
    sim.fail("a.example", LookupFailure::Timeout);
    sim.fail("b.example", LookupFailure::Timeout);
    sim.advance(Duration::from_secs(6));
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
    assert!(sim.stored.as_ref().unwrap().metadata.labels.is_some(), "the label is back");
}

#[test]
fn a_policy_made_anew_takes_its_object_over_by_repairing_the_owner() {
    let mut sim = converged();
    sim.recreate_policy();
    let owners = sim.stored.as_ref().unwrap().metadata.owner_references.clone().unwrap();
    assert_eq!(owners.iter().map(|owner| owner.uid.as_str()).collect::<Vec<_>>(), ["uid-2"]);
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn a_clock_set_back_expires_nothing_and_a_stored_future_is_clamped() {
    let mut sim = converged();
    sim.now.unix.0 -= 86_400 * 365;
    sim.restart();
    sim.answer("a.example", &["192.0.2.7"]);
    sim.answer("b.example", &["192.0.2.2"]);
    sim.advance(DAY);
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2", "192.0.2.7"]);
    sim.advance(DAY * 8);
    sim.answer("a.example", &["192.0.2.7"]);
    sim.assert_allowed(&["192.0.2.2", "192.0.2.7"]);
}
