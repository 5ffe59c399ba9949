//! Several members and one API server in virtual time: delays, pauses, cuts, clocks that drift, requests that arrive
//! late. Judges every write at the moment it is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::shard::ShardId;
use crate::shard::fence::Moment;
use crate::shard::member::{CasAnswer, Effect, Identity, Input, Member, ProbeAnswer, TableRead, View};
use crate::shard::observe::Renewal;
use crate::shard::stamp::Stamp;
use crate::shard::table::{Snapshot, Table};
use crate::shard::timing::Timing;
use crate::time::Instant;

pub const LEASE: Duration = Duration::from_secs(15);
pub const TIMING: Timing = Timing { lease: LEASE };
pub const SHARDS: u16 = 16;
/// How often each member writes to each shard it may write to.
const WRITE_EVERY: u64 = 250;

/// The API server's answer about the fence takes so long.
const FENCE_ANSWER: u64 = 500;

/// One world.
pub struct Sim {
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub api: Api,
    pub nodes: Vec<Node>,
    random: u64,
    /// Whether the API server refuses stale stamps.
    pub fence: bool,
    pub weights: Vec<u32>,
    /// Writes that were committed although the table named somebody else.
    pub stale: Vec<String>,
    pub written: u64,
    pub refused: u64,
    pub log: Vec<String>,
    pub moved: usize,
    /// Some messages take longer than any time-out.
    pub storm: bool,
    /// Reading gained shards takes so many milliseconds.
    pub load: u64,
}

#[derive(Default)]
pub struct Api {
    version: u64,
    tables: u64,
    pub table: Option<Snapshot>,
    pub leases: BTreeMap<Arc<str>, Renewal>,
    /// The life that wrote each Lease last.
    lives: BTreeMap<Arc<str>, u32>,
    /// Nobody reaches it until then.
    pub away_until: u64,
    /// Who does not reach it learns that at once, not by a time-out.
    pub refuses_at_once: bool,
    /// Its fence takes no stamp of the present table.
    pub is_behind: bool,
    /// How often a Lease was asked for.
    pub lease_reads: u32,
}

pub struct Node {
    pub pod: Arc<str>,
    uid: Arc<str>,
    starts: u32,
    pub member: Option<Member>,
    view: View,
    /// Takes no step until then; what is sent to it waits.
    paused_until: u64,
    /// Neither its requests nor the answers to them arrive until then.
    pub cut_until: u64,
    /// What its router was told to run.
    pub running: BTreeSet<ShardId>,
    /// Its boot clock gains so many parts per million.
    drift: i64,
    pub lapses: u32,
}

enum Event {
    /// Something for a process; dropped when it has ended.
    Deliver {
        node: usize,
        start: u32,
        input: Input,
    },
    /// A request reaches the API server.
    Arrive {
        node: usize,
        start: u32,
        request: Request,
    },
    Wake {
        node: usize,
        start: u32,
    },
    Write {
        node: usize,
        start: u32,
    },
    Commit {
        pod: Arc<str>,
        stamp: Stamp,
    },
}

enum Request {
    Renew { sent: Moment, life: u32, lease: Arc<str>, renewal: Renewal },
    RenewRead { sent: Moment, life: u32, arrived: u64 },
    Read,
    Create(Arc<Table>),
    Cas { version: u64, table: Arc<Table> },
    ReadLease { pod: Arc<str>, lease: Arc<str> },
    DeleteLease(Arc<str>),
    Probe(Stamp),
}

