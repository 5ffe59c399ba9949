//! The one writer: queues requests ([`egress_domain::writes`]) and has each executed by a task of its own
//! ([`crate::k8s::apply`]). Nothing else of this process changes an object in the API server.

mod flights;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use egress_domain::object::ObjectKey;
use egress_domain::shard::ShardId;
use egress_domain::shard::stamp::Stamp;
use egress_domain::time::Instant;
use egress_domain::write::{Lane, WriteOutcome, WriteRequest};
use egress_domain::writes::{Outgoing, Stats, Ticket, Transient, TransientKind, WriteQueue};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::task::JoinHandle;

use self::flights::Flights;
use crate::clock::Clock;
use crate::k8s::apply::{Applier, Prepared};
use crate::telemetry::metrics::writer::{WriterMetrics, kind, lane_label, outcome_label};

/// Address of the writer.
pub type WriterRef = ActorRef<WriterMsg>;

/// Takes the final answer to a request; called from the writer, so it must not wait.
pub type Sink = Arc<dyn Fn(WriteOutcome) + Send + Sync>;

/// Between two lines of the log about missing rights.
const RIGHTS_WARNING: Duration = Duration::from_secs(60);

/// The actor; all it has is in its state.
pub struct Writer;

/// What the writer takes.
pub enum WriterMsg {
    /// Write this. A pending request of the same object is replaced, together with its sink, and never answered; one in
    /// flight is answered to its own sink first.
    Submit {
        /// What it goes to.
        key: ObjectKey,
        /// How important it is.
        lane: Lane,
        /// What is asked.
        request: WriteRequest,
        /// What it was decided under; none for what belongs to no shard.
        stamp: Option<Stamp>,
        /// Who wants the answer.
        sink: Option<Sink>,
    },
    /// Do not write what is pending for this object. A request in flight goes on and is answered, but not repeated.
    Withdraw(ObjectKey),
    /// From the writer's own tasks: a request was executed.
    Finished {
        /// What it went to.
        key: ObjectKey,
        /// Which it was.
        ticket: Ticket,
        /// What the API server said.
        result: Result<WriteOutcome, Transient>,
        /// Time from sending it.
        took: Duration,
    },
    /// From the writer's own timer; dropped when a newer timer was set since.
    Wake {
        /// Which setting of the timer rang.
        generation: u64,
    },
    /// Answered as soon as nothing is pending or in flight. What is submitted meanwhile is written too, so the caller
    /// stops the submitters first, and bounds the wait: an API server that is away is waited for.
    Drain(RpcReplyPort<DrainReport>),
    /// Answered as soon as no write of these shards can be committed any more. The gate must refuse them already.
    DrainShards {
        /// Which shards.
        shards: Vec<ShardId>,
        /// Of how many.
        shard_count: u16,
        /// A write without an answer may be committed until so long after it was sent.
        unknown: Duration,
        /// Who waits.
        reply: RpcReplyPort<()>,
    },
    /// Tells the writer's state; MUST be answered.
    Snapshot(RpcReplyPort<WriterSnapshot>),
    /// Fault injection: panics, to show what a defect would do.
    Crash,
}

/// What the writer starts with.
pub struct WriterArgs {
    /// Executes requests.
    pub applier: Applier,
    /// `--max-writes-per-second`; none leaves the rate to the API server.
    pub max_writes_per_second: Option<NonZeroU32>,
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub metrics: WriterMetrics,
}

/// State of the writer.
pub struct WriterState {
    queue: WriteQueue<Job>,
    applier: Applier,
    clock: Clock,
    metrics: WriterMetrics,
    /// As last told to the metrics.
    told: Stats,
    timer: Option<Timer>,
    generation: u64,
    drains: Vec<Drain>,
    flights: Flights,
    /// Final answers so far.
    finished: u64,
    /// When missing rights were last told.
    warned: Option<tokio::time::Instant>,
}

