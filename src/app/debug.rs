//! `/debug/state`, and the crashes that tests ask for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::post;
use egress_domain::object::PolicyKey;
use futures::FutureExt as _;
use ractor::rpc::CallResult;
use serde_json::{Value, json};

use crate::actors::policy::PolicyMsg;
use crate::actors::resolver::{ResolverMsg, ResolverRef};
use crate::actors::router::{RouterMsg, RouterRef};
use crate::actors::shards::{ShardsMsg, ShardsRef};
use crate::actors::writer::{WriterMsg, WriterRef};
use crate::server::DebugState;

/// An actor that does not answer for so long is reported as silent.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(2));

/// The actors, once they run.
#[derive(Clone, Default)]
pub(super) struct Actors(Arc<OnceLock<(RouterRef, WriterRef, ResolverRef, ShardsRef)>>);

impl Actors {
    pub(super) fn set(&self, router: &RouterRef, writer: &WriterRef, resolver: &ResolverRef, shards: &ShardsRef) {
        drop(self.0.set((router.clone(), writer.clone(), resolver.clone(), shards.clone())));
    }
}

/// What the page asks, and where the actors are put when they run.
pub(super) fn state() -> (DebugState, Actors) {
    let actors = Actors::default();
    let known = actors.clone();
    (Arc::new(move || snapshot(known.clone()).boxed()), actors)
}

async fn snapshot(actors: Actors) -> Value {
    let Some((router, writer, resolver, shards)) = actors.0.get() else { return json!("starting") };
    let router = router.call(RouterMsg::Snapshot, PATIENCE).await.map(|answer| value(&answer));
    let writer = writer.call(WriterMsg::Snapshot, PATIENCE).await.map(|answer| value(&answer));
    let resolver = resolver.call(ResolverMsg::Snapshot, PATIENCE).await.map(|answer| value(&answer));
    let shards = shards.call(ShardsMsg::Snapshot, PATIENCE).await.map(|answer| value(&answer));
    json!({
        "shards": shards.unwrap_or(Value::Null),
        "router": router.unwrap_or(Value::Null),
        "writer": writer.unwrap_or(Value::Null),
        "resolver": resolver.unwrap_or(Value::Null),
    })
}

fn value<T: serde::Serialize>(answer: &CallResult<T>) -> Value {
    match answer {
        CallResult::Success(snapshot) => serde_json::to_value(snapshot).unwrap_or_default(),
        CallResult::Timeout => json!("silent"),
        CallResult::SenderError => json!("gone"),
    }
}

/// Pages that crash an actor: `POST /debug/crash/writer`, `POST /debug/crash/policy/NAMESPACE/NAME`.
pub(super) fn crashes(actors: &Actors) -> axum::Router {
    let (writer, policy) = (actors.clone(), actors.clone());
    axum::Router::new().route("/debug/crash/writer", post(async move || status(crash_writer(&writer)))).route(
        "/debug/crash/policy/{namespace}/{name}",
        post(async move |Path((namespace, name)): Path<(String, String)>| {
            status(crash_policy(&policy, PolicyKey::new(namespace, name)).await)
        }),
    )
}

fn status(found: bool) -> StatusCode {
    if found { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND }
}

fn crash_writer(actors: &Actors) -> bool {
    actors.0.get().is_some_and(|(_, writer, ..)| writer.cast(WriterMsg::Crash).is_ok())
}

async fn crash_policy(actors: &Actors, key: PolicyKey) -> bool {
    let Some((router, ..)) = actors.0.get() else { return false };
    match router.call(|reply| RouterMsg::Find(key, reply), PATIENCE).await {
        Ok(CallResult::Success(Some(actor))) => actor.cast(PolicyMsg::Crash).is_ok(),
        _ => false,
    }
}
