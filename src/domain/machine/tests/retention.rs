use std::time::Duration;

use serde_json::json;

use super::sim::{Sim, hosts};
use crate::answer::{Family, LookupFailure};
use crate::settings::{Settings, StaleAction};
use crate::write::Lane;

const HOUR: Duration = Duration::from_secs(3_600);

fn with_retention(seconds: u32) -> Sim {
    let mut spec = hosts(&["a.example"]);
    spec["retentionSeconds"] = json!(seconds);
    let mut sim = Sim::new(spec);
    sim.answer("a.example", &["192.0.2.1", "2001:db8::1"]);
    sim
}

#[test]
fn an_address_goes_with_the_first_answer_that_lacks_it_after_the_retention() {
    let mut sim = with_retention(6 * 3_600);
    sim.advance(HOUR * 3);
    sim.answer("a.example", &["192.0.2.2", "2001:db8::1"]);
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    sim.advance(HOUR * 3);
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    sim.advance(Duration::from_secs(61));
    sim.answer("a.example", &["192.0.2.2", "2001:db8::1"]);
    sim.assert_allowed(&["192.0.2.2", "2001:db8::1"]);
    assert_eq!(sim.lanes.last(), Some(&Lane::Expired));
}

#[test]
fn failure_never_expires_whatever_the_time() {
    let mut sim = with_retention(60);
    for _ in 0..40 {
        sim.advance(HOUR * 24);
        sim.fail("a.example", LookupFailure::Timeout);
    }
    sim.assert_allowed(&["192.0.2.1", "2001:db8::1"]);
    sim.assert_condition("Resolved", "False", "Stale");
}

#[test]
fn a_lost_family_keeps_its_addresses_while_the_other_moves_on() {
    let mut sim = with_retention(60);
    sim.advance(HOUR);
    sim.answer_family("a.example", Family::V4, &["192.0.2.9"], &[]);
    sim.resolve("a.example", Family::V6, crate::answer::Outcome::Failure(LookupFailure::ServFail));
    sim.assert_allowed(&["192.0.2.9", "2001:db8::1"]);
    sim.assert_condition("Resolved", "True", "AllResolved");
}

#[test]
fn nxdomain_is_an_answer_and_expires_after_the_retention_only() {
    let mut sim = with_retention(6 * 3_600);
    sim.nxdomain("a.example");
    sim.assert_allowed(&["192.0.2.1", "2001:db8::1"]);
    sim.advance(HOUR * 6 + Duration::from_secs(61));
    sim.nxdomain("a.example");
    sim.assert_allowed(&[]);
    sim.assert_condition("Resolved", "False", "NoneResolved");
}

