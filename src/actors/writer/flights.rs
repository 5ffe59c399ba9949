//! Writes that may still be committed: those in flight, and those that ended without an answer. A shard is handed over
//! only when none of its writes is left.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use egress_domain::object::ObjectKey;
use egress_domain::shard::{ShardId, shard_of};
use egress_domain::writes::TransientKind;
use ractor::RpcReplyPort;
use tokio::time::Instant;

/// More unanswered writes than the longest lease has time for are not remembered one by one: the oldest are over.
const MAX_UNKNOWN: usize = 10_000;

/// See the module documentation.
#[derive(Default)]
pub(super) struct Flights {
    /// In flight.
    flying: HashSet<ObjectKey>,
    /// Ended without an answer, and when.
    unknown: VecDeque<(ObjectKey, Instant)>,
    drains: Vec<ShardDrain>,
}

struct ShardDrain {
    shards: Vec<ShardId>,
    shard_count: u16,
    waits_for: HashSet<ObjectKey>,
    /// What ended without an answer may be committed until then.
    until: Instant,
    unknown: Duration,
    reply: RpcReplyPort<()>,
}

impl Flights {
    pub(super) fn sent(&mut self, key: &ObjectKey) {
        self.flying.insert(key.clone());
    }

    /// The request ended: with an answer, or with this failure.
    pub(super) fn answered(&mut self, key: &ObjectKey, failure: Option<TransientKind>) {
        if !self.flying.remove(key) {
            return;
        }
        // An API server that could not wait for etcd answers 500, and etcd may commit yet.
        let unknown =
            |kind| matches!(kind, TransientKind::Timeout | TransientKind::Interrupted | TransientKind::ServerError);
        let is_unknown = failure.is_some_and(unknown);
        if is_unknown {
            // The last of its requests may have been sent just now.
            self.unknown.push_back((key.clone(), Instant::now()));
            if self.unknown.len() > MAX_UNKNOWN {
                self.unknown.pop_front();
            }
        }
        for drain in &mut self.drains {
            if drain.waits_for.remove(key) && is_unknown {
                drain.until = drain.until.max(Instant::now() + drain.unknown);
            }
        }
        self.reply();
    }

    /// Answers `reply` when no write of these shards can be committed any more.
    pub(super) fn drain(&mut self, shards: Vec<ShardId>, shard_count: u16, unknown: Duration, reply: RpcReplyPort<()>) {
        let mut drain =
            ShardDrain { shards, shard_count, waits_for: HashSet::new(), until: Instant::now(), unknown, reply };
        drain.waits_for = self.flying.iter().filter(|key| drain.concerns(key)).cloned().collect();
        self.unknown.retain(|(_, sent)| sent.elapsed() < unknown);
        let ends = self.unknown.iter().filter(|(key, _)| drain.concerns(key)).map(|(_, sent)| *sent + unknown);
        drain.until = ends.max().unwrap_or(drain.until);
        self.drains.push(drain);
        self.reply();
    }

    fn reply(&mut self) {
        for drain in self.drains.extract_if(.., |drain| drain.waits_for.is_empty()) {
            tokio::spawn(async move {
                tokio::time::sleep_until(drain.until).await;
                drop(drain.reply.send(()));
            });
        }
    }
}

impl ShardDrain {
    fn concerns(&self, key: &ObjectKey) -> bool {
        self.shards.contains(&shard_of(key.namespace(), self.shard_count))
    }
}
