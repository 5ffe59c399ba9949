//! A control plane with the fence, a DNS server, a fault proxy for each replica, and the replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use egress_domain::api::{EgressPolicy, EgressShardTable, SHARD_TABLE};
use egress_domain::shard::table::{Entry, Table};
use egress_testbed::control_plane::{AuditLevel, ControlPlane, Trust};
use egress_testbed::dns::DnsServer;
use egress_testbed::eventually;
use egress_testbed::proxy::{FaultProxy, Rule};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::fault::Fault;
use super::judge::{Judge, version};
use super::report::TIMED_LEASE;
use super::{Options, work};
use crate::fill::{create_all, create_namespaces, forget_table};
use crate::load::requests::metric;
use crate::replica::{Program, Replica, all_run};

/// Namespace of deploy/, which names the installation.
pub const OWN_NAMESPACE: &str = "egress-controller";
/// Least patience with what replicas do: a busy machine's, not a limit of the protocol.
const ACTS_WITHIN: Duration = Duration::from_secs(120);
/// Metrics of a replica: writes that wait, and those without an answer.
const PENDING: &str = "egress_writer_pending";
const IN_FLIGHT: &str = "egress_writer_in_flight";
/// Lines of the log of a replica that went in another way than it should.
const TOLD_OF_A_LEAVER: usize = 40;

/// See the module documentation.
pub struct Bed {
    /// First, so that they end first.
    pub replicas: Vec<Replica>,
    pub judge: Judge,
    pub dns: DnsServer,
    pub client: Client,
    pub lease: Duration,
    pub namespaces: usize,
    pub policies: usize,
    pub pace: work::Pace,
    proxies: Vec<Arc<FaultProxy>>,
    /// Replicas that are stopped or cut off, and what brings each back.
    healing: Vec<(usize, JoinHandle<()>)>,
    generation: usize,
    program: Program,
    unfenced: bool,
    lease_seconds: u32,
    /// Times are judged, too.
    is_timed: bool,
    pub control_plane: ControlPlane,
    /// What the API server noted of each write.
    pub audit_log: PathBuf,
    _folder: tempfile::TempDir,
}

/// What a fault took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// From kill -9 until the survivors act on the dead replica's shards.
    pub takeover: Option<Duration>,
    /// From SIGTERM until the table is without the replica. None where times are not judged.
    pub release: Option<Duration>,
    /// It gave its shards to nobody.
    pub left_free: bool,
    /// From the release of a replica that ends until each of the others acts.
    pub handover: Option<Duration>,
    /// The same until they act on all of its shards.
    pub whole_handover: Option<Duration>,
    /// Shards that were given to others when a replica went, and those that it held. None where other faults move some, too.
    pub moved: Option<(usize, usize)>,
}

/// A replica went.
#[derive(Clone, Copy, Debug)]
struct Removed {
    /// The first table without it.
    version: u64,
    /// When that was seen.
    at: Instant,
    /// The first table since then in which no shard is free.
    given: u64,
}

/// When replicas acted on what they were given.
#[derive(Clone, Copy, Debug)]
struct Acted {
    /// Each of them on some of it.
    first: Instant,
    /// On all of it.
    whole: Instant,
}

