//! A scripted DNS server on loopback: real messages over UDP and TCP, answers that a test changes while it runs.
//!
//! ```no_run
//! # use egress_testbed::dns::{DnsServer, RecordType, Script};
//! # use std::time::Duration;
//! # async fn example() -> anyhow::Result<()> {
//! let dns = DnsServer::start().await?;
//! dns.set_host("api.example.com", &["192.0.2.1".parse()?, "2001:db8::1".parse()?], 30);
//! dns.set("api.example.com", RecordType::AAAA, Script::ServFail);
//! dns.wait_for_count("api.example.com", RecordType::A, 1, Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```

mod encode;
mod reply;
mod script;
pub(crate) mod thread;
mod wire;
mod zone;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
pub use hickory_proto::rr::RecordType;

pub use self::script::{Order, Script};
use self::thread::{OwnThread, until};
use self::zone::Zone;
pub use self::zone::{DEFAULT_SOA_MINIMUM, TIMES_KEPT};

/// A running server. Clones share it; it stops with the last clone.
///
/// Names are matched without regard to case, their trailing dot is optional; a name that is not legal panics, for it is a mistake in the test.
#[derive(Clone, Debug)]
pub struct DnsServer {
    zone: Arc<Zone>,
    thread: Arc<OwnThread>,
    /// The server's own UDP socket once more: it keeps the port after a stop.
    socket: Arc<UdpSocket>,
    address: SocketAddr,
}

/// A port of the server's own host where nobody is: "discard" (RFC 863).
const NOBODY: u16 = 9;

impl DnsServer {
    /// Starts on 127.0.0.1 and a port that is free for UDP and TCP.
    ///
    /// # Errors
    /// If no thread or socket can be had.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts on this address; port 0 is any free one.
    ///
    /// # Errors
    /// If the address is not free or not ours.
    pub async fn start_on(address: SocketAddr) -> anyhow::Result<Self> {
        let thread = OwnThread::start("testbed-dns").context("start the DNS thread")?;
        let zone = Arc::new(Zone::new());
        let served = Arc::clone(&zone);
        let bound = thread.handle().spawn(async move {
            let (socket, listener) = wire::bind(address).await?;
            let address = listener.local_addr()?;
            let kept = UdpSocket::from(socket.as_fd().try_clone_to_owned()?);
            tokio::spawn(wire::serve_udp(socket, Arc::clone(&served)));
            tokio::spawn(wire::serve_tcp(listener, served));
            std::io::Result::Ok((address, kept))
        });
        let (address, socket) = bound.await?.with_context(|| format!("bind UDP and TCP on {address}"))?;
        let thread = Arc::new(thread);
        Ok(Self { zone, thread, socket: Arc::new(socket), address })
    }

    /// Where it listens, the same port for UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Ends the server now, whoever still holds a clone: a dead server, whose port refuses. Counters stay readable.
    ///
    /// The UDP port stays taken until the last clone goes, so that no other server of this machine gets it and answers there.
    ///
    /// # Panics
    /// If the port cannot be closed.
    pub fn stop(&self) {
        // A connected socket hears its peer only: the system refuses what others send, as on a port that is free.
        self.socket.connect((self.address.ip(), NOBODY)).expect("connect the UDP socket to nobody");
        self.thread.stop();
    }

    /// What the server does with questions for this name and type, from the next question on. Other types of the name are NODATA until they are set.
    pub fn set(&self, name: &str, kind: RecordType, script: Script) {
        self.zone.set(name, &[kind], &script);
    }

    /// Sets A and AAAA of a host; a family without an address is NODATA with `ttl` as the SOA minimum.
    pub fn set_host(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        let script = Script::answer(addresses.iter().copied(), ttl);
        let both = [RecordType::A, RecordType::AAAA];
        self.zone.set(name, &both, &script);
    }

    /// Forgets a name: it is answered as one that was never set.
    pub fn remove(&self, name: &str) {
        self.zone.remove(name);
    }

    /// What names that are not set answer; at the start NXDOMAIN with a SOA minimum of [`DEFAULT_SOA_MINIMUM`].
    pub fn set_default(&self, script: Script) {
        self.zone.set_default(script);
    }

    /// One behaviour for every name, an outage for example; `None` ends it and what was set before holds again.
    pub fn set_all(&self, script: Option<Script>) {
        self.zone.set_all(script);
    }

    /// Questions received for this name and type; a truncated one and its repetition over TCP are two.
    pub fn count(&self, name: &str, kind: RecordType) -> u64 {
        self.zone.count(name, kind)
    }

    /// When the last [`TIMES_KEPT`] questions for this name and type came, oldest first.
    pub fn times(&self, name: &str, kind: RecordType) -> Vec<Instant> {
        self.zone.times(name, kind)
    }

    /// All questions received.
    pub fn total(&self) -> u64 {
        self.zone.total()
    }

    /// Questions by name (lower case, no trailing dot) and type.
    pub fn counts(&self) -> BTreeMap<(String, RecordType), u64> {
        self.zone.counts()
    }

    /// Sets every counter to zero and forgets the times.
    pub fn reset_counts(&self) {
        self.zone.reset_counts();
    }

    /// Waits for the `n`th question for this name and type, in real time even when the caller's clock is paused.
    ///
    /// # Errors
    /// If it has not come in time; the message says how many have.
    pub async fn wait_for_count(&self, name: &str, kind: RecordType, n: u64, within: Duration) -> anyhow::Result<()> {
        let asked = name.to_owned();
        let enough = move |zone: &Zone| zone.count(&asked, kind) >= n;
        if !self.wait(within, enough).await? {
            let count = self.count(name, kind);
            bail!("{count} of {n} questions for {name} {kind} within {within:?}");
        }
        Ok(())
    }

    /// Waits for the `n`th question of all.
    ///
    /// # Errors
    /// If it has not come in time.
    pub async fn wait_for_total(&self, n: u64, within: Duration) -> anyhow::Result<()> {
        if !self.wait(within, move |zone| zone.total() >= n).await? {
            bail!("{} of {n} questions within {within:?}", self.total());
        }
        Ok(())
    }

    async fn wait(&self, within: Duration, holds: impl Fn(&Zone) -> bool + Send + 'static) -> anyhow::Result<bool> {
        let zone = Arc::clone(&self.zone);
        let waiting = self.thread.handle().spawn(async move {
            let looked_at = Arc::clone(&zone);
            let until = until(&zone.asked, move || holds(&looked_at));
            tokio::time::timeout(within, until).await.is_ok()
        });
        waiting.await.context("the DNS server has stopped")
    }
}
