//! One machine, one stored NetworkPolicy, one clock.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use serde_json::{Value, json};

use crate::answer::{AnswerKind, Families, Family, LookupFailure, Outcome, Resolution};
use crate::api::{EgressPolicy, EgressPolicyStatus};
use crate::cluster::Cluster;
use crate::fqdn::Fqdn;
use crate::guard::GuardRail;
use crate::machine::{Context, Effect, Input, Machine, Standing};
use crate::network_policy;
use crate::policy::ValidatedPolicy;
use crate::settings::Settings;
use crate::time::{Instant, Now, UnixTime};
use crate::write::{Lane, PolicyEvent, WriteOutcome, WriteRequest};

/// What the model of the API server does with a write, instead of storing it.
pub(super) type Refusal = fn(&WriteRequest) -> Option<WriteOutcome>;

pub(super) struct Sim {
    pub(super) machine: Machine,
    pub(super) now: Now,
    pub(super) stored: Option<NetworkPolicy>,
    /// Every spec that was ever stored by us.
    pub(super) revisions: Vec<NetworkPolicySpec>,
    /// The whole objects of `revisions`, and when each was stored.
    pub(super) written: Vec<(Now, NetworkPolicy)>,
    pub(super) lanes: Vec<Lane>,
    pub(super) reads: usize,
    pub(super) statuses: Vec<EgressPolicyStatus>,
    pub(super) events: Vec<PolicyEvent>,
    pub(super) lookups: Vec<Fqdn>,
    pub(super) enforcing: bool,
    pub(super) updates: usize,
    pub(super) refusal: Option<Refusal>,
    /// Changes every spec on its way into the store, as a mutating webhook does.
    pub(super) mutation: Option<fn(&mut NetworkPolicySpec)>,
    pub(super) settings: Settings,
    pub(super) cluster: Cluster,
    /// Writes are not answered while this is set; they pile up in `unanswered`.
    pub(super) hold: bool,
    pub(super) unanswered: Vec<(u64, WriteRequest)>,
    spec: Value,
    uid: u32,
    version: u64,
    generation: i64,
}

pub(super) const START: Now = Now { instant: Instant(1_000), unix: UnixTime(1_763_700_000) };

pub(super) fn host(name: &str) -> Fqdn {
    Fqdn::parse(name).unwrap()
}

pub(super) fn cluster() -> Cluster {
    Cluster {
        dns: vec![Cluster::seed_dns_rule()],
        guard: GuardRail { services: vec!["10.96.0.0/16".parse().unwrap()], ..GuardRail::default() },
        families: Families::BOTH,
        domain: host("cluster.local"),
    }
}

/// A spec with these host names, and the rest as given.
pub(super) fn hosts(names: &[&str]) -> Value {
    json!({"destinations": names.iter().map(|name| json!({"hostname": name})).collect::<Vec<_>>()})
}

impl Sim {
    pub(super) fn new(spec: Value) -> Self {
        Self::with(spec, None, Settings::default())
    }

    pub(super) fn with(spec: Value, stored: Option<NetworkPolicy>, settings: Settings) -> Self {
        let cluster = cluster();
        let (machine, effects) = boot(&spec, 1, 1, stored.as_ref(), None, &settings, &cluster, START);
        let mut sim = Self {
            machine,
            now: START,
            stored,
            revisions: vec![],
            written: vec![],
            lanes: vec![],
            reads: 0,
            statuses: vec![],
            events: vec![],
            lookups: vec![],
            enforcing: false,
            updates: 0,
            refusal: None,
            mutation: None,
            settings,
            cluster,
            hold: false,
            unanswered: vec![],
            spec,
            uid: 1,
            version: 100,
            generation: 1,
        };
        sim.perform(effects);
        sim
    }

    /// The process dies and starts again; what is stored is all that is left.
    pub(super) fn restart(&mut self) {
        let status = self.statuses.last().cloned();
        self.boot_again(status);
    }

