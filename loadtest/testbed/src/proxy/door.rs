//! The listening port, which can be closed and opened again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use super::serve::{Shared, converse};
use crate::accept::accept;

/// Connections that wait to be accepted: a controller's whole write concurrency at once.
const BACKLOG: u32 = 1024;

/// A port of loopback, open or closed.
#[derive(Debug)]
pub(super) struct Door {
    /// Bound but never listening: keeps the port ours while it refuses.
    _reserved: TcpSocket,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl Door {
    /// Reserves a free port; it refuses until opened.
    pub(super) fn reserve() -> io::Result<Self> {
        let reserved = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { address: reserved.local_addr()?, _reserved: reserved, accepting: None })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens again; nothing happens if it does already.
    pub(super) fn open(&mut self, shared: Arc<Shared>) -> io::Result<()> {
        if self.accepting.is_none() {
            let listener = socket(self.address)?.listen(BACKLOG)?;
            self.accepting = Some(tokio::spawn(accept(listener, move |stream| converse(stream, Arc::clone(&shared)))));
        }
        Ok(())
    }

    /// Closes the listener and all connections; returns when they are closed.
    pub(super) async fn close(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // It ends as cancelled, which is what we asked for.
            let _ = accepting.await;
        }
    }
}

/// Two sockets may be bound to one port as long as both allow it and one at most listens.
fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