impl Sim {
    pub fn new(nodes: usize, seed: u64) -> Self {
        let node = |number: usize| Node {
            pod: format!("pod-{number}").into(),
            uid: format!("uid-{number}").into(),
            starts: 0,
            member: None,
            view: View::default(),
            paused_until: 0,
            cut_until: 0,
            running: BTreeSet::new(),
            drift: 0,
            lapses: 0,
        };
        Self {
            now: 1_000_000,
            queue: BTreeMap::new(),
            sequence: 0,
            api: Api { version: 100, ..Api::default() },
            nodes: (0..nodes).map(node).collect(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            fence: false,
            weights: vec![1; usize::from(SHARDS)],
            stale: Vec::new(),
            written: 0,
            refused: 0,
            log: Vec::new(),
            moved: 0,
            storm: false,
            load: 20,
        }
    }

    /// A number below `bound`, from the seed (xorshift).
    pub fn random(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }

    /// Installs the fence, or takes it away.
    pub fn set_fence(&mut self, active: bool) {
        self.fence = active;
        self.broadcast(|| Input::FenceActive(active));
    }

    /// Starts a process in the pod.
    pub fn start(&mut self, node: usize) {
        let drift = self.random(6_001) as i64 - 3_000;
        let now = self.now;
        let pod = &mut self.nodes[node];
        pod.starts += 1;
        pod.drift = drift;
        pod.view = View::default();
        pod.running.clear();
        pod.paused_until = now;
        let me = Identity {
            pod: pod.pod.clone(),
            uid: pod.uid.clone(),
            start: format!("{node}x{}", pod.starts).into(),
            installation: "egress".into(),
            shard_count: SHARDS,
        };
        let moment = self.moment(node);
        self.nodes[node].member = Some(Member::new(me, TIMING, moment));
        let start = self.nodes[node].starts;
        let leases: Vec<_> = self.api.leases.iter().map(|(name, renewal)| (name.clone(), renewal.clone())).collect();
        for (lease, renewal) in leases {
            self.deliver(node, start, 0, Input::LeaseSeen { lease, renewal: Some(renewal) });
        }
        self.deliver(node, start, 0, Input::Weights(self.weights.clone()));
        self.deliver(node, start, 0, Input::FenceActive(self.fence));
        self.put(0, Event::Wake { node, start });
        self.put(WRITE_EVERY, Event::Write { node, start });
    }

    /// Another pod takes the name: its uid is new.
    pub fn replace(&mut self, node: usize) {
        self.kill(node);
        let uid = format!("uid-{node}-{}", self.now);
        self.nodes[node].uid = uid.into();
        self.start(node);
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node].member = None;
        self.nodes[node].view = View::default();
        self.nodes[node].running.clear();
    }

    pub fn pause(&mut self, node: usize, millis: u64) {
        self.nodes[node].paused_until = self.now + millis;
    }

    pub fn leave(&mut self, node: usize) {
        let start = self.nodes[node].starts;
        self.deliver(node, start, 0, Input::Leave);
    }

    pub fn delete_table(&mut self) {
        self.api.version += 1;
        self.api.table = None;
        self.table_changed();
    }

    pub fn delete_leases(&mut self) {
        let leases: Vec<_> = self.api.leases.keys().cloned().collect();
        for lease in leases {
            self.api.leases.remove(&lease);
            self.broadcast(|| Input::LeaseSeen { lease: lease.clone(), renewal: None });
        }
    }

    /// Somebody writes nonsense into every Lease.
    pub fn poison_leases(&mut self) {
        let leases: Vec<_> = self.api.leases.keys().cloned().collect();
        for lease in leases {
            let Some(renewal) = self.api.leases.get_mut(&lease) else { continue };
            renewal.version = format!("forged at {}", self.now).into();
            let renewal = renewal.clone();
            self.broadcast(|| Input::LeaseSeen { lease: lease.clone(), renewal: Some(renewal.clone()) });
        }
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time.as_millis() as u64;
        while let Some((&(at, number), _)) = self.queue.first_key_value() {
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            let Some(event) = self.queue.remove(&(at, number)) else { break };
            self.handle(event);
        }
        self.now = until;
    }

    /// Shards that a router runs and the table gives to others, or the other way round, by member.
    pub fn strays(&self) -> Vec<String> {
        let Some(stored) = &self.api.table else { return Vec::new() };
        let holds = |node: &Node| stored.table.held_by(&node.pod).map(|(shard, _)| shard).collect::<BTreeSet<_>>();
        let stray = |node: &&Node| node.member.is_some() && node.running != holds(node);
        self.nodes.iter().filter(stray).map(|node| format!("{} runs {:?}", node.pod, node.running)).collect()
    }

    /// What the table says is held, by member.
    pub fn holders(&self) -> BTreeMap<String, usize> {
        let mut holders = BTreeMap::new();
        for (_, entry) in self.api.table.iter().flat_map(|table| table.table.entries()) {
            *holders.entry(entry.holder.as_deref().unwrap_or("nobody").to_owned()).or_default() += 1;
        }
        holders
    }