impl Bed {
    pub async fn start(options: &Options) -> Result<Self> {
        eprintln!("starting etcd and kube-apiserver (the first time they are built, which takes some minutes)");
        let folder = tempfile::tempdir()?;
        let audit_log = folder.path().join("audit.log");
        let builder = ControlPlane::builder().audit_log(&audit_log, AuditLevel::RequestResponse);
        let control_plane = builder.start().await?;
        control_plane.install().await?;
        if options.unfenced {
            control_plane.remove_fence().await?;
        }
        let client = control_plane.client();
        let dns = DnsServer::start().await?;
        let judge = Judge::start(&client, OWN_NAMESPACE);
        let mut proxies = Vec::new();
        for _ in 0..options.size.replicas {
            proxies.push(Arc::new(FaultProxy::before(&control_plane).await?));
        }
        let program = match &options.program {
            Some(program) => Program::LoadTest(program.clone()),
            None => Program::own()?,
        };
        let mut bed = Self {
            replicas: Vec::new(),
            judge,
            dns,
            client,
            lease: Duration::from_secs(options.lease_duration_seconds.into()),
            namespaces: options.size.namespaces,
            policies: options.size.policies,
            pace: options.pace,
            proxies,
            healing: Vec::new(),
            generation: 0,
            program,
            unfenced: options.unfenced,
            lease_seconds: options.lease_duration_seconds,
            is_timed: f64::from(options.lease_duration_seconds) >= TIMED_LEASE,
            control_plane,
            audit_log,
            _folder: folder,
        };
        bed.fill().await?;
        for number in 0..options.size.replicas {
            let replica = bed.new_pod(number).await?;
            bed.replicas.push(replica);
        }
        Ok(bed)
    }

    /// Creates namespaces and policies, and gives every host an answer.
    async fn fill(&self) -> Result<()> {
        for host in 0..self.pace.hosts {
            self.dns.set_host(&work::host(host), &[work::address(host, 0)], self.pace.ttl);
        }
        let names: Vec<String> = (0..self.namespaces).map(work::namespace).collect();
        create_namespaces(&self.client, &names).await?;
        create_all("creating policies", self.policies, async |number| {
            let object = work::policy(number, self.namespaces, self.pace.host_of(number), None);
            let namespace = work::namespace_of(number, self.namespaces);
            let api = Api::<EgressPolicy>::namespaced(self.client.clone(), &namespace);
            let created = api.create(&PostParams::default(), &object).await;
            created.map(drop).with_context(|| format!("creating policy {number}"))
        })
        .await
    }

    /// Starts a replica in a pod that has not been before.
    pub async fn new_pod(&mut self, number: usize) -> Result<Replica> {
        self.generation += 1;
        self.start_in(number, &format!("egress-controller-{number}-{}", self.generation)).await
    }

    async fn start_in(&self, number: usize, pod: &str) -> Result<Replica> {
        let replica = self.control_plane.replica(pod).await?;
        let kubeconfig =
            self.control_plane.kubeconfig_for(&self.proxies[number].url(), &replica.token, Trust::ControlPlane);
        let file = self.control_plane.folder().join(format!("{pod}.kubeconfig"));
        std::fs::write(&file, kubeconfig)?;
        let mut flags = vec![
            format!("--kubeconfig={}", file.display()),
            format!("--dns-servers={}", self.dns.addr()),
            format!("--lease-duration-seconds={}", self.lease_seconds),
            format!("--min-refresh-seconds={}", self.pace.ttl),
            "--listen=127.0.0.1:0".to_owned(),
            "--ip-families=ipv4".to_owned(),
            "--log-filter=info,kube=off".to_owned(),
        ];
        flags.extend(replica.flags());
        if self.unfenced {
            flags.push("--ignore-fence-deadline".to_owned());
        }
        Replica::start(&self.program, pod, &flags)
    }

    /// For what takes so many leases. Times are judged by what was measured, so more patience hides nothing.
    pub fn patience(&self, leases: u32) -> Duration {
        ACTS_WITHIN.max(self.lease * leases)
    }

    /// Starts anew: as if no replica had ever been there.
    pub async fn forget_table(&self) -> Result<()> {
        forget_table(&self.client).await?;
        let gone = async || {
            ensure!(self.judge.table().is_none(), "the table is still there");
            anyhow::Ok(())
        };
        eventually(self.patience(1), gone).await
    }

