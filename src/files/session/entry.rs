//! One policy of a session: its machine, and what it has written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use egress_domain::answer::{Outcome, Resolution};
use egress_domain::fqdn::Fqdn;
use egress_domain::guard::{GuardRail, Verdict};
use egress_domain::machine::{Effect, Input, Machine};
use egress_domain::object::PolicyKey;
use egress_domain::time::Now;
use egress_domain::write::{WriteOutcome, WriteRequest};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::lookups::Subscription;
use super::without_hosts;
use crate::files::finding::Finding;
use crate::files::policy::LoadedPolicy;

/// Uid of every written object: there is one per name, and none is ever replaced by another.
const UID: &str = "memory";

/// One policy that is rendered.
pub(super) struct Entry {
    loaded: LoadedPolicy,
    machine: Machine,
    subscriber: u64,
    /// The latest write that was asked for and not done yet.
    pending: Option<(u64, WriteRequest)>,
    written: Option<NetworkPolicy>,
    version: u64,
    guarded: BTreeMap<Fqdn, BTreeSet<IpAddr>>,
}

impl Entry {
    pub(super) fn new(loaded: LoadedPolicy, machine: Machine, subscriber: u64) -> Self {
        Self { loaded, machine, subscriber, pending: None, written: None, version: 0, guarded: BTreeMap::new() }
    }

    pub(super) fn key(&self) -> &PolicyKey {
        self.loaded.key()
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(super) fn written(&self) -> Option<&NetworkPolicy> {
        self.written.as_ref()
    }

    pub(super) fn step(&mut self, input: Input, now: Now) -> Vec<Effect> {
        self.machine.step(input, now)
    }

    /// The policy was read again. Hosts whose given addresses changed are forgotten first: what a person took back is
    /// gone at once, retention is for what DNS said.
    pub(super) fn replace(&mut self, loaded: LoadedPolicy, changed: Vec<Fqdn>) -> Vec<Input> {
        let mut inputs = Vec::new();
        if !changed.is_empty() {
            changed.iter().for_each(|host| drop(self.guarded.remove(host)));
            inputs.push(Input::Spec(Arc::new(without_hosts(&loaded.policy, &changed))));
        }
        if loaded.policy != self.loaded.policy || !inputs.is_empty() {
            inputs.push(Input::Spec(Arc::clone(&loaded.policy)));
        }
        self.loaded = loaded;
        inputs
    }

    pub(super) fn subscription(&self, hosts: Vec<Fqdn>) -> Subscription {
        let namespace = Arc::clone(&self.key().namespace);
        Subscription { subscriber: self.subscriber, namespace, hosts, refresh: self.loaded.policy.refresh }
    }

    pub(super) fn pend(&mut self, seq: u64, request: WriteRequest) {
        self.pending = Some((seq, request));
    }

    pub(super) fn withdraw(&mut self) {
        self.pending = None;
    }

    /// Does the pending write; gives what the machine must hear of it.
    pub(super) fn write(&mut self) -> Option<Input> {
        let (seq, request) = self.pending.take()?;
        let outcome = match request {
            WriteRequest::Create(object) | WriteRequest::Apply(object) => {
                self.version += 1;
                let mut object = object;
                object.metadata.uid = Some(UID.to_owned());
                object.metadata.resource_version = Some(self.version.to_string());
                self.written = Some((*object).clone());
                WriteOutcome::Written(Some(object))
            }
            WriteRequest::Read => WriteOutcome::Read(self.written.clone().map(Box::new)),
            // A machine asks for these about objects that others made; here is nobody else.
            WriteRequest::RepairOwners(_)
            | WriteRequest::Delete { .. }
            | WriteRequest::Status { .. }
            | WriteRequest::RemoveKopf
            | WriteRequest::Event(_) => WriteOutcome::Written(None),
        };
        Some(Input::Outcome { seq, outcome })
    }

    /// Remembers which addresses of an answer the guard rail forbids: the machine only says that there are some.
    pub(super) fn note_guarded(&mut self, resolution: &Resolution, guard: &GuardRail) {
        let Outcome::Answer { addresses, .. } = &resolution.outcome else { return };
        let guarded = addresses.iter().filter(|address| guard.judge(**address) == Verdict::Guarded);
        let guarded: BTreeSet<IpAddr> = guarded.copied().collect();
        if !guarded.is_empty() {
            self.guarded.entry(resolution.host.clone()).or_default().extend(guarded);
        }
    }

    /// What there is to tell of the hosts, each at the first field that names it.
    pub(super) fn warnings(&self, now: Now, deadline: Duration) -> Vec<Finding> {
        let status = self.machine.status(now);
        let mut warnings = Vec::new();
        for (host, field) in &self.loaded.hosts {
            let Some(state) = status.hosts.iter().find(|state| state.hostname == host.as_str()) else { continue };
            let mut say = |message| warnings.push(Finding::of_field(&self.loaded.place, field, message));
            let guarded = self.guarded.get(host);
            if let Some(guarded) = guarded {
                let list: Vec<String> = guarded.iter().map(ToString::to_string).collect();
                let why = "addresses of this kind are never allowed by a name (loopback, link-local, platform, denied)";
                say(format!("{host} answers {}: {why}", list.join(", ")));
            }
            match (&state.reason, state.address_count) {
                (Some(reason), 0) => say(format!("{host} has no address ({reason}): nothing is allowed for it")),
                (None, 0) if guarded.is_none() => {
                    let seconds = deadline.as_secs_f64();
                    say(format!("{host} has no address (no answer within {seconds} s): nothing is allowed for it"));
                }
                (Some(reason), _) => say(format!("{host}: one address family has no answer ({reason})")),
                (None, _) => {}
            }
        }
        warnings
    }
}
