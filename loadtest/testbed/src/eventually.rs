//! Waiting for a condition, up to a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Pause between two attempts: short beside anything a control plane does, long enough not to load it.
const POLL_INTERVAL: Duration = Duration::from_millis(15);

/// Calls `attempt` until it returns `Ok` and gives that value; after `deadline` fails with the last error.
///
/// An attempt that is still under way at the deadline is dropped, so a hanging request cannot hang a test.
///
/// # Errors
///
/// When no attempt succeeded in time.
pub async fn eventually<T, F, Fut>(deadline: Duration, mut attempt: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let end = Instant::now() + deadline;
    let mut last = anyhow::anyhow!("the first attempt did not end");
    loop {
        match timeout_at(end, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        // Asked of the clock, because an attempt that fails without waiting never meets the timeout.
        if Instant::now() >= end {
            return Err(last.context(format!("not so within {deadline:?}")));
        }
        sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: Duration = Duration::from_secs(5);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn the_first_success_is_returned() {
        let mut attempts = 0;
        let value = eventually(ENOUGH, || {
            attempts += 1;
            let now = attempts;
            async move {
                anyhow::ensure!(now == 3, "attempt {now}");
                Ok(now)
            }
        })
        .await;
        assert_eq!(value.ok(), Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_is_told_at_the_deadline() {
        let outcome: anyhow::Result<()> = eventually(SHORT, || async { anyhow::bail!("still absent") }).await;
        let told = format!("{:#}", outcome.expect_err("nothing succeeded"));
        assert!(told.contains("still absent") && told.contains("50ms"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_attempt_ends_at_the_deadline() {
        let outcome: anyhow::Result<()> = eventually(SHORT, std::future::pending).await;
        assert!(outcome.is_err());
    }
}
