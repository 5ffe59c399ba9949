//! One EgressPolicy's life: what comes in, what has to be done about it. `step` is the only way in.
//!
//! ```text
//! new -> first sight (hosts are asked, at most 5 s) -> create -> applied <-> repair, checkpoint, new answers
//!     -> live object found: its book is loaded -> applied
//!     -> live object without a book, or the seed's: unexplained blocks stay until the hosts have answered -> one apply
//!     -> somebody else's object: left alone, asked again every 5 minutes
//! ```

mod events;
mod frozen;
mod hosts;
mod live;
mod outcome;
mod reconcile;
mod status;

use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::answer::{Family, Resolution};
use crate::api::{AppliedReason, EgressPolicy, EgressPolicyStatus, Mode};
use crate::book::{AddressBook, Caps, pairs_that_fit};
use crate::cluster::Cluster;
use crate::fingerprint::Fingerprint;
use crate::fqdn::Fqdn;
use crate::policy::ValidatedPolicy;
use crate::settings::Settings;
use crate::time::{Instant, Now};
use crate::write::{Lane, PolicyEvent, WriteOutcome, WriteRequest};

use crate::drift::DriftBackoff;
use events::EventThrottle;
use hosts::HostState;
use live::Live;
use status::StatusState;

/// Whether a namespace may be written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    #[default]
    Normal,
    /// `--protected-namespaces`: nothing is written, the condition says so.
    Protected,
    /// It is being deleted, or gone: nothing is written or repaired.
    Terminating,
}

/// What can happen to a policy.
#[derive(Clone, Debug)]
pub enum Input {
    /// The spec changed.
    Spec(Arc<ValidatedPolicy>),
    /// A lookup completed.
    Resolution(Resolution),
    /// The watch saw `egress-{name}` as it is now, or saw it go.
    Live(Option<Box<NetworkPolicy>>),
    /// A write was answered.
    Outcome {
        /// Number of the write, from [`Effect::Write`].
        seq: u64,
        /// What became of it.
        outcome: WriteOutcome,
    },
    /// The namespace changed its standing.
    Standing(Standing),
    /// How many of the policy's hosts may be looked up (`--max-hosts-per-namespace`).
    HostQuota(usize),
    /// DNS path, guard rail or families of the cluster changed.
    Cluster(Arc<Cluster>),
    /// The namespace is ours under a new epoch: writes that were fenced, or may be, are decided again.
    Resumed {
        /// The last status was fenced, too.
        status_lost: bool,
    },
    /// The deadline of [`Machine::next_deadline`] came.
    Tick,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "an effect that is not performed is lost"]
pub enum Effect {
    /// Keep exactly these hosts looked up, at the policy's refresh interval.
    Lookup(Vec<Fqdn>),
    /// Write `egress-{name}`; a pending write of it is replaced.
    Write {
        /// Number to return with the outcome.
        seq: u64,
        /// Importance.
        lane: Lane,
        /// What to do.
        request: WriteRequest,
    },
    /// Forget a pending write of `egress-{name}`.
    WithdrawWrite,
    /// Write the status.
    Status(Box<EgressPolicyStatus>),
    /// The namespace has this enforcing policy (or has it no more): it needs its default deny.
    Enforcing(bool),
    /// Publish an Event.
    Event(PolicyEvent),
    /// The NetworkPolicy was written with a changed spec: log event `egress-policy-update`.
    Updated {
        /// Addresses and blocks that are allowed now.
        ips: Vec<String>,
        /// Namespaces that are allowed now.
        namespaces: Vec<String>,
    },
}

/// What a machine shares with all others.
#[derive(Clone, Debug)]
pub struct Context {
    /// Flags.
    pub settings: Arc<Settings>,
    /// The cluster around.
    pub cluster: Arc<Cluster>,
}

