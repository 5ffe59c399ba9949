//! The life of a replica, one thing at a time.

use std::time::Duration;

use super::sim::{LEASE, SHARDS, Sim};

fn started(nodes: usize, seed: u64) -> Sim {
    let mut sim = Sim::new(nodes, seed);
    sim.fence = true;
    for node in 0..nodes {
        sim.start(node);
    }
    sim.run(LEASE * 6);
    sim.set_fence(false);
    sim.run(Duration::from_secs(1));
    sim
}

#[track_caller]
fn each_holds(sim: &Sim, expected: &[(&str, usize)]) {
    let expected = expected.iter().map(|(pod, count)| ((*pod).to_owned(), *count)).collect();
    assert_eq!(sim.holders(), expected, "{:?}", sim.log);
    for (shard, writers) in sim.writers() {
        assert_eq!(writers.len(), 1, "{shard:?} {writers:?}");
    }
    assert_eq!(sim.stale, Vec::<String>::new());
}

#[test]
fn one_replica_alone_holds_everything() {
    each_holds(&started(1, 1), &[("pod-0", 16)]);
}

#[test]
fn with_a_fence_the_first_replica_starts_within_a_second() {
    let mut sim = Sim::new(1, 3);
    sim.fence = true;
    sim.start(0);
    sim.run(Duration::from_secs(1));
    each_holds(&sim, &[("pod-0", 16)]);
}

#[test]
fn without_a_fence_the_shards_of_a_new_table_wait_a_lease() {
    let mut sim = Sim::new(1, 3);
    sim.start(0);
    sim.run(LEASE - Duration::from_secs(1));
    assert_eq!(sim.holders().get("nobody"), Some(&usize::from(SHARDS)));
    sim.run(Duration::from_secs(3));
    each_holds(&sim, &[("pod-0", 16)]);
}

#[test]
fn four_replicas_share_evenly() {
    each_holds(&started(4, 2), &[("pod-0", 4), ("pod-1", 4), ("pod-2", 4), ("pod-3", 4)]);
}

#[test]
fn a_replica_that_joins_moves_exactly_the_minimum() {
    let mut sim = Sim::new(4, 5);
    sim.fence = true;
    (0..3).for_each(|node| sim.start(node));
    sim.run(LEASE * 6);
    let before = sim.moved;
    sim.start(3);
    sim.run(LEASE * 4);
    assert_eq!(sim.moved - before, 4, "{:?}", sim.holders());
}

#[test]
fn the_shards_of_a_dead_replica_are_taken_over_within_a_lease_and_a_fifth() {
    let mut sim = started(3, 4);
    let mut longest = Duration::ZERO;
    sim.kill(1);
    while sim.holders().contains_key("pod-1") {
        sim.run(Duration::from_millis(50));
        longest += Duration::from_millis(50);
        assert!(longest < LEASE * 6 / 5, "{:?}", sim.holders());
    }
    assert!(longest > LEASE - Duration::from_secs(3), "declared dead after {longest:?}");
    sim.run(LEASE);
    each_holds(&sim, &[("pod-0", 8), ("pod-2", 8)]);
}

#[test]
fn a_replica_that_leaves_hands_everything_over() {
    let mut sim = started(3, 6);
    sim.leave(2);
    sim.run(LEASE / 2);
    each_holds(&sim, &[("pod-0", 8), ("pod-1", 8)]);
    assert_eq!(sim.api.leases.len(), 2, "its Lease is gone");
}

#[test]
fn the_last_replica_leaves_free_shards_and_the_next_takes_them_at_once() {
    let mut sim = started(1, 6);
    sim.leave(0);
    sim.run(LEASE / 2);
    assert_eq!(sim.holders().get("nobody"), Some(&usize::from(SHARDS)));
    sim.start(0);
    sim.run(Duration::from_secs(2));
    each_holds(&sim, &[("pod-0", 16)]);
}

#[test]
fn a_container_that_starts_again_in_its_pod_keeps_its_shards_without_waiting() {
    let mut sim = started(2, 7);
    sim.set_fence(true);
    sim.kill(0);
    sim.start(0);
    sim.run(Duration::from_secs(1));
    each_holds(&sim, &[("pod-0", 8), ("pod-1", 8)]);
    // Without a fence the requests of the dead process are waited for.
    sim.set_fence(false);
    sim.kill(1);
    sim.start(1);
    sim.run(LEASE / 5 + Duration::from_secs(1));
    each_holds(&sim, &[("pod-0", 8), ("pod-1", 8)]);
}

#[test]
fn another_pod_of_the_same_name_waits_for_the_death_of_the_first() {
    let mut sim = started(1, 8);
    sim.replace(0);
    sim.run(LEASE - Duration::from_secs(3));
    assert!(sim.writers().values().all(|writers| writers.is_empty()));
    sim.run(LEASE);
    each_holds(&sim, &[("pod-0", 16)]);
}

#[test]
fn half_a_lease_without_the_api_server_lapses_nobody() {
    let mut sim = started(3, 9);
    let (before, lapses) = (sim.holders(), sim.nodes.iter().map(|node| node.lapses).sum::<u32>());
    sim.api.away_until = sim.now + 7_500;
    sim.run(LEASE * 2);
    assert_eq!(sim.nodes.iter().map(|node| node.lapses).sum::<u32>(), lapses);
    assert_eq!(sim.holders(), before);
}

#[test]
fn after_two_leases_without_the_api_server_everybody_finds_its_own_shards_and_nothing_moves() {
    let mut sim = started(3, 10);
    let (before, moved) = (sim.holders(), sim.moved);
    sim.api.away_until = sim.now + 30_000;
    sim.run(LEASE * 2);
    assert!(sim.writers().values().all(|writers| writers.is_empty()), "all have lapsed");
    sim.run(LEASE);
    assert_eq!((sim.holders(), sim.moved), (before, moved));
    assert!(sim.writers().values().all(|writers| writers.len() == 1));
    assert_eq!(sim.stale, Vec::<String>::new());
}

#[test]
fn a_replica_that_was_stopped_for_two_leases_writes_nothing_when_it_goes_on() {
    let mut sim = started(3, 11);
    sim.pause(0, 30_000);
    sim.run(Duration::from_millis(29_999));
    assert!(!sim.holders().contains_key("pod-0"));
    sim.run(LEASE * 4);
    assert_eq!(sim.stale, Vec::<String>::new());
    assert_eq!(sim.holders().len(), 3, "it is back, with a share: {:?}", sim.holders());
}

#[test]
fn a_deleted_table_is_made_anew_and_nobody_overlaps() {
    let mut sim = started(3, 12);
    sim.delete_table();
    sim.run(LEASE * 5);
    assert_eq!(sim.stale, Vec::<String>::new());
    assert!(sim.writers().values().all(|writers| writers.len() == 1), "{:?}", sim.holders());
}

#[test]
fn leases_that_are_deleted_or_forged_move_nothing() {
    let mut sim = started(3, 13);
    let before = sim.moved;
    sim.delete_leases();
    sim.run(LEASE);
    sim.poison_leases();
    sim.run(LEASE * 2);
    assert_eq!(sim.moved, before);
}
