//! Watches the cluster around us: Service and Pod CIDRs, Nodes, the DNS Service and its endpoints.
//!
//! Nothing may be written before these are known: a guard rail with a hole would let a DNS answer open it. So
//! [`watch_cluster`] returns with the first complete facts. From then on changes are sent, a short while after the
//! first of them so that a burst is one change.

mod kept;
mod source;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use egress_domain::cluster::Cluster;
use egress_domain::cluster::facts::{ClusterFacts, ClusterFlags, cluster, dns_servers};
use futures::StreamExt as _;
use futures::stream::SelectAll;
use kube::Client;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use crate::server::{Heartbeat, ReadyHandle};
use crate::telemetry::metrics::cluster::ClusterMetrics;
use crate::telemetry::metrics::watches::WatchMetrics;
use kept::{Effect, Kept};
use source::{Changes, Source};

/// How long after a change the new facts are sent: every policy is judged again then, and a rollout of the DNS
/// Deployment or of Nodes comes as a burst.
pub const DEBOUNCE: Duration = Duration::from_millis(200);
/// How long a resource that is forbidden or not served is waited for: the access rules of an installation come
/// seconds after its Pods.
pub const DEFAULT_UNAVAILABLE_GRACE: Duration = Duration::from_secs(10);

/// What [`watch_cluster`] needs.
pub struct Args {
    /// A client whose watches may be silent for minutes.
    pub client: Client,
    /// What flags say.
    pub flags: ClusterFlags,
    /// Of this pod's resolv.conf ([`super::resolv_conf::nameservers_of_this_pod`]).
    pub nameservers: Vec<IpAddr>,
    /// [`DEFAULT_UNAVAILABLE_GRACE`]; tests on a real server shorten it.
    pub unavailable_grace: Duration,
    /// Dropped with the first complete facts.
    pub ready: ReadyHandle,
    /// Of the loop that keeps the facts.
    pub heartbeat: Heartbeat,
    /// Counters of the facts.
    pub metrics: ClusterMetrics,
    /// Counters of the watches.
    pub watch_metrics: WatchMetrics,
}

/// The cluster, as it is known now and whenever it changes. Dropping it ends the watches.
#[derive(Debug)]
pub struct ClusterWatch {
    /// For the policy machines.
    pub cluster: watch::Receiver<Arc<Cluster>>,
    /// For the resolver with `--dns-servers cluster`: every ready endpoint of the DNS Service.
    pub servers: watch::Receiver<Vec<SocketAddr>>,
    /// Runs for ever; its end is a fault of this program.
    pub task: AbortOnDropHandle<()>,
}

/// The task ended before it knew the cluster: a fault of this program.
#[derive(Debug, thiserror::Error)]
#[error("the watch of the cluster ended")]
pub struct ClusterWatchEnded;

/// Watches the cluster; returns when every resource has been listed, or is known not to be available.
///
/// While the API server cannot be reached it waits.
///
/// # Errors
/// When the task ended, which it never does.
pub async fn watch_cluster(args: Args) -> Result<ClusterWatch, ClusterWatchEnded> {
    let Args { client, flags, nameservers, unavailable_grace, ready, heartbeat, metrics, watch_metrics } = args;
    let open = move |source| source::open(&client, source, &watch_metrics);
    let keeper = Keeper {
        open,
        changes: SelectAll::new(),
        kept: Kept::new(nameservers),
        flags,
        grace: unavailable_grace,
        heartbeat,
        metrics,
    };
    let (first, known) = oneshot::channel();
    let task = AbortOnDropHandle::new(tokio::spawn(keeper.run(first)));
    let (cluster, servers) = known.await.map_err(|_| ClusterWatchEnded)?;
    drop(ready);
    Ok(ClusterWatch { cluster, servers, task })
}

type Receivers = (watch::Receiver<Arc<Cluster>>, watch::Receiver<Vec<SocketAddr>>);

/// The task: keeps the facts, and tells what follows from them.
struct Keeper<Open> {
    open: Open,
    changes: SelectAll<Changes>,
    kept: Kept,
    flags: ClusterFlags,
    grace: Duration,
    heartbeat: Heartbeat,
    metrics: ClusterMetrics,
}

