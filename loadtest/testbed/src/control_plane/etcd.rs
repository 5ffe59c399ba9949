//! The keys behind an API server, by etcd's JSON gateway: all of a cluster's state, with no admission and no cache between.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use hyper::Request;
use k8s_openapi::ByteString;
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::{Value, json};

/// Every object of the API server is below it.
const FIRST: &str = "/registry/";
/// The first key that is not: `0` comes after `/`.
const END: &str = "/registry0";
/// etcd takes 128 operations in a transaction unless told otherwise.
const AT_ONCE: usize = 100;

/// Keys, and the revision at which each was written last.
pub(super) type Keys = BTreeMap<String, u64>;

/// Talks to one etcd.
pub(super) struct Etcd(Client);

#[derive(Deserialize)]
struct Header {
    revision: String,
}

#[derive(Deserialize)]
struct Answer {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct KeyValue {
    key: ByteString,
    mod_revision: String,
}

impl Etcd {
    /// Belongs to the runtime of the caller.
    pub(super) fn new(address: SocketAddr) -> Result<Self> {
        Ok(Self(Client::try_from(Config::new(format!("http://{address}").parse()?))?))
    }

    /// Every key.
    pub(super) async fn keys(&self) -> Result<Keys> {
        let range = json!({"key": base64(FIRST), "range_end": base64(END), "keys_only": true});
        let answer = self.post("/v3/kv/range", &range).await?;
        answer.kvs.into_iter().map(|kv| Ok((String::from_utf8(kv.key.0)?, kv.mod_revision.parse()?))).collect()
    }

    /// Deletes these; gives the revision at which all of them were gone.
    pub(super) async fn delete(&self, keys: &[&str]) -> Result<u64> {
        let mut revision = 0;
        for some in keys.chunks(AT_ONCE) {
            let delete = |key: &&str| json!({"request_delete_range": {"key": base64(key)}});
            let all: Vec<Value> = some.iter().map(delete).collect();
            revision = self.post("/v3/kv/txn", &json!({"success": all})).await?.header.revision.parse()?;
        }
        Ok(revision)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        let request = Request::post(path).body(body.to_string().into_bytes())?;
        self.0.request(request).await.with_context(|| format!("etcd at {path}"))
    }
}

fn base64(text: &str) -> Value {
    json!(ByteString(text.as_bytes().to_vec()))
}
