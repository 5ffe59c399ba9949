use std::time::Duration;

use super::sim::{Sim, hosts};
use crate::answer::LookupFailure;
use crate::api::EgressPolicyStatus;
use crate::machine::Input;

#[test]
fn the_first_status_comes_after_the_outcome_of_the_first_write() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.hold = true;
    sim.answer("a.example", &["192.0.2.1"]);
    sim.advance(Duration::from_secs(9));
    assert!(sim.statuses.is_empty());
    sim.release();
    assert_eq!(sim.statuses.len(), 1);
    sim.assert_condition("Ready", "True", "Ready");
}

#[test]
fn pending_is_told_only_when_nothing_came_for_10_seconds() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.hold = true;
    sim.answer("a.example", &["192.0.2.1"]);
    sim.advance(Duration::from_secs(11));
    assert_eq!(sim.statuses.len(), 1);
    sim.assert_condition("Applied", "Unknown", "Pending");
}

#[test]
fn changes_without_a_transition_are_told_once_a_minute() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    for n in 1..=60 {
        sim.answer("a.example", &[&format!("192.0.2.{n}")]);
        sim.advance(Duration::from_secs(10));
    }
    sim.advance(Duration::from_secs(60));
    assert!((10..=12).contains(&sim.statuses.len()), "{} in 11 minutes", sim.statuses.len());
    assert_eq!(sim.statuses.last().unwrap().allowed_address_count, Some(60));
}

#[test]
fn a_transition_is_told_at_once_and_keeps_the_time_of_the_others() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    sim.advance(Duration::from_secs(30));
    sim.fail("a.example", LookupFailure::ServFail);
    assert_eq!(sim.statuses.len(), 2, "one for the transition");
    let (first, last) = (&sim.statuses[0].conditions, &sim.statuses[1].conditions);
    let time = |all: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition], kind: &str| {
        all.iter().find(|c| c.type_ == kind).unwrap().last_transition_time.clone()
    };
    assert_eq!(time(first, "Applied"), time(last, "Applied"));
    assert!(time(first, "Resolved") < time(last, "Resolved"));
}

#[test]
fn a_flapping_host_causes_at_most_one_event_in_10_minutes() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    for _ in 0..60 {
        sim.answer("a.example", &["192.0.2.1"]);
        sim.advance(Duration::from_secs(5));
        sim.fail("a.example", LookupFailure::Timeout);
        sim.advance(Duration::from_secs(5));
    }
    assert_eq!(sim.event_reasons().iter().filter(|reason| **reason == "LookupsFailing").count(), 1);
}

#[test]
fn each_of_500_dead_names_causes_one_event_however_long_it_stays_dead() {
    let failures = [LookupFailure::Timeout, LookupFailure::ServFail, LookupFailure::Refused];
    for n in 0..500 {
        let name = format!("dead-{n}.example");
        let mut sim = Sim::new(hosts(&[&name]));
        // It may have lived before.
        if n % 2 == 0 {
            sim.answer(&name, &["192.0.2.1"]);
        }
        for round in 0..120 {
            sim.fail(&name, failures[(n + round) % 3]);
            sim.advance(Duration::from_secs(10));
        }
        assert_eq!(sim.event_reasons(), ["LookupsFailing"], "{name}");
    }
}

#[test]
fn dead_names_of_one_policy_share_its_event() {
    let names: Vec<String> = (0..250).map(|n| format!("dead-{n}.example")).collect();
    let mut sim = Sim::new(hosts(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    for _ in 0..10 {
        for name in &names {
            sim.fail(name, LookupFailure::Timeout);
        }
        sim.advance(Duration::from_secs(60));
    }
    assert_eq!(sim.event_reasons(), ["LookupsFailing"]);
}

#[test]
fn a_status_lists_20_addresses_of_a_host_and_counts_them_all() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    let all: Vec<String> = (1..=30).map(|n| format!("192.0.2.{n}")).collect();
    sim.answer("a.example", &all.iter().map(String::as_str).collect::<Vec<_>>());
    let status = sim.machine.status(sim.now);
    assert_eq!((status.hosts[0].addresses.len(), status.hosts[0].address_count), (20, 30));
}

#[test]
fn an_update_is_logged_once_also_when_the_watch_shows_it_before_the_answer() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.hold = true;
    sim.answer("a.example", &["192.0.2.1"]);
    sim.release_behind_the_watch();
    assert_eq!((sim.revisions.len(), sim.updates), (1, 1));
    sim.hold = true;
    sim.answer("a.example", &["192.0.2.2"]);
    sim.release_behind_the_watch();
    assert_eq!((sim.revisions.len(), sim.updates), (2, 2));
    // Checkpoints change no spec.
    sim.advance(Duration::from_secs(86_400));
    assert!(sim.revisions.len() > 2);
    assert_eq!(sim.updates, 2);
}

#[test]
fn the_end_of_an_older_object_that_is_shown_late_leaves_no_pending_status() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1"]);
    // The policy was made anew: the watch shows the end of the object before ours after the answer to our own write.
    let object = sim.stored.clone();
    sim.hold = true;
    sim.input(Input::Live(None));
    sim.input(Input::Live(object.map(Box::new)));
    sim.release();
    let ready =
        |status: &EgressPolicyStatus| status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
    assert!(sim.statuses.last().is_some_and(ready), "{:?}", sim.statuses.last());
    assert_eq!(sim.revisions.len(), 1, "nothing is written twice");
}
