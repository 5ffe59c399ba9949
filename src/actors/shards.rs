//! The shards of this replica: feeds the machine ([`egress_domain::shard::member`]), talks to the API server for it, and
//! tells gate, router and writer what this replica may do.

use std::sync::Arc;
use std::time::Duration;

use egress_domain::shard::ShardId;
use egress_domain::shard::fence::Moment;
use egress_domain::shard::member::{Effect, Identity, Input, Member, Role};
use egress_domain::shard::stamp::Stamp;
use egress_domain::shard::timing::Timing;
use egress_domain::time::Instant;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::router::{RouterMsg, RouterRef};
use super::writer::{WriterMsg, WriterRef};
use crate::clock::BootClock;
use crate::k8s::apply::RequestTimeout;
use crate::k8s::rights::Rights;
use crate::k8s::shards::{NoAnswer, ShardClient};
use crate::server::{Liveness, ReadyHandle};
use crate::telemetry::metrics::shards::ShardMetrics;

/// Address of the shards actor.
pub type ShardsRef = ActorRef<ShardsMsg>;

/// While a new table may not be assigned without a fence, it is looked for so often: an API server loads a policy within a
/// second, for which the first start of an installation waits.
const FENCE_CHECK_WHILE_NEW: Duration = Duration::from_millis(100);
/// Else so often: somebody may remove or install the fence.
const FENCE_CHECK: Duration = Duration::from_secs(30);

/// Loops without which a replica would hold shards and do nothing for them (R11).
const WORKERS: [&str; 3] = ["router", "writer", "resolver"];

/// The actor; all it has is in its state.
pub struct Shards;

/// What the shards actor takes.
pub enum ShardsMsg {
    /// Something for the machine.
    Input(Input),
    /// Its timer rang; dropped when a newer timer was set since.
    Tick {
        /// Which setting of the timer rang.
        generation: u64,
    },
    /// The router runs: what was gained meanwhile is its to start.
    Router(RouterRef),
    /// It is time to ask whether the fence is there.
    CheckFence,
    /// The fence was asked.
    FenceChecked {
        /// Which question it answers.
        number: u64,
        /// None when it did not answer.
        fenced: Option<bool>,
    },
    /// The Lease of a replica that has left is gone, or stays: it may end.
    LeaseDeleted,
    /// Answered once this replica has joined, and holds what it could have at once.
    Settled(RpcReplyPort<()>),
    /// Hand everything over; answered when it is done.
    Leave(RpcReplyPort<()>),
    /// Tells its state; MUST be answered.
    Snapshot(RpcReplyPort<ShardsSnapshot>),
}

/// What the shards actor starts with.
pub struct ShardsArgs {
    /// Who this replica is.
    pub me: Identity,
    /// Until a table says otherwise.
    pub timing: Timing,
    /// Talks to the API server.
    pub client: ShardClient,
    /// What the gate obeys.
    pub rights: Rights,
    /// Time-out of writes, which the lease bounds.
    pub timeout: RequestTimeout,
    /// Fault injection: what is open stays open when the sign of life comes too late.
    pub ignores_deadline: bool,
    /// Drains.
    pub writer: WriterRef,
    /// Tells whether the other loops advance.
    pub liveness: Liveness,
    /// Counters.
    pub metrics: ShardMetrics,
    /// Released once this replica is in the table.
    pub ready: ReadyHandle,
}

/// State of the shards actor.
pub struct ShardsState {
    member: Member,
    me: Identity,
    client: ShardClient,
    rights: Rights,
    timeout: RequestTimeout,
    ignores_deadline: bool,
    writer: WriterRef,
    router: Option<RouterRef>,
    /// For the router, once it runs.
    gained: Vec<Stamp>,
    liveness: Liveness,
    metrics: ShardMetrics,
    ready: Option<ReadyHandle>,
    clock: BootClock,
    timer: Option<Timer>,
    generation: u64,
    fenced: Option<bool>,
    /// How often the fence was asked.
    fence_checks: u64,
    /// The next look at the fence.
    fence_check: Option<JoinHandle<Result<(), ractor::MessagingErr<ShardsMsg>>>>,
    /// Since when this actor runs.
    since: Instant,
    settled: Vec<RpcReplyPort<()>>,
    leaves: Vec<RpcReplyPort<()>>,
    left: bool,
}

struct Timer {
    at: Instant,
    task: JoinHandle<Result<(), ractor::MessagingErr<ShardsMsg>>>,
}

