//! Everything that the question is judged by: NetworkPolicies, EgressPolicies, and what DNS answered.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use egress_domain::api::EgressPolicy;
use egress_domain::book::AddressBook;
use egress_domain::evaluate::Labels;
use egress_domain::fqdn::Fqdn;
use egress_domain::machine::Context;
use egress_domain::network_policy::book_text;
use egress_domain::object::PolicyKey;
use egress_domain::time::UnixTime;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::{ExplainArgs, Target};
use crate::files::diff::collect;
use crate::files::document::Document;
use crate::files::finding::{BadInput, Finding, Place, Report};
use crate::files::hosts::GivenHosts;
use crate::files::load::Loaded;
use crate::files::policy;
use crate::files::session::{Options, Session};
use crate::k8s::config::kube_config;

/// Label that the API server puts on every namespace (KEP-2161).
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// An EgressPolicy with its answers.
pub struct Known {
    /// Where it was read; none in a cluster.
    pub place: Option<Place>,
    /// The object.
    pub object: EgressPolicy,
    /// What answers gave for its hosts.
    pub book: AddressBook,
}

/// What is known of the namespace.
pub struct Scene {
    /// Every NetworkPolicy.
    pub network_policies: Vec<NetworkPolicy>,
    /// Every EgressPolicy.
    pub policies: Vec<Known>,
    /// Flags and what they say of the cluster.
    pub context: Context,
    /// Labels of the namespace that the question is about, when it is about pods.
    pub namespace_labels: Labels,
    /// Addresses that the host of the question has as seen from here.
    pub seen_from_here: BTreeSet<IpAddr>,
    /// What there is to tell.
    pub report: Report,
}

impl Scene {
    /// From files: EgressPolicies are rendered, NetworkPolicies count as they are, unless one is rendered anew.
    pub async fn of_files(args: &ExplainArgs) -> Result<Self> {
        let settings = args.source.settings();
        let options = args.source.options()?;
        let loaded = args.source.sources(args.paths.clone()).load(&settings)?;
        let mut session = Session::new(options.clone());
        session.update(&loaded).await?;
        session.settle().await?;
        let mut objects = session.objects();
        for (key, (_, object)) in collect(&loaded.others).map_err(BadInput)? {
            objects.entry(key).or_insert(object);
        }
        let mut report = loaded.report.clone();
        report.extend(session.report());
        let books = loaded.policies.values().map(|policy| Known {
            place: Some(policy.place.clone()),
            object: policy.object.clone(),
            book: session.book(policy.key()).cloned().unwrap_or_default(),
        });
        let mut scene = Self {
            network_policies: objects.into_values().collect(),
            policies: books.collect(),
            context: options.context.clone(),
            namespace_labels: namespace_labels(&args.to),
            seen_from_here: BTreeSet::new(),
            report,
        };
        // A host that a policy names has just been looked up.
        if scene.addresses_of(&args.to).is_empty() {
            scene.look(&args.to, options, &loaded.given).await?;
        }
        Ok(scene)
    }

    /// From the cluster, with the answers that the controller has stored beside each NetworkPolicy.
    pub async fn of_cluster(args: &ExplainArgs) -> Result<Self> {
        let client = client(args).await.context("no cluster can be asked (name files to explain without one)")?;
        let all = ListParams::default();
        let network_policies = Api::<NetworkPolicy>::namespaced(client.clone(), &args.namespace).list(&all).await;
        let network_policies = network_policies.context("NetworkPolicies cannot be listed")?.items;
        let labels = stored_labels(&client, &args.to).await?;
        let policies = Api::<DeserializeGuard<EgressPolicy>>::namespaced(client, &args.namespace).list(&all).await;
        let mut report = Report::default();
        let mut known = Vec::new();
        for policy in policies.context("EgressPolicies cannot be listed")? {
            let name = policy.name_any();
            match policy.0 {
                Ok(object) => {
                    let book = stored_book(&object, &network_policies, &mut report);
                    known.push(Known { place: None, object, book });
                }
                Err(error) => {
                    let message = format!("EgressPolicy {}/{name} is not understood: {}", args.namespace, error.error);
                    report.warnings.push(Finding::general(message));
                }
            }
        }
        let options = args.source.options()?;
        let context = options.context.clone();
        let mut scene = Self {
            network_policies,
            policies: known,
            context,
            namespace_labels: labels,
            seen_from_here: BTreeSet::new(),
            report,
        };
        let given = args.source.sources(Vec::new()).resolve;
        scene.look(&args.to, options, &given).await?;
        Ok(scene)
    }

