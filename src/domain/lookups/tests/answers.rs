use std::time::Duration;

use super::world::{Reply, World, addresses, octets};
use crate::answer::{AnswerKind, Families, Family, LookupFailure, Outcome, Resolution};
use crate::lookups::{Lookups, ServerId, SubscriberId};

const HOST: &str = "api.example";

/// What subscriber 1 was told of `HOST`, shortened: octets now | octets elsewhere, settled or not.
#[track_caller]
fn check(resolutions: &[Resolution], expected: &[&str]) {
    let short: Vec<String> = resolutions.iter().map(shorten).collect();
    assert_eq!(short, expected);
}

fn shorten(resolution: &Resolution) -> String {
    let text = match &resolution.outcome {
        Outcome::Answer { kind: AnswerKind::Positive, .. } => {
            let (now, elsewhere) = octets(resolution);
            format!("{now:?}|{elsewhere:?}")
        }
        Outcome::Answer { kind, .. } => format!("{kind:?}"),
        Outcome::OneServerFailed => "one failed".into(),
        Outcome::Failure(failure) => failure.to_string(),
    };
    if resolution.settled { text } else { text + " unsettled" }
}

/// Server n answers with the address n, and the next address after a minute.
fn different_servers(servers: u32) -> World {
    World::new(servers, |query| {
        let minute = u8::try_from(query.at.0 / 60_000).unwrap();
        let server = u8::try_from(query.server.0).unwrap();
        addresses(&[10 * minute + server], 30)
    })
}

#[test]
fn servers_that_differ_are_united() {
    let mut world = different_servers(3);
    world.subscribe(1, "a", &[HOST], 600);
    world.run(1.0);
    check(&world.told(1, HOST), &["{0}|{} unsettled", "{1}|{0} unsettled", "{2}|{0, 1}"]);
}

#[test]
fn a_server_that_is_down_removes_nothing_for_an_hour_past_its_answer() {
    let mut world = World::new(2, |query| match query.server.0 {
        1 if query.at.0 > 10_000 => Reply::Silence,
        1 => addresses(&[1], 30),
        _ => addresses(&[0], 30),
    });
    world.subscribe(1, "a", &[HOST], 600);
    world.run(3_600.0 + 29.0);
    check(&world.told(1, HOST)[2..][..1], &["{0}|{1}"]);
    check(world.told(1, HOST).last_chunk::<1>().unwrap(), &["{0}|{1}"]);
    world.run(60.0);
    check(world.told(1, HOST).last_chunk::<1>().unwrap(), &["{0}|{}"]);
}

#[test]
fn a_failing_server_is_no_failure_while_another_answers() {
    let mut world = World::new(2, |query| match query.server.0 {
        1 => Reply::After(Duration::from_millis(50), Box::new(Reply::Fails(LookupFailure::ServFail))),
        _ => addresses(&[0], 30),
    });
    world.subscribe(1, "a", &[HOST], 600);
    world.run(20.0);
    // The failure is told once, for it settles the name.
    check(&world.told(1, HOST), &["{0}|{} unsettled", "one failed"]);
}

#[test]
fn a_failure_of_every_server_is_told() {
    let mut world = World::new(2, |query| match query.server.0 {
        1 => Reply::Fails(LookupFailure::Refused),
        _ => Reply::After(Duration::from_millis(50), Box::new(Reply::Fails(LookupFailure::ServFail))),
    });
    world.subscribe(1, "a", &[HOST], 600);
    world.run(0.5);
    check(&world.told(1, HOST), &["SERVFAIL"]);
}

#[test]
fn negative_answers_are_successes() {
    let mut world = World::new(1, |query| match query.host.as_str() {
        "gone.example" => Reply::Negative(AnswerKind::NxDomain, 60),
        _ => Reply::Negative(AnswerKind::NoData, 60),
    });
    world.subscribe(1, "a", &["gone.example", "empty.example"], 600);
    world.run(29.0);
    check(&world.told(1, "gone.example"), &["NxDomain"]);
    check(&world.told(1, "empty.example"), &["NoData"]);
    world.run(32.0);
    assert_eq!(world.told(1, "gone.example").len(), 2);
}

#[test]
fn addresses_are_sorted_and_those_of_the_other_family_ignored() {
    let mut world = World::new(1, |_| {
        let mixed = ["192.0.2.9", "2001:db8::1", "192.0.2.1", "192.0.2.9"];
        Reply::Addresses(mixed.iter().map(|address| address.parse().unwrap()).collect(), 30)
    });
    world.subscribe(1, "a", &[HOST], 600);
    world.run(1.0);
    let Outcome::Answer { addresses, .. } = &world.told(1, HOST)[0].outcome else { panic!("no answer") };
    assert_eq!(format!("{addresses:?}"), "[192.0.2.1, 192.0.2.9]");
}

#[test]
fn a_late_subscriber_hears_at_once_what_each_server_said() {
    let mut world = different_servers(2);
    world.subscribe(1, "a", &[HOST], 600);
    world.run(5.0);
    let known = world.subscribe(2, "b", &[HOST, "new.example"], 600);
    let v4: Vec<Resolution> = known.into_iter().filter(|known| known.family == Family::V4).collect();
    check(&v4, &["{0}|{1}", "{1}|{0}"]);
    assert!(world.subscribe(2, "b", &[HOST, "new.example"], 600).is_empty(), "nothing is told twice");
    let count = world.sent.len();
    world.run(5.0);
    assert_eq!(world.sent.len(), count + 2 * 2, "the new host only");
}

