//! Whether a server answers at all: a name fails on its own only while its server answers others.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::name::Key;
use super::types::{Config, LookupId};
use crate::time::Instant;

/// Probes in flight to one server: one per second, each for two attempts of two seconds, and one to spare.
const PROBES_PER_SERVER: usize = 5;

/// What is known of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers, or nobody asked it yet.
    Up,
    /// A lookup failed and nothing was answered lately: this probe decides, or the next one to be sent.
    Suspect(Option<LookupId>),
    /// It answers nothing: probed until it does.
    Down,
}

/// What a failure means for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server lives, so the name is at fault.
    BackOff,
    /// The server is in doubt: the key waits for it. A probe is due now.
    ParkAndProbe,
    /// The server is, or now counts as, down: the key waits for it.
    ParkUntilUp,
    /// The key waits for a probe that is under way.
    Park,
}

/// What a success means for the parked keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Relief {
    /// There was no doubt.
    None,
    /// The suspicion was wrong: these keys failed on their own.
    BackOff(BTreeSet<Key>),
    /// The server is back: these keys are due.
    Due(BTreeSet<Key>),
}

/// One server of the present list.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) health: Health,
    /// When it is to be probed next, kept by the owner of the schedule.
    pub(super) probe_at: Option<Instant>,
    last_success: Option<Instant>,
    /// Keys whose last lookup it answered.
    alive: BTreeSet<Key>,
    /// Keys that it has ever answered.
    answered: BTreeSet<Key>,
    /// Keys that wait for it.
    parked: BTreeSet<Key>,
    probes_in_flight: usize,
    /// The last probe was of a key that it has answered.
    last_was_answered: bool,
    last_alive: Option<Key>,
    last_answered: Option<Key>,
    last_parked: Option<Key>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            health: Health::Up,
            probe_at: None,
            last_success: None,
            alive: BTreeSet::new(),
            answered: BTreeSet::new(),
            parked: BTreeSet::new(),
            probes_in_flight: 0,
            last_was_answered: false,
            last_alive: None,
            last_answered: None,
            last_parked: None,
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.health == Health::Down
    }

    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn park(&mut self, key: Key) {
        self.parked.insert(key);
    }

    pub(super) fn unpark(&mut self, key: Key) {
        self.parked.remove(&key);
    }

    /// The key is gone.
    pub(super) fn forget(&mut self, key: Key) {
        self.parked.remove(&key);
        self.alive.remove(&key);
        self.answered.remove(&key);
    }

    /// The server answered this key.
    pub(super) fn succeeded(&mut self, now: Instant, key: Key) -> Relief {
        self.last_success = Some(now);
        self.alive.insert(key);
        self.answered.insert(key);
        match std::mem::replace(&mut self.health, Health::Up) {
            Health::Up => Relief::None,
            Health::Suspect(_) => Relief::BackOff(std::mem::take(&mut self.parked)),
            Health::Down => Relief::Due(std::mem::take(&mut self.parked)),
        }
    }

    /// A lookup of this key failed.
    pub(super) fn failed(&mut self, config: &Config, now: Instant, id: LookupId, key: Key) -> Verdict {
        self.alive.remove(&key);
        match self.health {
            Health::Up if self.last_success.is_some_and(|at| now.since(at) < config.alive_for) => Verdict::BackOff,
            // A name that it answered when last asked can acquit it; without one there is nobody to ask.
            Health::Up if !self.alive.is_empty() => {
                self.health = Health::Suspect(None);
                Verdict::ParkAndProbe
            }
            Health::Suspect(probe) if probe != Some(id) => Verdict::Park,
            Health::Up | Health::Suspect(_) => {
                self.health = Health::Down;
                Verdict::ParkUntilUp
            }
            Health::Down => Verdict::Park,
        }
    }

    pub(super) fn can_probe(&self) -> bool {
        match self.health {
            Health::Up | Health::Suspect(Some(_)) => false,
            Health::Suspect(None) | Health::Down => self.probes_in_flight < PROBES_PER_SERVER,
        }
    }

    /// The key to probe with: for a suspect one that it answered when last asked. While it is down, keys that it has
    /// answered and others take turns, for each of the former may have died meanwhile, and none of the latter may live.
    pub(super) fn probe_candidate(&mut self, is_free: impl Fn(Key) -> bool) -> Option<Key> {
        let alive = after(&self.alive, self.last_alive, &is_free);
        if !self.is_down() {
            self.last_alive = alive;
            return alive;
        }
        let answered = alive.or_else(|| after(&self.answered, self.last_answered, &is_free));
        let parked = after(&self.parked, self.last_parked, &is_free);
        self.last_was_answered = answered.is_some() && (!self.last_was_answered || parked.is_none());
        match (self.last_was_answered, alive) {
            (true, Some(_)) => self.last_alive = alive,
            (true, None) => self.last_answered = answered,
            (false, _) => self.last_parked = parked,
        }
        if self.last_was_answered { answered } else { parked }
    }

    pub(super) fn probe_sent(&mut self, id: LookupId) {
        self.probes_in_flight += 1;
        if let Health::Suspect(probe) = &mut self.health {
            *probe = Some(id);
        }
    }

    pub(super) fn probe_ended(&mut self) {
        self.probes_in_flight -= 1;
    }

    /// A probe was cancelled; true if the server's fate depended on it, so that another one is due.
    pub(super) fn probe_cancelled(&mut self, id: LookupId) -> bool {
        self.probe_ended();
        let decides = self.health == Health::Suspect(Some(id));
        if decides {
            self.health = Health::Suspect(None);
        }
        decides
    }
}

