//! The end of the process: the first SIGTERM or SIGINT starts the drain, a second one ends it at once.

use std::io;
use std::task::Poll;

use futures::{Stream, StreamExt as _, stream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::server::Readiness;

/// Exit code after a second signal: 128 + SIGINT, as shells show a process that a signal ended.
pub const EXIT_ABORTED: i32 = 130;

/// Listens for signals from now on; the token is cancelled by the first one, after readiness has turned false.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signal(readiness: Readiness) -> io::Result<CancellationToken> {
    let signals = stream::select(
        named("SIGTERM", signal(SignalKind::terminate())?),
        named("SIGINT", signal(SignalKind::interrupt())?),
    );
    let drain = CancellationToken::new();
    tokio::spawn(follow(signals, readiness, drain.clone(), || std::process::exit(EXIT_ABORTED)));
    Ok(drain)
}

fn named(name: &'static str, mut signal: Signal) -> impl Stream<Item = &'static str> {
    stream::poll_fn(move |context| match signal.poll_recv(context) {
        Poll::Ready(received) => Poll::Ready(received.map(|()| name)),
        Poll::Pending => Poll::Pending,
    })
}

async fn follow(
    mut signals: impl Stream<Item = &'static str> + Unpin,
    readiness: Readiness,
    drain: CancellationToken,
    abort: impl FnOnce(),
) {
    let Some(first) = signals.next().await else { return };
    tracing::info!(signal = first, "draining; a second signal ends the process at once");
    // Before the drain, so that nobody sends new work to a process that stops taking it.
    readiness.close();
    drain.cancel();
    let Some(second) = signals.next().await else { return };
    tracing::warn!(signal = second, "aborting");
    abort();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// What has happened after these signals: ready, draining, aborted.
    async fn after(signals: &[&'static str]) -> (bool, bool, bool) {
        let (readiness, drain, aborted) = (Readiness::default(), CancellationToken::new(), Cell::new(false));
        let signals = stream::iter(signals.to_vec());
        follow(signals, readiness.clone(), drain.clone(), || aborted.set(true)).await;
        (readiness.missing().is_empty(), drain.is_cancelled(), aborted.get())
    }

    #[tokio::test]
    async fn without_a_signal_nothing_ends() {
        assert_eq!(after(&[]).await, (true, false, false));
    }

    #[tokio::test]
    async fn the_first_signal_turns_readiness_false_and_starts_the_drain() {
        assert_eq!(after(&["SIGTERM"]).await, (false, true, false));
        assert_eq!(after(&["SIGINT"]).await, (false, true, false));
    }

    #[tokio::test]
    async fn a_second_signal_aborts_whichever_it_is() {
        assert_eq!(after(&["SIGTERM", "SIGTERM"]).await, (false, true, true));
        assert_eq!(after(&["SIGTERM", "SIGINT"]).await, (false, true, true));
    }

    #[tokio::test]
    async fn readiness_is_false_before_the_drain_starts() {
        let (readiness, drain) = (Readiness::default(), CancellationToken::new());
        let watcher = tokio::spawn({
            let (readiness, drain) = (readiness.clone(), drain.clone());
            async move {
                drain.cancelled().await;
                readiness.missing()
            }
        });
        follow(stream::iter(["SIGTERM"]), readiness, drain, || ()).await;
        assert_eq!(watcher.await.ok(), Some(vec!["shutting down"]));
    }
}