    /// As `restart`, with somebody else's words in the status.
    pub(super) fn boot_again(&mut self, status: Option<EgressPolicyStatus>) {
        self.unanswered.clear();
        self.lookups.clear();
        self.enforcing = false;
        let live = self.stored.as_ref();
        let (machine, effects) =
            boot(&self.spec, self.uid, self.generation, live, status, &self.settings, &self.cluster, self.now);
        self.machine = machine;
        self.perform(effects);
    }

    /// The EgressPolicy is deleted and made anew under the same name, while nobody watches.
    pub(super) fn recreate_policy(&mut self) {
        self.uid += 1;
        self.restart();
    }

    pub(super) fn spec(&mut self, spec: Value) {
        self.generation += 1;
        self.spec = spec;
        let policy = parse(&self.spec, self.uid, self.generation, &self.settings);
        self.input(Input::Spec(Arc::new(policy)));
    }

    /// Changes the spec while the controller is down.
    pub(super) fn spec_while_down(&mut self, spec: Value) {
        self.generation += 1;
        self.spec = spec;
    }

    pub(super) fn input(&mut self, input: Input) {
        let effects = self.machine.step(input, self.now);
        self.perform(effects);
    }

    /// Lets time pass; the machine's timer rings when it is due.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        let mut rings = 0;
        while let Some(at) = self.machine.next_deadline().filter(|at| *at <= end.instant) {
            let step = at.since(self.now.instant);
            self.now = self.now + step;
            self.input(Input::Tick);
            rings += usize::from(step.is_zero());
            assert!(rings < 100, "the timer spins at {:?}", self.now);
        }
        self.now = Now { instant: end.instant, unix: UnixTime(self.now.unix.0.max(end.unix.0)) };
    }

    pub(super) fn resolve(&mut self, name: &str, family: Family, outcome: Outcome) {
        self.input(Input::Resolution(Resolution { host: host(name), family, outcome, settled: true }));
    }

    /// Both families answer: the addresses are split by family, an empty one is NODATA.
    pub(super) fn answer(&mut self, name: &str, addresses: &[&str]) {
        for family in [Family::V4, Family::V6] {
            self.answer_family(name, family, addresses, &[]);
        }
    }

    pub(super) fn answer_family(&mut self, name: &str, family: Family, addresses: &[&str], elsewhere: &[&str]) {
        let of_family = |texts: &[&str]| -> Arc<[IpAddr]> {
            let all = texts.iter().map(|text| text.parse::<IpAddr>().unwrap());
            all.filter(|address| Family::of(address) == family).collect()
        };
        let addresses = of_family(addresses);
        let kind = if addresses.is_empty() { AnswerKind::NoData } else { AnswerKind::Positive };
        self.resolve(name, family, Outcome::Answer { kind, addresses, elsewhere: of_family(elsewhere) });
    }

    pub(super) fn nxdomain(&mut self, name: &str) {
        for family in [Family::V4, Family::V6] {
            let none: Arc<[IpAddr]> = Arc::new([]);
            let outcome = Outcome::Answer { kind: AnswerKind::NxDomain, addresses: none.clone(), elsewhere: none };
            self.resolve(name, family, outcome);
        }
    }

    pub(super) fn fail(&mut self, name: &str, failure: LookupFailure) {
        for family in [Family::V4, Family::V6] {
            self.resolve(name, family, Outcome::Failure(failure));
        }
    }

    /// Somebody edits the stored object by hand, and the watch tells.
    pub(super) fn hand_edit(&mut self, edit: impl FnOnce(&mut NetworkPolicy)) {
        self.edit_while_down(edit);
        let object = self.stored.clone();
        self.input(Input::Live(object.map(Box::new)));
    }

    pub(super) fn edit_while_down(&mut self, edit: impl FnOnce(&mut NetworkPolicy)) {
        let mut object = self.stored.clone().unwrap();
        edit(&mut object);
        self.version += 1;
        object.metadata.resource_version = Some(self.version.to_string());
        self.stored = Some(object);
    }

    pub(super) fn hand_delete(&mut self) {
        self.stored = None;
        self.input(Input::Live(None));
    }

    /// What the stored object allows by address: blocks as text.
    pub(super) fn allowed(&self) -> BTreeSet<String> {
        let spec = self.stored.as_ref().and_then(|object| object.spec.as_ref());
        spec.into_iter().flat_map(network_policy::blocks).map(|(net, _)| net.addr().to_string()).collect()
    }

    #[track_caller]
    pub(super) fn assert_allowed(&self, addresses: &[&str]) {
        let expected: BTreeSet<String> = addresses.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(self.allowed(), expected);
    }

    /// Applied, Resolved, … : status and reason as the machine would tell now.
    pub(super) fn condition(&self, kind: &str) -> Option<(String, String)> {
        let status = self.machine.status(self.now);
        let found = status.conditions.into_iter().find(|condition| condition.type_ == kind)?;
        Some((found.status, found.reason))
    }

    #[track_caller]
    pub(super) fn assert_condition(&self, kind: &str, status: &str, reason: &str) {
        assert_eq!(self.condition(kind), Some((status.to_owned(), reason.to_owned())), "{kind}");
    }

    pub(super) fn event_reasons(&self) -> Vec<&'static str> {
        self.events.iter().map(|event| event.reason).collect()
    }

    /// Answers what was held, oldest first, as if the API server had taken each in this moment.
    pub(super) fn release(&mut self) {
        self.hold = false;
        // A newer write of the object replaced the older ones in the queue: only the first (in flight) and the last count.
        let held = std::mem::take(&mut self.unanswered);
        let last = held.len().saturating_sub(1);
        for (at, (seq, request)) in held.into_iter().enumerate() {
            if at == 0 || at == last {
                self.write(seq, request);
            }
        }
    }

    /// The oldest write that is held is stored, and the watch tells, but its answer is lost.
    pub(super) fn commit_without_answer(&mut self) -> (u64, WriteOutcome) {
        let (seq, request) = self.unanswered.remove(0);
        let outcome = self.store(request);
        let object = self.stored.clone();
        self.input(Input::Live(object.map(Box::new)));
        (seq, outcome)
    }

    /// As `release`, but the watch shows each write before its answer comes.
    pub(super) fn release_behind_the_watch(&mut self) {
        self.hold = false;
        for (seq, request) in std::mem::take(&mut self.unanswered) {
            let outcome = self.store(request);
            let object = self.stored.clone();
            self.input(Input::Live(object.map(Box::new)));
            self.input(Input::Outcome { seq, outcome });
        }
    }

    /// Answers what was held, but the object is deleted and the watch tells before each answer comes.
    pub(super) fn release_behind_a_deletion(&mut self) {
        self.hold = false;
        for (seq, request) in std::mem::take(&mut self.unanswered) {
            let outcome = self.store(request);
            self.hand_delete();
            self.input(Input::Outcome { seq, outcome });
        }
    }

    /// What was held is stored, but its answer is lost, and when it is sent again the fence refuses it.
    pub(super) fn release_behind_the_fence(&mut self) {
        self.hold = false;
        for (seq, request) in std::mem::take(&mut self.unanswered) {
            drop(self.store(request));
            self.input(Input::Outcome { seq, outcome: WriteOutcome::Fenced });
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Lookup(hosts) => self.lookups = hosts,
                Effect::Write { seq, lane, request } => {
                    self.lanes.push(lane);
                    if self.hold { self.unanswered.push((seq, request)) } else { self.write(seq, request) }
                }
                Effect::WithdrawWrite => self.unanswered.clear(),
                Effect::Status(status) => self.statuses.push(*status),
                Effect::Enforcing(enforcing) => self.enforcing = enforcing,
                Effect::Event(event) => self.events.push(event),
                Effect::Updated { .. } => self.updates += 1,
            }
        }
    }

    /// The API server's part: create, apply with uid, read.
    fn write(&mut self, seq: u64, request: WriteRequest) {
        let outcome = self.refusal.and_then(|refuse| refuse(&request)).unwrap_or_else(|| self.store(request));
        self.input(Input::Outcome { seq, outcome });
    }

    fn store(&mut self, request: WriteRequest) -> WriteOutcome {
        match request {
            WriteRequest::Create(object) if self.stored.is_none() => {
                let mut object = *object;
                object.metadata.uid = Some(format!("np-{}", self.version));
                self.put(object)
            }
            WriteRequest::Create(_) => WriteOutcome::AlreadyExists,
            WriteRequest::Apply(object) => match &self.stored {
                Some(present) if present.metadata.uid == object.metadata.uid => {
                    let mut next = present.clone();
                    next.spec = object.spec;
                    next.metadata.labels.get_or_insert_default().extend(object.metadata.labels.unwrap_or_default());
                    let annotations = object.metadata.annotations.unwrap_or_default();
                    next.metadata.annotations.get_or_insert_default().extend(annotations);
                    for owner in object.metadata.owner_references.unwrap_or_default() {
                        let owners = next.metadata.owner_references.get_or_insert_default();
                        if !owners.iter().any(|known| known.uid == owner.uid) {
                            owners.push(owner);
                        }
                    }
                    self.put(next)
                }
                _ => WriteOutcome::Stale,
            },
            WriteRequest::RepairOwners(patch) => match self.stored.clone() {
                Some(mut next) if next.metadata.resource_version == patch.metadata.resource_version => {
                    next.metadata.owner_references = patch.metadata.owner_references;
                    let answer = self.put(next);
                    // The patch leaves the spec alone: what stands there is not ours.
                    self.revisions.pop();
                    self.written.pop();
                    answer
                }
                _ => WriteOutcome::Stale,
            },
            WriteRequest::Read => {
                self.reads += 1;
                WriteOutcome::Read(self.stored.clone().map(Box::new))
            }
            other => panic!("a policy machine does not ask for {other:?}"),
        }
    }

    fn put(&mut self, mut object: NetworkPolicy) -> WriteOutcome {
        if let (Some(mutate), Some(spec)) = (self.mutation, &mut object.spec) {
            mutate(spec);
        }
        self.version += 1;
        object.metadata.resource_version = Some(self.version.to_string());
        self.revisions.extend(object.spec.clone());
        self.written.push((self.now, object.clone()));
        self.stored = Some(object.clone());
        WriteOutcome::Written(Some(Box::new(object)))
    }
}

