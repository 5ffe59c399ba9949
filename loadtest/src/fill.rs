//! What every scenario puts into a cluster first, and takes out again.

use std::future::Future;

use anyhow::Result;
use egress_domain::api::{EgressShardTable, SHARD_TABLE};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::load::progress::Progress;

/// Requests of the set-up under way at once.
const AT_ONCE: usize = 16;

/// Creates so many objects, each by its number, and shows how far it is.
///
/// # Errors
/// With the first failure.
pub async fn create_all<Fut>(title: &str, total: usize, create: impl Fn(usize) -> Fut) -> Result<()>
where
    Fut: Future<Output = Result<()>>,
{
    let progress = Progress::new(title, total);
    let one = async |number: usize| {
        create(number).await?;
        progress.one();
        anyhow::Ok(())
    };
    stream::iter(0..total).map(one).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    progress.done();
    Ok(())
}

/// Creates namespaces; those that exist stay.
///
/// # Errors
/// When the API server refuses one.
pub async fn create_namespaces(client: &Client, names: &[String]) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let create = async |name: &String| {
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let object = Namespace { metadata, ..Namespace::default() };
        match namespaces.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            created => created.map(drop),
        }
    };
    Ok(stream::iter(names).map(create).buffer_unordered(AT_ONCE).try_collect::<()>().await?)
}

/// Deletes the shard table, if there is one.
///
/// # Errors
/// When the API server refuses.
pub async fn forget_table(client: &Client) -> Result<()> {
    let tables = Api::<EgressShardTable>::all(client.clone());
    if tables.get_opt(SHARD_TABLE).await?.is_some() {
        drop(tables.delete(SHARD_TABLE, &DeleteParams::default()).await?);
    }
    Ok(())
}
