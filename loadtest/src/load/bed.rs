//! What every scenario stands on: a cluster with namespaces and policies, a DNS server, the controller's replicas, and
//! the observer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use egress_domain::api::EgressPolicy;
use egress_testbed::control_plane::apply_manifests;
use egress_testbed::dns::DnsServer;
use egress_testbed::eventually;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};

use super::cluster::Cluster;
use super::observer::Observer;
use super::options::Options;
use super::peer::Peer;
use super::progress::Progress;
use super::workload::Workload;
use crate::fill::{create_all, create_namespaces};
use crate::replica::{Program, Replica, all_run};

/// Objects of one page of a list: what API servers and kubectl take by default.
const PAGE: u32 = 500;
/// A replica that was told to end drains within 25 s.
const END_WITHIN: Duration = Duration::from_secs(40);

/// See the module documentation.
pub struct Bed {
    /// First, so that they end first.
    pub replicas: Vec<Replica>,
    /// Another controller, in the place of ours.
    pub peer: Option<Peer>,
    /// Sees every revision of a NetworkPolicy.
    pub observer: Observer,
    /// What there is to do.
    pub workload: Workload,
    /// Answers for every host.
    pub dns: DnsServer,
    /// An administrator.
    pub client: Client,
    /// Flags for the controller beside those that it needs here.
    pub flags: Vec<String>,
    /// How often each host's answer has changed.
    versions: Vec<usize>,
    generation: usize,
    program: Program,
    /// Where it runs.
    pub cluster: Cluster,
}

impl Bed {
    /// A cluster without namespaces and policies, and no replica.
    ///
    /// # Errors
    /// When the control plane or the DNS server does not start.
    pub async fn open(options: &Options) -> Result<Self> {
        Self::open_with(options, Workload::new(options.size.clone())).await
    }

    /// The same, with this work.
    ///
    /// # Errors
    /// As [`Bed::open`].
    pub async fn open_with(options: &Options, workload: Workload) -> Result<Self> {
        workload.check()?;
        let cluster = Cluster::open(options.kubeconfig.as_deref()).await?;
        let client = cluster.client();
        if let Some(file) = &options.manifests {
            let manifests = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            apply_manifests(&client, &manifests).await?;
        }
        let dns = DnsServer::start().await?;
        for host in 0..workload.size.hosts {
            dns.set_host(&Workload::host(host), &workload.answer(host, 0), workload.size.ttl);
        }
        let program = match &options.program {
            Some(file) => Program::Controller(file.clone()),
            None => Program::own()?,
        };
        Ok(Self {
            replicas: Vec::new(),
            peer: Peer::read(options)?,
            observer: Observer::start(&client, workload.size.policies),
            versions: vec![0; workload.size.hosts],
            workload,
            dns,
            client,
            flags: options.controller_flags.clone(),
            generation: 0,
            program,
            cluster,
        })
    }

