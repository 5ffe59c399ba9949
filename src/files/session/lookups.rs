//! The controller's resolver, started when the first host needs it: without such a host there is no DNS traffic at all.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use egress_domain::answer::{Families, Resolution};
use egress_domain::fqdn::Fqdn;
use prometheus_client::registry::Registry;
use ractor::Actor as _;
use tokio::sync::mpsc;

use crate::actors::resolver::{Resolver, ResolverArgs, ResolverMsg, ResolverRef};
use crate::clock::Clock;
use crate::dns::servers::DnsServers;
use crate::telemetry::metrics::resolver::ResolverMetrics;

/// How hosts are looked up.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// Whom to ask.
    pub servers: DnsServers,
    /// Least time between two lookups of a host.
    pub min_refresh: Duration,
    /// Queries per second, all servers together.
    pub queries_per_second: NonZeroU32,
}

/// The hosts that a policy wants looked up; none ends its subscription.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) subscriber: u64,
    pub(super) namespace: Arc<str>,
    pub(super) hosts: Vec<Fqdn>,
    pub(super) refresh: Duration,
}

/// What is asked, and the answers that were not taken in yet. The resolver bounds them: one lookup per host, family and
/// server is under way at a time.
pub(super) struct Lookups {
    options: DnsOptions,
    families: Families,
    clock: Clock,
    resolver: Option<ResolverRef>,
    wanted: Vec<Subscription>,
    subscribed: BTreeSet<u64>,
    sender: mpsc::UnboundedSender<(u64, Resolution)>,
    answers: mpsc::UnboundedReceiver<(u64, Resolution)>,
}

impl Lookups {
    pub(super) fn new(options: DnsOptions, families: Families, clock: Clock) -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        let (wanted, subscribed) = (Vec::new(), BTreeSet::new());
        Self { options, families, clock, resolver: None, wanted, subscribed, sender, answers }
    }

    /// Replaces what a subscriber wants, with the next [`Lookups::send_wanted`].
    pub(super) fn want(&mut self, subscription: Subscription) {
        self.wanted.retain(|other| other.subscriber != subscription.subscriber);
        let known = self.subscribed.contains(&subscription.subscriber);
        if known || !subscription.hosts.is_empty() {
            self.wanted.push(subscription);
        }
    }

    /// Tells the resolver; starts it for the first host.
    pub(super) async fn send_wanted(&mut self) -> Result<()> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let resolver = match &self.resolver {
            Some(resolver) => resolver,
            None => self.resolver.insert(start(&self.options, self.families, &self.clock).await?),
        };
        for Subscription { subscriber, namespace, hosts, refresh } in std::mem::take(&mut self.wanted) {
            let sender = self.sender.clone();
            let message = if hosts.is_empty() {
                self.subscribed.remove(&subscriber);
                ResolverMsg::Unsubscribe { subscriber }
            } else {
                self.subscribed.insert(subscriber);
                // Nobody takes answers any more only when the session is over.
                let sink = Arc::new(move |resolution| drop(sender.send((subscriber, resolution))));
                ResolverMsg::Subscribe { subscriber, namespace, hosts, refresh, sink }
            };
            resolver.cast(message).context("the resolver has ended")?;
        }
        Ok(())
    }

    /// The next answer, with the subscriber it is for.
    pub(super) async fn answer(&mut self) -> (u64, Resolution) {
        match self.answers.recv().await {
            Some(answer) => answer,
            // Cannot be: the sender lives as long as the receiver.
            None => std::future::pending().await,
        }
    }

    /// An answer that is there already.
    pub(super) fn ready_answer(&mut self) -> Option<(u64, Resolution)> {
        self.answers.try_recv().ok()
    }
}

impl Drop for Lookups {
    fn drop(&mut self) {
        if let Some(resolver) = &self.resolver {
            resolver.stop(None);
        }
    }
}

async fn start(options: &DnsOptions, families: Families, clock: &Clock) -> Result<ResolverRef> {
    let args = ResolverArgs {
        servers: options.servers.clone(),
        endpoints: Vec::new(),
        families,
        min_refresh: options.min_refresh,
        queries_per_second: options.queries_per_second,
        clock: clock.clone(),
        // Counted and read by nobody: there is no server for metrics here.
        metrics: ResolverMetrics::register(&mut Registry::default()),
    };
    let (resolver, _) = Resolver::spawn(None, Resolver, args).await.context("the resolver cannot be started")?;
    Ok(resolver)
}
