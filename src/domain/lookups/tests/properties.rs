use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use crate::answer::{AnswerKind, Families, Family, LookupFailure};

const HOSTS: usize = 12;
const NORMAL: usize = 3;
const SLOW: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Subscribe { id: u64, hosts: Vec<usize>, refresh: u64 },
    Unsubscribe(u64),
    SetServers(BTreeSet<u32>),
    SetFamilies(Families),
    Pass(u64),
    Send(usize),
    Answer { nth: usize, ttl: u64 },
    Fail { nth: usize, failure: LookupFailure },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let failure = prop_oneof![Just(LookupFailure::ServFail), Just(LookupFailure::Timeout)];
    let hosts = proptest::collection::vec(0..HOSTS, 0..6);
    let step = prop_oneof![
        2 => (0..4_u64, hosts, 1..100_u64).prop_map(|(id, hosts, refresh)| Step::Subscribe { id, hosts, refresh }),
        1 => (0..4_u64).prop_map(Step::Unsubscribe),
        1 => proptest::collection::btree_set(0..4_u32, 0..3).prop_map(Step::SetServers),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(v4, v6)| Step::SetFamilies(Families { v4, v6 })),
        4 => (0..2_000_u64).prop_map(Step::Pass),
        1 => (0..60_000_u64).prop_map(Step::Pass),
        8 => (1..6_usize).prop_map(Step::Send),
        6 => (any::<usize>(), 0..90_u64).prop_map(|(nth, ttl)| Step::Answer { nth, ttl }),
        3 => (any::<usize>(), failure).prop_map(|(nth, failure)| Step::Fail { nth, failure }),
    ];
    proptest::collection::vec(step, 1..200)
}

/// What must hold whatever happens, kept beside the machine by the simplest means.
struct Model {
    lookups: Lookups,
    now: Instant,
    in_flight: BTreeMap<LookupId, (Instant, Dispatch)>,
    /// When each key may be asked again at the earliest, probes aside.
    not_before: BTreeMap<(ServerId, Fqdn, Family), Instant>,
    /// The caller's promise: an id is never used for a second server.
    server_ids: BTreeMap<u32, ServerId>,
    last_server: u32,
    wanted: BTreeMap<u64, BTreeSet<Fqdn>>,
    families: Families,
    random: u64,
}

fn host(n: usize) -> Fqdn {
    Fqdn::parse(&format!("h{n}.example")).unwrap()
}

impl Model {
    fn new() -> Self {
        let config = Config { normal_lane: NORMAL, slow_lane: SLOW, ..Config::default() };
        let mut model = Self {
            lookups: Lookups::new(config),
            now: Instant(1_000),
            in_flight: BTreeMap::new(),
            not_before: BTreeMap::new(),
            server_ids: BTreeMap::new(),
            last_server: 0,
            wanted: BTreeMap::new(),
            families: Families::BOTH,
            random: 7,
        };
        model.set_servers(&[0].into());
        model
    }

    fn set_servers(&mut self, list: &BTreeSet<u32>) {
        self.server_ids.retain(|address, _| list.contains(address));
        for address in list {
            self.last_server += 1;
            self.server_ids.entry(*address).or_insert(ServerId(self.last_server));
        }
        let ids: Vec<ServerId> = self.server_ids.values().copied().collect();
        let effects = self.lookups.set_servers(self.now, &ids);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Effects) {
        for id in effects.cancel {
            assert!(self.in_flight.remove(&id).is_some(), "{id:?} was not in flight");
        }
        for delivery in effects.deliveries {
            self.hear(delivery);
        }
    }

    fn hear(&self, delivery: Delivery) {
        for subscriber in &delivery.subscribers {
            assert!(self.wanted[&subscriber.0].contains(&delivery.resolution.host), "{subscriber:?} did not ask");
        }
    }

    fn send(&mut self) -> Option<Dispatch> {
        let dispatch = self.lookups.next(self.now)?;
        let key = (dispatch.server, dispatch.host.clone(), dispatch.family);
        let same = |other: &Dispatch| (other.server, other.host.clone(), other.family) == key;
        assert!(!self.in_flight.values().any(|(_, other)| same(other)), "two lookups of one key");
        assert!(self.families.has(key.2), "{key:?} is of a family that is off");
        assert!(self.wanted.values().any(|hosts| hosts.contains(&dispatch.host)), "nobody wants {key:?}");
        if dispatch.lane != Lane::Probe {
            let not_before = self.not_before.get(&key).copied().unwrap_or_default();
            assert!(self.now >= not_before, "{key:?} asked before it was due");
        }
        self.in_flight.insert(dispatch.id, (self.now, dispatch.clone()));
        Some(dispatch)
    }

