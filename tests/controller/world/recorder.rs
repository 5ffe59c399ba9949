//! Every stored revision of the NetworkPolicies, as a watch of the test's own shows them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, ensure};
use egress_testbed::eventually;
use futures::{TryStreamExt as _, pin_mut};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::task::JoinHandle;

use super::PATIENCE;

/// Between two watches.
const PAUSE: Duration = Duration::from_millis(100);
/// 410: the revision from which a watch should go on is not known any more.
const GONE: u16 = 410;

/// Records until dropped.
pub struct Recorder {
    api: Api<NetworkPolicy>,
    since: u64,
    seen: Arc<Mutex<Vec<NetworkPolicy>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Records everything that is stored from now on.
    pub async fn start(client: &Client) -> Self {
        let api = Api::<NetworkPolicy>::all(client.clone());
        let listed = api.list(&ListParams::default()).await.expect("a list");
        let version = listed.metadata.resource_version.expect("a version");
        let seen: Arc<Mutex<Vec<NetworkPolicy>>> = Arc::default();
        let task = tokio::spawn(follow(api.clone(), version.clone(), Arc::clone(&seen)));
        Self { since: number(&version), api, seen, task }
    }

    /// Every revision of every object since the start, oldest first, the present ones included.
    pub async fn all(&self) -> Vec<NetworkPolicy> {
        let complete = async || {
            ensure!(!self.task.is_finished(), "the recorder has ended");
            let present = self.api.list(&ListParams::default()).await?.iter().map(version).max().unwrap_or(0);
            let found = self.seen.lock().unwrap().clone();
            let last = found.last().map_or(self.since, version);
            ensure!(present <= last.max(self.since), "the watch has shown {last}, not yet {present}");
            anyhow::Ok(found)
        };
        eventually(PATIENCE, complete).await.context("recording").expect("every revision is recorded")
    }

    /// Revisions of one object since the start, oldest first, the present one included.
    pub async fn revisions(&self, namespace: &str, name: &str) -> Vec<NetworkPolicy> {
        let api = Api::<NetworkPolicy>::namespaced(self.api.clone().into_client(), namespace);
        let complete = async || {
            ensure!(!self.task.is_finished(), "the recorder has ended");
            let present = api.get_opt(name).await?.map_or(0, |object| version(&object));
            let found = self.recorded(namespace, name);
            let last = found.last().map_or(self.since, version);
            ensure!(present <= last, "the watch has shown {last}, not yet {present}");
            anyhow::Ok(found)
        };
        eventually(PATIENCE, complete).await.context("recording").expect("every revision is recorded")
    }

    fn recorded(&self, namespace: &str, name: &str) -> Vec<NetworkPolicy> {
        let is_it = |object: &&NetworkPolicy| {
            object.metadata.namespace.as_deref() == Some(namespace) && object.metadata.name.as_deref() == Some(name)
        };
        self.seen.lock().unwrap().iter().filter(is_it).cloned().collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches for ever: a watch ends after its time and with an API server that stops, the next one goes on where it ended.
async fn follow(api: Api<NetworkPolicy>, mut since: String, seen: Arc<Mutex<Vec<NetworkPolicy>>>) {
    loop {
        match watch(&api, &mut since, &seen).await {
            Ok(()) => {}
            Err(kube::Error::Api(status)) if status.code == GONE => since = take_news(&api, &since, &seen).await,
            Err(error) => eprintln!("the recorder's watch ended: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn watch(api: &Api<NetworkPolicy>, since: &mut String, seen: &Mutex<Vec<NetworkPolicy>>) -> kube::Result<()> {
    let stream = api.watch(&WatchParams::default(), since).await?;
    pin_mut!(stream);
    while let Some(event) = stream.try_next().await? {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                since.clone_from(object.metadata.resource_version.as_ref().expect("a version"));
                seen.lock().unwrap().push(object);
            }
            WatchEvent::Deleted(object) => {
                since.clone_from(object.metadata.resource_version.as_ref().expect("a version"));
            }
            WatchEvent::Bookmark(bookmark) => *since = bookmark.metadata.resource_version,
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(())
}

/// An API server that was restarted has forgotten what came before: of each object that changed the last revision is
/// taken.
async fn take_news(api: &Api<NetworkPolicy>, since: &str, seen: &Mutex<Vec<NetworkPolicy>>) -> String {
    let listed = eventually(PATIENCE, async || Ok(api.list(&ListParams::default()).await?)).await.expect("a list");
    let mut news: Vec<_> = listed.items.into_iter().filter(|object| version(object) > number(since)).collect();
    news.sort_by_key(version);
    seen.lock().unwrap().extend(news);
    listed.metadata.resource_version.expect("a version")
}

fn version(object: &NetworkPolicy) -> u64 {
    object.metadata.resource_version.as_deref().map_or(0, number)
}

fn number(version: &str) -> u64 {
    version.parse().expect("a resourceVersion is a number")
}