    /// Every shard, with the live members that may write to it now.
    pub fn writers(&self) -> BTreeMap<ShardId, BTreeSet<Arc<str>>> {
        let mut writers: BTreeMap<_, BTreeSet<_>> =
            (0..SHARDS).map(|shard| (ShardId(shard), BTreeSet::new())).collect();
        for (number, node) in self.nodes.iter().enumerate() {
            let moment = self.moment(number);
            if node.member.is_some() && node.view.fence.is_some_and(|fence| fence.is_ahead_of(moment)) {
                for shard in node.view.open.keys() {
                    writers.entry(*shard).or_default().insert(node.pod.clone());
                }
            }
        }
        writers
    }

    fn moment(&self, node: usize) -> Moment {
        let drift = self.nodes[node].drift;
        let boot = self.now as i64 + self.now as i64 * drift / 1_000_000;
        Moment { boot: Instant(boot as u64), wall: self.now + 1_700_000_000_000 }
    }

    fn put(&mut self, after: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn deliver(&mut self, node: usize, start: u32, after: u64, input: Input) {
        self.put(after, Event::Deliver { node, start, input });
    }

    fn broadcast(&mut self, input: impl Fn() -> Input) {
        for node in 0..self.nodes.len() {
            let (after, start) = (self.delay(), self.nodes[node].starts);
            self.deliver(node, start, after, input());
        }
    }

    /// Mostly short; sometimes longer than any time-out.
    fn delay(&mut self) -> u64 {
        match self.random(100) {
            _ if !self.storm => 1 + self.random(30),
            0 => self.random(20_000),
            1..5 => self.random(2_000),
            _ => 1 + self.random(30),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { node, start, input } => {
                let (paused, cut) = (self.nodes[node].paused_until, self.nodes[node].cut_until);
                let waits = if matches!(input, Input::LeaseSeen { .. }) { paused.max(cut) } else { paused };
                if waits > self.now {
                    return self.deliver(node, start, waits - self.now, input);
                }
                self.step(node, start, input);
            }
            Event::Wake { node, start } => {
                let paused = self.nodes[node].paused_until;
                if paused > self.now {
                    return self.put(paused - self.now, Event::Wake { node, start });
                }
                self.step(node, start, Input::Tick { healthy: true });
                if self.api.table.as_ref().is_none_or(|stored| !stored.table.settled) {
                    // A new table is what the shell looks for the fence for.
                    self.deliver(node, start, FENCE_ANSWER, Input::FenceActive(self.fence));
                }
                let moment = self.moment(node);
                if let Some(member) = self.nodes[node].member.as_ref().filter(|_| self.nodes[node].starts == start) {
                    let wait = member.next_deadline(moment).since(moment.boot).as_millis() as u64;
                    self.put(wait.max(1), Event::Wake { node, start });
                }
            }
            Event::Write { node, start } => self.write(node, start),
            Event::Commit { pod, stamp } => self.commit(&pod, stamp),
            Event::Arrive { node, start, request } => self.arrive(node, start, request),
        }
    }

    /// The member decides; the shell has no mind of its own.
    fn step(&mut self, node: usize, start: u32, input: Input) {
        let moment = self.moment(node);
        if self.nodes[node].starts != start {
            return;
        }
        let Some(member) = self.nodes[node].member.as_mut() else { return };
        let effects = member.step(input, moment);
        let late = effects.iter().skip(1).any(|effect| matches!(effect, Effect::View(_)));
        assert!(!late, "the gate learns first what may be written: {effects:?}");
        for effect in effects {
            self.perform(node, start, effect, moment);
        }
    }

    fn perform(&mut self, node: usize, start: u32, effect: Effect, moment: Moment) {
        let pod = self.nodes[node].pod.clone();
        let request = match effect {
            Effect::Renew { incarnation } => {
                let lease: Arc<str> = incarnation.lease_name(&pod).into();
                let renewal = Renewal { uid: lease.clone(), version: format!("{incarnation} {}", moment.wall).into() };
                Request::Renew { sent: moment, life: incarnation.life, lease, renewal }
            }
            Effect::ReadTable => Request::Read,
            Effect::CreateTable(table) => Request::Create(table),
            Effect::Cas { version, table, .. } => Request::Cas { version, table },
            Effect::ReadLease { pod, lease } => Request::ReadLease { pod, lease: lease.into() },
            Effect::DeleteLease => {
                let Some(member) = &self.nodes[node].member else { return };
                Request::DeleteLease(member.incarnation().lease_name(&pod).into())
            }
            Effect::Probe(stamp) => Request::Probe(stamp),
            Effect::View(view) => {
                self.nodes[node].view = view;
                return;
            }
            Effect::Gain(shards) => {
                self.moved += shards.len();
                self.nodes[node].running.extend(shards.iter().map(|stamp| stamp.shard));
                return self.deliver(node, start, self.load, Input::Started { shards });
            }
            Effect::Release { number, shards } => {
                self.nodes[node].running.retain(|shard| !shards.contains(shard));
                // No write of this world lives longer than T.
                let drained = TIMING.write_timeout().as_millis() as u64;
                return self.deliver(node, start, drained, Input::Released { number });
            }
            Effect::Lapsed => {
                self.nodes[node].lapses += 1;
                return;
            }
            Effect::Left => {
                self.log.push(format!("{pod} left"));
                return self.kill(node);
            }
            Effect::Alarm(alarm) => return self.log.push(format!("{pod}: {alarm}")),
            Effect::Lose(shards) => {
                self.nodes[node].running.retain(|shard| !shards.contains(shard));
                return;
            }
            Effect::Resume(_) | Effect::TookOver { .. } => return,
        };
        let after = self.delay();
        self.put(after, Event::Arrive { node, start, request });
    }

    fn write(&mut self, node: usize, start: u32) {
        if self.nodes[node].starts != start || self.nodes[node].member.is_none() {
            return;
        }
        let paused = self.nodes[node].paused_until;
        if paused > self.now {
            return self.put(paused - self.now, Event::Write { node, start });
        }
        let (moment, view) = (self.moment(node), self.nodes[node].view.clone());
        if view.fence.is_some_and(|fence| fence.is_ahead_of(moment)) {
            for (shard, epoch) in view.open {
                let pod = self.nodes[node].pod.clone();
                // The server gives a request up after T.
                let longest = TIMING.write_timeout().as_millis() as u64;
                let after = if self.random(4) == 0 { self.random(longest) } else { 1 + self.random(10) };
                self.put(after, Event::Commit { pod, stamp: Stamp { shard, epoch } });
            }
        }
        self.put(WRITE_EVERY, Event::Write { node, start });
    }

    fn commit(&mut self, pod: &Arc<str>, stamp: Stamp) {
        let entry = self.api.table.as_ref().and_then(|table| table.table.shards.get(usize::from(stamp.shard.0)));
        let names = entry.is_some_and(|entry| entry.holder.as_ref() == Some(pod) && entry.epoch == stamp.epoch);
        // Without a fence the epoch is nobody's business; what counts is who holds the shard.
        let holds = entry.is_some_and(|entry| entry.holder.as_ref() == Some(pod));
        match (self.fence, names, holds) {
            (true, false, _) => self.refused += 1,
            (true, true, _) | (false, _, true) => self.written += 1,
            (false, _, false) => {
                let holder = entry.and_then(|entry| entry.holder.clone());
                // A shard that nobody holds is written by nobody else.
                if holder.is_some() {
                    self.stale.push(format!("{}: {pod} wrote {stamp}, which {holder:?} holds", self.now));
                }
            }
        }
    }

    fn arrive(&mut self, node: usize, start: u32, request: Request) {
        let reaches = self.now >= self.nodes[node].cut_until.max(self.api.away_until);
        let after = self.delay();
        let answers = after < TIMING.renew_timeout().as_millis() as u64;
        let late = if self.api.refuses_at_once { 1 } else { TIMING.renew_timeout().as_millis() as u64 };
        let answer = |sim: &mut Self, input: Input, failed: Input| match answers {
            true => sim.deliver(node, start, after, input),
            false => sim.deliver(node, start, late, failed),
        };
        match request {
            Request::Renew { sent, life, lease, renewal } => {
                if !reaches {
                    return self.deliver(node, start, late, Input::Renewed { sent, life, answer: None });
                }
                let first = self.api.lives.insert(lease.clone(), life) != Some(life);
                if !first && !self.api.leases.contains_key(&lease) {
                    return answer(self, Input::LeaseLost { life }, Input::Renewed { sent, life, answer: None });
                }
                self.api.leases.insert(lease.clone(), renewal.clone());
                self.broadcast(|| Input::LeaseSeen { lease: lease.clone(), renewal: Some(renewal.clone()) });
                let request = Request::RenewRead { sent, life, arrived: self.now };
                self.put(after, Event::Arrive { node, start, request });
            }
            Request::RenewRead { sent, life, arrived } => {
                let failed = Input::Renewed { sent, life, answer: None };
                if !reaches || self.now > arrived + late {
                    return self.deliver(node, start, 1, failed);
                }
                // The table as it is now; the answer may be handled much later (a paused process).
                let read = Some(self.read());
                answer(self, Input::Renewed { sent, life, answer: read }, failed);
            }
            Request::Read if reaches => {
                let read = self.read();
                answer(self, Input::TableRead(Some(read)), Input::TableRead(None));
            }
            Request::Read => self.deliver(node, start, late, Input::TableRead(None)),
            Request::Create(table) if reaches => {
                let result = match self.api.table {
                    Some(_) => CasAnswer::Conflict,
                    None => {
                        self.api.tables += 1;
                        CasAnswer::Stored(self.store(table))
                    }
                };
                answer(self, Input::Cas(result), Input::Cas(CasAnswer::Unknown));
            }
            Request::Cas { version, table } if reaches => {
                let result = match self.api.table.as_ref().is_some_and(|stored| stored.version == version) {
                    true => CasAnswer::Stored(self.store(table)),
                    false => CasAnswer::Conflict,
                };
                answer(self, Input::Cas(result), Input::Cas(CasAnswer::Unknown));
            }
            Request::Create(_) | Request::Cas { .. } => {
                self.deliver(node, start, late, Input::Cas(CasAnswer::Unknown));
            }
            Request::ReadLease { pod, lease } => {
                self.api.lease_reads += 1;
                let found = reaches.then(|| self.api.leases.get(&lease).cloned());
                let failed = Input::LeaseRead { pod: pod.clone(), answer: None };
                answer(self, Input::LeaseRead { pod, answer: found }, failed);
            }
            Request::DeleteLease(lease) => {
                self.api.leases.remove(&lease);
                self.broadcast(|| Input::LeaseSeen { lease: lease.clone(), renewal: None });
            }
            Request::Probe(stamp) => {
                let table = self.api.table.as_ref();
                let entry = table.and_then(|table| table.table.shards.get(usize::from(stamp.shard.0)));
                let current = entry.is_some_and(|entry| entry.epoch == stamp.epoch) && !self.api.is_behind;
                let taken = !self.fence || current;
                let verdict = if taken { ProbeAnswer::Accepted } else { ProbeAnswer::Fenced };
                let verdict = if reaches { verdict } else { ProbeAnswer::Unknown };
                answer(self, Input::Probed(verdict), Input::Probed(ProbeAnswer::Unknown));
            }
        }
    }

    fn read(&self) -> TableRead {
        self.api.table.clone().map_or(TableRead::Missing, TableRead::Found)
    }

    fn store(&mut self, table: Arc<Table>) -> Snapshot {
        if let Some(old) = &self.api.table {
            for (before, after) in old.table.shards.iter().zip(&table.shards) {
                assert!(before == after || before.epoch < after.epoch, "the API server refuses a lower epoch");
            }
        }
        self.api.version += 1 + self.now % 7;
        let uid = format!("table-{}", self.api.tables).into();
        let snapshot = Snapshot { uid, version: self.api.version, table };
        self.api.table = Some(snapshot.clone());
        self.table_changed();
        snapshot
    }

    fn table_changed(&mut self) {
        let version = self.api.version;
        self.broadcast(|| Input::TableChanged { version });
    }
}
