//! The servers that are asked now, each with its number in the schedule.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use egress_domain::lookups::ServerId;

use crate::dns::Lookup;
use crate::dns::hickory::Hickory;
use crate::dns::servers::{DnsServers, MAX_SERVERS, Server};

/// The present servers.
pub(super) struct Servers {
    choice: DnsServers,
    present: BTreeMap<ServerId, Present>,
    last_id: u32,
    falls_back: bool,
}

struct Present {
    server: Server,
    lookup: Arc<dyn Lookup>,
    /// As last logged.
    is_down: bool,
}

impl Servers {
    /// None before the first [`Servers::set`].
    pub(super) fn new(choice: DnsServers) -> Self {
        Self { choice, present: BTreeMap::new(), last_id: 0, falls_back: false }
    }

    /// Makes the servers those that are asked with these endpoints of the DNS Service; one that stays keeps its number,
    /// and no number is given twice.
    pub(super) fn set(&mut self, endpoints: &[SocketAddr]) -> Vec<ServerId> {
        self.falls_back = self.choice.falls_back(endpoints);
        if self.falls_back {
            tracing::warn!("no ready endpoint of the DNS Service: the nameservers of resolv.conf are asked");
        }
        if self.choice == DnsServers::Cluster && endpoints.len() > MAX_SERVERS {
            tracing::info!(
                endpoints = endpoints.len(),
                asked = MAX_SERVERS,
                "not every endpoint of the DNS Service is asked"
            );
        }
        let wanted = self.choice.present(endpoints);
        self.present.retain(|_, present| wanted.contains(&present.server));
        let known: BTreeSet<Server> = self.present.values().map(|present| present.server).collect();
        for server in wanted.difference(&known) {
            self.add(*server);
        }
        self.present.keys().copied().collect()
    }

    fn add(&mut self, server: Server) {
        match Hickory::new(server) {
            Ok(lookup) => {
                self.last_id += 1;
                let present = Present { server, lookup: Arc::new(lookup), is_down: false };
                self.present.insert(ServerId(self.last_id), present);
            }
            Err(error) => tracing::error!(%server, %error, "this DNS server cannot be used"),
        }
    }

    pub(super) fn get(&self, id: ServerId) -> Option<(Server, Arc<dyn Lookup>)> {
        self.present.get(&id).map(|present| (present.server, present.lookup.clone()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ServerId, Server)> {
        self.present.iter().map(|(id, present)| (*id, present.server))
    }

    /// Whether resolv.conf stands in for the DNS Service.
    pub(super) fn falls_back(&self) -> bool {
        self.falls_back
    }

    pub(super) fn log_changes(&mut self, is_down: impl Fn(ServerId) -> bool) {
        for (id, present) in &mut self.present {
            let was_down = std::mem::replace(&mut present.is_down, is_down(*id));
            match (was_down, present.is_down) {
                (false, true) => tracing::warn!(server = %present.server, "a DNS server answers nothing; it is probed"),
                (true, false) => tracing::info!(server = %present.server, "a DNS server answers again"),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_stays_keeps_its_number_and_none_is_given_twice() {
        let mut servers = Servers::new(DnsServers::Cluster);
        let endpoint = |last| SocketAddr::from(([192, 0, 2, last], 53));
        let ids = |list: Vec<ServerId>| list.into_iter().map(|id| id.0).collect::<Vec<u32>>();
        assert_eq!(ids(servers.set(&[endpoint(1), endpoint(2)])), [1, 2]);
        assert_eq!(ids(servers.set(&[endpoint(2), endpoint(3)])), [2, 3]);
        assert_eq!(ids(servers.set(&[endpoint(1), endpoint(2)])), [2, 4]);
        assert!(!servers.falls_back());
    }
}