    fn complete(&mut self, nth: usize, result: Result<u64, LookupFailure>) {
        let Some(id) = self.in_flight.keys().nth(nth % self.in_flight.len().max(1)).copied() else {
            return;
        };
        let (sent, dispatch) = self.in_flight.remove(&id).unwrap();
        let key = (dispatch.server, dispatch.host, dispatch.family);
        let result = result.map(|ttl| {
            if self.wanted.values().any(|hosts| hosts.contains(&key.1)) {
                self.not_before.insert(key.clone(), sent + MIN_REFRESH);
            }
            let valid_until = self.now + Duration::from_secs(ttl);
            Answered { kind: AnswerKind::Positive, addresses: vec![[192, 0, 2, 1].into()], valid_until }
        });
        if result.is_err() {
            self.not_before.remove(&key);
        }
        self.random = super::super::schedule::mix(self.random, 1);
        if let Some(delivery) = self.lookups.complete(self.now, id, result, self.random) {
            self.hear(delivery);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Subscribe { id, hosts, refresh } => {
                let hosts: BTreeSet<Fqdn> = hosts.into_iter().map(host).collect();
                self.wanted.insert(id, hosts.clone());
                let list: Vec<Fqdn> = hosts.into_iter().collect();
                let namespace = Arc::from(format!("ns{}", id % 2));
                let refresh = Duration::from_secs(refresh);
                let known = self.lookups.subscribe(self.now, SubscriberId(id), namespace, &list, refresh);
                assert!(known.iter().all(|known| list.contains(&known.host)));
                self.forget_unwanted();
            }
            Step::Unsubscribe(id) => {
                self.wanted.remove(&id);
                self.lookups.unsubscribe(SubscriberId(id));
                self.forget_unwanted();
            }
            Step::SetServers(list) => self.set_servers(&list),
            Step::SetFamilies(families) => {
                self.families = families;
                let effects = self.lookups.set_families(self.now, families);
                self.perform(effects);
                self.not_before.retain(|(_, _, family), _| families.has(*family));
            }
            Step::Pass(millis) => self.now = Instant(self.now.0 + millis),
            Step::Send(times) => (0..times).for_each(|_| drop(self.send())),
            Step::Answer { nth, ttl } => self.complete(nth, Ok(ttl)),
            Step::Fail { nth, failure } => self.complete(nth, Err(failure)),
        }
        let effects = self.lookups.overdue(self.now);
        self.perform(effects);
        self.check();
    }

    /// A name without subscribers is forgotten, so it may be asked at once when it comes back.
    fn forget_unwanted(&mut self) {
        let wanted = &self.wanted;
        self.not_before.retain(|(_, host, _), _| wanted.values().any(|hosts| hosts.contains(host)));
    }

    fn check(&self) {
        let stats = self.lookups.stats();
        assert!(stats.normal <= NORMAL && stats.slow <= SLOW, "{stats:?}");
        assert_eq!(stats.normal + stats.slow + stats.probes, self.in_flight.len());
        let wanted: BTreeSet<&Fqdn> = self.wanted.values().flatten().collect();
        let flying: BTreeSet<&Fqdn> = self.in_flight.values().map(|(_, dispatch)| &dispatch.host).collect();
        assert_eq!(stats.names, wanted.union(&flying).count());
    }

    /// Answers everything until every wanted name has been answered by every server in every family.
    fn everything_is_asked(mut self) {
        let wanted: BTreeSet<Fqdn> = self.wanted.values().flatten().cloned().collect();
        let mut missing = BTreeSet::new();
        for server in self.server_ids.values() {
            for family in self.families.iter() {
                missing.extend(wanted.iter().map(|host| (*server, host.clone(), family)));
            }
        }
        let deadline = self.now + Duration::from_secs(700);
        while !missing.is_empty() {
            let effects = self.lookups.overdue(self.now);
            self.perform(effects);
            while self.send().is_some() {}
            for (_, dispatch) in self.in_flight.values() {
                missing.remove(&(dispatch.server, dispatch.host.clone(), dispatch.family));
            }
            while !self.in_flight.is_empty() {
                self.complete(0, Ok(30));
            }
            let wake = self.lookups.next_wake(self.now).unwrap_or(deadline);
            self.now = wake.max(Instant(self.now.0 + 1));
            assert!(self.now <= deadline, "never asked: {missing:?}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_lanes_hold_keys_are_asked_once_and_in_time_and_none_is_forgotten(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.everything_is_asked();
    }
}