/// What `/debug/state` tells of the shards.
#[derive(Clone, Debug, Serialize)]
pub struct ShardsSnapshot {
    /// Name of this replica in the table.
    pub pod: String,
    /// The life of this process that speaks now.
    pub incarnation: String,
    /// What it is.
    pub role: String,
    /// Whether the API server refuses stale writes; null while it cannot be told.
    pub fence_active: Option<bool>,
    /// Shards whose policies act here, as `shard/epoch`.
    pub active: Vec<String>,
    /// Shards of the table that nobody holds.
    pub unowned: usize,
    /// Members of the table.
    pub members: Vec<String>,
}

impl Actor for Shards {
    type Msg = ShardsMsg;
    type State = ShardsState;
    type Arguments = ShardsArgs;

    async fn pre_start(&self, myself: ShardsRef, args: ShardsArgs) -> Result<ShardsState, ActorProcessingErr> {
        let ShardsArgs { me, timing, client, rights, timeout, ignores_deadline, writer, liveness, metrics, ready } =
            args;
        let clock = BootClock;
        let member = Member::new(me.clone(), timing, clock.now());
        drop(myself.cast(ShardsMsg::Tick { generation: 0 }));
        drop(myself.cast(ShardsMsg::CheckFence));
        Ok(ShardsState {
            member,
            me,
            client,
            rights,
            timeout,
            ignores_deadline,
            writer,
            router: None,
            gained: Vec::new(),
            liveness,
            metrics,
            ready: Some(ready),
            clock,
            timer: None,
            generation: 0,
            fenced: None,
            fence_checks: 0,
            fence_check: None,
            since: clock.now().boot,
            settled: Vec::new(),
            leaves: Vec::new(),
            left: false,
        })
    }

    async fn handle(
        &self,
        myself: ShardsRef,
        msg: ShardsMsg,
        state: &mut ShardsState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ShardsMsg::Input(input) => state.step(&myself, input),
            ShardsMsg::Tick { generation } if generation == state.generation => {
                state.timer = None;
                state.tick(&myself);
            }
            ShardsMsg::Tick { .. } => return Ok(()),
            ShardsMsg::Router(router) => state.set_router(router),
            ShardsMsg::CheckFence => state.check_fence(&myself),
            // An answer of before a table went says nothing of the next one: another question is under way.
            ShardsMsg::FenceChecked { number, .. } if number != state.fence_checks => return Ok(()),
            ShardsMsg::FenceChecked { fenced, .. } => state.fence_checked(&myself, fenced),
            ShardsMsg::LeaseDeleted => state.left = true,
            ShardsMsg::Settled(reply) => state.settled.push(reply),
            ShardsMsg::Leave(reply) => {
                state.leaves.push(reply);
                state.step(&myself, Input::Leave);
            }
            ShardsMsg::Snapshot(reply) => drop(reply.send(state.snapshot())),
        }
        state.answer();
        state.arm(&myself);
        Ok(())
    }

    async fn post_stop(&self, _: ShardsRef, state: &mut ShardsState) -> Result<(), ActorProcessingErr> {
        if let Some(timer) = state.timer.take() {
            timer.task.abort();
        }
        Ok(())
    }
}

impl ShardsState {
    fn tick(&mut self, myself: &ShardsRef) {
        let lease = self.member.timing().lease;
        let mut silent = self.liveness.silent_longer_than(lease, &WORKERS);
        // A worker that has not begun yet does not beat. Before a newcomer is given a share it must be known.
        if self.router.is_none() && self.clock.now().boot.since(self.since) > lease / 3 {
            silent.push("router, which has not begun");
        }
        if !silent.is_empty() {
            tracing::error!(?silent, "no sign of life is given: a replica that does not work must not keep its shards");
        }
        self.step(myself, Input::Tick { healthy: silent.is_empty() });
    }

    fn step(&mut self, myself: &ShardsRef, input: Input) {
        let now = self.clock.now();
        if let Input::Renewed { sent, answer, .. } = &input {
            self.metrics.renewed(answer.is_some(), now.boot.since(sent.boot));
        }
        if let Input::Started { shards } = &input {
            self.metrics.started(shards, now);
            let newest_epoch = shards.iter().map(|stamp| stamp.epoch).max();
            tracing::info!(shards = shards.len(), newest_epoch, "shards act");
        }
        let (was_new, uid) = (self.is_table_new(), self.table_uid());
        let effects = self.member.step(input, now);
        for effect in effects {
            self.perform(myself, effect, now);
        }
        if !was_new && self.is_table_new() || uid != self.table_uid() {
            // The table that the fence was seen with is gone: what is known of the fence is old.
            self.check_fence(myself);
        }
        self.metrics.state(&self.member);
        if self.member.role() == Role::Member {
            self.ready = None;
        }
    }