    /// Addresses to judge: that of the question, or those of its host, as stored and as seen from here.
    pub fn addresses_of(&self, to: &Target) -> BTreeSet<IpAddr> {
        match to {
            Target::Address(address) => [*address].into(),
            Target::Host(host) => {
                let stored = self.policies.iter().flat_map(|policy| policy.book.addresses(host));
                stored.chain(self.seen_from_here.iter().copied()).collect()
            }
            Target::Pod { .. } => BTreeSet::new(),
        }
    }

    /// Looks the host up as a policy that names it would.
    async fn look(&mut self, to: &Target, options: Options, given: &GivenHosts) -> Result<()> {
        let Target::Host(host) = to else { return Ok(()) };
        let loaded = policy_of_one_host(host, &options, given)?;
        let mut session = Session::new(Options { protected: Vec::new(), ..options });
        session.update(&loaded).await?;
        session.settle().await?;
        let books = loaded.policies.keys().filter_map(|key| session.book(key));
        self.seen_from_here = books.flat_map(|book| book.addresses(host).collect::<Vec<_>>()).collect();
        if self.seen_from_here.is_empty() {
            self.report.warnings.push(Finding::general(format!("{host}: DNS gives no address here")));
        }
        Ok(())
    }
}

fn policy_of_one_host(host: &Fqdn, options: &Options, given: &GivenHosts) -> Result<Loaded> {
    let value = json!({"apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy",
        "metadata": {"name": "question"}, "spec": {"destinations": [{"hostname": host.as_str()}]}});
    let place = Place { file: "--to".into(), document: 1, item: None };
    let decoded = policy::decode(Document { place, value }, &options.context.settings);
    let (policy, _) = decoded.map_err(BadInput)?;
    let policies = [(policy.key().clone(), policy)].into();
    Ok(Loaded { policies, given: given.clone(), ..Loaded::default() })
}

fn stored_book(object: &EgressPolicy, network_policies: &[NetworkPolicy], report: &mut Report) -> AddressBook {
    let key = PolicyKey::new(object.namespace().unwrap_or_default(), object.name_any());
    let name = key.network_policy_name();
    let stored = network_policies.iter().find(|stored| stored.name_any() == name);
    let Some(text) = stored.and_then(book_text) else { return AddressBook::default() };
    // As stored: the moments are told, nothing is decided by them.
    AddressBook::from_annotation(text, now(), Some(Duration::ZERO)).unwrap_or_else(|error| {
        report.warnings.push(Finding::general(format!("NetworkPolicy {}/{name}: {error}", key.namespace)));
        AddressBook::default()
    })
}

/// The label that every namespace has; of the others files tell nothing.
fn namespace_labels(to: &Target) -> Labels {
    match to {
        Target::Pod { namespace, .. } => [(NAMESPACE_NAME_LABEL.to_owned(), namespace.clone())].into(),
        Target::Host(_) | Target::Address(_) => Labels::new(),
    }
}

async fn stored_labels(client: &Client, to: &Target) -> Result<Labels> {
    let mut labels = namespace_labels(to);
    if let Target::Pod { namespace, .. } = to {
        let stored = Api::<Namespace>::all(client.clone()).get_opt(namespace).await;
        let stored = stored.with_context(|| format!("namespace {namespace} cannot be read"))?;
        labels.extend(stored.and_then(|stored| stored.metadata.labels).unwrap_or_default());
    }
    Ok(labels)
}

fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

async fn client(args: &ExplainArgs) -> Result<Client> {
    Ok(Client::try_from(kube_config(args.kubeconfig.as_deref(), args.context.as_deref()).await?)?)
}