    /// Waits until the judge has seen every NetworkPolicy as it is; gives the newest version among them.
    pub async fn seen(&self) -> Result<u64> {
        let all = Api::<NetworkPolicy>::all(self.client.clone()).list(&ListParams::default()).await?.items;
        let newest = all.iter().map(version).max().unwrap_or_default();
        let shown = async || {
            let shown = self.judge.version();
            ensure!(shown >= newest, "the judge has seen version {shown}, not yet {newest}");
            Ok(newest)
        };
        eventually(self.patience(1), shown).await
    }

    /// Waits until the judge has seen the table as it is: an edit a moment ago is known then.
    async fn table_seen(&self) -> Result<()> {
        let tables = Api::<EgressShardTable>::all(self.client.clone());
        let shown = async || {
            let stored = tables.get_opt(SHARD_TABLE).await?.context("there is no table")?;
            ensure!(self.judge.table_version() >= version(&stored), "the judge has not seen the table yet");
            Ok(())
        };
        eventually(self.patience(8), shown).await
    }

    /// Waits until every shard is held by a live replica, each having its even share.
    pub async fn whole(&self, within: Duration) -> Result<()> {
        let check = async || {
            let table = self.judge.table().context("there is no table")?;
            let alive: BTreeSet<&str> = self.replicas.iter().map(|replica| replica.pod.as_str()).collect();
            let mut counts: BTreeMap<&str, usize> = alive.iter().map(|pod| (*pod, 0)).collect();
            for entry in &table.shards {
                let pod = entry.holder.as_deref().context("a shard is free")?;
                *counts.get_mut(pod).with_context(|| format!("{pod} holds a shard and does not run"))? += 1;
            }
            let (least, most) = (counts.values().min().copied(), counts.values().max().copied());
            ensure!(most <= least.map(|least| least + 1), "uneven: {counts:?}");
            anyhow::Ok(())
        };
        if let Err(error) = eventually(within, check).await {
            for replica in &self.replicas {
                eprintln!("--- {} ({:?})\n{}", replica.pod, replica.ended(), replica.tail(15).join("\n"));
            }
            return Err(error.context("the shards are not whole"));
        }
        Ok(())
    }

    /// Waits until every replica may write, and acts on all that the table gives it.
    async fn at_rest(&self, within: Duration) -> Result<()> {
        let rest = async || {
            let table = self.judge.table().context("there is no table")?;
            for replica in &self.replicas {
                let state: Value = serde_json::from_str(&replica.pages().page("/debug/state").await?)?;
                let shards = &state["shards"];
                let (role, listed) = (&shards["role"], table.members.get(replica.pod.as_str()));
                let speaks = listed.is_some_and(|member| member.incarnation.to_string() == shards["incarnation"]);
                ensure!(role == "Member" && speaks, "{} is {role}", replica.pod);
                let given = table.held_by(&replica.pod).count();
                let acts = shards["active"].as_array().map_or(0, Vec::len);
                ensure!(acts == given, "{} acts on {acts} of its {given} shards", replica.pod);
            }
            anyhow::Ok(())
        };
        eventually(within, rest).await
    }

    /// Waits until no replica has a write to make.
    pub async fn nothing_pending(&self, within: Duration) -> Result<()> {
        let idle = async || {
            for replica in &self.replicas {
                let page = replica.pages().page("/metrics").await?;
                let pending = metric(&page, PENDING) + metric(&page, IN_FLIGHT);
                ensure!(pending == 0.0, "{pending} writes of {} wait", replica.pod);
            }
            anyhow::Ok(())
        };
        eventually(within, idle).await
    }