    /// Creates namespaces and policies, or the resources of a peer.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn fill(&self) -> Result<()> {
        let names: Vec<String> = (0..self.workload.size.namespaces).map(Workload::namespace).collect();
        create_namespaces(&self.client, &names).await?;
        if let Some(peer) = &self.peer {
            return peer.fill(self).await;
        }
        create_all("creating policies", self.workload.size.policies, async |policy| {
            let object = self.workload.egress_policy(policy);
            let api = Api::<EgressPolicy>::namespaced(self.client.clone(), &self.workload.namespace_of(policy));
            let created = api.create(&PostParams::default(), &object).await;
            created.map(drop).with_context(|| format!("creating policy {policy}"))
        })
        .await
    }

    /// The name of a pod that has not been before.
    fn next_pod(&mut self) -> String {
        self.generation += 1;
        format!("egress-controller-{}", self.generation)
    }

    /// Starts a replica in a pod that has not been before; gives the moment of its start.
    ///
    /// # Errors
    /// When the cluster refuses its pod, or it cannot be started.
    pub async fn new_pod(&mut self) -> Result<Instant> {
        let pod = self.next_pod();
        self.start_in(&pod).await
    }

    /// Starts a replica in this pod; gives the moment of its start.
    ///
    /// # Errors
    /// As [`Bed::new_pod`].
    pub async fn start_in(&mut self, pod: &str) -> Result<Instant> {
        let flags = self.flags_of(pod).await?;
        let since = Instant::now();
        self.replicas.push(Replica::start(&self.program, pod, &flags)?);
        Ok(since)
    }

    /// Creates a pod; the flags that its replica needs.
    async fn flags_of(&self, pod: &str) -> Result<Vec<String>> {
        let (replica, kubeconfig) = self.cluster.replica(pod).await?;
        let mut flags = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--dns-servers={}", self.dns.addr()),
            "--listen=127.0.0.1:0".to_owned(),
        ];
        flags.extend(replica.flags());
        flags.extend(self.flags.iter().cloned());
        Ok(flags)
    }

    /// Starts the controller: as many replicas as the size says, or the peer. From that moment, which is given, every
    /// policy should allow the present answers of its hosts.
    ///
    /// # Errors
    /// As [`Bed::new_pod`].
    pub async fn start_controller(&mut self) -> Result<Instant> {
        let mut pods = Vec::new();
        for _ in 0..if self.peer.is_some() { 0 } else { self.workload.size.replicas } {
            let pod = self.next_pod();
            let flags = self.flags_of(&pod).await?;
            pods.push((pod, flags));
        }
        let since = Instant::now();
        self.want_all(since);
        for (pod, flags) in pods {
            self.replicas.push(Replica::start(&self.program, &pod, &flags)?);
        }
        match &self.peer {
            Some(peer) => peer.start(&self.cluster.admin()?, self.dns.addr()),
            None => Ok(since),
        }
    }

    /// Every policy should allow the present answers of its hosts.
    pub fn want_all(&self, since: Instant) {
        let wanted = (0..self.workload.size.policies).map(|policy| (policy, self.answers_of(policy)));
        self.observer.want(wanted, since);
    }

    /// What a policy's hosts answer now.
    #[must_use]
    pub fn answers_of(&self, policy: usize) -> Vec<IpAddr> {
        let hosts = self.workload.hosts_of(policy).iter();
        hosts.flat_map(|host| self.workload.answer(*host, self.versions[*host])).collect()
    }

    /// A host answers something new from now on, and its policies should allow it.
    pub fn change(&mut self, host: usize) {
        let policies = self.workload.policies_of(host);
        self.observer.want_no_more(policies, &self.workload.answer(host, self.versions[host]));
        self.versions[host] += 1;
        let answer = self.workload.answer(host, self.versions[host]);
        self.observer.allow_too(policies, &answer);
        self.dns.set_host(&Workload::host(host), &answer, self.workload.size.ttl);
        self.observer.want(policies.iter().map(|policy| (*policy, answer.clone())), Instant::now());
    }

    /// Fails when the controller has ended by itself.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn runs(&self) -> Result<()> {
        all_run(&self.replicas)?;
        if self.peer.as_ref().is_some_and(|peer| !peer.runs()) {
            bail!("the other controller has ended");
        }
        Ok(())
    }

    /// Waits until every policy allows what it should.
    ///
    /// # Errors
    /// When that is not so in time, or a replica has ended.
    pub async fn settled(&self, title: &str, within: Duration) -> Result<()> {
        self.runs()?;
        let total = self.observer.missing();
        let progress = Progress::new(title, total);
        let settled = self.observer.settled(within, |missing| progress.at(total.saturating_sub(missing))).await;
        if settled.is_err() {
            for replica in &self.replicas {
                eprintln!("--- {} ({:?})\n{}", replica.pod, replica.ended(), replica.tail(10).join("\n"));
            }
        }
        progress.done();
        settled
    }

    /// SIGTERM to every replica, and waits for their end.
    ///
    /// # Errors
    /// When one does not end.
    pub async fn stop_controller(&mut self) -> Result<()> {
        self.peer.iter().for_each(Peer::stop);
        for replica in &self.replicas {
            replica.signal("TERM")?;
        }
        for replica in &self.replicas {
            eventually(END_WITHIN, async || {
                ensure!(replica.ended()?.is_some(), "{} does not end", replica.pod);
                anyhow::Ok(())
            })
            .await?;
        }
        self.replicas.clear();
        Ok(())
    }

    /// Process ids of the controller.
    #[must_use]
    pub fn controller_ids(&self) -> Vec<u32> {
        let peer = self.peer.iter().filter_map(Peer::id);
        self.replicas.iter().map(Replica::id).chain(peer).collect()
    }

    /// Policies whose status says something else than that all is well.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn not_ready(&self) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = Api::<EgressPolicy>::all(self.client.clone()).list(&page).await?;
            for policy in list.items {
                let conditions = policy.status.iter().flat_map(|status| &status.conditions);
                let ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
                if !ready {
                    found.insert(policy.metadata.name.unwrap_or_default());
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = ListParams::default().limit(PAGE).continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// Waits until every policy's status says that all is well. The controller's own pages tell when it has nothing left
    /// to write; the policies are listed then.
    ///
    /// # Errors
    /// When that is not so in time, or the controller has ended.
    pub async fn ready(&self, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        loop {
            self.runs()?;
            let idle = async || {
                for replica in &self.replicas {
                    let pending = replica.pages().metric("egress_writer_pending").await?;
                    let in_flight = replica.pages().metric("egress_writer_in_flight").await?;
                    ensure!(pending + in_flight == 0.0, "{pending} writes wait, {in_flight} are under way");
                }
                Ok(())
            };
            eventually(end.saturating_duration_since(Instant::now()), idle).await?;
            let waiting = self.not_ready().await?;
            if waiting.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{} policies are not Ready, such as {:?}", waiting.len(), waiting.first());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