#[test]
fn a_late_subscriber_hears_at_once_that_every_server_fails() {
    let mut world = World::new(2, |_| Reply::Fails(LookupFailure::Refused));
    world.subscribe(1, "a", &[HOST], 600);
    world.run(5.0);
    check(&world.subscribe(2, "b", &[HOST], 600), &["REFUSED", "REFUSED"]);
}

#[test]
fn the_answers_of_a_server_that_left_do_not_count() {
    let mut world = different_servers(3);
    world.subscribe(1, "a", &[HOST], 600);
    world.run(1.0);
    world.set_servers(&[ServerId(0), ServerId(2)]);
    world.run(40.0);
    let mut after = world.told(1, HOST).split_off(3);
    after.sort_by_key(|resolution| octets(resolution).0);
    check(&after, &["{0}|{2}", "{2}|{0}"]);
}

#[test]
fn results_of_a_server_that_left_are_ignored_and_settle_what_waited_for_it() {
    let mut world = World::new(2, |query| match query.server.0 {
        1 => Reply::Silence,
        _ => addresses(&[0], 30),
    });
    world.subscribe(1, "a", &[HOST], 600);
    world.run(1.0);
    check(&world.told(1, HOST), &["{0}|{} unsettled"]);
    world.set_servers(&[ServerId(0)]);
    check(&world.told(1, HOST)[1..], &["{0}|{}"]);
    assert_eq!(world.cancelled, 2);
    world.run(10.0);
    assert_eq!(world.told(1, HOST).len(), 2);
    assert_eq!(world.lookups.stats().slow, 0);
}

#[test]
fn a_new_server_is_asked_for_every_name_over_five_seconds() {
    let mut world = different_servers(1);
    world.subscribe_many(1, "a", "h", 5_000);
    world.run(10.0);
    let from = world.now;
    world.set_servers(&[ServerId(0), ServerId(1)]);
    world.run(6.0);
    let new = world.sent.iter().filter(|sent| sent.query.server == ServerId(1));
    let times: Vec<f64> = new.map(|sent| sent.query.at.since(from).as_secs_f64()).collect();
    assert_eq!(times.len(), 10_000);
    let early = times.iter().filter(|time| **time < 1.0).count();
    assert!((1_900..=2_100).contains(&early), "{early} in the first of five seconds");
}

#[test]
fn without_a_server_every_lookup_fails_until_there_is_one() {
    let mut world = different_servers(0);
    check(&world.subscribe(1, "a", &[HOST], 600)[..1], &["no DNS server reachable"]);
    world.run(1_000.0);
    assert!(world.sent.is_empty());
    world.set_servers(&[ServerId(7)]);
    world.run(0.1);
    assert_eq!(world.told(1, HOST).len(), 1);
    world.set_servers(&[]);
    check(&world.told(1, HOST)[1..], &["no DNS server reachable"]);
}

#[test]
fn a_family_that_is_turned_off_is_forgotten_and_asked_again_when_it_is_on() {
    let only_v4 = Families { v4: true, v6: false };
    let mut world = different_servers(2);
    world.set_families(only_v4);
    world.subscribe(1, "a", &[HOST], 600);
    world.run(1.0);
    assert_eq!((world.times(HOST, Family::V4).len(), world.times(HOST, Family::V6).len()), (2, 0));
    world.set_families(Families::BOTH);
    world.run(1.0);
    assert_eq!((world.times(HOST, Family::V4).len(), world.times(HOST, Family::V6).len()), (2, 2));
    world.set_families(only_v4);
    world.run(100.0);
    assert_eq!(world.times(HOST, Family::V6).len(), 2);
}

#[test]
fn before_the_servers_are_known_nothing_is_said() {
    let mut lookups = Lookups::new(Default::default());
    let host = [HOST.parse().unwrap()];
    let now = crate::time::Instant(0);
    let known = lookups.subscribe(now, SubscriberId(1), "a".into(), &host, Duration::from_secs(600));
    assert!(known.is_empty() && lookups.next(now).is_none() && lookups.next_wake(now).is_none());
    assert!(lookups.set_servers(now, &[ServerId(0)]).deliveries.is_empty());
    assert!(lookups.next(now).is_some());
}

#[test]
fn a_name_without_subscribers_is_forgotten() {
    let mut world = different_servers(2);
    world.subscribe(1, "a", &[HOST], 600);
    world.subscribe(2, "b", &[HOST, "other.example"], 600);
    world.run(1.0);
    world.lookups.unsubscribe(SubscriberId(1));
    world.subscribe(2, "b", &["other.example"], 600);
    assert_eq!(world.lookups.stats().names, 1);
    world.lookups.unsubscribe(SubscriberId(2));
    assert_eq!(world.lookups.stats().names, 0);
    assert_eq!(world.lookups.next_wake(world.now), None);
}

#[test]
fn a_name_that_comes_back_while_it_is_looked_up_is_not_asked_twice() {
    let mut world = World::new(1, |query| match query.at.0 {
        ..4_000 => Reply::Silence,
        _ => addresses(&[1], 30),
    });
    world.subscribe(1, "a", &[HOST], 600);
    world.run(0.1);
    world.lookups.unsubscribe(SubscriberId(1));
    assert_eq!(world.lookups.stats().names, 1, "it is in flight");
    world.subscribe(2, "b", &[HOST], 600);
    world.run(4.5);
    assert_eq!(world.sent.len(), 2, "one for each family");
    check(&world.told(2, HOST)[..1], &["timeout"]);
}
