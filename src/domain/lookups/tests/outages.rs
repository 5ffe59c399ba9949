use std::time::Duration;

use super::world::{Query, Reply, World, addresses};
use crate::answer::{Family, LookupFailure};
use crate::lookups::{Lane, PROBE_INTERVAL, SPREAD};
use crate::time::Instant;

const NAMES: usize = 10_000;
const BOUND: Duration = Duration::from_secs(15);

/// Ten thousand names, and servers that fail for everything for these seconds. The time from the end of the outage
/// until the last name was answered, and lookups of the outage.
fn recovery(servers: u32, from: u64, to: u64, failing: impl Fn() -> Reply + 'static) -> (World, Duration, usize) {
    let (start, end) = (Instant(from * 1_000), Instant(to * 1_000));
    let mut world =
        World::new(
            servers,
            move |query| {
                if query.at >= start && query.at < end { failing() } else { addresses(&[1], 30) }
            },
        );
    world.subscribe_many(1, "a", "h", NAMES);
    world.run_to(end);
    let during = world.sent.iter().filter(|sent| sent.query.at >= start).count();
    world.run(60.0);
    let answered = world.answered_after(end);
    assert_eq!(answered.len(), NAMES);
    let last = answered.values().max().unwrap().since(end);
    (world, last, during)
}

#[track_caller]
fn check(from: u64, to: u64, failing: impl Fn() -> Reply + 'static) {
    check_servers(1, from, to, failing);
}

#[track_caller]
fn check_servers(servers: u32, from: u64, to: u64, failing: impl Fn() -> Reply + 'static) {
    let (_, last, _) = recovery(servers, from, to, failing);
    assert!(last <= BOUND, "the last name was answered {last:?} after the outage");
}

#[test]
fn after_twenty_seconds_of_silence_at_start_every_name_is_answered_within_fifteen() {
    check(0, 21, || Reply::Silence);
}

#[test]
fn after_twenty_seconds_of_servfail_at_start_every_name_is_answered_within_fifteen() {
    check(0, 21, || Reply::Fails(LookupFailure::ServFail));
}

#[test]
fn after_twenty_seconds_of_refused_at_start_every_name_is_answered_within_fifteen() {
    check(0, 21, || Reply::Fails(LookupFailure::Refused));
}

#[test]
fn after_an_outage_amid_live_names_every_name_is_answered_within_fifteen() {
    check(100, 160, || Reply::Silence);
    check(100, 160, || Reply::Fails(LookupFailure::ServFail));
}

#[test]
fn three_servers_that_come_back_together_share_the_names() {
    check_servers(3, 0, 21, || Reply::Silence);
    check_servers(3, 0, 21, || Reply::Fails(LookupFailure::ServFail));
    check_servers(3, 100, 160, || Reply::Silence);
    check_servers(3, 100, 160, || Reply::Fails(LookupFailure::Refused));
}

#[test]
fn after_an_outage_of_an_hour_recovery_is_as_quick() {
    check(100, 3_700, || Reply::Silence);
}

#[test]
fn a_server_that_is_down_is_probed_once_a_second() {
    let mut world = World::new(1, |_| Reply::Silence);
    world.subscribe_many(1, "a", "h", 100);
    world.run(60.0);
    let from = world.sent.len();
    world.run(100.0);
    let probes = &world.sent[from..];
    assert!(probes.iter().all(|sent| sent.lane == Lane::Probe));
    assert!((99..=101).contains(&probes.len()), "{} probes in 100 s", probes.len());
    let names: std::collections::BTreeSet<_> = probes.iter().map(|sent| &sent.query.host).collect();
    assert!(names.len() >= 50, "only {} names", names.len());
}

#[test]
fn live_names_come_first_when_a_server_is_back() {
    let outage = 60_000..100_000;
    let mut world = World::new(1, move |query| match query.at.0 {
        at if outage.contains(&at) || query.starts("dead") => Reply::Fails(LookupFailure::ServFail),
        _ => addresses(&[1], 20),
    });
    // The dead ones first, so that their place in the table is no help.
    world.subscribe_many(1, "dead", "dead", 1_000);
    world.subscribe_many(2, "live", "live", 1_000);
    world.run_to(Instant(100_000));
    assert!(world.lookups.stats().parked >= 2_000, "{:?}", world.lookups.stats());
    let end = world.now;
    world.run(10.0);
    let last = *world.answered_after(end).values().max().unwrap();
    // Noticed by the next probe, then spread.
    assert!(last.since(end) <= PROBE_INTERVAL + SPREAD, "{:?}", last.since(end));
    let before = world.sent.iter().filter(|sent| sent.query.at > end && sent.query.at < last);
    let (live, dead): (Vec<_>, Vec<_>) = before.partition(|sent| sent.query.starts("live"));
    assert!(live.len() >= 1_999 && dead.len() < 200, "{} live, {} dead", live.len(), dead.len());
}

