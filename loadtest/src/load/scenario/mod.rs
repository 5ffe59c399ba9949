//! The scenarios.

pub mod ceiling;
pub mod churn;
pub mod converge;
pub mod fanout;
pub mod growth;
pub mod hostile;
pub mod outage;
pub mod restart;
pub mod rotation;
pub mod scale_out;
pub mod soak;
mod start;
pub mod steady;

use std::time::Duration;

use anyhow::Result;

use super::bed::Bed;
use super::options::Options;

/// A controller that works at a tenth of what was measured is broken: longest wait for so many policies.
pub(super) fn patience(policies: usize) -> Duration {
    Duration::from_secs(120) + Duration::from_millis(20) * u32::try_from(policies).unwrap_or(u32::MAX)
}

/// A bed whose controller has made every NetworkPolicy and every status.
pub(super) async fn converged(options: &Options) -> Result<Bed> {
    let mut bed = Bed::open(options).await?;
    bed.fill().await?;
    converge(&mut bed).await?;
    Ok(bed)
}

/// Starts the controller, and waits until every NetworkPolicy and every status is right.
pub(super) async fn converge(bed: &mut Bed) -> Result<()> {
    bed.start_controller().await?;
    bed.settled("converging", patience(bed.workload.size.policies)).await?;
    if bed.peer.is_none() {
        bed.ready(patience(bed.workload.size.policies)).await?;
    }
    Ok(())
}

/// Every policy may allow what its hosts answer now, and what they answered before.
pub(super) fn limit_to_answers(bed: &Bed) {
    bed.observer.limit((0..bed.workload.size.policies).map(|policy| (policy, bed.answers_of(policy))));
}
