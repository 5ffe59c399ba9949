//! Whatever is put, withdrawn and answered in whatever order.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::object::PolicyKey;

#[derive(Clone, Debug)]
enum Command {
    Put { object: u8, lane: Lane },
    Withdraw { object: u8 },
    Pop,
    Finish { which: usize, answer: Result<(), Transient>, jitter: f64 },
    Wait { millis: u64 },
}

fn command() -> impl Strategy<Value = Command> {
    let lane = prop::sample::select(&Lane::ALL);
    let kind = prop::sample::select(&TransientKind::ALL);
    let retry_after = prop::option::of((0_u64..100).prop_map(Duration::from_secs));
    let transient = (kind, retry_after).prop_map(|(kind, retry_after)| Err(Transient { kind, retry_after }));
    let answer = prop_oneof![3 => Just(Ok(())), 2 => transient];
    prop_oneof![
        6 => (0_u8..24, lane).prop_map(|(object, lane)| Command::Put { object, lane }),
        1 => (0_u8..24).prop_map(|object| Command::Withdraw { object }),
        8 => Just(Command::Pop),
        6 => (any::<usize>(), answer, 0.0..1.0_f64)
            .prop_map(|(which, answer, jitter)| Command::Finish { which, answer, jitter }),
        3 => (0_u64..40_000).prop_map(|millis| Command::Wait { millis }),
    ]
}

/// The queue, and what it must agree with.
struct Model {
    queue: WriteQueue<u32>,
    now: Instant,
    puts: u32,
    /// The payload that each object must end up with.
    wanted: BTreeMap<ObjectKey, u32>,
    /// The payload that each object last got a final answer for.
    written: BTreeMap<ObjectKey, u32>,
    in_flight: Vec<Outgoing<u32>>,
}

impl Model {
    fn new(rate: Option<u32>) -> Self {
        Self {
            queue: WriteQueue::new(rate.and_then(NonZeroU32::new)),
            now: Instant(0),
            puts: 0,
            wanted: BTreeMap::new(),
            written: BTreeMap::new(),
            in_flight: Vec::new(),
        }
    }

    fn run(&mut self, command: Command) {
        match command {
            Command::Put { object, lane } => {
                self.puts += 1;
                let key = key(object);
                self.queue.put(self.now, key.clone(), lane, self.puts);
                self.wanted.insert(key, self.puts);
            }
            Command::Withdraw { object } => {
                self.queue.withdraw(&key(object));
                self.wanted.remove(&key(object));
            }
            Command::Pop => _ = self.pop(),
            Command::Finish { which, answer, jitter } => self.finish(which, answer, jitter),
            Command::Wait { millis } => self.now = self.now + Duration::from_millis(millis),
        }
        self.check();
    }

    fn pop(&mut self) -> bool {
        let wake = self.queue.next_wake(self.now);
        let Some(sent) = self.queue.pop(self.now) else {
            assert!(
                wake.is_none_or(|at| at > self.now),
                "next_wake promised a write at {wake:?}, it is {:?}",
                self.now
            );
            return false;
        };
        assert!(wake.is_some_and(|at| at <= self.now), "next_wake said {wake:?}, but a write came at {:?}", self.now);
        assert!(self.in_flight.iter().all(|other| other.key != sent.key), "two writes of {:?} in flight", sent.key);
        assert_eq!(Some(&sent.payload), self.wanted.get(&sent.key), "not the latest");
        self.in_flight.push(sent);
        assert!(self.in_flight.len() <= self.queue.stats().limit, "over the limit");
        true
    }

    fn finish(&mut self, which: usize, answer: Result<(), Transient>, jitter: f64) {
        if self.in_flight.is_empty() {
            return;
        }
        let sent = self.in_flight.swap_remove(which % self.in_flight.len());
        let reported = self.queue.finish(self.now, &sent.key, sent.ticket, answer, jitter);
        assert_eq!(reported, answer.ok().map(|()| sent.payload));
        if answer.is_ok() {
            self.written.insert(sent.key, sent.payload);
        }
    }

    fn check(&self) {
        let stats = self.queue.stats();
        assert_eq!(stats.in_flight, self.in_flight.len());
        assert!((1..=MAX_LIMIT).contains(&stats.limit));
        let mut counted = BTreeMap::new();
        for pending in self.queue.objects.values().filter_map(|object| object.pending.as_ref()) {
            *counted.entry(pending.lane).or_insert(0) += 1;
        }
        let pending: BTreeMap<Lane, usize> = stats.pending.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(pending, counted);
    }

    /// What waits for nothing but a slot, the most important first.
    fn ready(&mut self) -> BTreeSet<(Lane, Place)> {
        self.queue.wake(self.now);
        let pending = self.queue.objects.values().filter_map(|object| object.pending.as_ref());
        pending.filter(|pending| pending.waits == Waits::InLane).map(|pending| (pending.lane, pending.place)).collect()
    }

    /// The server answers everything from now on.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            while self.pop() {}
            if !self.in_flight.is_empty() {
                self.finish(0, Ok(()), 0.5);
            } else if let Some(wake) = self.queue.next_wake(self.now) {
                self.now = wake;
            } else {
                break;
            }
        }
        self.check();
    }
}

/// Eight objects in each of three namespaces.
fn key(object: u8) -> ObjectKey {
    let policy = PolicyKey::new(format!("team-{}", object % 3), format!("policy-{object}"));
    if object < 18 { ObjectKey::NetworkPolicy(policy) } else { ObjectKey::Status(policy) }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_the_last_write_of_each_object_is_the_latest(
        commands in prop::collection::vec(command(), 0..200),
        rate in prop::option::of(1_u32..50),
    ) {
        let mut model = Model::new(rate);
        commands.into_iter().for_each(|command| model.run(command));
        model.settle();
        prop_assert!(model.queue.is_idle());
        for (key, payload) in &model.wanted {
            prop_assert_eq!(model.written.get(key), Some(payload), "of {:?}", key);
        }
    }

    #[test]
    fn a_write_never_waits_behind_a_lower_lane_except_for_the_aged_slot(
        commands in prop::collection::vec(command(), 0..200),
    ) {
        let mut model = Model::new(None);
        let mut slots_since_aged = AGED_SLOT;
        for command in commands {
            let ready = model.ready();
            let before = model.in_flight.len();
            let popping = matches!(command, Command::Pop);
            model.run(command);
            if !popping || model.in_flight.len() == before {
                continue;
            }
            slots_since_aged += 1;
            let sent = model.in_flight.last().unwrap();
            let flight = model.queue.objects[&sent.key].flight.as_ref().unwrap();
            let best = ready.first().unwrap().0;
            if flight.lane > best {
                prop_assert!(slots_since_aged >= AGED_SLOT, "two aged slots within {slots_since_aged}");
                prop_assert!(ready.iter().any(|(lane, place)| *lane == flight.lane && model.now.since(place.since) >= AGED_AFTER));
                slots_since_aged = 0;
            }
        }
    }
}