#[test]
fn without_retention_an_address_goes_at_once_but_not_while_another_server_holds_it() {
    let mut sim = with_retention(0);
    sim.advance(Duration::from_secs(61));
    sim.answer_family("a.example", Family::V4, &["192.0.2.2"], &["192.0.2.1"]);
    sim.assert_allowed(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    sim.answer_family("a.example", Family::V4, &["192.0.2.2"], &[]);
    sim.assert_allowed(&["192.0.2.2", "2001:db8::1"]);
}

#[test]
fn checkpoints_come_at_a_fourteenth_of_the_retention_and_none_for_short_ones() {
    for (retention, expected) in [(7 * 86_400, 2..=3), (3_600, 0..=0)] {
        let mut sim = with_retention(retention);
        sim.advance(HOUR * 30);
        let checkpoints = sim.lanes.iter().filter(|lane| **lane == Lane::Checkpoint).count();
        assert!(expected.contains(&checkpoints), "{retention} s: {checkpoints}");
        assert!(sim.revisions.windows(2).all(|pair| pair[0] == pair[1]), "a checkpoint re-sends the confirmed spec");
    }
}

#[test]
fn a_restart_never_expires_early() {
    for retention in [3_600_u32, 7 * 86_400] {
        let mut sim = with_retention(retention);
        let seen = Duration::from_secs(u64::from(retention)) - HOUR / 2;
        // Held by an answer shortly before the restart, which nothing may have stored.
        sim.advance(seen);
        sim.answer("a.example", &["192.0.2.1", "2001:db8::1"]);
        sim.restart();
        sim.advance(HOUR / 2 + Duration::from_secs(120));
        sim.answer("a.example", &["192.0.2.2"]);
        assert!(sim.allowed().contains("192.0.2.1"), "retention {retention}");
    }
}

#[test]
fn stale_addresses_go_only_when_told_so() {
    let settings = Settings { stale_action: StaleAction::Drop, ..Settings::default() };
    let mut sim = Sim::with(hosts(&["a.example"]), None, settings);
    sim.answer("a.example", &["192.0.2.1"]);
    sim.advance(HOUR * 24 * 29);
    sim.fail("a.example", LookupFailure::Timeout);
    sim.assert_allowed(&["192.0.2.1"]);
    sim.advance(HOUR * 24 * 2);
    sim.fail("a.example", LookupFailure::Timeout);
    sim.assert_allowed(&[]);
}

#[test]
fn a_rotating_pool_is_learned_once_and_then_nothing_is_written() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    let pool: Vec<String> = (1..=40).map(|n| format!("192.0.2.{n}")).collect();
    for round in 0..200_usize {
        let answer: Vec<&str> = (0..4).map(|n| pool[(round * 4 + n) % 40].as_str()).collect();
        sim.answer("a.example", &answer);
        sim.advance(Duration::from_secs(10));
    }
    assert_eq!(sim.allowed().len(), 40);
    assert_eq!(sim.revisions.len(), 10, "one write per new part of the pool");
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn an_address_that_comes_back_after_days_does_not_go_early_when_the_controller_restarts_soon_after() {
    let mut sim = with_retention(7 * 86_400);
    sim.answer("a.example", &["192.0.2.2"]);
    for _ in 0..12 {
        sim.advance(DAY / 2);
        sim.answer("a.example", &["192.0.2.2"]);
    }
    sim.advance(HOUR * 2);
    sim.answer("a.example", &["192.0.2.1"]);
    sim.advance(Duration::from_secs(1));
    sim.restart();
    sim.advance(DAY * 2);
    sim.answer("a.example", &["192.0.2.2"]);
    assert!(sim.allowed().contains("192.0.2.1"), "answered two days ago, kept for seven");
}

#[test]
fn restarts_in_a_row_put_no_checkpoint_off_for_ever() {
    let mut sim = with_retention(7 * 86_400);
    let both = ["192.0.2.1", "2001:db8::1"];
    for _ in 0..50 {
        sim.advance(HOUR * 5);
        sim.answer("a.example", &both);
        sim.restart();
        sim.answer("a.example", &both);
    }
    sim.advance(HOUR);
    sim.answer("a.example", &["192.0.2.2"]);
    assert!(sim.allowed().contains("192.0.2.1"), "answered an hour ago");
    let checkpoints = sim.lanes.iter().filter(|lane| **lane == Lane::Checkpoint).count();
    assert!((10..=30).contains(&checkpoints), "about two a day, whatever the restarts: {checkpoints}");
}

#[test]
fn a_longer_retention_stores_at_once_when_addresses_were_seen() {
    let mut sim = with_retention(3_600);
    let both = ["192.0.2.1", "2001:db8::1"];
    for _ in 0..10 {
        sim.advance(DAY);
        sim.answer("a.example", &both);
    }
    let mut spec = hosts(&["a.example"]);
    spec["retentionSeconds"] = json!(7 * 86_400);
    sim.spec(spec);
    sim.advance(Duration::from_secs(1));
    sim.restart();
    sim.advance(HOUR);
    sim.answer("a.example", &["192.0.2.2"]);
    assert!(sim.allowed().contains("192.0.2.1"), "answered an hour ago");
}

#[test]
fn addresses_that_come_back_one_after_the_other_cost_a_checkpoint_an_hour_at_most() {
    let mut sim = with_retention(7 * 86_400);
    let pool: Vec<String> = (1..=50).map(|n| format!("198.51.100.{n}")).collect();
    sim.answer("a.example", &pool.iter().map(String::as_str).collect::<Vec<_>>());
    for _ in 0..26 {
        sim.advance(HOUR / 2);
        sim.answer("a.example", &["192.0.2.1"]);
    }
    let checkpoints = |sim: &Sim| sim.lanes.iter().filter(|lane| **lane == Lane::Checkpoint).count();
    let before = checkpoints(&sim);
    for address in &pool {
        sim.advance(Duration::from_secs(120));
        sim.answer("a.example", &[address]);
    }
    let more = checkpoints(&sim) - before;
    assert!((1..=2).contains(&more), "{more} in 100 minutes");
}
