//! What the API server's replies mean, as kube-apiserver 1.36.3 was seen to give them; the tests keep the bodies. Only
//! 408, redirects and the conflict of a quota were not seen.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use egress_domain::api::{FenceRefusal, is_fence_refusal};
use egress_domain::write::WriteOutcome;
use egress_domain::writes::{Transient, TransientKind};
use hyper_util::client::legacy;
use kube::api::Preconditions;
use kube::core::Status;

use super::Ended;

/// How an object is asked for or changed.
/// What is written is JSON already: thousands of writes may wait, and as objects they would take three times the memory.
#[derive(Clone, Debug)]
pub(super) enum Method {
    /// POST.
    Create(Arc<[u8]>),
    /// Forced server-side apply.
    Apply(Arc<[u8]>),
    /// JSON merge patch.
    Merge(Arc<[u8]>),
    /// JSON patch of the status.
    StatusJson(Arc<[u8]>),
    /// GET.
    Read,
    /// GET of the metadata.
    ReadMetadata,
    /// DELETE.
    Delete(Preconditions),
}

/// An answer, whatever it says.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// What an API server says whose admission plugins have not read their configuration yet.
const NOT_READY: &str = "not yet ready to handle request";

/// Causes are not walked further down than this: no real chain is longer, and a cyclic one would never end.
const MAX_CAUSES: usize = 16;

/// The body of a success, or what a failure means.
pub(super) fn judge(method: &Method, reply: Reply) -> Result<Vec<u8>, Ended> {
    let Reply { code, retry_after, body } = reply;
    if (200..300).contains(&code) {
        return Ok(body);
    }
    // Load shedding and proxies answer in plain text.
    let status = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Status { message: String::from_utf8_lossy(&body).trim().to_owned(), ..Status::default() });
    let for_now = |kind| Ended::ForNow(Transient { kind, retry_after });
    Err(match code {
        // Not about the object: the fence has not seen the table yet, or the gate will say no to the next attempt.
        403 | 422 if is_fence_refusal(&status.message) == Some(FenceRefusal::NewerEpoch) => Ended::Outstamped,
        403 | 422 if is_fence_refusal(&status.message).is_some() => for_now(TransientKind::Fenced),
        // Admission policies are not loaded yet: an API server that has just started, whatever the code says.
        403 if status.message.contains(NOT_READY) => for_now(TransientKind::Fenced),
        401 => for_now(TransientKind::Unauthorized),
        // RBAC: an API server that has just started has not read the roles yet, and missing ones are added some day.
        403 if is_rbac(&status) => for_now(TransientKind::Unauthorized),
        408 | 504 => for_now(TransientKind::Timeout),
        429 => for_now(TransientKind::Throttled),
        404 if about_namespace(&status) => Ended::Final(WriteOutcome::NamespaceGone),
        403 if has_cause(&status, "NamespaceTerminating", "") => Ended::Final(WriteOutcome::NamespaceGone),
        409 if matches!(method, Method::Create(_)) => match status.reason.as_str() {
            "AlreadyExists" => Ended::Final(WriteOutcome::AlreadyExists),
            // A quota that two creates charge at once.
            _ => for_now(TransientKind::Conflict),
        },
        404 | 409 | 410 => Ended::Final(WriteOutcome::Stale),
        422 if is_uid_mismatch(method, &status) => Ended::Final(WriteOutcome::Stale),
        413 => Ended::Final(WriteOutcome::TooLarge(status.message)),
        422 if has_cause(&status, "FieldValueTooLong", "metadata.annotations") => {
            Ended::Final(WriteOutcome::TooLarge(status.message))
        }
        500 if is_too_large_for_etcd(&status.message) => Ended::Final(WriteOutcome::TooLarge(status.message)),
        // The object does not fit the schema, as with an older CRD: no server trouble, although it says 500.
        500 if status.message.starts_with("failed to create typed patch object") => {
            Ended::Final(WriteOutcome::Rejected(status.message))
        }
        500.. => for_now(TransientKind::ServerError),
        400..=499 => Ended::Final(WriteOutcome::Rejected(message(code, status))),
        // A redirect: something between us and the API server, which will not stay.
        _ => for_now(TransientKind::Interrupted),
    })
}

/// What it means that no answer came.
pub(super) fn no_answer(error: &kube::Error) -> TransientKind {
    if matches!(error, kube::Error::Auth(_)) {
        return TransientKind::Unauthorized;
    }
    let causes = || std::iter::successors(error.source(), |cause| (*cause).source()).take(MAX_CAUSES);
    let mut kinds = causes().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let refused = kinds.clone().any(|kind| {
        matches!(
            kind,
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable
        )
    });
    // An open connection that breaks may have carried the request, whatever it breaks with.
    let is_of_connecting =
        |cause: &(dyn Error + 'static)| cause.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect);
    if refused && causes().any(is_of_connecting) {
        TransientKind::Unreachable
    } else if kinds.any(|kind| kind == io::ErrorKind::TimedOut) {
        TransientKind::Timeout
    } else {
        TransientKind::Interrupted
    }
}

/// A create in a namespace that does not exist is a 404 about the namespace.
fn about_namespace(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// The authorizer's own words; admission plugins use others.
fn is_rbac(status: &Status) -> bool {
    status.message.contains(": User \"") && status.message.contains(" cannot ")
}

/// Empty strings stand for any.
fn has_cause(status: &Status, reason: &str, field: &str) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    causes.into_iter().any(|cause| fits(reason, &cause.reason) && fits(field, &cause.field))
}

/// Another uid is an immutable field that changed; a `test` that fails says only that the patch could not be applied,
/// while an object that is refused names its causes.
fn is_uid_mismatch(method: &Method, status: &Status) -> bool {
    let no_causes = status.details.as_ref().is_none_or(|details| details.causes.is_empty());
    has_cause(status, "", "metadata.uid") || (matches!(method, Method::StatusJson(_)) && no_causes)
}

/// etcd's own limit, and that of the API server's connection to it.
fn is_too_large_for_etcd(message: &str) -> bool {
    message.contains("etcdserver: request is too large") || message.contains("trying to send message larger than max")
}

fn message(code: u16, status: Status) -> String {
    if status.message.is_empty() { format!("HTTP {code}") } else { status.message }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use kube::Config;

    use super::*;
    use crate::k8s::client::request_client;

    #[test]
    fn an_open_connection_that_broke_may_have_carried_the_request() {
        let broke = |kind: io::ErrorKind| kube::Error::Service(Box::new(io::Error::from(kind)));
        assert_eq!(no_answer(&broke(io::ErrorKind::HostUnreachable)), TransientKind::Interrupted);
        assert_eq!(no_answer(&broke(io::ErrorKind::TimedOut)), TransientKind::Timeout);
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_has_carried_nothing() -> anyhow::Result<()> {
        // Free again, and nobody listens.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = Config::new(format!("https://{address}").parse()?);
        let client = request_client(config, Duration::from_secs(5))?;
        let request = http::Request::get("/version").body(Vec::new())?;
        let Err(error) = client.request_text(request).await else { anyhow::bail!("somebody listens") };
        assert_eq!(no_answer(&error), TransientKind::Unreachable);
        Ok(())
    }
}
