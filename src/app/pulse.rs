//! Signs of life of the actors that have no loop of their own: they are asked, and must answer.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::actors::resolver::{ResolverMsg, ResolverRef};
use crate::actors::writer::{WriterMsg, WriterRef};
use crate::server::Heartbeat;

/// An answer takes microseconds once the mailbox is empty; a full one is worked off in less.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

/// Often enough for the shortest lease: a replica whose actors are silent for a lease gives its shards up.
const EVERY: Duration = Duration::from_millis(500);

/// Asks both actors for ever; dropping what is returned ends it.
pub(super) fn start(
    (writer, writer_beat): (WriterRef, Heartbeat),
    (resolver, resolver_beat): (ResolverRef, Heartbeat),
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let answers = tokio::join!(
                writer.call(WriterMsg::Snapshot, PATIENCE),
                resolver.call(ResolverMsg::Snapshot, PATIENCE)
            );
            if answers.0.is_ok_and(|answer| answer.is_success()) {
                writer_beat.beat();
            }
            if answers.1.is_ok_and(|answer| answer.is_success()) {
                resolver_beat.beat();
            }
        }
    }))
}