    fn perform(&mut self, myself: &ShardsRef, effect: Effect, now: Moment) {
        let timing = self.member.timing();
        let (client, limit) = (self.client.clone(), timing.write_timeout());
        match effect {
            Effect::Renew { incarnation } => {
                self.metrics.renewal_sent(self.member.lateness(now));
                self.timeout.bound(timing.write_timeout());
                let life = incarnation.life;
                ask(myself, async move {
                    // Before the first byte is sent: the base of the fence.
                    let sent = BootClock.now();
                    let answer = client.renew(&incarnation, timing).await;
                    match answer.inspect_err(|error| tracing::warn!(%error, "a renewal failed")) {
                        Err(NoAnswer::LeaseLost) => Input::LeaseLost { life },
                        answer => Input::Renewed { sent, life, answer: answer.ok() },
                    }
                });
            }
            Effect::ReadTable => ask(myself, async move { Input::TableRead(client.read_table(limit).await.ok()) }),
            Effect::CreateTable(table) => {
                ask(myself, async move { Input::Cas(client.create_table(&table, limit).await) });
            }
            Effect::Cas { version, uid, table } => {
                let free = table.free().count();
                if free > 0 && self.member.role() == Role::Leaving {
                    tracing::warn!(
                        free,
                        "no other replica is known to be alive: shards are left to whoever takes them"
                    );
                }
                ask(myself, async move { Input::Cas(client.replace_table(version, &uid, &table, limit).await) });
            }
            Effect::ReadLease { pod, lease } => ask(myself, async move {
                let answer = client.read_lease(&lease, limit).await.ok();
                Input::LeaseRead { pod, answer }
            }),
            Effect::DeleteLease => {
                let lease = self.member.incarnation().lease_name(&self.me.pod);
                let myself = myself.clone();
                tokio::spawn(async move {
                    client.delete_lease(&lease, limit).await;
                    drop(myself.cast(ShardsMsg::LeaseDeleted));
                });
            }
            Effect::Probe(stamp) => {
                let metrics = self.metrics.clone();
                metrics.probe_sent(now);
                ask(myself, async move {
                    let answer = client.probe(stamp, limit).await;
                    metrics.probed(answer, BootClock.now());
                    Input::Probed(answer)
                });
            }
            Effect::View(view) if view.fence.is_none() && self.ignores_deadline => {}
            Effect::View(view) => self.rights.set(view),
            Effect::Gain(stamps) => {
                tracing::info!(shards = stamps.len(), "gained shards");
                self.metrics.gained(&stamps, now);
                match &self.router {
                    Some(router) => drop(router.cast(RouterMsg::Gain(stamps, self.shard_count()))),
                    None => self.gained.extend(stamps),
                }
            }
            Effect::Resume(stamps) => {
                self.metrics.transition("resumed", stamps.len());
                tracing::info!(shards = stamps.len(), "joined again; the same shards go on under new epochs");
                self.tell_router(RouterMsg::Resume(stamps));
            }
            Effect::Release { number, shards } => self.release(myself, number, shards),
            Effect::Lose(shards) => {
                tracing::warn!(shards = shards.len(), "lost shards to another replica");
                self.metrics.gone("lost", &shards);
                self.gained.retain(|stamp| !shards.contains(&stamp.shard));
                self.tell_router(RouterMsg::Stop { shards, stopped: None });
            }
            Effect::TookOver { from, shards, silent_since } => {
                self.metrics.took_over(&shards, silent_since);
                let shards = shards.len();
                tracing::warn!(%from, shards, "a replica is dead; its shards are taken over");
                let note = format!(
                    "replica {from} gave no sign of life for {} s; this replica took {shards} of its shards over",
                    timing.lease.as_secs()
                );
                tokio::spawn(async move { client.publish("ShardsTakenOver", note, limit).await });
            }
            Effect::Lapsed => {
                tracing::warn!(
                    "no renewal was answered in time: nothing is written until this replica has joined again"
                );
                self.metrics.lapsed();
            }
            Effect::Alarm(alarm) => tracing::error!(%alarm, "shards"),
            // The Lease goes first; then whoever waits is told.
            Effect::Left => tracing::info!("nothing is held any more"),
        }
    }