/// The next free key after the last one, round and round.
fn after(keys: &BTreeSet<Key>, last: Option<Key>, is_free: impl Fn(Key) -> bool) -> Option<Key> {
    let later = match last {
        Some(last) => keys.range((Bound::Excluded(last), Bound::Unbounded)),
        None => keys.range(..),
    };
    later.chain(keys.iter()).copied().find(|key| is_free(*key))
}

#[cfg(test)]
mod tests {
    use super::super::name::NameId;
    use super::super::types::ServerId;
    use super::*;
    use crate::answer::Family;

    fn key(name: u64) -> Key {
        Key { name: NameId(name), family: Family::V4, server: ServerId(0) }
    }

    #[track_caller]
    fn check(server: &mut Server, at: u64, id: u64, name: u64, expected: Verdict) {
        assert_eq!(server.failed(&Config::default(), Instant(at), LookupId(id), key(name)), expected);
    }

    #[test]
    fn a_failure_soon_after_an_answer_is_the_fault_of_the_name() {
        let mut server = Server::new();
        server.succeeded(Instant(5_000), key(1));
        check(&mut server, 5_999, 1, 2, Verdict::BackOff);
        check(&mut server, 6_000, 2, 3, Verdict::ParkAndProbe);
    }

    #[test]
    fn the_probe_of_a_suspect_decides_and_other_failures_wait_for_it() {
        let mut server = Server::new();
        server.succeeded(Instant(0), key(1));
        check(&mut server, 9_000, 1, 2, Verdict::ParkAndProbe);
        server.park(key(2));
        assert_eq!(server.probe_candidate(|_| true), Some(key(1)));
        server.probe_sent(LookupId(7));
        check(&mut server, 9_100, 2, 3, Verdict::Park);
        server.park(key(3));
        let acquitted = server.succeeded(Instant(9_200), key(1));
        assert_eq!(acquitted, Relief::BackOff([key(2), key(3)].into()));
        check(&mut server, 19_000, 3, 2, Verdict::ParkAndProbe);
        server.probe_sent(LookupId(8));
        check(&mut server, 19_100, 8, 1, Verdict::ParkUntilUp);
        assert!(server.is_down());
    }

    #[test]
    fn a_probe_that_is_cancelled_decides_nothing_and_is_replaced() {
        let mut server = Server::new();
        server.succeeded(Instant(0), key(1));
        check(&mut server, 9_000, 1, 2, Verdict::ParkAndProbe);
        server.probe_sent(LookupId(7));
        assert!(!server.can_probe());
        assert!(server.probe_cancelled(LookupId(7)));
        assert!(server.can_probe());
    }

    #[test]
    fn a_server_of_which_no_other_name_is_known_alive_is_down_at_once() {
        let mut server = Server::new();
        check(&mut server, 0, 1, 1, Verdict::ParkUntilUp);
        server.park(key(1));
        assert_eq!(server.succeeded(Instant(10), key(2)), Relief::Due([key(1)].into()));
    }

    #[test]
    fn probes_of_a_dead_server_take_turns_and_are_bounded() {
        let mut server = Server::new();
        for name in 1..=2 {
            server.succeeded(Instant(0), key(name));
        }
        for name in [3, 4, 1, 2] {
            server.failed(&Config::default(), Instant(2_000), LookupId(name), key(name));
        }
        server.health = Health::Down;
        for name in 3..=4 {
            server.park(key(name));
        }
        let probed: Vec<u64> = (0..6).filter_map(|_| server.probe_candidate(|_| true)).map(|key| key.name.0).collect();
        assert_eq!(probed, [1, 3, 2, 4, 1, 3]);
        for id in 0..5 {
            assert!(server.can_probe());
            server.probe_sent(LookupId(id));
        }
        assert!(!server.can_probe());
        server.probe_ended();
        assert!(server.can_probe());
    }

    #[test]
    fn a_name_that_died_is_no_witness_for_its_server() {
        let mut server = Server::new();
        server.succeeded(Instant(0), key(1));
        server.succeeded(Instant(0), key(2));
        check(&mut server, 100, 1, 1, Verdict::BackOff);
        check(&mut server, 9_000, 2, 1, Verdict::ParkAndProbe);
        assert_eq!(server.probe_candidate(|_| true), Some(key(2)));
    }
}
