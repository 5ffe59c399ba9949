//! What the writer's requests do to connections.

use std::time::Duration;

use anyhow::{Result, ensure};
use egress_testbed::eventually;

use super::bed::{Bed, PATIENT, SOON};
use super::faults::{expect_all_written, submit_creates};

/// What a request is given here; a silent connection is left after two of it.
const TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn writes_that_are_under_way_at_once_share_one_connection() -> Result<()> {
    let (mut bed, relay) = Bed::with_relay(PATIENT).await?;
    let at_start = bed.snapshot().await?.concurrency_limit;
    submit_creates(&bed, 200)?;
    expect_all_written(&mut bed, 200).await?;
    // Until the first is known to speak HTTP/2, each request of the start tries to make one.
    ensure!(relay.accepted() <= at_start, "{} connections were made", relay.accepted());
    let one = async || {
        ensure!(relay.open() == 1, "{} connections are open", relay.open());
        Ok(())
    };
    eventually(SOON, one).await
}

#[tokio::test]
async fn a_connection_that_passes_nothing_on_any_more_is_left_and_nothing_is_lost() -> Result<()> {
    let (mut bed, relay) = Bed::with_relay(TIMEOUT).await?;
    bed.create("first").await?;
    let before = relay.accepted();
    relay.silence();
    bed.create("second").await?;
    ensure!(relay.accepted() > before, "nothing can have been answered");
    Ok(())
}
