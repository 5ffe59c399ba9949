//! One EgressPolicy: feeds its machine, performs what the machine asks for, and keeps the policy's own timer.

use std::sync::Arc;

use egress_domain::answer::Resolution;
use egress_domain::api::EgressPolicy;
use egress_domain::cluster::Cluster;
use egress_domain::machine::{Context, Effect, Input, Machine, Standing};
use egress_domain::object::{ObjectKey, PolicyKey};
use egress_domain::policy::ValidatedPolicy;
use egress_domain::shard::stamp::Stamp;
use egress_domain::time::Instant;
use egress_domain::write::{Lane, WriteOutcome, WriteRequest};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::resolver::{ResolverMsg, ResolverRef};
use super::router::{RouterMsg, RouterRef};
use super::writer::{WriterMsg, WriterRef};
use crate::clock::Clock;
use crate::telemetry::log::log_policy_update;
use crate::telemetry::metrics::policies::PolicyMetrics;

/// Address of a policy actor.
pub type PolicyRef = ActorRef<PolicyMsg>;

/// The actor; all it has is in its state.
pub struct PolicyActor;

/// What a policy actor takes.
pub enum PolicyMsg {
    /// Something happened to the policy.
    Input(Box<Input>),
    /// A lookup of one of its hosts completed.
    Resolution(Resolution),
    /// A write that was decided under this stamp was not ours to send; what follows depends on the present stamp.
    Fenced {
        /// Its stamp.
        under: Stamp,
        /// Whether it was the status.
        status: bool,
    },
    /// The policy's shard is ours under a new epoch: what was decided under the old one is decided again.
    Resume(Stamp),
    /// Its timer rang; dropped when a newer timer was set since.
    Tick {
        /// Which setting of the timer rang.
        generation: u64,
    },
    /// Tells its state; MUST be answered.
    Snapshot(RpcReplyPort<PolicySnapshot>),
    /// Fault injection: panics, to show what a defect would do.
    Crash,
}

/// What all policy actors share.
pub struct Shared {
    /// Looks hosts up.
    pub resolver: ResolverRef,
    /// Writes.
    pub writer: WriterRef,
    /// The parent.
    pub router: RouterRef,
    /// Time.
    pub clock: Clock,
    /// Counters of all policies together.
    pub metrics: PolicyMetrics,
}

/// What a policy actor starts with.
pub struct PolicyArgs {
    /// The parsed spec.
    pub policy: Arc<ValidatedPolicy>,
    /// The object, for its present status.
    pub object: Box<EgressPolicy>,
    /// `egress-{name}`, where the watch knows it.
    pub live: Option<Box<NetworkPolicy>>,
    /// Flags and cluster.
    pub context: Context,
    /// The shard of the policy, and the epoch we hold it under.
    pub stamp: Stamp,
    /// Whether the namespace may be written.
    pub standing: Standing,
    /// How many hosts may be looked up.
    pub host_quota: usize,
    /// Number of this actor at the resolver; never used again.
    pub subscriber: u64,
    /// The others.
    pub shared: Arc<Shared>,
}

/// State of a policy actor.
pub struct PolicyState {
    machine: Machine,
    key: PolicyKey,
    stamp: Stamp,
    /// A status was not ours to send; it is sent again when the shard is ours again.
    status_lost: bool,
    subscriber: u64,
    shared: Arc<Shared>,
    timer: Option<Timer>,
    generation: u64,
    events: u64,
}

struct Timer {
    at: Instant,
    task: JoinHandle<Result<(), ractor::MessagingErr<PolicyMsg>>>,
}

/// What `/debug/state` tells of a policy.
#[derive(Debug, Serialize)]
pub struct PolicySnapshot {
    /// Namespace and name.
    pub policy: String,
    /// Every host with its addresses.
    pub hosts: Vec<(String, Vec<String>)>,
    /// The status that would be written now.
    pub status: egress_domain::api::EgressPolicyStatus,
}

impl Actor for PolicyActor {
    type Msg = PolicyMsg;
    type State = PolicyState;
    type Arguments = PolicyArgs;

    async fn pre_start(&self, myself: PolicyRef, args: PolicyArgs) -> Result<PolicyState, ActorProcessingErr> {
        let PolicyArgs { policy, object, live, context, stamp, standing, host_quota, subscriber, shared } = args;
        let key = policy.key.clone();
        let now = shared.clock.now();
        let (machine, effects) = Machine::new(context, policy, live.as_deref(), &object, standing, host_quota, now);
        let mut state = PolicyState {
            machine,
            key,
            stamp,
            status_lost: false,
            subscriber,
            shared,
            timer: None,
            generation: 0,
            events: 0,
        };
        state.perform(&myself, effects);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: PolicyRef,
        msg: PolicyMsg,
        state: &mut PolicyState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            PolicyMsg::Input(input) => state.step(&myself, *input),
            PolicyMsg::Resume(stamp) => {
                state.stamp = stamp;
                let status_lost = std::mem::take(&mut state.status_lost);
                state.step(&myself, Input::Resumed { status_lost });
            }
            PolicyMsg::Fenced { under, status } if under == state.stamp => state.status_lost |= status,
            PolicyMsg::Fenced { status, .. } => state.step(&myself, Input::Resumed { status_lost: status }),
            PolicyMsg::Resolution(resolution) => state.step(&myself, Input::Resolution(resolution)),
            PolicyMsg::Tick { generation } if generation == state.generation => {
                state.timer = None;
                state.step(&myself, Input::Tick);
            }
            PolicyMsg::Tick { .. } => {}
            PolicyMsg::Snapshot(reply) => drop(reply.send(state.snapshot())),
            PolicyMsg::Crash => panic!("fault injection: policy {}", state.key),
        }
        Ok(())
    }

    async fn post_stop(&self, _: PolicyRef, state: &mut PolicyState) -> Result<(), ActorProcessingErr> {
        if let Some(timer) = state.timer.take() {
            timer.task.abort();
        }
        Ok(())
    }
}