/// A write that has no outcome yet.
#[derive(Clone, Debug)]
struct Outstanding {
    seq: u64,
    kind: WriteKind,
    fingerprint: Option<Fingerprint>,
    /// It has another spec than what was there or under way when it was sent. The watch may show it before its answer
    /// comes, so this cannot be told from the live object then.
    changes: bool,
    /// The watch saw the object go before the answer came.
    gone_meanwhile: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteKind {
    Create,
    /// A create of an object that somebody deleted: a repair.
    Recreate,
    Apply,
    RepairOwners,
    Read,
    /// An apply that only takes guarded addresses out of a frozen object.
    Trim,
}

/// Why the last write of this content did not do.
#[derive(Clone, Debug)]
struct Trouble {
    reason: AppliedReason,
    message: String,
    /// The content that had the trouble; other content is tried at once.
    fingerprint: Option<Fingerprint>,
    retry_at: Instant,
}

/// Unexplained blocks stay in place until the hosts have been asked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Adopting {
    /// An object of the seed, or one with the adopt annotation; the blocks it had.
    Foreign(Vec<IpNet>),
    /// An object of ours whose book is absent or unreadable.
    BookLost,
}

/// One EgressPolicy. See the module documentation.
#[derive(Debug)]
pub struct Machine {
    context: Context,
    policy: Arc<ValidatedPolicy>,
    standing: Standing,
    host_quota: usize,
    hosts: Vec<HostState>,
    book: AddressBook,
    /// The book was read from a live object, or has been written: from now on memory is the authority.
    book_loaded: bool,
    live: Live,
    outstanding: Vec<Outstanding>,
    next_seq: u64,
    /// The first write waits until every host is settled, at most until here.
    first_sight: Option<Instant>,
    adopting: Option<Adopting>,
    /// When the first host answered; an adoption waits a little for the others.
    first_answer: Option<Instant>,
    trouble: Option<Trouble>,
    drift: DriftBackoff,
    /// Field managers that were seen beside ours when the object had drifted.
    contenders: Vec<String>,
    /// The desired spec may have changed since it was last rendered, with the most important cause.
    changed: Option<Lane>,
    /// A host at its cap swapped addresses: not to be written before `capped_next`.
    capped: bool,
    capped_next: Instant,
    checkpoint_at: Option<Instant>,
    /// When this process stored last-seen times last.
    stored_at: Instant,
    enforcing: bool,
    status: StatusState,
    events: EventThrottle,
}

/// Spread of the hosts after a recovery, and one lookup with its retry: an adoption waits so long for the rest.
const ADOPTION_GRACE: std::time::Duration = std::time::Duration::from_secs(10);

impl Machine {
    /// A machine for a policy, the live `egress-{name}` if the watch knows one, and the policy object's present status
    /// (only to avoid writing an equal one again; nothing is derived from it).
    pub fn new(
        context: Context,
        policy: Arc<ValidatedPolicy>,
        live: Option<&NetworkPolicy>,
        object: &EgressPolicy,
        standing: Standing,
        host_quota: usize,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        let mut machine = Self {
            first_sight: Some(now.instant + context.settings.first_sight_deadline),
            status: StatusState::new(object.status.as_ref(), now),
            context,
            policy,
            standing,
            host_quota,
            hosts: Vec::new(),
            book: AddressBook::default(),
            book_loaded: false,
            live: Live::Absent,
            outstanding: Vec::new(),
            next_seq: 1,
            adopting: None,
            first_answer: None,
            trouble: None,
            drift: DriftBackoff::default(),
            contenders: Vec::new(),
            changed: Some(Lane::Spec),
            capped: false,
            capped_next: Instant::default(),
            checkpoint_at: None,
            stored_at: Instant::default(),
            enforcing: false,
            events: EventThrottle::default(),
        };
        let mut effects = Vec::new();
        machine.refresh_hosts(now, &mut effects);
        if live.is_some() {
            machine.observe(live, now, &mut effects);
        }
        machine.settle(now, &mut effects);
        (machine, effects)
    }

