//! A watch that shows every revision, or says that it did not.

use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// Between two attempts to open a watch while the API server is away.
const RETRY: Duration = Duration::from_millis(50);
/// The API server no longer knows what came after the version.
const GONE: u16 = 410;

/// What a watch tells.
#[derive(Debug)]
pub enum Told<K> {
    /// Created or changed.
    Stored(K),
    /// Deleted: as it was last, with the version of the deletion.
    Deleted(K),
    /// What happened after this version is lost: the watch starts anew with what there is now.
    Lost(String),
}

/// Every event from the beginning of what is stored; goes on where it was after the API server was away.
pub async fn record<K>(api: Api<K>, tell: impl Fn(Told<K>) + Send)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let mut since = "0".to_owned();
    loop {
        let code = match api.watch(&WatchParams::default(), &since).await {
            Err(kube::Error::Api(status)) => Some(status.code),
            Err(_) => None,
            Ok(stream) => {
                let mut stream = std::pin::pin!(stream);
                let mut code = None;
                while let Some(Ok(event)) = stream.next().await {
                    match event {
                        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                            since = object.resource_version().unwrap_or(since);
                            tell(Told::Stored(object));
                        }
                        WatchEvent::Deleted(object) => {
                            since = object.resource_version().unwrap_or(since);
                            tell(Told::Deleted(object));
                        }
                        WatchEvent::Bookmark(mark) => since = mark.metadata.resource_version,
                        WatchEvent::Error(status) => {
                            code = Some(status.code);
                            break;
                        }
                    }
                }
                code
            }
        };
        // Asked again at the same version it would say the same for ever.
        if code == Some(GONE) {
            tell(Told::Lost(std::mem::replace(&mut since, "0".to_owned())));
        }
        tokio::time::sleep(RETRY).await;
    }
}
