use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::object::PolicyKey;

const START: Instant = Instant(1_000);
const SECOND: Duration = Duration::from_secs(1);

type Queue = WriteQueue<u32>;

fn queue() -> Queue {
    WriteQueue::new(None)
}

fn object(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::NetworkPolicy(PolicyKey::new(namespace, name))
}

fn event(n: u64) -> ObjectKey {
    ObjectKey::Event(PolicyKey::new("team", "web"), n)
}

/// Puts `count` writes of as many objects and namespaces.
fn fill(queue: &mut Queue, count: u32, lane: Lane) {
    for n in 0..count {
        queue.put(START, object(&format!("team-{n}"), "web"), lane, n);
    }
}

fn pop_all(queue: &mut Queue, now: Instant) -> Vec<Outgoing<u32>> {
    std::iter::from_fn(|| queue.pop(now)).collect()
}

fn answer(queue: &mut Queue, now: Instant, sent: &Outgoing<u32>, answer: Result<(), Transient>) -> Option<u32> {
    queue.finish(now, &sent.key, sent.ticket, answer, 0.0)
}

fn fail(queue: &mut Queue, now: Instant, sent: &Outgoing<u32>, kind: TransientKind) {
    assert_eq!(answer(queue, now, sent, Err(kind.into())), None, "a failure for the moment is no final answer");
}

/// Pops and answers until nothing can be sent at `now`; gives the payloads in the order they were sent.
#[track_caller]
fn check(queue: &mut Queue, now: Instant, expected: &[u32]) {
    let mut order = Vec::new();
    while let Some(sent) = queue.pop(now) {
        order.push(sent.payload);
        assert_eq!(answer(queue, now, &sent, Ok(())), Some(sent.payload));
    }
    assert_eq!(order, expected);
}

#[test]
fn the_latest_write_of_an_object_replaces_a_pending_one() {
    let mut queue = queue();
    let first = queue.put(START, object("a", "web"), Lane::Spec, 1);
    queue.put(START, object("b", "web"), Lane::Spec, 2);
    let second = queue.put(START, object("a", "web"), Lane::Expired, 3);
    assert!(second > first);
    assert_eq!(queue.stats().coalesced, 1);
    // It keeps the place before `b`, and the lane Spec.
    check(&mut queue, START, &[3, 2]);
    assert!(queue.is_idle());
}

#[test]
fn a_better_lane_lifts_a_pending_write() {
    let mut queue = queue();
    queue.put(START, object("a", "web"), Lane::Checkpoint, 1);
    queue.put(START, object("b", "web"), Lane::Added, 2);
    queue.put(START, object("a", "web"), Lane::Spec, 3);
    assert_eq!((queue.stats().pending[&Lane::Checkpoint], queue.stats().coalesced), (0, 1));
    check(&mut queue, START, &[3, 2]);
}

#[test]
fn lanes_go_by_importance_and_namespaces_in_turn() {
    let mut queue = queue();
    for n in 0..3 {
        queue.put(START, object("busy", &format!("policy-{n}")), Lane::Added, n);
    }
    queue.put(START, object("quiet", "web"), Lane::Added, 10);
    queue.put(START, object("busy", "status"), Lane::Status, 20);
    queue.put(START, object("quiet", "spec"), Lane::Spec, 30);
    check(&mut queue, START, &[30, 0, 10, 1, 2, 20]);
}

#[test]
fn a_newer_write_waits_for_the_answer_to_the_one_in_flight() {
    let mut queue = queue();
    queue.put(START, object("a", "web"), Lane::Spec, 1);
    let sent = queue.pop(START).unwrap();
    queue.put(START, object("a", "web"), Lane::Added, 2);
    assert_eq!(queue.pop(START), None);
    assert_eq!(queue.next_wake(START), None);
    assert_eq!(answer(&mut queue, START, &sent, Ok(())), Some(1));
    check(&mut queue, START, &[2]);
}

#[test]
fn an_answer_nobody_waits_for_is_ignored() {
    let mut queue = queue();
    let ticket = queue.put(START, object("a", "web"), Lane::Spec, 1);
    assert_eq!(queue.finish(START, &object("a", "web"), ticket, Ok(()), 0.0), None);
    assert_eq!(queue.finish(START, &object("b", "web"), ticket, Ok(()), 0.0), None);
    let sent = queue.pop(START).unwrap();
    assert_eq!(queue.finish(START, &sent.key, Ticket(99), Ok(()), 0.0), None);
    assert_eq!(queue.stats().in_flight, 1);
}

