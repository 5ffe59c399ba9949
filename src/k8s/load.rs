//! Consistent reads of namespaces that were gained: what is stored now, not what a cache remembers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use egress_domain::api::EgressPolicy;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, VersionMatch};
use kube::core::{DeserializeGuard, ObjectList};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::watch::{ObjectName, name_of, revision};

/// More namespaces than this are read by two lists of the whole cluster: two requests for each would take longer.
const MAX_SINGLE_NAMESPACES: usize = 500;
/// Namespaces that a read has under way at a time, each by two lists. More are not quicker where the API server's cores are busy, but
/// what others wait for (the table, the fence, their own first read) waits behind them.
const CONCURRENCY: usize = 4;
/// Pages that all reads together have under way at a time. With the writer's `MAX_LIMIT` they are fewer than the 100 streams of
/// a connection that an API server takes: a write must not wait behind reads until nobody counts on it any more (R1).
const PAGES_AT_ONCE: usize = 32;
/// Objects of one page: both sides hold a page in memory.
const PAGE: u32 = 500;
/// For one page: as long as the API server gives a request by default is far too long for a shard that nobody acts on.
const PAGE_WITHIN: Duration = Duration::from_secs(30);

/// Reads namespaces. Cheap to clone.
///
/// A list without a resourceVersion makes the API server ask etcd how far it is, and wait until its cache is there (KEP-2340):
/// up to 0.1 s each. So that is asked once for many namespaces, by [`Loader::newest`], and they are read "not older than" it.
#[derive(Clone)]
pub struct Loader {
    client: Client,
    permits: Arc<Semaphore>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Loaded {
    /// By namespace; one without any object is there, too.
    pub namespaces: HashMap<Arc<str>, Objects>,
}

/// The objects of a namespace.
#[derive(Debug, Default)]
pub struct Objects {
    /// Its EgressPolicies.
    pub policies: Vec<EgressPolicy>,
    /// EgressPolicies that cannot be decoded.
    pub undecodable: Vec<ObjectName>,
    /// Its NetworkPolicies, anybody's.
    pub network_policies: Vec<NetworkPolicy>,
    /// Where the reads stood.
    pub floor: Floor,
}

/// resourceVersions of the two resources, as they were newest at some moment; of lists: everything older is in them, or has gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    /// Of the EgressPolicies.
    pub policies: u64,
    /// Of the NetworkPolicies.
    pub network_policies: u64,
}

impl Loader {
    /// Reads by this client; what fails is the caller's to repeat.
    pub fn new(client: Client) -> Self {
        Self { client, permits: Arc::new(Semaphore::new(PAGES_AT_ONCE)) }
    }

    /// Whether so many namespaces are read by lists of the whole cluster: reading them in parts would repeat those.
    pub fn reads_whole_cluster(namespaces: usize) -> bool {
        namespaces > MAX_SINGLE_NAMESPACES
    }

