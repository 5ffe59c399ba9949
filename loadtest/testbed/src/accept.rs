//! The loop of every listener of the testbed that speaks TCP itself.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Pause after a failed accept (no descriptors left), so that it does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(1);

/// Accepts for ever; aborting it closes the listener and every connection.
pub(crate) async fn accept<F>(listener: TcpListener, converse: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Finished connections leave the set, or it would grow for ever.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                // Without it small messages wait for acknowledgements; a stream that has gone fails later.
                let _ = stream.set_nodelay(true);
                drop(connections.spawn(converse(stream)));
            }
            Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
        }
    }
}
