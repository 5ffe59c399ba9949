//! Answers that the proxy makes itself, in the API server's form.

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// Whatever may go wrong on the way; the client sees a broken connection.
pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer, streamed.
pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

/// A Kubernetes Status object as the whole answer.
pub(super) fn failure(code: u16, reason: &str, retry_after: Option<u32>) -> Response<Body> {
    let body = Bytes::from(status(code, reason).to_string());
    let mut response = Response::new(whole(body));
    // A code that HTTP does not know is a mistake in the test; 500 shows it.
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A body that is there in full.
pub(super) fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(Error::from).boxed_unsync()
}

/// The ERROR event of a watch whose resource version is too old.
pub(super) fn gone_event() -> Bytes {
    let event = json!({"type": "ERROR", "object": status(410, "Expired")});
    Bytes::from(format!("{event}\n"))
}

/// The reason that goes with a code after a commit.
pub(super) fn reason_of(code: u16) -> &'static str {
    match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    }
}

fn status(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": format!("{reason} injected by the fault proxy"),
        "reason": reason,
        "code": code,
    })
}