    /// Brings a fault about, and waits for what it leads to.
    pub async fn suffer(&mut self, fault: &Fault, number: usize) -> Result<Measured> {
        let mut measured = Measured::default();
        let two_leases = self.lease * 2;
        if self.is_timed && matches!(fault, Fault::Kill(_) | Fault::Terminate(_)) {
            // What is measured starts from shards that are whole; with a fault that still lasts it would be the sum of two.
            self.healed().await;
            self.table_seen().await?;
            self.whole(self.patience(8)).await?;
            self.at_rest(self.patience(8)).await?;
        }
        match fault.meets(|victim| self.healthy(victim)) {
            Fault::Kill(victim) => {
                let (since, version) = (Instant::now(), self.judge.table_version());
                let pod = self.replicas[victim].pod.clone();
                self.replicas[victim].signal("KILL")?;
                let gone = self.removed(&pod, version, self.patience(4)).await?;
                let acted = self.acted(&gone, &pod).await?;
                measured.moved = self.moved(&pod, version, self.judge.table_version());
                measured.takeover = acted.map(|acted| acted.whole.duration_since(since));
                self.replicas[victim] = self.new_pod(victim).await?;
            }
            Fault::Restart(victim) => {
                self.replicas[victim].signal("KILL")?;
                let pod = self.replicas[victim].pod.clone();
                self.replicas[victim] = self.start_in(victim, &pod).await?;
            }
            Fault::Terminate(victim) => {
                let (since, version) = (Instant::now(), self.judge.table_version());
                let pod = self.replicas[victim].pod.clone();
                self.replicas[victim].signal("TERM")?;
                let gone = self.removed(&pod, version, self.patience(8)).await?;
                let acted = self.acted(&gone, &pod).await?;
                // Up to now: what a replica took for all others and passed on at once is moved twice.
                measured.moved = self.moved(&pod, version, self.judge.table_version());
                measured.release = self.is_timed.then(|| gone.at.saturating_duration_since(since));
                measured.left_free = gone.version != gone.given;
                if gone.version != gone.given || measured.moved.is_some_and(|(moved, held)| moved != held) {
                    let replica = &self.replicas[victim];
                    eprintln!("--- {pod} left {gone:?}\n{}", replica.tail(TOLD_OF_A_LEAVER).join("\n"));
                }
                measured.handover = acted.map(|acted| acted.first.saturating_duration_since(gone.at));
                measured.whole_handover = acted.map(|acted| acted.whole.saturating_duration_since(gone.at));
                self.replicas[victim] = self.new_pod(victim).await?;
            }
            Fault::Pause(victim) => {
                self.replicas[victim].signal("STOP")?;
                let process = self.replicas[victim].id().to_string();
                let heal = tokio::spawn(async move {
                    tokio::time::sleep(two_leases).await;
                    drop(std::process::Command::new("kill").args(["-CONT", &process]).status());
                });
                self.healing.push((victim, heal));
            }
            Fault::CutRenewals(victim) => {
                let proxy = Arc::clone(&self.proxies[victim]);
                let cut = ["leases", "egressshardtables"].map(|resource| proxy.inject(Rule::hang().resource(resource)));
                let heal = tokio::spawn(async move {
                    tokio::time::sleep(two_leases).await;
                    cut.into_iter().for_each(|rule| proxy.remove(rule));
                });
                self.healing.push((victim, heal));
            }
            Fault::DeleteLease(victim) => {
                let leases = self.leases_of(victim).await?;
                for lease in leases {
                    drop(self.leases().delete(&lease.name_any(), &DeleteParams::default()).await?);
                }
            }
            Fault::ForgeLease(victim) => {
                let forged = json!({"spec": {"renewTime": "2099-01-01T00:00:00.000000Z"}});
                for lease in self.leases_of(victim).await? {
                    let patch = Patch::Merge(&forged);
                    self.leases().patch(&lease.name_any(), &PatchParams::default(), &patch).await?;
                }
            }
            Fault::EditTable(victim) => self.edit_table(victim).await?,
            Fault::DeleteTable => {
                let tables = Api::<EgressShardTable>::all(self.client.clone());
                self.judge.edits();
                let deleted = tables.delete(SHARD_TABLE, &DeleteParams::default()).await;
                self.judge.edits();
                drop(deleted?);
            }
            Fault::OutageHalf => self.outage(self.lease / 2).await?,
            Fault::OutageTwo => self.outage(two_leases).await?,
        }
        // The next one comes while the replicas still settle, or when they have; never at the same point.
        tokio::time::sleep(self.lease / 8 * (number as u32 % 5)).await;
        all_run(&self.replicas)?;
        Ok(measured)
    }

