//! How fast and how small is the pure core? No API server, no DNS, no actors: machines, books and rendering only.
//!
//! The same policies, hosts and addresses in every run. docs/performance.md has the figures.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use egress_domain::answer::{AnswerKind, Families, Family, Outcome, Resolution};
use egress_domain::api::{Destination, EgressPolicy, EgressPolicySpec};
use egress_domain::cluster::Cluster;
use egress_domain::fqdn::Fqdn;
use egress_domain::guard::GuardRail;
use egress_domain::machine::{Context, Effect, Input, Machine, Standing};
use egress_domain::policy::ValidatedPolicy;
use egress_domain::render::render;
use egress_domain::settings::Settings;
use egress_domain::time::{self, Now, UnixTime};
use egress_domain::write::{WriteOutcome, WriteRequest};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

const POLICIES: usize = 10_000;
const HOSTS: usize = 1_000;
const HOSTS_PER_POLICY: usize = 5;
const NODES: u32 = 1_000;
const ROUNDS: usize = 5;
const SEED: u64 = 1;

fn main() -> Result<()> {
    let hosts: Vec<Host> = (0..HOSTS).map(Host::new).collect::<Result<_>>()?;
    let specs = specs(&hosts);
    let context = context()?;
    let mut now = Now { instant: time::Instant(1_000), unix: UnixTime(1_763_700_000) };

    let before = resident()?;
    let mut fleet = Fleet::default();
    let started = Instant::now();
    for (index, spec) in specs.iter().enumerate() {
        fleet.start(index, spec, &hosts, &context, now);
        ensure!(fleet.writes.len() == 1, "policy {index} asks for one create, not {}", fleet.writes.len());
        fleet.answer_writes(now);
    }
    let starting = started.elapsed();
    let after = resident()?;
    ensure!(after > before, "the resident size did not grow");

    let rendering = renders(&fleet, &context);
    let steps = ROUNDS * POLICIES * HOSTS_PER_POLICY;

    let mut unchanged = Duration::ZERO;
    for _ in 0..ROUNDS {
        now = now + Duration::from_secs(60);
        unchanged += fleet.resolve(&specs, &hosts, |host| host.unchanged.clone(), now);
    }
    ensure!(fleet.writes.is_empty(), "unchanged answers caused {} writes", fleet.writes.len());

    let (mut changed, mut answering, mut written) = (Duration::ZERO, Duration::ZERO, 0);
    for round in 0..ROUNDS {
        now = now + Duration::from_secs(60);
        for position in 0..HOSTS_PER_POLICY {
            let of_position: Vec<Vec<usize>> = specs.iter().map(|spec| vec![spec[position]]).collect();
            changed += fleet.resolve(&of_position, &hosts, |host| host.changed(round), now);
            written += fleet.writes.len();
            answering += fleet.answer_writes(now);
        }
    }
    ensure!(written == steps, "{steps} changed answers caused {written} writes");

    println!("{POLICIES} policies, {HOSTS_PER_POLICY} hosts each out of {HOSTS}, 2 addresses per host, 1 thread");
    println!("{:<58} {:>12} {:>12}", "", "per second", "each");
    row("policy parsed, hosts answered, NetworkPolicy created", POLICIES, starting);
    row("render of a policy with 10 addresses", ROUNDS * POLICIES, rendering);
    row("step, answer unchanged (no write)", steps, unchanged);
    row("step, answer changed (renders, asks for a write)", steps, changed);
    row("step, the write's outcome", steps, answering);
    let ratio = changed.as_secs_f64() / unchanged.as_secs_f64();
    println!("an unchanged answer is {ratio:.1} times as fast as a changed one");
    let bytes = usize::try_from(after - before)? / POLICIES;
    println!("resident: {bytes} bytes per policy ({} MiB for all)", (after - before) >> 20);
    println!("other effects (status, Events, lookups): {}", fleet.other);
    Ok(())
}

fn row(what: &str, count: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    let count = count as f64;
    println!("{what:<58} {:>12.0} {:>9.2} µs", count / seconds, seconds / count * 1e6);
}

/// A host and what DNS says of it.
struct Host {
    name: Fqdn,
    index: u32,
    unchanged: Resolution,
    no_v6: Resolution,
}

impl Host {
    fn new(index: usize) -> Result<Self> {
        let name: Fqdn = format!("host-{index:04}.example.com").parse()?;
        let index = u32::try_from(index)?;
        let unchanged = resolution(&name, Family::V4, &[address(index, 0), address(index, 1)]);
        let no_v6 = resolution(&name, Family::V6, &[]);
        Ok(Self { name, index, unchanged, no_v6 })
    }

    /// One of the two addresses is a new one each round.
    fn changed(&self, round: usize) -> Resolution {
        let new = u32::try_from(round + 2).unwrap_or(u32::MAX);
        resolution(&self.name, Family::V4, &[address(self.index, 0), address(self.index, new)])
    }
}

/// From 203.0.0.0 on, 16 addresses to a host.
fn address(host: u32, which: u32) -> IpAddr {
    Ipv4Addr::from(0xcb00_0000 + host * 16 + which).into()
}

