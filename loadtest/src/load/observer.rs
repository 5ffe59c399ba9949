//! Watches every NetworkPolicy, revision by revision, and knows which of them still lack an address they should allow.
//!
//! It reads the watch line by line and decodes only what it asks for: it shares the machine with what it measures.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::AsyncBufReadExt as _;
use hdrhistogram::Histogram;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::revision::{Event, Spec};
use super::workload::Workload;
use crate::lock::lock;

/// Longest latency that is told apart: an hour, in microseconds.
const LONGEST: u64 = 3_600_000_000;
/// The server ends a watch after so long; it is opened again where it was.
const WATCH_SECONDS: u32 = 3_600;

/// As many are missing when the watch was lost.
const LOST: usize = usize::MAX;

/// Latencies, in microseconds.
pub type Latencies = Histogram<u64>;

/// Observes until dropped.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    missing: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

/// One NetworkPolicy of a policy.
#[derive(Clone, Default)]
struct Object {
    exists: bool,
    spec: u64,
    allowed: Vec<IpAddr>,
    /// What it lacks, and since when.
    wanted: Vec<(IpAddr, Instant)>,
}

/// What has been counted since the last [`Observer::reset`].
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Those that left the spec as it was.
    pub unchanged: u64,
    /// Wanted addresses that were replaced before they were allowed.
    pub superseded: u64,
    /// Addresses that a revision did not allow any more.
    pub removed: u64,
    /// Revisions that allow more than the hosts of their policy ever answered; the first few.
    pub open: Vec<String>,
    /// Policies whose last wanted address was allowed, each with the moment: progress over time.
    pub right: Vec<Instant>,
    /// The moment of each revision of a NetworkPolicy of a policy.
    pub written: Vec<Instant>,
    /// The moment at which each wanted address was allowed, and how long that had taken.
    pub met: Vec<(Instant, Duration)>,
}

impl Counts {
    /// Revisions of NetworkPolicies of policies.
    #[must_use]
    pub fn revisions(&self) -> u64 {
        self.written.len() as u64
    }

    /// When the last wanted address was allowed.
    #[must_use]
    pub fn last(&self) -> Option<Instant> {
        self.met.last().map(|(at, _)| *at)
    }

    /// From the moment an address was wanted until it was allowed.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        let mut latencies =
            Histogram::new_with_bounds(1, LONGEST, 3).unwrap_or_else(|_| Histogram::new(3).expect("3 digits"));
        for (_, latency) in &self.met {
            latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST).max(1));
        }
        latencies
    }
}

struct Seen {
    objects: Vec<Object>,
    /// What each policy may allow at most; empty where that is not judged.
    limits: Vec<BTreeSet<IpAddr>>,
    counts: Counts,
    missing: usize,
    tell: watch::Sender<usize>,
    lost: Option<String>,
}

impl Observer {
    /// Observes the NetworkPolicies of so many policies.
    #[must_use]
    pub fn start(client: &Client, policies: usize) -> Self {
        let (tell, missing) = watch::channel(0);
        let seen = Seen {
            objects: vec![Object::default(); policies],
            limits: Vec::new(),
            counts: Counts::default(),
            missing: 0,
            tell,
            lost: None,
        };
        let seen = Arc::new(Mutex::new(seen));
        let task = tokio::spawn(observe(client.clone(), Arc::clone(&seen)));
        Self { seen, missing, task }
    }

    /// From now on these policies should allow these addresses.
    pub fn want(&self, wanted: impl IntoIterator<Item = (usize, Vec<IpAddr>)>, since: Instant) {
        let mut seen = lock(&self.seen);
        for (policy, addresses) in wanted {
            for address in addresses {
                let object = &mut seen.objects[policy];
                if !object.allowed.contains(&address) {
                    object.wanted.push((address, since));
                    seen.missing += 1;
                }
            }
        }
        seen.tell.send_replace(seen.missing);
    }

    /// From now on a policy must allow nothing but these addresses and those it was limited to before.
    pub fn limit(&self, limits: impl IntoIterator<Item = (usize, Vec<IpAddr>)>) {
        let mut seen = lock(&self.seen);
        let policies = seen.objects.len();
        seen.limits.resize_with(policies, BTreeSet::new);
        for (policy, addresses) in limits {
            seen.limits[policy].extend(addresses);
        }
    }

    /// Wanted addresses that are not allowed yet.
    #[must_use]
    pub fn missing(&self) -> usize {
        *self.missing.borrow()
    }

    /// Waits until nothing wanted is missing; tells `progress` how much is, whenever that changes.
    ///
    /// # Errors
    /// When something is still missing after `within`, or the watch was lost.
    pub async fn settled(&self, within: Duration, progress: impl Fn(usize)) -> Result<()> {
        let mut missing = self.missing.clone();
        let wait = async {
            loop {
                let now = *missing.borrow_and_update();
                progress(now);
                if now == 0 || now == LOST || missing.changed().await.is_err() {
                    return;
                }
            }
        };
        let ended = tokio::time::timeout(within, wait).await;
        if let Some(error) = &lock(&self.seen).lost {
            bail!("the watch of the NetworkPolicies was lost: {error}");
        }
        if ended.is_err() {
            bail!("not right within {within:?}: {}", self.lacking());
        }
        Ok(())
    }