    /// What stands between a replica and the API server.
    pub fn proxy(&self, number: usize) -> &FaultProxy {
        &self.proxies[number]
    }

    /// The next replica from this one on that nothing is the matter with.
    fn healthy(&mut self, victim: usize) -> usize {
        self.healing.retain(|(_, heal)| !heal.is_finished());
        let count = self.replicas.len();
        let is_well = |number: &usize| self.healing.iter().all(|(ill, _)| ill != number);
        (victim..victim + count).map(|number| number % count).find(is_well).unwrap_or(victim)
    }

    /// Waits until every replica is back.
    pub async fn healed(&mut self) {
        for (_, heal) in self.healing.drain(..) {
            drop(heal.await);
        }
    }

    /// Waits for the table without this member, and until all shards are somebody's.
    async fn removed(&self, pod: &str, since: u64, within: Duration) -> Result<Removed> {
        eventually(within, async || {
            let tables = self.judge.tables_since(since);
            let gone = |table: &Table| {
                !table.members.contains_key(pod)
                    && table.shards.iter().all(|entry| entry.holder.as_deref() != Some(pod))
            };
            let mut without = tables.iter().filter_map(|(version, (at, table))| Some((*version, *at, table.as_ref()?)));
            let (version, at, table) =
                without.find(|(_, _, table)| gone(table)).with_context(|| format!("{pod} is still in the table"))?;
            let is_given = |table: &Table| table.free().next().is_none();
            // A replica that knows of no other that lives leaves its shards to whoever takes them.
            let later = without.find(|(_, _, table)| is_given(table)).map(|(version, _, _)| version);
            let given = if is_given(table) { Some(version) } else { later };
            Ok(Removed { version, at, given: given.context("shards are free")? })
        })
        .await
    }

    /// Shards that moved while a replica went, and those that it held before. None when times are not judged.
    fn moved(&self, pod: &str, since: u64, until: u64) -> Option<(usize, usize)> {
        let (_, (_, before)) = self.judge.tables_since(since).into_iter().next()?;
        let held = before?.held_by(pod).count();
        self.is_timed.then(|| (self.judge.moved(since, until), held))
    }

    /// Waits until every replica that got shards of this one acts on them. None where nobody can say: the table was new, or
    /// they were given to others before.
    async fn acted(&self, gone: &Removed, without: &str) -> Result<Option<Acted>> {
        let tables = self.judge.tables_since(0);
        let now = tables.iter().find(|(version, _)| *version == gone.given).and_then(|(_, (_, table))| table.clone());
        let before =
            tables.iter().rfind(|(version, _)| *version < gone.version).and_then(|(_, (_, table))| table.clone());
        let (Some(now), Some(before)) = (now, before) else { return Ok(None) };
        let mut gained: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        // A replica that lapsed and joined again has new epochs for what was its own before.
        for (new, _) in now.shards.iter().zip(&before.shards).filter(|(new, old)| new.holder != old.holder) {
            if let Entry { holder: Some(pod), epoch } = new {
                let (newest, count) = gained.entry(pod).or_default();
                (*newest, *count) = ((*newest).max(*epoch), *count + 1);
            }
        }
        gained.remove(without);
        let mut all: Option<Acted> = None;
        for (pod, (epoch, count)) in gained {
            let Some(number) = self.replicas.iter().position(|replica| replica.pod == pod) else { continue };
            if self.healing.iter().any(|(ill, heal)| *ill == number && !heal.is_finished()) {
                // It was stopped after it had been given them: nobody can say when it would have acted.
                continue;
            }
            let replica = &self.replicas[number];
            let acted = eventually(self.patience(8), async || self.acted_alone(replica, epoch, count));
            let acted = match acted.await {
                Ok(Some(acted)) => acted,
                // Whoever has them now may not act on them yet.
                Ok(None) => return Ok(None),
                Err(error) => {
                    eprintln!("--- {pod} ({:?}) from epoch {epoch}\n{}", replica.ended(), replica.tail(40).join("\n"));
                    return Err(error);
                }
            };
            let before = all.unwrap_or(acted);
            all = Some(Acted { first: before.first.max(acted.first), whole: before.whole.max(acted.whole) });
        }
        Ok(all)
    }

