//! A start: the controller comes to policies that exist, and everything becomes right.

use std::time::Instant;

use anyhow::Result;

use super::patience;
use crate::load::bed::Bed;
use crate::load::observer::Counts;
use crate::load::timeline::Timeline;
use crate::load::window::{Cost, Window};

/// What a start showed.
pub(super) struct Start {
    /// When the first process was started.
    pub since: Instant,
    /// What was seen until every NetworkPolicy was right.
    pub counts: Counts,
    /// Seconds until then; NaN if there was nothing to do.
    pub seconds: f64,
    /// What it had cost by then.
    pub first_cost: Cost,
    /// Seconds until every status was right, too; a peer has none.
    pub status_seconds: f64,
    /// What it cost in all.
    pub cost: Cost,
    /// Still reads.
    pub timeline: Timeline,
}

/// Starts the controller, and waits until every NetworkPolicy and every status is right.
///
/// # Errors
/// When they do not become right.
pub(super) async fn start(bed: &mut Bed) -> Result<Start> {
    let within = patience(bed.workload.size.policies);
    drop(bed.observer.reset());
    let window = Window::open(bed).await?;
    let since = bed.start_controller().await?;
    let timeline = Timeline::start(bed);
    bed.settled("NetworkPolicies", within).await?;
    let counts = bed.observer.reset();
    let seconds = counts.last().map_or(f64::NAN, |last| last.duration_since(since).as_secs_f64());
    let first_cost = window.cost(bed).await?;
    if bed.peer.is_none() {
        bed.ready(within).await?;
    }
    let status_seconds = since.elapsed().as_secs_f64();
    let cost = window.cost(bed).await?;
    Ok(Start { since, counts, seconds, first_cost, status_seconds, cost, timeline })
}