    /// How far the API server is now: what is read "not older than" this has everything that was stored before.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn newest(&self) -> kube::Result<Floor> {
        let (policies, network_policies) =
            tokio::try_join!(self.newest_of::<EgressPolicy>(), self.newest_of::<NetworkPolicy>())?;
        Ok(Floor { policies, network_policies })
    }

    async fn newest_of<K>(&self) -> kube::Result<u64>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let api = Api::<K>::all(self.client.clone());
        let page = self.page(api.list_metadata(&ListParams::default().limit(1))).await?;
        Ok(revision(page.metadata.resource_version.as_deref()))
    }

    /// Reads these namespaces as they are, or were after `newest`.
    ///
    /// # Errors
    /// When any of the reads fails.
    pub async fn load(&self, namespaces: Vec<Arc<str>>, newest: Floor) -> kube::Result<Loaded> {
        if Self::reads_whole_cluster(namespaces.len()) {
            return self.load_all(namespaces).await;
        }
        let since = |version: u64| match version {
            // "Not older than 0" would be anything.
            0 => ListParams::default(),
            version => ListParams::default().at(&version.to_string()).matching(VersionMatch::NotOlderThan),
        };
        let read = |namespace: Arc<str>| async move {
            let mut loaded = Loaded::new(std::slice::from_ref(&namespace));
            let policies = Api::<DeserializeGuard<EgressPolicy>>::namespaced(self.client.clone(), &namespace);
            let network_policies = Api::<NetworkPolicy>::namespaced(self.client.clone(), &namespace);
            let (policies, network_policies) = tokio::try_join!(
                self.pages(policies, since(newest.policies), |_| true),
                self.pages(network_policies, since(newest.network_policies), |_| true)
            )?;
            loaded.take(policies, network_policies);
            Ok::<_, kube::Error>(loaded.namespaces)
        };
        let parts: Vec<_> = stream::iter(namespaces).map(read).buffer_unordered(CONCURRENCY).try_collect().await?;
        Ok(Loaded { namespaces: parts.into_iter().flatten().collect() })
    }

    async fn load_all(&self, namespaces: Vec<Arc<str>>) -> kube::Result<Loaded> {
        let mut loaded = Loaded::new(&namespaces);
        let wanted = |namespace: Option<String>| namespace.is_some_and(|name| loaded.namespaces.contains_key(&*name));
        let policies = Api::<DeserializeGuard<EgressPolicy>>::all(self.client.clone());
        let policies = self.pages(policies, ListParams::default(), |policy| wanted(policy.namespace())).await?;
        let network_policies = Api::<NetworkPolicy>::all(self.client.clone());
        let network_policies =
            self.pages(network_policies, ListParams::default(), |policy| wanted(policy.namespace())).await?;
        loaded.take(policies, network_policies);
        Ok(loaded)
    }

    /// What is wanted of a list, page by page, and its resourceVersion.
    async fn pages<K>(
        &self,
        api: Api<K>,
        params: ListParams,
        wanted: impl Fn(&K) -> bool,
    ) -> kube::Result<(Vec<K>, u64)>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let mut all = Vec::new();
        let mut params = params.limit(PAGE);
        loop {
            let page = match self.page(api.list(&params)).await {
                // "Too large resource version": a cache that does not keep up. Without one, etcd answers in its place.
                Err(kube::Error::Api(status)) if status.code == 504 && params.resource_version.is_some() => {
                    params = ListParams::default().limit(PAGE);
                    continue;
                }
                page => page?,
            };
            let ObjectList { metadata, items, .. } = page;
            all.extend(items.into_iter().filter(&wanted));
            match metadata.continue_.as_deref().filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(token),
                None => return Ok((all, revision(metadata.resource_version.as_deref()))),
            }
        }
    }

    async fn page<T>(&self, request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
        // Never closed.
        let _permit = self.permits.acquire().await;
        let page = tokio::time::timeout(PAGE_WITHIN, request).await;
        page.map_err(|late| kube::Error::Service(Box::new(late)))?
    }
}

impl Loaded {
    fn new(namespaces: &[Arc<str>]) -> Self {
        Self { namespaces: namespaces.iter().map(|namespace| (namespace.clone(), Objects::default())).collect() }
    }

    /// Sorts the objects into the namespaces that were asked for.
    fn take(
        &mut self,
        (policies, version): (Vec<DeserializeGuard<EgressPolicy>>, u64),
        (network_policies, of_network_policies): (Vec<NetworkPolicy>, u64),
    ) {
        for objects in self.namespaces.values_mut() {
            objects.floor = Floor { policies: version, network_policies: of_network_policies };
        }
        for policy in policies {
            let name = name_of(&policy);
            let Some(objects) = self.namespaces.get_mut(&*name.namespace) else { continue };
            match policy.0 {
                Ok(policy) => objects.policies.push(policy),
                Err(_) => objects.undecodable.push(name),
            }
        }
        for policy in network_policies {
            if let Some(objects) = self.namespaces.get_mut(&*policy.namespace().unwrap_or_default()) {
                objects.network_policies.push(policy);
            }
        }
    }
}
