use std::time::Duration;

use super::world::{Query, Reply, World, addresses};
use crate::answer::Family;
use crate::lookups::{Lane, NORMAL_LANE, SLOW_LANE};
use crate::time::Instant;

/// Names that begin with "dead" are silent, all others live with a TTL of 20 s.
fn some_dead(query: &Query) -> Reply {
    if query.starts("dead") { Reply::Silence } else { addresses(&[1], 20) }
}

/// How late the lookups of the hosts with this prefix were, against a TTL of 20 s and a jitter of 0.2 s, at worst.
fn worst_lateness(world: &World, prefix: &str, from: Instant) -> Duration {
    let mut worst = Duration::ZERO;
    let mut last = std::collections::BTreeMap::new();
    for sent in world.sent.iter().filter(|sent| sent.query.starts(prefix)) {
        let key = (sent.query.host.clone(), sent.query.family);
        if let Some(before) = last.insert(key, sent.query.at)
            && before >= from
        {
            worst = worst.max(sent.query.at.since(before + Duration::from_millis(20_205)));
        }
    }
    worst
}

#[test]
fn five_hundred_new_dead_names_delay_no_live_one() {
    let mut world = World::new(1, some_dead);
    world.subscribe_many(1, "live", "live", 200);
    world.run(60.0);
    let from = world.now;
    world.subscribe_many(2, "dead", "dead", 500);
    world.subscribe(3, "new", &["new.example"], 600);
    world.run(120.0);
    let worst = worst_lateness(&world, "live", from - Duration::from_secs(20));
    assert!(worst <= Duration::from_millis(300), "a live name was {worst:?} late");
    let first = world.answered_after(from)["new.example"].since(from);
    assert!(first <= Duration::from_millis(300), "a new live name took {first:?}");
    assert!(world.cancelled > 0, "1,000 silent lookups do not fit the slow lane");
}

#[test]
fn a_silent_lookup_leaves_the_normal_lane_after_a_quarter_of_a_second() {
    let mut world = World::new(1, some_dead);
    // One live name, lest the server count as down.
    world.subscribe(1, "live", &["live.example"], 600);
    world.subscribe_many(2, "dead", "dead", 20);
    world.run(0.2);
    let before = world.lookups.stats();
    world.run(0.1);
    let after = world.lookups.stats();
    assert_eq!((before.normal, before.slow, after.normal, after.slow), (40, 0, 0, 40));
}

#[test]
fn what_finds_the_slow_lane_full_is_given_up_and_asked_again_there() {
    let mut world = World::new(1, some_dead);
    world.subscribe(1, "live", &["live.example"], 600);
    world.subscribe_many(2, "dead", "dead", 200);
    world.run(3.0);
    let stats = world.lookups.stats();
    assert_eq!((stats.normal, stats.slow), (0, SLOW_LANE));
    assert_eq!(world.cancelled, 400 - SLOW_LANE);
    assert_eq!(stats.queued, 400 - SLOW_LANE);
    world.run(6.0);
    let again = world.sent.iter().filter(|sent| sent.lane == Lane::Slow).count();
    assert!(again >= 400 - SLOW_LANE, "{again} lookups in the slow lane");
}

#[test]
fn a_name_known_to_be_slow_takes_only_the_slow_lane_until_it_is_quick_again() {
    let mut world = World::new(1, |query| {
        let answer = addresses(&[1], 20);
        match query.at.0 {
            ..70_000 => Reply::After(Duration::from_millis(400), Box::new(answer)),
            _ => answer,
        }
    });
    world.subscribe(1, "a", &["slow.example"], 600);
    world.run(150.0);
    let of_family = world.sent.iter().filter(|sent| sent.query.family == Family::V4);
    let lanes: Vec<Lane> = of_family.map(|sent| sent.lane).collect();
    use Lane::{Normal, Slow};
    assert_eq!(lanes, [Normal, Slow, Slow, Slow, Slow, Normal, Normal, Normal]);
}

#[test]
fn the_normal_lane_holds_sixty_four() {
    let mut world = World::new(1, |_| Reply::After(Duration::from_millis(200), Box::new(addresses(&[1], 60))));
    world.subscribe_many(1, "a", "h", 1_000);
    world.run(0.1);
    assert_eq!(world.lookups.stats().normal, NORMAL_LANE);
    assert_eq!(world.lookups.stats().queued, 2_000 - NORMAL_LANE);
    world.run(10.0);
    assert_eq!(world.sent.len(), 2_000);
}

#[test]
fn a_namespace_with_many_hosts_does_not_delay_another() {
    let mut world = World::new(1, |_| addresses(&[1], 60));
    world.subscribe_many(1, "big", "h", 5_000);
    world.run(0.1);
    let from = world.now;
    world.subscribe(2, "small", &["one.example"], 600);
    world.run(1.0);
    let took = world.answered_after(from)["one.example"].since(from);
    assert!(took <= Duration::from_millis(20), "{took:?}");
}

#[test]
fn due_names_come_before_new_ones() {
    let mut world = World::new(1, |_| addresses(&[1], 20));
    world.subscribe_many(1, "old", "old", 100);
    world.run(19.5);
    let from = world.now;
    world.subscribe_many(2, "new", "new", 5_000);
    world.run(5.0);
    let worst = worst_lateness(&world, "old", Instant(0));
    assert!(worst <= Duration::from_millis(60), "a due name was {worst:?} late");
    assert!(world.answered_after(from).len() > 4_000);
}

#[test]
fn more_due_names_than_the_rate_permits_do_not_starve_new_ones() {
    // 26,000 keys every 10 s: more than 2,000 per second.
    let mut world = World::new(1, |_| addresses(&[1], 0));
    world.subscribe_many(1, "old", "old", 13_000);
    world.run(30.0);
    let from = world.now;
    world.subscribe_many(2, "new", "new", 100);
    world.run(6.0);
    let answered = world.answered_after(from);
    let new = answered.keys().filter(|host| host.starts_with("new")).count();
    assert_eq!(new, 100);
}