    /// Stops the policies of these shards, then waits for their writes in flight.
    fn release(&mut self, myself: &ShardsRef, number: u64, shards: Vec<ShardId>) {
        tracing::info!(shards = shards.len(), "handing shards over");
        self.metrics.gone("handed_over", &shards);
        self.gained.retain(|stamp| !shards.contains(&stamp.shard));
        let (router, writer) = (self.router.clone(), self.writer.clone());
        let (count, unknown) = (self.shard_count(), self.member.timing().unknown_outcome());
        ask(myself, async move {
            if let Some(router) = router {
                let stop = |reply| RouterMsg::Stop { shards: shards.clone(), stopped: Some(reply) };
                drop(router.call(stop, None).await);
            }
            let drain = |reply| WriterMsg::DrainShards { shards, shard_count: count, unknown, reply };
            drop(writer.call(drain, None).await);
            Input::Released { number }
        });
    }

    fn tell_router(&self, message: RouterMsg) {
        if let Some(router) = &self.router {
            drop(router.cast(message));
        }
    }

    fn set_router(&mut self, router: RouterRef) {
        let gained = std::mem::take(&mut self.gained);
        if !gained.is_empty() {
            drop(router.cast(RouterMsg::Gain(gained, self.shard_count())));
        }
        self.router = Some(router);
    }

    fn shard_count(&self) -> u16 {
        self.member.snapshot().map_or(self.me.shard_count, |known| known.table.shard_count())
    }

    fn check_fence(&mut self, myself: &ShardsRef) {
        self.fence_checks += 1;
        let number = self.fence_checks;
        let (client, limit) = (self.client.clone(), self.member.timing().write_timeout());
        let myself = myself.clone();
        tokio::spawn(async move {
            let fenced = client.is_fenced(limit).await;
            drop(myself.cast(ShardsMsg::FenceChecked { number, fenced }));
        });
    }

    fn fence_checked(&mut self, myself: &ShardsRef, fenced: Option<bool>) {
        if let Some(active) = fenced {
            if self.fenced != fenced {
                if active {
                    tracing::info!("the fence is active: the API server refuses stale writes");
                } else {
                    tracing::warn!(
                        "the fence is not active: stale writes are prevented by time alone; install it with: egress-controller fence | kubectl apply -f -"
                    );
                }
            }
            self.fenced = fenced;
            self.metrics.fence(active);
            self.step(myself, Input::FenceActive(active));
        }
        let after = if self.is_table_new() { FENCE_CHECK_WHILE_NEW } else { FENCE_CHECK };
        let next = myself.send_after(after, || ShardsMsg::CheckFence);
        if let Some(earlier) = self.fence_check.replace(next) {
            earlier.abort();
        }
    }

    fn table_uid(&self) -> Option<Arc<str>> {
        self.member.snapshot().map(|known| Arc::clone(&known.uid))
    }

    fn is_table_new(&self) -> bool {
        self.member.snapshot().is_none_or(|known| !known.table.settled)
    }

    /// Answers who waits for this replica to have joined, or to have left.
    fn answer(&mut self) {
        let waits_for_probe = self.member.holds_unprobed();
        if self.member.role() == Role::Member && !waits_for_probe || self.left {
            self.settled.drain(..).for_each(|reply| drop(reply.send(())));
        }
        if self.left {
            self.leaves.drain(..).for_each(|reply| drop(reply.send(())));
        }
    }

    fn arm(&mut self, myself: &ShardsRef) {
        let now = self.clock.now();
        let at = self.member.next_deadline(now);
        if self.left || self.timer.as_ref().is_some_and(|timer| timer.at == at) {
            return;
        }
        if let Some(timer) = self.timer.take() {
            timer.task.abort();
        }
        self.generation += 1;
        let generation = self.generation;
        let wait = at.since(now.boot).max(Duration::from_millis(1));
        let task = myself.send_after(wait, move || ShardsMsg::Tick { generation });
        self.timer = Some(Timer { at, task });
    }

    fn snapshot(&self) -> ShardsSnapshot {
        let table = self.member.snapshot().map(|known| &known.table);
        ShardsSnapshot {
            pod: self.me.pod.to_string(),
            incarnation: self.member.incarnation().to_string(),
            role: format!("{:?}", self.member.role()),
            fence_active: self.fenced,
            active: self.member.active().map(|stamp| stamp.to_string()).collect(),
            unowned: table.map_or(0, |table| table.free().count()),
            members: table.map_or_else(Vec::new, |table| table.members.keys().map(Arc::to_string).collect()),
        }
    }
}

/// Runs a request in a task of its own: no request delays a renewal.
fn ask(myself: &ShardsRef, request: impl Future<Output = Input> + Send + 'static) {
    let myself = myself.clone();
    tokio::spawn(async move { drop(myself.cast(ShardsMsg::Input(request.await))) });
}
