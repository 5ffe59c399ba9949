//! Every stored revision of the NetworkPolicies, as a watch of the test's own shows them.

use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use egress_testbed::eventually;
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::task::JoinHandle;

use super::PATIENCE;

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
        let stream = api.watch(&WatchParams::default(), &version).await.expect("a watch");
        let seen: Arc<Mutex<Vec<NetworkPolicy>>> = Arc::default();
        let record = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            pin_mut!(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => record.lock().unwrap().push(object),
                    Ok(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_)) => {}
                    Ok(WatchEvent::Error(status)) => panic!("the recorder's watch failed: {status:?}"),
                    Err(error) => panic!("the recorder's watch failed: {error}"),
                }
            }
        });
        Self { since: number(&version), api, seen, task }
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

fn version(object: &NetworkPolicy) -> u64 {
    object.metadata.resource_version.as_deref().map_or(0, number)
}

fn number(version: &str) -> u64 {
    version.parse().expect("a resourceVersion is a number")
}