#[allow(clippy::too_many_arguments)]
fn boot(
    spec: &Value,
    uid: u32,
    generation: i64,
    stored: Option<&NetworkPolicy>,
    status: Option<EgressPolicyStatus>,
    settings: &Settings,
    cluster: &Cluster,
    now: Now,
) -> (Machine, Vec<Effect>) {
    let context = Context { settings: Arc::new(settings.clone()), cluster: Arc::new(cluster.clone()) };
    let policy = Arc::new(parse(spec, uid, generation, settings));
    let mut object = object(spec, uid, generation);
    object.status = status;
    Machine::new(context, policy, stored, &object, Standing::Normal, 500, now)
}

fn object(spec: &Value, uid: u32, generation: i64) -> EgressPolicy {
    let metadata = json!({"name": "web", "namespace": "team", "uid": format!("uid-{uid}"), "generation": generation});
    serde_json::from_value(json!({
        "apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy", "metadata": metadata, "spec": spec
    }))
    .unwrap()
}

fn parse(spec: &Value, uid: u32, generation: i64, settings: &Settings) -> ValidatedPolicy {
    ValidatedPolicy::parse(&object(spec, uid, generation), settings)
}

/// An object somebody else made under our name.
pub(super) fn foreign(spec: Value) -> NetworkPolicy {
    serde_json::from_value(json!({
        "metadata": {"name": "egress-web", "namespace": "team", "uid": "np-foreign", "resourceVersion": "50",
            "managedFields": [{"manager": "kubectl", "operation": "Update"}]},
        "spec": spec
    }))
    .unwrap()
}