    /// Takes one input and says what to do.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Spec(policy) => self.spec(policy, now, &mut effects),
            Input::Resolution(resolution) => self.resolution(&resolution, now, &mut effects),
            Input::Live(object) => self.observe(object.as_deref(), now, &mut effects),
            Input::Outcome { seq, outcome } => self.outcome(seq, outcome, now, &mut effects),
            Input::Standing(standing) => {
                self.standing = standing;
                self.touch(Lane::Spec);
                self.status.touch();
                self.refresh_hosts(now, &mut effects);
            }
            Input::HostQuota(quota) => {
                self.host_quota = quota;
                self.status.touch();
                self.refresh_hosts(now, &mut effects);
            }
            Input::Cluster(cluster) => self.cluster(cluster, now, &mut effects),
            Input::Resumed { status_lost } => self.resumed(status_lost, &mut effects),
            Input::Tick => {}
        }
        self.settle(now, &mut effects);
        effects
    }

    /// When the machine wants a [`Input::Tick`], if nothing else comes.
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.write_deadline(), self.status_deadline()].into_iter().flatten().min()
    }

    /// The policy as it stands.
    pub fn policy(&self) -> &Arc<ValidatedPolicy> {
        &self.policy
    }

    /// What is allowed for the hosts now.
    pub fn book(&self) -> &AddressBook {
        &self.book
    }

    fn spec(&mut self, policy: Arc<ValidatedPolicy>, now: Now, effects: &mut Vec<Effect>) {
        let was_frozen = self.policy.mode == Mode::DryRun;
        let retention = std::mem::replace(&mut self.policy, policy).retention;
        if self.policy.retention != retention {
            // What is stored may be as old as the retention before needed it to be.
            self.checkpoint_at = Settings::checkpoint_interval(self.policy.retention).map(|_| now.instant);
        }
        // Leaving the spec takes a host's addresses with the next write (I2), and forgets them.
        self.book.keep_hosts(&self.policy.host_names());
        self.book.shrink_to(self.caps().per_policy);
        self.trouble = self.trouble.take().filter(|trouble| trouble.fingerprint.is_none());
        if was_frozen {
            // What the guard rail took from the frozen object must not come back from memory.
            self.drop_guarded();
        }
        if was_frozen && self.policy.mode == Mode::Enforce && !matches!(self.live, Live::Ours(_)) {
            self.first_sight = Some(now.instant + self.context.settings.first_sight_deadline);
        }
        self.touch(Lane::Spec);
        self.status.touch();
        self.refresh_hosts(now, effects);
    }

    fn cluster(&mut self, cluster: Arc<Cluster>, now: Now, effects: &mut Vec<Effect>) {
        self.context.cluster = cluster;
        self.touch(Lane::Spec);
        self.status.touch();
        if self.is_frozen() {
            self.check_frozen(effects);
        } else {
            self.drop_guarded();
        }
        self.refresh_hosts(now, effects);
    }

    /// Everything that an input may have made due.
    fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.reconcile(now, effects);
        self.write_status_if_due(now, effects);
    }

    fn touch(&mut self, lane: Lane) {
        self.changed = Some(self.changed.map_or(lane, |present| present.min(lane)));
    }

    fn caps(&self) -> Caps {
        let settings = &self.context.settings;
        let per_policy =
            pairs_that_fit(self.policy.hosts.iter().map(|(host, _)| host), settings.max_addresses_per_policy);
        Caps { per_host: settings.max_addresses_per_host, per_policy }
    }

    fn families(&self) -> impl Iterator<Item = Family> + use<> {
        self.context.cluster.families.iter()
    }

    /// A dry run whose last NetworkPolicy stays as it is.
    fn is_frozen(&self) -> bool {
        self.policy.mode == Mode::DryRun && matches!(self.live, Live::Ours(_))
    }

    fn emit_write(
        &mut self,
        kind: WriteKind,
        lane: Lane,
        fingerprint: Option<Fingerprint>,
        request: WriteRequest,
        effects: &mut Vec<Effect>,
    ) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let under_way = self.outstanding.iter().rev().find_map(|write| write.fingerprint);
        let present = match &self.live {
            Live::Ours(stored) => Some(stored.fingerprint),
            Live::Absent | Live::Foreign { .. } => None,
        };
        let changes = fingerprint.is_some() && fingerprint != under_way.or(present);
        self.outstanding.push(Outstanding { seq, kind, fingerprint, changes, gone_meanwhile: false });
        effects.push(Effect::Write { seq, lane, request });
    }

    fn emit_read(&mut self, effects: &mut Vec<Effect>) {
        if !self.is_outstanding(WriteKind::Read) {
            self.emit_write(WriteKind::Read, Lane::Spec, None, WriteRequest::Read, effects);
        }
    }

    fn is_outstanding(&self, kind: WriteKind) -> bool {
        self.outstanding.iter().any(|write| write.kind == kind)
    }
}

#[cfg(test)]
mod tests;
