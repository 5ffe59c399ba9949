//! The composition root of `run`: wires, no logic.

mod debug;
mod member;
mod pulse;
mod watches;

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use egress_domain::cluster::facts::ClusterFlags;
use prometheus_client::registry::Registry;
use ractor::Actor;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::actors::resolver::{Resolver, ResolverArgs, ResolverMsg};
use crate::actors::router::{Router, RouterArgs, RouterMsg, RouterRef};
use crate::actors::shards::{Shards, ShardsArgs, ShardsMsg, ShardsRef};
use crate::actors::supervisor::{Supervisor, SupervisorMsg};
use crate::actors::writer::{Writer, WriterArgs, WriterMsg, WriterRef};
use crate::cli::run::RunArgs;
use crate::clock::{BootClock, Clock};
use crate::dns::servers::DnsServers;
use crate::k8s::apply::{Applier, RequestTimeout};
use crate::k8s::client::{lease_client, request_client, watch_client};
use crate::k8s::cluster::{self, ClusterWatch, watch_cluster};
use crate::k8s::config::kube_config;
use crate::k8s::load::Loader;
use crate::k8s::resolv_conf;
use crate::k8s::rights::Rights;
use crate::k8s::shards::ShardClient;
use crate::server::{Liveness, Pages, Readiness, serve};
use crate::shutdown;
use crate::telemetry::log;
use crate::telemetry::metrics::cluster::ClusterMetrics;
use crate::telemetry::metrics::policies::PolicyMetrics;
use crate::telemetry::metrics::resolver::ResolverMetrics;
use crate::telemetry::metrics::shards::ShardMetrics;
use crate::telemetry::metrics::watches::WatchMetrics;
use crate::telemetry::metrics::writer::WriterMetrics;

/// A loop that has not advanced for so long is stuck: every loop beats each half second, and the API server's slowest
/// answer is bounded by the write time-out.
const LIVENESS_BOUND: std::time::Duration = std::time::Duration::from_secs(60);
/// Joining takes a few requests; a replica that has to wait for others reads its shards when it gets them.
const SETTLE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// Runs the controller until a signal, or until an actor that everything needs has died (an error).
///
/// # Errors
/// When it cannot start, or must not go on.
pub async fn run(args: RunArgs) -> Result<u8> {
    log::init(&args.log)?;
    let settings = Arc::new(args.settings()?);
    let config = kube_config(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    let place = member::place(&args, &config.default_namespace);
    let me = member::identity(&args, &place);
    let timing = member::timing(&args);
    let leases = ShardClient::new(lease_client(config.clone(), timing.renew_timeout())?, place);
    let watches_by = watch_client(config.clone())?;
    let requests_by = request_client(config, args.write.write_timeout_seconds.min(timing.write_timeout()))?;

    let (readiness, liveness, mut registry) =
        (Readiness::default(), Liveness::default(), Registry::with_prefix("egress"));
    let drain = shutdown::on_signal(readiness.clone())?;
    let metrics = Metrics::register(&mut registry);
    let clock = Clock::start();

    let (fatal, mut died) = watch::channel(None);
    let (supervisor, _) = Actor::spawn(None, Supervisor, fatal).await?;
    let (rights, write_timeout) = (Rights::default(), RequestTimeout::new(args.write.write_timeout_seconds));
    write_timeout.bound(timing.write_timeout());
    let applier = Applier::new(
        requests_by.clone(),
        rights.gate(BootClock, args.ignore_fence_deadline),
        write_timeout.clone(),
        &me.pod,
    );
    let writer_args = WriterArgs {
        applier,
        max_writes_per_second: args.write.max_writes_per_second,
        clock: clock.clone(),
        metrics: metrics.writer,
    };
    let (writer, _) =
        Writer::spawn_linked(Some("writer".to_owned()), Writer, writer_args, supervisor.get_cell()).await?;

    let shards_args = ShardsArgs {
        me,
        timing,
        client: leases.clone(),
        rights,
        timeout: write_timeout,
        ignores_deadline: args.ignore_fence_deadline,
        writer: writer.clone(),
        liveness: liveness.clone(),
        metrics: metrics.shards,
        ready: readiness.handle("shards"),
    };
    let (shards, _) =
        Shards::spawn_linked(Some("shards".to_owned()), Shards, shards_args, supervisor.get_cell()).await?;
    let _member_watches = member::follow(&watches_by, &leases, &shards, &metrics.watches);

    // Handles first, listener next: the process is seen as alive and not ready while it waits for the API server.
    let (router_ready, cluster_ready) = (readiness.handle("policies"), readiness.handle("cluster"));
    let cluster_heartbeat = liveness.heartbeat("cluster", LIVENESS_BOUND);
    let beats = liveness.clone();
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("--listen {}", args.listen))?;
    tracing::info!(address = %listener.local_addr()?, "serving health, metrics and state");
    let (debug, actors) = debug::state();
    let extra = if args.fault_injection { debug::crashes(&actors) } else { axum::Router::new() };
    let pages = Pages { registry: Arc::new(registry), readiness, liveness, debug, extra };
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, pages, stop.clone()));

    let known = watch_cluster(cluster::Args {
        client: watches_by.clone(),
        flags: cluster_flags(&args),
        nameservers: resolv_conf::nameservers_of_this_pod(),
        unavailable_grace: cluster::DEFAULT_UNAVAILABLE_GRACE,
        ready: cluster_ready,
        heartbeat: cluster_heartbeat,
        metrics: metrics.cluster,
        watch_metrics: metrics.watches.clone(),
    });
    let known = tokio::select! {
        known = known => known?,
        () = drain.cancelled() => {
            drop(supervisor.cast(SupervisorMsg::Stopping));
            leave(&shards, &args).await;
            return Ok(crate::cli::EXIT_OK);
        }
        reason = death(&mut died) => bail!("{reason}"),
    };

    let resolver_args = ResolverArgs {
        servers: args.dns.dns_servers.clone(),
        endpoints: known.servers.borrow().clone(),
        families: known.cluster.borrow().families,
        min_refresh: args.dns.min_refresh_seconds,
        queries_per_second: args.dns.dns_queries_per_second,
        clock: clock.clone(),
        metrics: metrics.resolver,
    };
    let (resolver, _) =
        Resolver::spawn_linked(Some("resolver".to_owned()), Resolver, resolver_args, supervisor.get_cell()).await?;
    let cluster_now = known.cluster.borrow().clone();
    // From now on, and not while the API server was waited for: each loop exists when it promises to beat.
    let beat = |name| beats.heartbeat(name, LIVENESS_BOUND);
    let router_args = RouterArgs {
        settings,
        options: args.router_options(),
        cluster: cluster_now,
        resolver: resolver.clone(),
        writer: writer.clone(),
        shards: shards.clone(),
        loader: Loader::new(requests_by),
        clock,
        metrics: metrics.policies,
        ready: router_ready,
        heartbeat: beat("router"),
    };
    let (router, _) =
        Router::spawn_linked(Some("router".to_owned()), Router, router_args, supervisor.get_cell()).await?;
    actors.set(&router, &writer, &resolver, &shards);
    let _pulse = pulse::start((writer.clone(), beat("writer")), (resolver.clone(), beat("resolver")));

    let follow_servers = matches!(args.dns.dns_servers, DnsServers::Cluster);
    drop(shards.cast(ShardsMsg::Router(router.clone())));
    // What is ours already needs no read of its own when the lists begin afterwards.
    drop(shards.call(ShardsMsg::Settled, Some(SETTLE_PATIENCE)).await);
    let watches = watches::start(&watches_by, &router, &metrics.watches);
    let forward = tokio::spawn(forward(known, router.clone(), resolver, follow_servers));

    tokio::select! {
        () = drain.cancelled() => {}
        reason = death(&mut died) => bail!("{reason}"),
    }
    drop(supervisor.cast(SupervisorMsg::Stopping));
    drop(watches);
    forward.abort();
    stop_actors(&args, &router, &writer, &shards).await;
    stop.cancel();
    drop(server.await);
    Ok(crate::cli::EXIT_OK)
}

