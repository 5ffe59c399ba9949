//! The controller's resolver, started when the first host needs it: without such a host there is no DNS traffic at all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use egress_domain::answer::Resolution;
use egress_domain::fqdn::Fqdn;
use tokio::sync::mpsc;

/// How hosts are looked up.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// Least time between two lookups of a host.
    pub min_refresh: Duration,
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
    _options: DnsOptions,
    wanted: Vec<Subscription>,
    subscribed: BTreeSet<u64>,
    _sender: mpsc::UnboundedSender<(u64, Resolution)>,
    answers: mpsc::UnboundedReceiver<(u64, Resolution)>,
}

impl Lookups {
    pub(super) fn new(options: DnsOptions) -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        Self { _options: options, wanted: Vec::new(), subscribed: BTreeSet::new(), _sender: sender, answers }
    }

    /// Replaces what a subscriber wants, with the next [`Lookups::send_wanted`].
    pub(super) fn want(&mut self, subscription: Subscription) {
        self.wanted.retain(|other| other.subscriber != subscription.subscriber);
        let known = self.subscribed.contains(&subscription.subscriber);
        if known || !subscription.hosts.is_empty() {
            self.wanted.push(subscription);
        }
    }

    pub(super) async fn send_wanted(&mut self) -> Result<()> {
        for subscription in std::mem::take(&mut self.wanted) {
            self.subscribed.insert(subscription.subscriber);
            bail!("no resolver yet: {} {} {:?}", subscription.namespace, subscription.hosts.len(), subscription.refresh);
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