/// A request and who wants the answer; shared with the task that executes it.
#[derive(Clone)]
struct Job {
    request: Arc<Prepared>,
    kind: &'static str,
    stamp: Option<Stamp>,
    sink: Option<Sink>,
}

struct Timer {
    at: Instant,
    task: JoinHandle<Result<(), ractor::MessagingErr<WriterMsg>>>,
}

struct Drain {
    reply: RpcReplyPort<DrainReport>,
    /// Final answers when it was asked for.
    finished: u64,
}

/// What a drain did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Requests that got their final answer meanwhile.
    pub finished: u64,
}

/// What `/debug/state` tells of the writer.
#[derive(Clone, Debug, Serialize)]
pub struct WriterSnapshot {
    /// Writes that wait, by lane.
    pub pending: BTreeMap<&'static str, usize>,
    /// Requests without an answer yet.
    pub in_flight: usize,
    /// How many there may be.
    pub concurrency_limit: usize,
    /// Whether the API server cannot be reached.
    pub unreachable: bool,
    /// Final answers since the start.
    pub finished: u64,
    /// Requests put back after a failure, since the start.
    pub retried: u64,
    /// Writes replaced before they were sent, since the start.
    pub coalesced: u64,
    /// Answers 429, since the start.
    pub throttled: u64,
    /// Events dropped, since the start.
    pub dropped_events: u64,
}

impl Actor for Writer {
    type Msg = WriterMsg;
    type State = WriterState;
    type Arguments = WriterArgs;

    async fn pre_start(&self, _: WriterRef, args: WriterArgs) -> Result<WriterState, ActorProcessingErr> {
        let WriterArgs { applier, max_writes_per_second, clock, metrics } = args;
        Ok(WriterState {
            queue: WriteQueue::new(max_writes_per_second),
            applier,
            clock,
            metrics,
            told: Stats::default(),
            timer: None,
            generation: 0,
            drains: Vec::new(),
            flights: Flights::default(),
            finished: 0,
            warned: None,
        })
    }

    async fn handle(
        &self,
        myself: WriterRef,
        msg: WriterMsg,
        state: &mut WriterState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            WriterMsg::Submit { key, lane, request, stamp, sink } => {
                let prepared = state.applier.prepare(&key, &request, stamp);
                let job = Job { request: Arc::new(prepared), kind: kind(&request), stamp, sink };
                state.queue.put(state.now(), key, lane, job);
            }
            WriterMsg::Withdraw(key) => state.queue.withdraw(&key),
            WriterMsg::Finished { key, ticket, result, took } => state.finished(&key, ticket, result, took),
            WriterMsg::Wake { generation } if generation == state.generation => state.timer = None,
            WriterMsg::Wake { .. } => return Ok(()),
            WriterMsg::Drain(reply) => state.drains.push(Drain { reply, finished: state.finished }),
            WriterMsg::DrainShards { shards, shard_count, unknown, reply } => {
                state.flights.drain(shards, shard_count, unknown, reply);
            }
            WriterMsg::Snapshot(reply) => drop(reply.send(state.snapshot())),
            WriterMsg::Crash => panic!("fault injection: writer"),
        }
        state.send_what_may_be_sent(&myself);
        state.answer_drains();
        state.tell_metrics();
        Ok(())
    }

    async fn post_stop(&self, _: WriterRef, state: &mut WriterState) -> Result<(), ActorProcessingErr> {
        state.clear_timer();
        Ok(())
    }
}

impl WriterState {
    fn now(&self) -> Instant {
        self.clock.now().instant
    }

    fn send_what_may_be_sent(&mut self, myself: &WriterRef) {
        while let Some(outgoing) = self.queue.pop(self.now()) {
            self.execute(myself, outgoing);
        }
        self.arm(myself);
    }

    fn execute(&mut self, myself: &WriterRef, outgoing: Outgoing<Job>) {
        let Outgoing { key, ticket, payload } = outgoing;
        self.flights.sent(&key);
        let applier = self.applier.clone();
        let answer = Answer { writer: myself.clone(), key, ticket, sent: tokio::time::Instant::now(), result: None };
        tokio::spawn(async move {
            let result = applier.execute(&answer.key, &payload.request, payload.stamp).await;
            answer.is(result);
        });
    }

