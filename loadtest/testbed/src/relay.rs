//! A TCP relay that counts connections and can let them fall silent: what a load balancer does that has lost its other side.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Pause after a failed accept (no descriptors left), so that it does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(1);

/// A running relay on loopback; it and its connections end when it is dropped.
#[derive(Debug)]
pub struct TcpRelay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicUsize,
    open: AtomicUsize,
    /// Connections up to this number pass nothing on.
    silent: watch::Sender<usize>,
}

impl TcpRelay {
    /// Starts before this server.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen on loopback")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that clients have made so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections of now, those that were silenced included.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The connections of now stay open and pass nothing on any more; later ones work.
    pub fn silence(&self) {
        self.shared.silent.send_replace(self.accepted());
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((client, _)) => {
                let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                connections.spawn(relay(client, server, number, Arc::clone(&shared)));
            }
            Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
        }
    }
}

async fn relay(mut client: TcpStream, server: SocketAddr, number: usize, shared: Arc<Shared>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    // Without it small requests wait for acknowledgements; a stream that has gone fails below.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let _open = Open::of(&shared);
    let mut silent = shared.silent.subscribe();
    let falls_silent = async { drop(silent.wait_for(|last| *last >= number).await) };
    tokio::select! {
        // Either side may end it in any way.
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        () = falls_silent => std::future::pending().await,
    }
}

/// Counts a connection as long as it is there.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn of(shared: &'a Shared) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(&shared.open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
