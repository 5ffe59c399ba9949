//! The task, with scripted sources and virtual time.

use std::collections::BTreeMap;
use std::sync::Mutex;

use egress_domain::cluster::facts::{Fact, NodeFacts};
use egress_domain::fqdn::Fqdn;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};

use super::source::Change;
use super::*;
use crate::server::Liveness;

const GRACE: Duration = Duration::from_secs(10);
const BOUND: Duration = Duration::from_secs(8);

/// The far end of every source that has been opened.
type Sources = Arc<Mutex<BTreeMap<Source, UnboundedSender<(Source, Change)>>>>;

struct World {
    sources: Sources,
    known: BoxFuture<'static, Option<Receivers>>,
    liveness: Liveness,
    _task: AbortOnDropHandle<()>,
}

impl World {
    fn start() -> Self {
        let sources = Sources::default();
        let opened = sources.clone();
        let open = move |source| {
            let (sender, receiver) = unbounded();
            opened.lock().unwrap().insert(source, sender);
            receiver.boxed()
        };
        let liveness = Liveness::default();
        let flags = ClusterFlags {
            dns_egress: "auto".parse().unwrap(),
            ip_families: "auto".parse().unwrap(),
            deny_answer_cidrs: Vec::new(),
            cluster_domain: Fqdn::parse("cluster.local").unwrap(),
        };
        let keeper = Keeper {
            open,
            changes: SelectAll::new(),
            kept: Kept::new(Vec::new()),
            flags,
            grace: GRACE,
            heartbeat: liveness.heartbeat("cluster", BOUND),
            metrics: ClusterMetrics::default(),
        };
        let (first, known) = oneshot::channel();
        let task = AbortOnDropHandle::new(tokio::spawn(keeper.run(first)));
        Self { sources, known: known.map(Result::ok).boxed(), liveness, _task: task }
    }

    async fn opened(&self, source: Source) {
        while !self.sources.lock().unwrap().contains_key(&source) {
            tokio::task::yield_now().await;
        }
    }

    async fn say(&self, source: Source, changes: impl IntoIterator<Item = Change>) {
        self.opened(source).await;
        for change in changes {
            self.sources.lock().unwrap()[&source].unbounded_send((source, change)).unwrap();
        }
    }

    async fn list(&self, source: Source, facts: &[Fact]) {
        let says = facts.iter().enumerate().map(|(n, fact)| Change::Says(n.to_string(), Some(fact.clone())));
        self.say(source, [Change::Listing].into_iter().chain(says).chain([Change::Listed])).await;
    }

    async fn list_all_but(&self, left_out: Source) {
        for source in Source::AT_START.into_iter().filter(|source| *source != left_out) {
            self.list(source, &[]).await;
        }
    }
}

fn node(address: &str) -> Fact {
    Fact::Node(NodeFacts { internal: vec![address.parse().unwrap()], ..NodeFacts::default() })
}

fn guarded(receiver: &mut watch::Receiver<Arc<Cluster>>) -> Vec<String> {
    receiver.borrow_and_update().guard.nodes.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_facts_are_sent_at_once_when_every_list_is_complete() {
    let mut world = World::start();
    let start = Instant::now();
    world.list_all_but(Source::Nodes).await;
    tokio::time::advance(GRACE * 2).await;
    assert!((&mut world.known).now_or_never().is_none());
    world.list(Source::Nodes, &[node("192.0.2.10")]).await;
    let (mut cluster, servers) = world.known.await.unwrap();
    assert_eq!(Instant::now().duration_since(start), GRACE * 2);
    assert_eq!(guarded(&mut cluster), ["192.0.2.10"]);
    assert!(servers.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_changes_is_one_change_a_debounce_after_the_first() {
    let mut world = World::start();
    world.list_all_but(Source::Nodes).await;
    world.list(Source::Nodes, &[]).await;
    let (mut cluster, servers) = (&mut world.known).await.unwrap();
    let start = Instant::now();
    for n in 1..=3 {
        let name = n.to_string();
        world.say(Source::Nodes, [Change::Says(name, Some(node(&format!("192.0.2.{n}"))))]).await;
        tokio::time::sleep(DEBOUNCE / 4).await;
    }
    cluster.changed().await.unwrap();
    assert_eq!(Instant::now().duration_since(start), DEBOUNCE);
    assert_eq!(guarded(&mut cluster), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    assert!(!servers.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_change_that_changes_nothing_for_policies_is_not_sent() {
    let mut world = World::start();
    world.list_all_but(Source::Nodes).await;
    world.list(Source::Nodes, &[node("192.0.2.10")]).await;
    let (cluster, servers) = (&mut world.known).await.unwrap();
    world.say(Source::Nodes, [Change::Says("again".to_owned(), Some(node("192.0.2.10")))]).await;
    tokio::time::sleep(DEBOUNCE * 2).await;
    assert!(!cluster.has_changed().unwrap() && !servers.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_resource_counts_as_empty_after_the_grace() {
    let world = World::start();
    let start = Instant::now();
    world.list_all_but(Source::Nodes).await;
    world.say(Source::Nodes, [Change::Listing, Change::Unavailable("403".to_owned())]).await;
    let (mut cluster, _servers) = world.known.await.unwrap();
    assert_eq!(Instant::now().duration_since(start), GRACE);
    assert!(guarded(&mut cluster).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_granted_later_is_heard() {
    let mut world = World::start();
    world.list_all_but(Source::Nodes).await;
    world.say(Source::Nodes, [Change::Listing, Change::Unavailable("403".to_owned())]).await;
    let (mut cluster, _servers) = (&mut world.known).await.unwrap();
    world.list(Source::Nodes, &[node("192.0.2.10")]).await;
    cluster.changed().await.unwrap();
    assert_eq!(guarded(&mut cluster), ["192.0.2.10"]);
}

#[tokio::test(start_paused = true)]
async fn the_openshift_sources_are_opened_with_their_namespace_and_waited_for() {
    let mut world = World::start();
    world.list_all_but(Source::OpenshiftNamespace).await;
    assert!(!world.sources.lock().unwrap().contains_key(&Source::OpenshiftSlices));
    world.list(Source::OpenshiftNamespace, &[Fact::OpenshiftDns]).await;
    world.list(Source::OpenshiftServices, &[]).await;
    tokio::time::sleep(GRACE).await;
    assert!((&mut world.known).now_or_never().is_none());
    world.list(Source::OpenshiftSlices, &[]).await;
    let (cluster, _servers) = world.known.await.unwrap();
    assert_eq!(cluster.borrow().dns[0].namespaces, ["kube-system", "openshift-dns"]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_task_shows_that_it_lives() {
    let world = World::start();
    tokio::time::sleep(BOUND * 10).await;
    assert!(world.liveness.stale().is_empty());
}