/// Who is told.
struct Listeners {
    cluster: watch::Sender<Arc<Cluster>>,
    servers: watch::Sender<Vec<SocketAddr>>,
}

impl<Open: Fn(Source) -> Changes> Keeper<Open> {
    async fn run(mut self, first: oneshot::Sender<Receivers>) {
        self.follow(&Source::AT_START);
        let mut first = Some(first);
        let mut listeners: Option<Listeners> = None;
        let mut changed_at: Option<Instant> = None;
        let mut beats = interval(self.heartbeat.interval());
        loop {
            let due = match &listeners {
                None => self.kept.complete_at(self.grace, Instant::now()),
                Some(_) => changed_at.map(|at| at + DEBOUNCE),
            };
            tokio::select! {
                Some((source, change)) = self.changes.next() => {
                    if self.take(source, change) {
                        changed_at.get_or_insert_with(Instant::now);
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    changed_at = None;
                    let facts = self.kept.facts();
                    match &listeners {
                        Some(listeners) => self.tell(listeners, &facts),
                        None => {
                            let (told, receivers) = self.begin(&facts);
                            listeners = Some(told);
                            // Nobody listens any more: this task is about to be aborted.
                            let _ = first.take().map(|first| first.send(receivers));
                        }
                    }
                }
                _ = beats.tick() => self.heartbeat.beat(),
            }
        }
    }

    fn follow(&mut self, sources: &[Source]) {
        for source in sources {
            if self.kept.expect(*source) {
                self.changes.push((self.open)(*source));
            }
        }
    }

    /// Whether the facts have changed.
    fn take(&mut self, source: Source, change: source::Change) -> bool {
        let name = source.name();
        match &change {
            source::Change::Unreadable(object) => {
                tracing::warn!(resource = name, object, "an object cannot be decoded; what it said before holds");
            }
            source::Change::Lost(error) => {
                tracing::warn!(resource = name, error, "the watch was lost; it is opened again")
            }
            _ => {}
        }
        let changed = match self.kept.take(source, change, Instant::now()) {
            Effect::None => false,
            Effect::Changed => true,
            Effect::Unavailable(error) => {
                self.metrics.set_unavailable(name, true);
                tracing::warn!(
                    resource = name,
                    error,
                    "not available: guard rail and DNS path go without it; the service account needs list and watch"
                );
                false
            }
            Effect::Available => {
                self.metrics.set_unavailable(name, false);
                tracing::info!(resource = name, "available again");
                true
            }
        };
        if changed && source == Source::OpenshiftNamespace && self.kept.facts().openshift_dns {
            self.follow(&Source::OF_OPENSHIFT);
        }
        changed
    }

    fn begin(&self, facts: &ClusterFacts) -> (Listeners, Receivers) {
        let (cluster, cluster_receiver) = watch::channel(Arc::new(cluster(facts, &self.flags)));
        let (servers, servers_receiver) = watch::channel(dns_servers(facts));
        self.metrics.dns_servers.set(count(&servers.borrow()));
        (Listeners { cluster, servers }, (cluster_receiver, servers_receiver))
    }

    fn tell(&self, listeners: &Listeners, facts: &ClusterFacts) {
        let (cluster, servers) = (cluster(facts, &self.flags), dns_servers(facts));
        self.metrics.dns_servers.set(count(&servers));
        let has_changed = listeners.cluster.send_if_modified(|present| {
            let has_changed = **present != cluster;
            if has_changed {
                *present = Arc::new(cluster);
            }
            has_changed
        });
        if has_changed {
            self.metrics.changes.inc();
            tracing::info!(
                "DNS path, guard rail or families of the cluster have changed; every policy is judged again"
            );
        }
        listeners.servers.send_if_modified(|present| {
            let has_changed = *present != servers;
            *present = servers;
            has_changed
        });
    }
}

fn count(servers: &[SocketAddr]) -> i64 {
    i64::try_from(servers.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
