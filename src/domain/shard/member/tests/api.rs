//! An API server that is in trouble, and a fence that goes.

use std::time::Duration;

use super::sim::{LEASE, SHARDS, Sim};

fn started(nodes: usize, seed: u64) -> Sim {
    let mut sim = Sim::new(nodes, seed);
    sim.fence = true;
    (0..nodes).for_each(|node| sim.start(node));
    sim.run(LEASE * 6);
    sim
}

#[test]
fn a_fence_that_went_with_the_table_is_not_trusted() {
    let mut sim = started(2, 14);
    // Nobody is told.
    sim.fence = false;
    sim.delete_table();
    sim.run(LEASE - Duration::from_secs(1));
    assert_eq!(sim.holders().get("nobody"), Some(&usize::from(SHARDS)), "a holder may write for a lease more");
    sim.run(LEASE);
    assert!(!sim.holders().contains_key("nobody"));
    assert_eq!(sim.stale, Vec::<String>::new());
}

#[test]
fn a_fence_that_is_still_there_lets_a_new_table_be_used_at_once() {
    let mut sim = started(2, 15);
    sim.delete_table();
    sim.run(Duration::from_secs(3));
    assert!(!sim.holders().contains_key("nobody"), "{:?}", sim.holders());
}

#[test]
fn an_api_server_that_refuses_connections_is_not_asked_about_a_dead_replica_without_pause() {
    let mut sim = started(3, 16);
    sim.kill(0);
    sim.run(LEASE - Duration::from_secs(2));
    let before = sim.api.lease_reads;
    sim.api.refuses_at_once = true;
    sim.api.away_until = sim.now + 6_000;
    sim.run(Duration::from_secs(6));
    let reads = sim.api.lease_reads - before;
    assert!((1..=26).contains(&reads), "two replicas, every half second: {reads}");
    sim.run(LEASE * 2);
    assert!(!sim.holders().contains_key("pod-0"), "{:?}", sim.holders());
}

#[test]
fn shards_that_were_being_read_in_an_earlier_life_are_stopped_when_another_replica_takes_them() {
    let mut sim = started(2, 17);
    sim.load = 90_000;
    sim.kill(0);
    sim.start(0);
    sim.run(Duration::from_millis(2_500));
    assert_eq!(sim.nodes[0].running.len(), usize::from(SHARDS) / 2, "being read");
    // It lapses, joins again under new epochs, and is stopped before its stamps are taken.
    sim.api.is_behind = true;
    sim.nodes[0].cut_until = sim.now + 12_000;
    sim.run(Duration::from_millis(13_500));
    assert_eq!(sim.nodes[0].lapses, 1);
    assert!(sim.holders().contains_key("pod-0"), "{:?}", sim.holders());
    sim.pause(0, 40_000);
    sim.api.is_behind = false;
    sim.run(Duration::from_secs(41));
    assert_eq!(sim.holders().get("pod-1"), Some(&usize::from(SHARDS)));
    assert_eq!(sim.strays(), Vec::<String>::new());
}
