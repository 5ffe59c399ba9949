use super::world::{Reply, World, addresses};
use crate::answer::{AnswerKind, Family, LookupFailure};
use crate::lookups::{Lane, SubscriberId};
use crate::time::Instant;

const HOST: &str = "api.example";

/// Seconds between the lookups of a host with this TTL and refresh interval, over ten minutes; the first of a long interval
/// comes in its second half.
#[track_caller]
fn check(ttl: u64, refresh: u64, expected: f64) {
    let mut world = World::new(1, move |_| addresses(&[1], ttl));
    world.subscribe(1, "a", &[HOST], refresh);
    world.run(600.0);
    let times = world.times(HOST, Family::V4);
    assert!(times.len() > 1, "ttl {ttl}: asked once");
    for (number, pair) in times.windows(2).enumerate() {
        let between = pair[1].since(pair[0]).as_secs_f64();
        let least = if number == 0 && expected >= 40.0 { expected / 2.0 } else { expected };
        assert!((least..expected + 0.21).contains(&between), "ttl {ttl}: {between} s");
    }
}

#[test]
fn a_name_is_asked_again_when_its_answer_expires() {
    check(30, 600, 30.0);
    check(11, 600, 11.0);
}

#[test]
fn a_ttl_of_zero_does_not_spin() {
    check(0, 600, 10.0);
    check(0, 1, 10.0);
}

#[test]
fn the_refresh_interval_cuts_a_long_ttl() {
    check(1 << 31, 60, 60.0);
    check(u64::from(u32::MAX), 500, 500.0);
}

#[test]
fn the_shortest_interval_of_all_subscribers_counts_as_soon_as_it_changes() {
    let mut world = World::new(1, |_| addresses(&[1], 10_000));
    world.subscribe(1, "a", &[HOST], 600);
    world.run(20.0);
    world.subscribe(2, "b", &[HOST], 60);
    world.run(65.0);
    assert_eq!(world.times(HOST, Family::V4).len(), 2, "at 0 and between 30 and 60");
    world.lookups.unsubscribe(SubscriberId(2));
    world.run(540.0);
    assert_eq!(world.times(HOST, Family::V4).len(), 2, "the next between 630 and 660");
    world.run(40.0);
    assert_eq!(world.times(HOST, Family::V4).len(), 3);
}

#[test]
fn ten_thousand_subscribers_cost_one_lookup_per_server_family_and_ttl() {
    let mut world = World::new(3, |_| addresses(&[1], 60));
    for id in 0..10_000 {
        world.subscribe(id, &format!("ns{}", id % 100), &[HOST], 600);
    }
    world.run(29.0);
    assert_eq!(world.sent.len(), 3 * 2);
    assert_eq!(world.heard[0].subscribers.len(), 10_000);
    // The first answers are asked again early, between 30 and 60 s; from then on every minute.
    world.run(32.0);
    assert_eq!(world.sent.len(), 2 * 3 * 2);
    world.run(60.0);
    assert_eq!(world.sent.len(), 3 * 3 * 2);
}

#[test]
fn only_a_first_lookup_may_be_served_from_the_cache() {
    let mut world = World::new(1, |query| match query.at.0 {
        ..1_500 => Reply::Fails(LookupFailure::ServFail),
        _ => addresses(&[1], 30),
    });
    world.subscribe(1, "a", &[HOST], 600);
    world.run(70.0);
    let of_family = world.sent.iter().filter(|sent| sent.query.family == Family::V4 && sent.lane != Lane::Probe);
    let refreshes: Vec<bool> = of_family.map(|sent| sent.refresh).collect();
    assert!(!refreshes[0] && refreshes[refreshes.len() - 1], "{refreshes:?}");
    assert!(world.sent.iter().filter(|sent| sent.lane == Lane::Probe).all(|probe| probe.refresh));
}

#[test]
fn a_failing_name_backs_off_to_five_minutes_and_comes_back_at_once_when_it_answers() {
    let mut world = World::new(1, |query| match query.host.as_str() {
        "dead.example" if query.at.0 < 4_000_000 => Reply::Fails(LookupFailure::ServFail),
        _ => addresses(&[1], 10),
    });
    world.subscribe(1, "a", &["dead.example", "live.example"], 20);
    world.run(3_990.0);
    let times = world.times("dead.example", Family::V4);
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1].since(pair[0]).as_secs_f64()).collect();
    // Up to a tenth of a second more: a failure that finds no recent success waits for a probe.
    // The first failure comes before the server has answered anything, and is forgiven as soon as it does.
    for (nth, gap) in gaps.iter().skip(1).enumerate() {
        let full = f64::from(1_u32 << nth.min(9)).min(300.0);
        assert!(*gap >= 0.75 * full && *gap <= full + 0.1, "{gaps:?}");
    }
    assert!((18..=24).contains(&times.len()), "{} lookups", times.len());
    world.run(400.0);
    let after = world.times("dead.example", Family::V4);
    let last: Vec<&Instant> = after.iter().rev().take(2).collect();
    assert!(last[0].since(*last[1]).as_secs() < 21, "its refresh interval holds again");
}

#[test]
fn an_answer_ends_the_back_off() {
    let failing = |at: u64| at < 600_000 || (1_000_000..1_011_000).contains(&at);
    let mut world = World::new(1, move |query| match query.host.as_str() {
        "flaky.example" if failing(query.at.0) => Reply::Fails(LookupFailure::ServFail),
        _ => addresses(&[1], 0),
    });
    // Many live names, so that the server is never in doubt.
    world.subscribe_many(1, "live", "live", 100);
    world.subscribe(2, "a", &["flaky.example"], 600);
    world.run_to(Instant(1_030_000));
    // The second outage begins with a back-off of a second, as the first did.
    let times = world.times("flaky.example", Family::V4);
    let first = times.iter().position(|at| at.0 >= 1_000_000).unwrap();
    let next = times[first + 1].since(times[first]);
    assert!(next.as_millis() <= 1_010, "{next:?}");
}

#[test]
fn a_negative_answer_is_asked_again_when_it_expires() {
    let mut world = World::new(1, |_| Reply::Negative(AnswerKind::NxDomain, 25));
    world.subscribe(1, "a", &[HOST], 600);
    world.run(60.0);
    assert_eq!(world.times(HOST, Family::V6).len(), 3);
}