#[test]
fn a_failed_write_is_sent_again_after_its_back_off() {
    let mut queue = queue();
    queue.put(START, object("a", "web"), Lane::Spec, 1);
    let mut now = START;
    for expected in [100, 200, 400, 800] {
        let sent = queue.pop(now).unwrap();
        fail(&mut queue, now, &sent, TransientKind::ServerError);
        let due = now + Duration::from_millis(expected);
        assert_eq!((queue.pop(now), queue.next_wake(now)), (None, Some(due)));
        now = due;
    }
    check(&mut queue, now, &[1]);
    assert_eq!(queue.stats().retried, 4);
}

#[test]
fn a_newer_write_takes_over_the_back_off_and_the_lane_of_the_failed_one() {
    let mut queue = queue();
    queue.put(START, object("a", "web"), Lane::Spec, 1);
    let sent = queue.pop(START).unwrap();
    queue.put(START, object("a", "web"), Lane::Status, 2);
    fail(&mut queue, START, &sent, TransientKind::Timeout);
    assert_eq!(queue.pop(START), None);
    queue.put(START, object("b", "web"), Lane::Added, 3);
    check(&mut queue, START + FIRST_BACKOFF, &[2, 3]);
    assert_eq!(queue.stats().retried, 0, "the failed one was not put back");
}

#[test]
fn the_back_off_of_an_object_starts_anew_after_a_success() {
    let mut queue = queue();
    queue.put(START, object("a", "web"), Lane::Spec, 1);
    let sent = queue.pop(START).unwrap();
    fail(&mut queue, START, &sent, TransientKind::ServerError);
    let now = START + FIRST_BACKOFF;
    let sent = queue.pop(now).unwrap();
    queue.put(now, object("a", "web"), Lane::Spec, 2);
    assert_eq!(answer(&mut queue, now, &sent, Ok(())), Some(1));
    let sent = queue.pop(now).unwrap();
    fail(&mut queue, now, &sent, TransientKind::ServerError);
    assert_eq!(queue.next_wake(now), Some(now + FIRST_BACKOFF));
}

#[test]
fn a_withdrawn_write_is_not_sent_nor_sent_again() {
    let mut queue = queue();
    queue.put(START, object("a", "web"), Lane::Spec, 1);
    queue.withdraw(&object("a", "web"));
    assert!(queue.is_idle());
    queue.put(START, object("a", "web"), Lane::Spec, 2);
    let sent = queue.pop(START).unwrap();
    queue.withdraw(&sent.key);
    fail(&mut queue, START, &sent, TransientKind::ServerError);
    assert!(queue.is_idle());
    queue.put(START, object("a", "web"), Lane::Spec, 3);
    check(&mut queue, START, &[3]);
}

#[test]
fn no_more_than_the_limit_are_in_flight_and_an_overload_halves_it_once() {
    let mut queue = queue();
    fill(&mut queue, 20, Lane::Spec);
    let sent = pop_all(&mut queue, START);
    assert_eq!(sent.len(), START_LIMIT);
    assert_eq!(queue.next_wake(START), None);
    for one in &sent {
        fail(&mut queue, START, one, TransientKind::ServerError);
    }
    assert_eq!(queue.stats().limit, START_LIMIT / 2);
    assert_eq!(pop_all(&mut queue, START).len(), START_LIMIT / 2);
}

#[test]
fn failures_that_are_no_overload_leave_the_limit() {
    for kind in
        [TransientKind::Unreachable, TransientKind::Interrupted, TransientKind::Unauthorized, TransientKind::Conflict]
    {
        let mut queue = queue();
        fill(&mut queue, 1, Lane::Spec);
        let sent = queue.pop(START).unwrap();
        fail(&mut queue, START, &sent, kind);
        assert_eq!(queue.stats().limit, START_LIMIT, "{kind:?}");
    }
}

#[test]
fn retry_after_of_a_429_holds_the_whole_queue() {
    let mut queue = queue();
    fill(&mut queue, 3, Lane::Spec);
    let sent = queue.pop(START).unwrap();
    let throttled = Transient { kind: TransientKind::Throttled, retry_after: Some(SECOND * 5) };
    assert_eq!(answer(&mut queue, START, &sent, Err(throttled)), None);
    assert_eq!((queue.pop(START), queue.next_wake(START)), (None, Some(START + SECOND * 5)));
    assert_eq!(queue.stats().throttled, 1);
    check(&mut queue, START + SECOND * 5, &[1, 2, 0]);
}

