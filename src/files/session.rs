//! The policy machines of the controller, fed from files: what an actor does for one policy, done for all of them in turn.
//!
//! Memory stands for the API server: every write succeeds and is what [`Session::objects`] gives.

mod entry;
mod lookups;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use egress_domain::answer::{AnswerKind, Family, Outcome, Resolution};
use egress_domain::api::{FIELD_MANAGER, MANAGED_BY_LABEL};
use egress_domain::book::AddressBook;
use egress_domain::fqdn::Fqdn;
use egress_domain::machine::{Context, Effect, Input, Machine, Standing};
use egress_domain::network_policy;
use egress_domain::object::PolicyKey;
use egress_domain::policy::ValidatedPolicy;
use egress_domain::time::Instant;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ObjectMeta;

use self::entry::Entry;
pub use self::lookups::DnsOptions;
use self::lookups::Lookups;
use super::finding::{Finding, Report};
use super::hosts::GivenHosts;
use super::load::Loaded;
use super::policy::LoadedPolicy;
use crate::clock::Clock;

/// NetworkPolicies by namespace and name.
pub type Objects = BTreeMap<(String, String), NetworkPolicy>;

/// Grain of the clock: a timer never rings before its moment, and never spins on it.
const GRAIN: Duration = Duration::from_millis(1);

/// What decides how files are rendered.
#[derive(Clone, Debug)]
pub struct Options {
    /// Flags and cluster of the policy machines.
    pub context: Context,
    /// Whether a namespace with an enforcing policy gets its default deny.
    pub default_deny: bool,
    /// Namespaces that nothing is rendered for; a trailing `*` stands for any ending.
    pub protected: Vec<String>,
    /// How hosts are looked up.
    pub dns: DnsOptions,
}

/// All policies of the input, and what they come to.
pub struct Session {
    options: Options,
    clock: Clock,
    entries: BTreeMap<PolicyKey, Entry>,
    subscribers: BTreeMap<u64, PolicyKey>,
    protected: Vec<LoadedPolicy>,
    given: GivenHosts,
    lookups: Lookups,
    inputs: VecDeque<(PolicyKey, Input)>,
    last_subscriber: u64,
}

impl Session {
    /// A session without policies.
    pub fn new(options: Options) -> Self {
        let clock = Clock::start();
        let lookups = Lookups::new(options.dns.clone(), options.context.cluster.families, clock.clone());
        Self {
            options,
            clock,
            entries: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            protected: Vec::new(),
            given: GivenHosts::default(),
            lookups,
            inputs: VecDeque::new(),
            last_subscriber: 0,
        }
    }

    /// Makes the policies those of the input; what DNS has said of them so far stays known.
    ///
    /// # Errors
    /// When lookups are needed and cannot be made (no DNS server is known).
    pub async fn update(&mut self, loaded: &Loaded) -> Result<()> {
        let given = std::mem::replace(&mut self.given, loaded.given.clone());
        let (protected, open): (Vec<_>, Vec<_>) = loaded
            .policies
            .values()
            .filter(|policy| policy.is_enforcing())
            .cloned()
            .partition(|policy| self.is_protected(&policy.key().namespace));
        self.protected = protected;
        let present: BTreeSet<&PolicyKey> = open.iter().map(LoadedPolicy::key).collect();
        let gone: Vec<PolicyKey> = self.entries.keys().filter(|key| !present.contains(key)).cloned().collect();
        for key in gone {
            self.remove(&key);
        }
        for policy in open {
            match self.entries.get_mut(policy.key()) {
                Some(entry) => {
                    let changed =
                        policy.hosts.keys().filter(|host| given.get(host) != loaded.given.get(host)).cloned().collect();
                    let inputs = entry.replace(policy, changed);
                    let key = entry.key().clone();
                    self.inputs.extend(inputs.into_iter().map(|input| (key.clone(), input)));
                }
                None => self.add(policy),
            }
        }
        self.advance().await
    }

    /// Waits until every policy is rendered: its hosts have answered or failed, or their time is up.
    ///
    /// # Errors
    /// When lookups are needed and cannot be made.
    pub async fn settle(&mut self) -> Result<()> {
        while self.entries.values().any(|entry| entry.written().is_none()) {
            self.wait_for_input().await;
            self.advance().await?;
        }
        Ok(())
    }

    /// What is rendered now, the default denies included.
    pub fn objects(&self) -> Objects {
        let mut objects = Objects::new();
        for entry in self.entries.values() {
            let Some(written) = entry.written() else { continue };
            let namespace = &*entry.key().namespace;
            let mut all = vec![presentable(written)];
            all.extend(self.options.default_deny.then(|| network_policy::default_deny(namespace)));
            for object in all {
                let name = object.metadata.name.clone().unwrap_or_default();
                objects.insert((namespace.to_owned(), name), object);
            }
        }
        objects
    }

    /// What answers gave for the hosts of a policy.
    pub fn book(&self, key: &PolicyKey) -> Option<&AddressBook> {
        Some(self.entries.get(key)?.machine().book())
    }

    /// What there is to tell of the hosts and namespaces.
    pub fn report(&self) -> Report {
        let now = self.clock.now();
        let deadline = self.options.context.settings.first_sight_deadline;
        let mut report = Report::default();
        report.warnings.extend(self.entries.values().flat_map(|entry| entry.warnings(now, deadline)));
        for policy in &self.protected {
            let message =
                format!("{:?} is protected: nothing is rendered for {}", &*policy.key().namespace, policy.key());
            report.warnings.push(Finding::of_field(&policy.place, "metadata.namespace", message));
        }
        report
    }

