//! A fault proxy before the API server: plain HTTP, or TLS and HTTP/2 as the API server's, towards the client; HTTP or HTTPS
//! towards the server; watches streamed through.
//!
//! ```no_run
//! # use egress_testbed::proxy::{FaultProxy, Rule, Trust, Verb};
//! # use std::time::Duration;
//! # async fn example(server: &str) -> anyhow::Result<()> {
//! let proxy = FaultProxy::start(server, Trust::Anyone).await?;
//! proxy.inject(Rule::too_many_requests(1).verb(Verb::Patch).resource("networkpolicies").times(2));
//! proxy.wait_for(Verb::Patch, "networkpolicies", 3, Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```

mod answer;
mod door;
mod journal;
mod rule;
mod serve;
mod target;
mod tls;
mod upstream;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::ServerConfig;
use tokio::sync::Mutex;

use self::door::Door;
use self::journal::Journal;
pub use self::journal::{LOG_KEPT, Logged};
use self::rule::Rules;
pub use self::rule::{Action, Rule, RuleId, WatchEnd};
use self::serve::Shared;
pub use self::target::{Target, Verb};
pub use self::tls::Trust;
use self::upstream::Upstream;
use self::watch::Watches;
use crate::control_plane::ControlPlane;
use crate::dns::thread::{OwnThread, until};

/// A running proxy. Clones share it; it stops with the last clone.
#[derive(Clone, Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    door: Arc<Mutex<Door>>,
    thread: Arc<OwnThread>,
    scheme: &'static str,
    address: SocketAddr,
}

impl FaultProxy {
    /// Starts on a free port of 127.0.0.1 before this server (`https://host:port`).
    ///
    /// # Errors
    /// If the URL or the certificates cannot be used, or no thread or port can be had.
    pub async fn start(server: &str, trust: Trust) -> Result<Self> {
        Self::start_with(server, trust, None).await
    }

    /// Starts before a control plane as if it were its API server: TLS that its clients trust, and HTTP/2.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn before(control_plane: &ControlPlane) -> Result<Self> {
        let trust = Trust::Authorities(control_plane.ca_pem().as_bytes().to_vec());
        let certificate = control_plane.serving_certificate(&["127.0.0.1".to_owned()])?;
        Self::start_with(control_plane.url(), trust, Some(tls::server_config(&certificate)?)).await
    }

    async fn start_with(server: &str, trust: Trust, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let thread = OwnThread::start("testbed-proxy").context("start the proxy thread")?;
        let shared = Arc::new(Shared {
            tls,
            upstream: Upstream::new(server, &trust)?,
            rules: Rules::default(),
            journal: Journal::default(),
            watches: Arc::new(Watches::default()),
        });
        let served = Arc::clone(&shared);
        let opened = thread.handle().spawn(async move {
            let mut door = Door::reserve()?;
            door.open(served)?;
            std::io::Result::Ok(door)
        });
        let door = opened.await?.context("listen on loopback")?;
        Ok(Self { shared, scheme, address: door.address(), door: Arc::new(Mutex::new(door)), thread: Arc::new(thread) })
    }

    /// What a client takes for the API server, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a rule in force, after those that are.
    pub fn inject(&self, rule: Rule) -> RuleId {
        self.shared.rules.inject(rule)
    }

    /// Takes a rule out of force; requests that hang stay so, answers that are held go on.
    pub fn remove(&self, id: RuleId) {
        self.shared.rules.remove(id);
    }

    /// Takes every rule out of force.
    pub fn clear(&self) {
        self.shared.rules.clear();
    }

    /// How often a rule has acted; zero once it is removed.
    pub fn hits(&self, id: RuleId) -> u64 {
        self.shared.rules.hits(id)
    }

    /// Closes the port and all connections, or opens it again. While closed the system refuses connections to it.
    ///
    /// # Errors
    /// If the port cannot be opened again.
    pub async fn refuse(&self, refuse: bool) -> Result<()> {
        let door = Arc::clone(&self.door);
        let shared = Arc::clone(&self.shared);
        let moved = self.thread.handle().spawn(async move {
            let mut door = door.lock().await;
            if refuse {
                door.close().await;
                return Ok(());
            }
            door.open(shared)
        });
        moved.await?.context("open the proxy's port again")
    }

    /// Ends the watches of this resource that are open now, cleanly; gives their number.
    pub fn cut_watches(&self, resource: &str) -> usize {
        self.shared.watches.cut(Some(resource))
    }

    /// Ends every open watch.
    pub fn cut_all_watches(&self) -> usize {
        self.shared.watches.cut(None)
    }

    /// Watches of this resource that are open now.
    pub fn open_watches(&self, resource: &str) -> usize {
        self.shared.watches.count(resource)
    }

    /// Requests that came with this verb for this resource, answered or not.
    pub fn count(&self, verb: Verb, resource: &str) -> u64 {
        self.shared.journal.count(verb, resource)
    }

    /// Requests by verb and resource.
    pub fn counts(&self) -> BTreeMap<(Verb, String), u64> {
        self.shared.journal.counts()
    }

    /// Sets the counters to zero and empties the log.
    pub fn reset_counts(&self) {
        self.shared.journal.reset();
    }

    /// The last [`LOG_KEPT`] requests, oldest first.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.journal.log()
    }

    /// Waits for the `n`th request with this verb for this resource to come, in real time even when the caller's clock is paused.
    ///
    /// # Errors
    /// If it has not come in time; the message says how many have.
    pub async fn wait_for(&self, verb: Verb, resource: &str, n: u64, within: Duration) -> Result<()> {
        let wanted = resource.to_owned();
        let enough = move |shared: &Shared| shared.journal.count(verb, &wanted) >= n;
        if !self.wait(within, enough).await? {
            let count = self.count(verb, resource);
            bail!("{count} of {n} requests to {verb} {resource} within {within:?}");
        }
        Ok(())
    }

    /// Waits for a rule to act for the `n`th time.
    ///
    /// # Errors
    /// If it has not in time.
    pub async fn wait_for_hits(&self, id: RuleId, n: u64, within: Duration) -> Result<()> {
        let enough = move |shared: &Shared| shared.rules.hits(id) >= n;
        if !self.wait(within, enough).await? {
            let hits = self.hits(id);
            bail!("the rule has acted {hits} of {n} times within {within:?}");
        }
        Ok(())
    }

    /// Waits until the log is as wanted: looks at each request and at each answer.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn wait_for_log(
        &self,
        within: Duration,
        holds: impl Fn(&[Logged]) -> bool + Send + 'static,
    ) -> Result<()> {
        let holds = move |shared: &Shared| shared.journal.log_holds(&holds);
        if !self.wait(within, holds).await? {
            bail!("the log is not as wanted within {within:?}");
        }
        Ok(())
    }

    async fn wait(&self, within: Duration, holds: impl Fn(&Shared) -> bool + Send + 'static) -> Result<bool> {
        let shared = Arc::clone(&self.shared);
        let waiting = self.thread.handle().spawn(async move {
            let looked_at = Arc::clone(&shared);
            let until = until(&shared.journal.changed, move || holds(&looked_at));
            tokio::time::timeout(within, until).await.is_ok()
        });
        waiting.await.context("the proxy has stopped")
    }
}