#[test]
fn a_shorter_retry_after_does_not_cut_a_longer_one_short() {
    let mut queue = queue();
    fill(&mut queue, 2, Lane::Spec);
    for (sent, seconds) in pop_all(&mut queue, START).iter().zip([5, 1]) {
        let throttled = Transient { kind: TransientKind::Throttled, retry_after: Some(SECOND * seconds) };
        assert_eq!(answer(&mut queue, START, sent, Err(throttled)), None);
    }
    assert_eq!(queue.next_wake(START), Some(START + SECOND * 5));
}

#[test]
fn retry_after_of_another_failure_holds_only_its_object_and_never_for_longer_than_a_minute() {
    let mut queue = queue();
    fill(&mut queue, 2, Lane::Spec);
    let sent = queue.pop(START).unwrap();
    let failure = Transient { kind: TransientKind::ServerError, retry_after: Some(SECOND * 3_600) };
    assert_eq!(answer(&mut queue, START, &sent, Err(failure)), None);
    check(&mut queue, START, &[1]);
    assert_eq!(queue.next_wake(START), Some(START + MAX_PAUSE));
    check(&mut queue, START + MAX_PAUSE, &[0]);
}

#[test]
fn while_the_server_is_away_one_write_a_second_probes_and_then_all_go_at_once() {
    let mut queue = queue();
    fill(&mut queue, 20, Lane::Spec);
    for one in pop_all(&mut queue, START) {
        fail(&mut queue, START, &one, TransientKind::Unreachable);
    }
    assert!(queue.stats().unreachable);
    let mut now = START;
    for _ in 0..100 {
        now = queue.next_wake(now).unwrap();
        let probes = pop_all(&mut queue, now);
        assert_eq!(probes.len(), 1);
        fail(&mut queue, now, &probes[0], TransientKind::Unreachable);
    }
    assert_eq!(now, START + SECOND * 50, "without jitter a probe goes out every half second");
    now = queue.next_wake(now).unwrap();
    let probe = queue.pop(now).unwrap();
    answer(&mut queue, now, &probe, Ok(()));
    assert_eq!(pop_all(&mut queue, now).len(), START_LIMIT);
}

#[test]
fn a_probe_without_answer_does_not_stop_the_probing() {
    let mut queue = queue();
    fill(&mut queue, 20, Lane::Spec);
    let sent = queue.pop(START).unwrap();
    fail(&mut queue, START, &sent, TransientKind::Unreachable);
    let first = queue.next_wake(START).unwrap();
    let probes = pop_all(&mut queue, first);
    assert_eq!(probes.len(), 1);
    assert_eq!(queue.next_wake(first), Some(first + PROBE_INTERVAL));
    fail(&mut queue, first, &probes[0], TransientKind::Timeout);
    assert!(queue.stats().unreachable, "a time-out is no sign of life");
}

#[test]
fn an_absent_server_does_not_count_against_the_object() {
    let mut queue = queue();
    fill(&mut queue, 1, Lane::Spec);
    let mut now = START;
    for _ in 0..5 {
        let sent = queue.pop(now).unwrap();
        fail(&mut queue, now, &sent, TransientKind::Unreachable);
        now = queue.next_wake(now).unwrap();
    }
    let sent = queue.pop(now).unwrap();
    fail(&mut queue, now, &sent, TransientKind::ServerError);
    assert_eq!(queue.next_wake(now), Some(now + FIRST_BACKOFF));
}

#[test]
fn the_budget_bounds_the_rate_and_is_shared_by_the_namespaces() {
    let mut queue = Queue::new(NonZeroU32::new(10));
    for n in 0..10 {
        queue.put(START, object("busy", &format!("policy-{n}")), Lane::Spec, n);
    }
    queue.put(START, object("quiet", "web"), Lane::Spec, 100);
    check(&mut queue, START, &[0]);
    assert_eq!(queue.next_wake(START), Some(START + SECOND / 10));
    check(&mut queue, START + SECOND / 10, &[100]);
    check(&mut queue, START + SECOND * 2 / 10, &[1]);
}

/// Sends forty writes while as many new ones of lane Spec come in; gives the slots of those numbered from 1,000.
fn slots_of_the_aged(queue: &mut Queue, now: Instant) -> Vec<(usize, u32)> {
    let order = (0..40).map(|n| {
        queue.put(now, object("a", &format!("policy-{n}")), Lane::Spec, n);
        let sent = queue.pop(now).unwrap();
        answer(queue, now, &sent, Ok(())).unwrap()
    });
    order.enumerate().filter(|(_, payload)| *payload >= 1_000).collect()
}