#[test]
fn one_lost_answer_at_start_costs_about_a_second() {
    let mut world = World::new(1, |query| match query.at.0 {
        ..3_900 => Reply::Silence,
        _ => addresses(&[1], 30),
    });
    world.subscribe(1, "a", &["api.example"], 600);
    world.run(10.0);
    let answered = world.answered_after(Instant(0))["api.example"];
    assert!(answered <= Instant(6_100), "{answered:?}: two attempts of 2 s, and a second");
}

#[test]
fn one_lost_answer_amid_live_names_costs_about_a_second() {
    let mut world = World::new(1, |query| match query.host.as_str() {
        "lost.example" if query.at.0 < 1_500 => Reply::Fails(LookupFailure::ServFail),
        _ => addresses(&[1], 30),
    });
    world.subscribe(1, "a", &["lost.example", "live1.example", "live2.example"], 600);
    world.run(10.0);
    let answered = world.answered_after(Instant(0))["lost.example"];
    assert!(answered <= Instant(2_100), "{answered:?}");
}

#[test]
fn five_hundred_dead_names_cost_little_and_disturb_no_live_one() {
    let script = |query: &Query| if query.starts("dead") { Reply::Silence } else { addresses(&[1], 30) };
    let mut world = World::new(1, script);
    world.subscribe_many(1, "live", "live", 100);
    world.subscribe_many(2, "dead", "dead", 500);
    world.run(3_600.0);
    let dead = world.sent.iter().filter(|sent| sent.query.starts("dead")).count();
    let per_key = dead as f64 / 1_000.0;
    assert!((15.0..=25.0).contains(&per_key), "{per_key} lookups per dead key in an hour");
    for n in 0..100 {
        let times = world.times(&format!("live{n}.example"), Family::V4);
        let longest = times.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
        assert!(longest <= Duration::from_millis(30_500), "live{n}: {longest:?} between two lookups");
        assert!(times.len() < 150, "live{n}: {} lookups", times.len());
    }
}

#[test]
fn names_that_died_after_they_had_answered_back_off_as_well() {
    let script = |query: &Query| match query.at.0 {
        at if query.starts("dies") && at > 60_000 => Reply::Silence,
        _ => addresses(&[1], 30),
    };
    let mut world = World::new(1, script);
    world.subscribe_many(1, "a", "dies", 200);
    world.subscribe_many(2, "b", "live", 3);
    world.run(3_600.0);
    let dead = world.sent.iter().filter(|sent| sent.query.starts("dies") && sent.query.at.0 > 60_000).count();
    let per_key = dead as f64 / 400.0;
    assert!((15.0..=25.0).contains(&per_key), "{per_key} lookups per dead key in an hour");
}

#[test]
fn one_silent_server_of_three_delays_no_answer_of_the_others() {
    let mut world = World::new(3, |query| match query.server.0 {
        1 => Reply::Silence,
        _ => addresses(&[1], 300),
    });
    world.subscribe_many(1, "a", "h", 3_000);
    world.run(30.0);
    let answered = world.answered_after(Instant(0));
    assert_eq!(answered.len(), 3_000);
    // 12,000 lookups of the servers that live, at 2,000 per second, and the time to learn that the third does not.
    let last = answered.values().max().unwrap().since(Instant(1_000));
    assert!(last <= Duration::from_secs(12), "{last:?}");
    assert_eq!(world.lookups.stats().servers_down, 1);
}

#[test]
fn every_name_hears_of_a_silent_server_in_time() {
    let mut world = World::new(1, |_| Reply::Silence);
    world.subscribe_many(1, "a", "h", 1_000);
    world.run(10.0);
    let told: std::collections::BTreeSet<_> = world.heard.iter().map(|heard| heard.resolution.host.clone()).collect();
    assert_eq!(told.len(), 1_000);
}