    /// When a replica acted on so many shards of this epoch; none where any of them was given to somebody else before it did.
    fn acted_alone(&self, replica: &Replica, epoch: u64, count: u64) -> Result<Option<Acted>> {
        let field = |line: &serde_json::Value, name: &str| {
            line["fields"][name].as_u64().or(line[name].as_u64()).unwrap_or_default()
        };
        let holds = |entry: &&Entry| entry.epoch == epoch && entry.holder.as_deref() == Some(replica.pod.as_str());
        let table = self.judge.table();
        let held = table.iter().flat_map(|table| table.shards.iter().filter(holds)).count() as u64;
        let lines = replica.said("shards act");
        let acts: Vec<_> = lines.iter().filter(|line| field(&line.1, "newest_epoch") >= epoch).collect();
        let mut missing = count;
        let whole = acts.iter().find(|line| {
            missing = missing.saturating_sub(field(&line.1, "shards"));
            missing == 0
        });
        match acts.first().zip(whole) {
            Some((first, whole)) => Ok(Some(Acted { first: first.0, whole: whole.0 })),
            None if held < count => Ok(None),
            None => bail!("{} does not act on its shards", replica.pod),
        }
    }

    /// Those of all replicas.
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), OWN_NAMESPACE)
    }

    /// The Leases of a replica.
    pub async fn leases_of(&self, victim: usize) -> Result<Vec<Lease>> {
        let prefix = format!("{}-", self.replicas[victim].pod);
        let all = self.leases().list(&ListParams::default()).await?.items;
        Ok(all.into_iter().filter(|lease| lease.name_any().starts_with(&prefix)).collect())
    }

    /// Gives half of a replica's shards to the next one, as a person with an editor would.
    async fn edit_table(&self, victim: usize) -> Result<()> {
        let tables = Api::<EgressShardTable>::all(self.client.clone());
        let (from, to) = (&self.replicas[victim].pod, &self.replicas[(victim + 1) % self.replicas.len()].pod);
        for _ in 0..20 {
            let Some(mut object) = tables.get_opt(SHARD_TABLE).await? else { return Ok(()) };
            let Ok(mut table) = Table::parse(&object.spec, OWN_NAMESPACE) else { return Ok(()) };
            let version: u64 = object.resource_version().unwrap_or_default().parse()?;
            let held = table.shards.iter_mut().filter(|entry| entry.holder.as_deref() == Some(from.as_str()));
            for entry in held.step_by(2) {
                *entry = Entry { holder: Some(to.as_str().into()), epoch: version.max(entry.epoch + 1) };
            }
            object.spec = table.to_spec();
            self.judge.edits();
            match tables.replace(SHARD_TABLE, &PostParams::default(), &object).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                edited => {
                    self.judge.edits();
                    return Ok(edited.map(drop)?);
                }
            }
        }
        bail!("the table changes all the time")
    }

    /// Nobody reaches the API server.
    async fn outage(&self, long: Duration) -> Result<()> {
        for proxy in &self.proxies {
            proxy.refuse(true).await?;
        }
        tokio::time::sleep(long).await;
        for proxy in &self.proxies {
            proxy.refuse(false).await?;
        }
        Ok(())
    }
}