/// Why the process must end; waits until it must.
async fn death(died: &mut watch::Receiver<Option<String>>) -> String {
    let reason = died.wait_for(Option::is_some).await.map(|reason| reason.clone());
    reason.ok().flatten().unwrap_or_else(|| "the supervisor has gone".to_owned())
}

struct Metrics {
    writer: WriterMetrics,
    resolver: ResolverMetrics,
    policies: PolicyMetrics,
    watches: WatchMetrics,
    cluster: ClusterMetrics,
    shards: ShardMetrics,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        Self {
            writer: WriterMetrics::register(registry),
            resolver: ResolverMetrics::register(registry),
            policies: PolicyMetrics::register(registry),
            watches: WatchMetrics::register(registry),
            cluster: ClusterMetrics::register(registry),
            shards: ShardMetrics::register(registry),
        }
    }
}

/// Passes what the watches of the cluster tell to the actors that need it.
async fn forward(
    mut known: ClusterWatch,
    router: RouterRef,
    resolver: crate::actors::resolver::ResolverRef,
    follow_servers: bool,
) {
    loop {
        tokio::select! {
            Ok(()) = known.cluster.changed() => {
                let cluster = known.cluster.borrow_and_update().clone();
                // The resolver first: a policy that waits for a family must find it looked up.
                drop(resolver.cast(ResolverMsg::SetFamilies(cluster.families)));
                drop(router.cast(RouterMsg::Cluster(cluster)));
            }
            Ok(()) = known.servers.changed() => {
                let servers = known.servers.borrow_and_update().clone();
                if follow_servers {
                    drop(resolver.cast(ResolverMsg::SetServers(servers)));
                }
            }
            else => return,
        }
    }
}

/// No new work, then what is pending is written, for as long as the drain may take.
async fn stop_actors(args: &RunArgs, router: &RouterRef, writer: &WriterRef, shards: &ShardsRef) {
    let limit = args.write.drain_timeout_seconds;
    let drained = timeout(limit, async {
        drop(router.call(RouterMsg::StopPolicies, None).await);
        writer.call(WriterMsg::Drain, None).await
    });
    match drained.await {
        Ok(Ok(ractor::rpc::CallResult::Success(report))) => {
            tracing::info!(written = report.finished, "drained");
        }
        Ok(_) => tracing::warn!("the writer went before it was drained"),
        Err(_) => {
            tracing::warn!(
                seconds = limit.as_secs_f64(),
                "the drain took too long; the rest is left to the next holder"
            )
        }
    }
    leave(shards, args).await;
}

/// Hands every shard over. After a lease of trying the others take them anyway.
async fn leave(shards: &ShardsRef, args: &RunArgs) {
    let limit = member::timing(args).lease;
    if !shards.call(ShardsMsg::Leave, Some(limit)).await.is_ok_and(|answer| answer.is_success()) {
        tracing::warn!("the shards were not handed over; the other replicas take them when the lease has ended");
    }
}

fn cluster_flags(args: &RunArgs) -> ClusterFlags {
    ClusterFlags {
        dns_egress: args.dns.dns_egress.clone(),
        ip_families: args.dns.ip_families,
        deny_answer_cidrs: args.dns.deny_answer_cidr.clone(),
        cluster_domain: args.dns.cluster_domain.clone(),
    }
}