    fn finished(&mut self, key: &ObjectKey, ticket: Ticket, result: Result<WriteOutcome, Transient>, took: Duration) {
        let answer = result.as_ref().map(|_| ()).map_err(|transient| *transient);
        self.flights.answered(key, result.as_ref().err().map(|transient| transient.kind));
        if let Err(Transient { kind, .. }) = answer {
            self.metrics.failed(kind, took);
            tracing::debug!(object = ?key, reason = kind.as_str(), "a write failed for the moment");
            if kind == TransientKind::Unauthorized {
                self.warn_of_rights(key);
            }
        }
        let Some(job) = self.queue.finish(self.now(), key, ticket, answer, rand::random()) else { return };
        let Ok(outcome) = result else { return };
        self.finished += 1;
        self.metrics.finished(job.kind, &outcome, took);
        tracing::debug!(object = ?key, kind = job.kind, outcome = outcome_label(&outcome), "write");
        if let Some(sink) = job.sink {
            sink(outcome);
        }
    }

    /// Missing rights concern every write, so one line now and then is enough.
    fn warn_of_rights(&mut self, key: &ObjectKey) {
        if self.warned.is_none_or(|at| at.elapsed() >= RIGHTS_WARNING) {
            self.warned = Some(tokio::time::Instant::now());
            tracing::warn!(object = ?key, "the API server does not grant a write; it is tried again. Has deploy/rbac.yaml been applied?");
        }
    }

    /// Sets the timer for the moment at which the queue has something to send by itself.
    fn arm(&mut self, myself: &WriterRef) {
        let wake = self.queue.next_wake(self.now());
        if wake.is_some() && self.timer.as_ref().map(|timer| timer.at) == wake {
            return;
        }
        self.clear_timer();
        let Some(at) = wake else { return };
        self.generation += 1;
        let generation = self.generation;
        // One millisecond is the clock's grain: never ring before the moment, never spin on it.
        let wait = at.since(self.now()).max(Duration::from_millis(1));
        let task = myself.send_after(wait, move || WriterMsg::Wake { generation });
        self.timer = Some(Timer { at, task });
    }

    fn clear_timer(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.task.abort();
        }
    }

    fn answer_drains(&mut self) {
        if self.queue.is_idle() {
            for Drain { reply, finished } in self.drains.drain(..) {
                drop(reply.send(DrainReport { finished: self.finished - finished }));
            }
        }
    }

    fn tell_metrics(&mut self) {
        let stats = self.queue.stats();
        if stats != self.told {
            self.metrics.queue(&self.told, &stats);
            self.told = stats;
        }
    }

    fn snapshot(&self) -> WriterSnapshot {
        let Stats { pending, in_flight, limit, unreachable, coalesced, retried, throttled, dropped_events } =
            self.queue.stats();
        WriterSnapshot {
            pending: pending.into_iter().map(|(lane, count)| (lane_label(lane), count)).collect(),
            in_flight,
            concurrency_limit: limit,
            unreachable,
            finished: self.finished,
            retried,
            coalesced,
            throttled,
            dropped_events,
        }
    }
}

/// Tells the writer the end of a request, also when its task is dropped or panics: no slot is ever lost.
struct Answer {
    writer: WriterRef,
    key: ObjectKey,
    ticket: Ticket,
    sent: tokio::time::Instant,
    result: Option<Result<WriteOutcome, Transient>>,
}

impl Answer {
    fn is(mut self, result: Result<WriteOutcome, Transient>) {
        self.result = Some(result);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or(Err(TransientKind::Interrupted.into()));
        let (key, ticket, took) = (self.key.clone(), self.ticket, self.sent.elapsed());
        // A writer that has ended wants no answers.
        drop(self.writer.cast(WriterMsg::Finished { key, ticket, result, took }));
    }
}
