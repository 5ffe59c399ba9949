//! A TCP relay that counts connections and can let them fall silent: what a load balancer does that has lost its other side.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::accept::accept;

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
    /// Connections up to this number pass nothing on; each that is open listens.
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
        let of_connections = Arc::clone(&shared);
        let relay = move |client| relay(client, server, Arc::clone(&of_connections));
        let accepting = tokio::spawn(accept(listener, relay));
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
        self.shared.silent.receiver_count()
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

async fn relay(mut client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    // As for the client's side.
    let _ = server.set_nodelay(true);
    let mut silent = shared.silent.subscribe();
    let falls_silent = async { drop(silent.wait_for(|last| *last >= number).await) };
    tokio::select! {
        // Either side may end it in any way.
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        () = falls_silent => std::future::pending().await,
    }
}