#[test]
fn an_aged_write_gets_one_slot_in_sixteen_the_longest_waiting_lane_first() {
    let mut queue = queue();
    queue.put(START, object("a", "status"), Lane::Status, 1_000);
    queue.put(START + SECOND, object("b", "expired"), Lane::Expired, 1_001);
    assert_eq!(slots_of_the_aged(&mut queue, START + SECOND + AGED_AFTER), [(15, 1_000), (31, 1_001)]);
}

#[test]
fn an_aged_backlog_of_the_first_lane_does_not_take_the_slot_of_the_lower_ones() {
    let mut queue = queue();
    fill(&mut queue, 100, Lane::Spec);
    queue.put(START + SECOND, object("a", "status"), Lane::Status, 1_000);
    assert_eq!(slots_of_the_aged(&mut queue, START + SECOND + AGED_AFTER), [(15, 1_000)]);
}

#[test]
fn a_replaced_or_repeated_write_ages_from_its_first_put() {
    let mut queue = queue();
    queue.put(START, object("a", "status"), Lane::Status, 1);
    let sent = queue.pop(START).unwrap();
    let later = START + AGED_AFTER;
    queue.put(later, object("a", "status"), Lane::Status, 2);
    fail(&mut queue, later, &sent, TransientKind::ServerError);
    queue.put(later, object("a", "status"), Lane::Status, 1_000);
    // Its first attempt took one of the sixteen slots.
    assert_eq!(slots_of_the_aged(&mut queue, later + FIRST_BACKOFF), [(14, 1_000)]);
}

#[test]
fn a_young_status_waits_for_everything_else() {
    let mut queue = queue();
    queue.put(START, object("a", "status"), Lane::Status, 1_000);
    fill(&mut queue, 100, Lane::Spec);
    let just_before = Instant((START + AGED_AFTER).0 - 1);
    let expected: Vec<u32> = (0..100).chain([1_000]).collect();
    check(&mut queue, just_before, &expected);
}

#[test]
fn of_too_many_events_the_oldest_go() {
    let mut queue = queue();
    let bound = u64::try_from(MAX_PENDING_EVENTS).unwrap();
    queue.put(START, event(0), Lane::Status, 0);
    let sent = queue.pop(START).unwrap();
    for n in 1..=bound + 2 {
        queue.put(START, event(n), Lane::Status, u32::try_from(n).unwrap());
    }
    assert_eq!(queue.stats().dropped_events, 2);
    assert_eq!(queue.stats().pending[&Lane::Status], MAX_PENDING_EVENTS);
    // The one that comes back is older than all that wait.
    fail(&mut queue, START, &sent, TransientKind::ServerError);
    assert_eq!(queue.stats().dropped_events, 3);
    assert_eq!(queue.pop(START).unwrap().payload, 3);
}

#[test]
fn a_withdrawn_event_counts_no_more_and_a_dropped_one_is_forgotten() {
    let mut queue = queue();
    queue.put(START, event(0), Lane::Status, 0);
    queue.withdraw(&event(0));
    for n in 1..=u64::try_from(MAX_PENDING_EVENTS).unwrap() {
        queue.put(START, event(n), Lane::Status, 0);
    }
    assert_eq!(queue.stats().dropped_events, 0);
    queue.put(START, event(0), Lane::Status, 0);
    assert_eq!(queue.stats().dropped_events, 1);
    check(&mut queue, START, &vec![0; MAX_PENDING_EVENTS]);
    assert!(queue.is_idle());
}

#[test]
fn a_refusal_by_the_fence_is_tried_again_within_a_second_however_often_the_write_has_failed() {
    let mut queue = WriteQueue::new(None);
    let key = ObjectKey::DefaultDeny("team".into());
    let mut now = Instant(1_000_000);
    queue.put(now, key.clone(), Lane::Spec, "create");
    for round in 0..40 {
        let outgoing = queue.pop(now).expect("it is due");
        let kind = if round < 6 { TransientKind::ServerError } else { TransientKind::Fenced };
        queue.finish(now, &key, outgoing.ticket, Err(kind.into()), 1.0);
        let wake = queue.next_wake(now).expect("it waits");
        assert!(round < 6 || wake.since(now) <= FENCED_BACKOFF, "{round}: {:?}", wake.since(now));
        now = wake;
    }
}