    /// These policies may allow these addresses, too; of no interest where that is not judged.
    pub fn allow_too(&self, policies: &[usize], addresses: &[IpAddr]) {
        let mut seen = lock(&self.seen);
        for policy in policies {
            if let Some(limit) = seen.limits.get_mut(*policy) {
                limit.extend(addresses);
            }
        }
    }

    /// These policies need not allow these addresses any more: the answer has changed before anybody asked for it.
    pub fn want_no_more(&self, policies: &[usize], addresses: &[IpAddr]) {
        let mut seen = lock(&self.seen);
        for policy in policies {
            let object = &mut seen.objects[*policy];
            let before = object.wanted.len();
            object.wanted.retain(|(address, _)| !addresses.contains(address));
            let superseded = before - object.wanted.len();
            seen.missing -= superseded;
            seen.counts.superseded += superseded as u64;
        }
        seen.tell.send_replace(seen.missing);
    }

    /// What is missing, in a sentence.
    #[must_use]
    pub fn lacking(&self) -> String {
        let seen = lock(&self.seen);
        let lacking = seen.objects.iter().enumerate().filter(|(_, object)| !object.wanted.is_empty());
        let first = lacking
            .clone()
            .next()
            .map(|(policy, object)| format!("{} lacks {}", Workload::policy(policy), object.wanted[0].0));
        format!("{} policies lack {} addresses; {}", lacking.count(), seen.missing, first.unwrap_or_default())
    }

    /// Addresses that policies allow, all together, and the most of one.
    #[must_use]
    pub fn addresses(&self) -> (usize, usize) {
        let seen = lock(&self.seen);
        let counts = seen.objects.iter().map(|object| object.allowed.len());
        (counts.clone().sum(), counts.max().unwrap_or(0))
    }

    /// Whether a policy allows an address now.
    #[must_use]
    pub fn allows(&self, policy: usize, address: IpAddr) -> bool {
        lock(&self.seen).objects[policy].allowed.contains(&address)
    }

    /// What was counted so far; counting starts anew.
    #[must_use]
    pub fn reset(&self) -> Counts {
        std::mem::take(&mut lock(&self.seen).counts)
    }

    /// Revisions so far.
    #[must_use]
    pub fn revisions(&self) -> u64 {
        lock(&self.seen).counts.revisions()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn observe(client: Client, seen: Arc<Mutex<Seen>>) {
    let mut since = "0".to_owned();
    loop {
        // The end of a watch is ordinary: an API server that restarts, or the time-out.
        if let Err(error) = follow(&client, &mut since, &seen).await
            && error.to_string().contains("Expired")
        {
            lock(&seen).lost = Some(format!("{error:#}"));
            lock(&seen).tell.send_replace(LOST);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One watch, to its end.
async fn follow(client: &Client, since: &mut String, seen: &Mutex<Seen>) -> Result<()> {
    let path = format!(
        "/apis/networking.k8s.io/v1/networkpolicies?watch=true&allowWatchBookmarks=true&resourceVersion={since}&timeoutSeconds={WATCH_SECONDS}"
    );
    let stream = client.request_stream(http::Request::get(path).body(Vec::new())?).await?;
    let mut stream = std::pin::pin!(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let event: Event = serde_json::from_slice(&line).context("an event that is no JSON")?;
        ensure!(event.kind != "ERROR", "Expired: {}", String::from_utf8_lossy(&line));
        since.clone_from(&event.object.metadata.resource_version);
        lock(seen).take(&event);
    }
}

impl Seen {
    fn take(&mut self, event: &Event) {
        let now = Instant::now();
        let metadata = &event.object.metadata;
        let Some(policy) = Workload::policy_of(&metadata.name).filter(|policy| *policy < self.objects.len()) else {
            return;
        };
        let nothing = Spec::default();
        let spec = if event.kind == "DELETED" { &nothing } else { event.object.spec.as_ref().unwrap_or(&nothing) };
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(spec);
        self.counts.written.push(now);
        let object = &mut self.objects[policy];
        self.counts.unchanged += u64::from(object.exists && object.spec == hash && event.kind == "MODIFIED");
        object.exists = event.kind != "DELETED";
        object.spec = hash;
        let allowed = spec.addresses();
        let gone = object.allowed.iter().filter(|address| !allowed.contains(address)).count();
        self.counts.removed += gone as u64;
        object.allowed = allowed;
        let too_much = self.limits.get(policy).and_then(|limit| spec.beyond(limit));
        if let Some(too_much) = too_much.filter(|_| object.exists && self.counts.open.len() < 10) {
            self.counts.open.push(format!("{}/{}: {too_much}", metadata.namespace, metadata.name));
        }
        let before = object.wanted.len();
        let (allowed, met) = (&object.allowed, &mut self.counts.met);
        object.wanted.retain(|(address, since)| {
            let has = allowed.contains(address);
            if has {
                met.push((now, now.duration_since(*since)));
            }
            !has
        });
        let met = before - object.wanted.len();
        if met > 0 {
            self.missing -= met;
            if object.wanted.is_empty() {
                self.counts.right.push(now);
            }
            self.tell.send_replace(self.missing);
        }
    }
}
