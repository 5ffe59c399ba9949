use std::time::Duration;

use super::sim::{Sim, hosts};
use crate::guard::GuardRail;
use crate::machine::Input;
use crate::settings::Settings;

#[test]
fn a_guarded_address_never_appears_and_the_condition_says_so() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe"]);
    sim.assert_allowed(&["192.0.2.1"]);
    sim.assert_condition("AddressesDropped", "True", "GuardRail");
    assert!(sim.event_reasons().contains(&"GuardRail"));
    sim.answer("a.example", &["192.0.2.1"]);
    assert_eq!(sim.condition("AddressesDropped"), None);
}

#[test]
fn a_host_with_guarded_addresses_only_opens_nothing() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["127.0.0.1"]);
    sim.assert_allowed(&[]);
}

#[test]
fn an_address_that_becomes_guarded_goes_at_once() {
    let mut sim = Sim::new(hosts(&["a.example"]));
    sim.answer("a.example", &["192.0.2.1", "192.0.2.2"]);
    sim.cluster.guard = GuardRail { nodes: vec!["192.0.2.1".parse().unwrap()], ..sim.cluster.guard.clone() };
    sim.input(Input::Cluster(sim.cluster.clone().into()));
    sim.assert_allowed(&["192.0.2.2"]);
}

#[test]
fn names_of_the_cluster_are_not_looked_up_and_service_addresses_are_not_opened() {
    let mut sim = Sim::new(hosts(&["db.team.svc.cluster.local", "inside.example"]));
    assert_eq!(sim.lookups.len(), 1);
    sim.answer("inside.example", &["10.96.0.20"]);
    sim.assert_allowed(&[]);
    sim.assert_condition("Resolved", "False", "ClusterLocalName");
    assert_eq!(sim.condition("AddressesDropped"), None, "that reason only");
}

#[test]
fn a_host_with_4000_addresses_meets_the_cap_and_does_not_churn() {
    let mut sim = Sim::new(hosts(&["huge.example"]));
    let all: Vec<String> = (0..4_000_u32).map(|n| format!("203.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for _ in 0..5 {
        sim.answer("huge.example", &all);
        sim.advance(Duration::from_secs(60));
    }
    assert_eq!(sim.allowed().len(), 1_000);
    assert_eq!(sim.revisions.len(), 1);
    sim.assert_condition("AddressesDropped", "True", "HostCap");
}

#[test]
fn a_rotating_host_at_its_cap_causes_one_write_a_minute_at_most() {
    let settings = Settings { max_addresses_per_host: 8, ..Settings::default() };
    let mut sim = Sim::with(hosts(&["a.example"]), None, settings);
    for round in 0..120_u32 {
        let answer: Vec<String> = (0..4).map(|n| format!("203.0.{}.{n}", round % 250)).collect();
        sim.answer("a.example", &answer.iter().map(String::as_str).collect::<Vec<_>>());
        sim.advance(Duration::from_secs(5));
    }
    assert_eq!(sim.allowed().len(), 8);
    assert!((10..=13).contains(&sim.revisions.len()), "{} writes in 10 minutes", sim.revisions.len());
}

#[test]
fn the_policy_cap_counts_pairs_of_all_hosts() {
    let settings = Settings { max_addresses_per_policy: 3, ..Settings::default() };
    let mut sim = Sim::with(hosts(&["a.example", "b.example"]), None, settings);
    sim.answer("a.example", &["192.0.2.1", "192.0.2.2"]);
    sim.answer("b.example", &["192.0.2.3", "192.0.2.4"]);
    assert_eq!(sim.allowed().len(), 3);
    sim.assert_condition("AddressesDropped", "True", "PolicyCap");
}