fn resolution(host: &Fqdn, family: Family, addresses: &[IpAddr]) -> Resolution {
    let kind = if addresses.is_empty() { AnswerKind::NoData } else { AnswerKind::Positive };
    let outcome = Outcome::Answer { kind, addresses: addresses.into(), elsewhere: Arc::new([]) };
    Resolution { host: host.clone(), family, outcome, settled: true }
}

/// Which hosts each policy has.
fn specs(hosts: &[Host]) -> Vec<Vec<usize>> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut spec = || {
        let mut chosen = BTreeSet::new();
        while chosen.len() < HOSTS_PER_POLICY {
            chosen.insert(random.random_range(0..hosts.len()));
        }
        chosen.into_iter().collect()
    };
    (0..POLICIES).map(|_| spec()).collect()
}

fn context() -> Result<Context> {
    let guard = GuardRail {
        services: vec!["10.96.0.0/16".parse()?],
        pods: vec!["10.244.0.0/16".parse()?],
        nodes: (0..NODES).map(|node| Ipv4Addr::from(0x0a00_0001 + node).into()).collect(),
        denied: Vec::new(),
    };
    let dns = vec![Cluster::seed_dns_rule()];
    let cluster = Cluster { dns, guard, families: Families::BOTH, domain: "cluster.local".parse()? };
    Ok(Context { settings: Arc::new(Settings::default()), cluster: Arc::new(cluster) })
}

#[derive(Default)]
struct Fleet {
    machines: Vec<Machine>,
    /// Writes without an answer: machine, number, request.
    writes: Vec<(usize, u64, WriteRequest)>,
    /// Last resourceVersion.
    version: u64,
    /// Effects that are no writes.
    other: usize,
}

impl Fleet {
    /// A policy appears and its hosts answer for the first time.
    fn start(&mut self, index: usize, spec: &[usize], hosts: &[Host], context: &Context, now: Now) {
        let named = spec.iter().map(|host| hosts[*host].name.to_string());
        let destinations = named.map(|hostname| Destination { hostname: Some(hostname), ..Destination::default() });
        let spec_of = EgressPolicySpec { destinations: destinations.collect(), ..EgressPolicySpec::default() };
        let mut object = EgressPolicy::new(&format!("policy-{index}"), spec_of);
        object.metadata.namespace = Some(format!("tenant-{}", index / 10));
        object.metadata.uid = Some(format!("00000000-0000-0000-0000-{index:012}"));
        object.metadata.generation = Some(1);
        let policy = Arc::new(ValidatedPolicy::parse(&object, &context.settings));
        let (machine, effects) =
            Machine::new(context.clone(), policy, None, &object, Standing::Normal, usize::MAX, now);
        self.machines.push(machine);
        self.take(index, effects);
        for host in spec.iter().map(|host| &hosts[*host]) {
            for answer in [&host.unchanged, &host.no_v6] {
                let effects = self.machines[index].step(Input::Resolution(answer.clone()), now);
                self.take(index, effects);
            }
        }
    }

    /// Feeds an answer for each host of each policy; the time that the steps took.
    fn resolve(
        &mut self,
        specs: &[Vec<usize>],
        hosts: &[Host],
        answer: impl Fn(&Host) -> Resolution,
        now: Now,
    ) -> Duration {
        let answers: Vec<Resolution> = hosts.iter().map(answer).collect();
        let mut took = Duration::ZERO;
        for (index, spec) in specs.iter().enumerate() {
            let inputs: Vec<Input> = spec.iter().map(|host| Input::Resolution(answers[*host].clone())).collect();
            let started = Instant::now();
            let effects: Vec<Vec<Effect>> =
                inputs.into_iter().map(|input| self.machines[index].step(input, now)).collect();
            took += started.elapsed();
            effects.into_iter().for_each(|effects| self.take(index, effects));
        }
        took
    }

    fn take(&mut self, index: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Write { seq, request, .. } => self.writes.push((index, seq, request)),
                _ => self.other += 1,
            }
        }
    }

    /// Answers every write as an API server does that takes each; the time that the steps took.
    fn answer_writes(&mut self, now: Now) -> Duration {
        let mut took = Duration::ZERO;
        for (index, seq, request) in std::mem::take(&mut self.writes) {
            let (WriteRequest::Create(mut object) | WriteRequest::Apply(mut object)) = request else { continue };
            self.version += 1;
            object.metadata.resource_version = Some(self.version.to_string());
            object.metadata.uid.get_or_insert_with(|| format!("np-{index}"));
            let outcome = WriteOutcome::Written(Some(object));
            let started = Instant::now();
            let effects = self.machines[index].step(Input::Outcome { seq, outcome }, now);
            took += started.elapsed();
            self.take(index, effects);
        }
        took
    }
}

fn renders(fleet: &Fleet, context: &Context) -> Duration {
    let started = Instant::now();
    for _ in 0..ROUNDS {
        for machine in &fleet.machines {
            black_box(render(machine.policy(), machine.book(), &context.cluster));
        }
    }
    started.elapsed()
}

/// Resident bytes of this process.
fn resident() -> Result<u64> {
    // statm counts pages; the kernel's own count of kilobytes in status needs no page size.
    let status = std::fs::read_to_string("/proc/self/status").context("this program measures on Linux only")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
}