impl PolicyState {
    fn step(&mut self, myself: &PolicyRef, input: Input) {
        self.shared.metrics.steps.inc();
        let effects = self.machine.step(input, self.shared.clock.now());
        self.perform(myself, effects);
    }

    fn perform(&mut self, myself: &PolicyRef, effects: Vec<Effect>) {
        for effect in effects {
            self.perform_one(myself, effect);
        }
        self.arm(myself);
    }

    fn perform_one(&mut self, myself: &PolicyRef, effect: Effect) {
        match effect {
            Effect::Lookup(hosts) => {
                let actor = myself.clone();
                let sink = move |resolution| drop(actor.cast(PolicyMsg::Resolution(resolution)));
                self.tell_resolver(ResolverMsg::Subscribe {
                    subscriber: self.subscriber,
                    namespace: self.key.namespace.clone(),
                    hosts,
                    refresh: self.machine.policy().refresh,
                    sink: Arc::new(sink),
                });
            }
            Effect::Write { seq, lane, request } => {
                let actor = myself.clone();
                let under = self.stamp;
                let sink = move |outcome: WriteOutcome| {
                    let fenced = outcome == WriteOutcome::Fenced;
                    drop(actor.cast(PolicyMsg::Input(Box::new(Input::Outcome { seq, outcome }))));
                    if fenced {
                        drop(actor.cast(PolicyMsg::Fenced { under, status: false }));
                    }
                };
                self.tell_writer(WriterMsg::Submit {
                    key: ObjectKey::NetworkPolicy(self.key.clone()),
                    lane,
                    request,
                    stamp: Some(self.stamp),
                    sink: Some(Arc::new(sink)),
                });
            }
            Effect::WithdrawWrite => self.tell_writer(WriterMsg::Withdraw(ObjectKey::NetworkPolicy(self.key.clone()))),
            Effect::Status(status) => {
                let uid = self.machine.policy().uid.clone();
                let (actor, under) = (myself.clone(), self.stamp);
                let sink = move |outcome: WriteOutcome| {
                    if outcome == WriteOutcome::Fenced {
                        drop(actor.cast(PolicyMsg::Fenced { under, status: true }));
                    }
                };
                self.tell_writer(WriterMsg::Submit {
                    key: ObjectKey::Status(self.key.clone()),
                    lane: Lane::Status,
                    request: WriteRequest::Status { uid, status },
                    stamp: Some(self.stamp),
                    sink: Some(Arc::new(sink)),
                });
            }
            Effect::Enforcing(enforcing) => {
                let selects_all = enforcing.then(|| self.machine.policy().pod_selector == Default::default());
                let message = RouterMsg::Enforcing { key: self.key.clone(), selects_all };
                drop(self.shared.router.cast(message));
            }
            Effect::Event(event) => {
                self.events += 1;
                self.shared.metrics.event(event.reason);
                // The number is unique among the Events of all actors of this policy: subscribers are never reused.
                let key = ObjectKey::Event(self.key.clone(), (self.subscriber << 20) | self.events);
                let request = WriteRequest::Event(Box::new(event));
                self.tell_writer(WriterMsg::Submit { key, lane: Lane::Status, request, stamp: None, sink: None });
            }
            Effect::Updated { ips, namespaces } => {
                log_policy_update(&self.key.name, &self.key.namespace, &ips, &namespaces);
            }
        }
    }

    /// The process ends when resolver or writer dies, so a message that finds none is of no interest.
    fn tell_resolver(&self, message: ResolverMsg) {
        drop(self.shared.resolver.cast(message));
    }

    fn tell_writer(&self, message: WriterMsg) {
        drop(self.shared.writer.cast(message));
    }

    /// Sets the timer when the machine's deadline is earlier than the one set; a later one re-arms when it rings.
    fn arm(&mut self, myself: &PolicyRef) {
        let Some(at) = self.machine.next_deadline() else { return };
        if self.timer.as_ref().is_some_and(|timer| timer.at <= at) {
            return;
        }
        if let Some(timer) = self.timer.take() {
            timer.task.abort();
        }
        self.generation += 1;
        let generation = self.generation;
        // One millisecond is the clock's grain: never ring before the deadline, never spin on it.
        let wait = at.since(self.shared.clock.now().instant).max(std::time::Duration::from_millis(1));
        let task = myself.send_after(wait, move || PolicyMsg::Tick { generation });
        self.timer = Some(Timer { at, task });
    }

    fn snapshot(&self) -> PolicySnapshot {
        let book = self.machine.book();
        let hosts = self.machine.policy().host_names().into_iter().map(|host| {
            let addresses = book.addresses(&host).map(|address| address.to_string()).collect();
            (host.to_string(), addresses)
        });
        PolicySnapshot {
            policy: self.key.to_string(),
            hosts: hosts.collect(),
            status: self.machine.status(self.shared.clock.now()),
        }
    }
}

/// An input, boxed: the mailbox's slots stay small.
pub fn input(input: Input) -> PolicyMsg {
    PolicyMsg::Input(Box::new(input))
}

/// A change of the cluster, shared by all policies.
pub fn cluster_changed(cluster: &Arc<Cluster>) -> PolicyMsg {
    input(Input::Cluster(Arc::clone(cluster)))
}