    fn is_protected(&self, namespace: &str) -> bool {
        self.options.protected.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => namespace.starts_with(prefix),
            None => namespace == pattern,
        })
    }

    fn add(&mut self, policy: LoadedPolicy) {
        self.last_subscriber += 1;
        let context = self.options.context.clone();
        // Hosts are capped per namespace in a cluster, where others share the resolver.
        let quota = usize::MAX;
        let (machine, effects) = Machine::new(
            context,
            Arc::clone(&policy.policy),
            None,
            &policy.object,
            Standing::Normal,
            quota,
            self.clock.now(),
        );
        let key = policy.key().clone();
        self.subscribers.insert(self.last_subscriber, key.clone());
        self.entries.insert(key.clone(), Entry::new(policy, machine, self.last_subscriber));
        self.perform(&key, effects);
    }

    fn remove(&mut self, key: &PolicyKey) {
        if let Some(entry) = self.entries.remove(key) {
            let subscription = entry.subscription(Vec::new());
            self.subscribers.remove(&subscription.subscriber);
            self.lookups.want(subscription);
        }
        self.inputs.retain(|(of, _)| of != key);
    }

    /// Waits for an answer or a deadline; [`Session::advance`] takes it in. May be dropped while it waits.
    pub async fn wait_for_input(&mut self) {
        let deadlines = self.entries.values().filter_map(|entry| entry.machine().next_deadline());
        let wait = deadlines.min().map(|at: Instant| at.since(self.clock.now().instant).max(GRAIN));
        let timer = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = self.lookups.answer() => {
                if let Some(key) = self.key_of(answer.0) {
                    self.inputs.push_back((key, Input::Resolution(answer.1)));
                }
            }
            () = timer => {}
        }
        let now = self.clock.now().instant;
        let due = self.entries.values().filter(|entry| entry.machine().next_deadline().is_some_and(|at| at <= now));
        let due: Vec<PolicyKey> = due.map(|entry| entry.key().clone()).collect();
        self.inputs.extend(due.into_iter().map(|key| (key, Input::Tick)));
    }

    /// Feeds the machines until they want nothing more.
    ///
    /// # Errors
    /// When lookups are needed and cannot be made.
    pub async fn advance(&mut self) -> Result<()> {
        loop {
            while let Some((subscriber, resolution)) = self.lookups.ready_answer() {
                if let Some(key) = self.key_of(subscriber) {
                    self.inputs.push_back((key, Input::Resolution(resolution)));
                }
            }
            while let Some((key, input)) = self.inputs.pop_front() {
                let Some(entry) = self.entries.get_mut(&key) else { continue };
                if let Input::Resolution(resolution) = &input {
                    entry.note_guarded(resolution, &self.options.context.cluster.guard);
                }
                let effects = entry.step(input, self.clock.now());
                self.perform(&key, effects);
            }
            let outcomes = self.entries.iter_mut().filter_map(|(key, entry)| Some((key.clone(), entry.write()?)));
            self.inputs = outcomes.collect();
            if self.inputs.is_empty() {
                return self.lookups.send_wanted().await;
            }
        }
    }

    fn perform(&mut self, key: &PolicyKey, effects: Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        for effect in effects {
            match effect {
                Effect::Lookup(hosts) => {
                    let (given, asked): (Vec<Fqdn>, Vec<Fqdn>) =
                        hosts.into_iter().partition(|host| self.given.get(host).is_some());
                    self.lookups.want(entry.subscription(asked));
                    let families = self.options.context.cluster.families;
                    for (host, family) in
                        given.iter().flat_map(|host| families.iter().map(move |family| (host, family)))
                    {
                        let resolution = given_answer(host, family, &self.given);
                        self.inputs.push_back((key.clone(), Input::Resolution(resolution)));
                    }
                }
                Effect::Write { seq, request, .. } => entry.pend(seq, request),
                Effect::WithdrawWrite => entry.withdraw(),
                // There is nobody to tell; the report says the same when asked.
                Effect::Status(_) | Effect::Enforcing(_) | Effect::Event(_) | Effect::Updated { .. } => {}
            }
        }
    }

    fn key_of(&self, subscriber: u64) -> Option<PolicyKey> {
        self.subscribers.get(&subscriber).cloned()
    }
}

/// What a person gave, as an answer of DNS.
fn given_answer(host: &Fqdn, family: Family, given: &GivenHosts) -> Resolution {
    let addresses = given.get(host).into_iter().flatten().copied();
    let addresses: Vec<_> = addresses.filter(|address| Family::of(address) == family).collect();
    let kind = if addresses.is_empty() { AnswerKind::NoData } else { AnswerKind::Positive };
    let outcome = Outcome::Answer { kind, addresses: addresses.into(), elsewhere: Arc::new([]) };
    Resolution { host: host.clone(), family, outcome, settled: true }
}

/// The object as it is printed: without what only an API server has or needs.
fn presentable(object: &NetworkPolicy) -> NetworkPolicy {
    let ObjectMeta { name, namespace, .. } = object.metadata.clone();
    let labels = [(MANAGED_BY_LABEL.to_owned(), FIELD_MANAGER.to_owned())].into();
    NetworkPolicy {
        metadata: ObjectMeta { name, namespace, labels: Some(labels), ..ObjectMeta::default() },
        spec: object.spec.clone(),
    }
}

/// The policy without some of its hosts.
fn without_hosts(policy: &ValidatedPolicy, hosts: &[Fqdn]) -> ValidatedPolicy {
    let mut policy = policy.clone();
    policy.hosts.retain(|(host, _)| !hosts.contains(host));
    policy
}
