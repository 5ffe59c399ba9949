//! The reasons: which NetworkPolicy and rule, and which destination of which EgressPolicy stands behind it.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::Result;
use egress_domain::api::{EgressPolicy, Mode};
use egress_domain::evaluate::{Destination, DestinationPod, Source, Verdict, evaluate};
use egress_domain::fqdn::Fqdn;
use egress_domain::network_policy;
use egress_domain::policy::ValidatedPolicy;
use egress_domain::ports::{PortRange, PortSet, Protocol};
use egress_domain::render::render;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::scene::{Known, Scene};
use super::target::{Shown, Target};

/// What is asked.
pub struct Question<'a> {
    /// The pod that connects.
    pub source: Source<'a>,
    /// Where to.
    pub to: &'a Target,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
}

/// What is answered.
pub struct Explanation {
    /// For a person.
    pub text: String,
    /// Whether the connection is allowed; to a host, whether it is to every address.
    pub allowed: bool,
}

/// Answers the question.
///
/// # Errors
/// When the text cannot be written, which is a defect.
pub fn explain(scene: &Scene, question: &Question<'_>) -> Result<Explanation> {
    let Question { source, to, protocol, port } = question;
    let mut text = format!("pods of {} {} to {to}, {protocol} {port}\n", source.namespace, Shown(source.labels));
    let addresses = scene.addresses_of(to);
    let mut allowed = !addresses.is_empty();
    for address in &addresses {
        let known_now = scene.seen_from_here.is_empty() || scene.seen_from_here.contains(address);
        let old = if matches!(to, Target::Host(_)) && !known_now { " (not in the answer seen from here)" } else { "" };
        allowed &= judge(scene, question, &Destination::outside(*address), &format!("{address}{old}"), &mut text)?;
    }
    if let Target::Pod { namespace, labels } = to {
        let named_ports = Default::default();
        let pod =
            DestinationPod { namespace, namespace_labels: &scene.namespace_labels, labels, named_ports: &named_ports };
        allowed = judge(scene, question, &Destination { ip: None, pod: Some(pod) }, &to.to_string(), &mut text)?;
    } else if addresses.is_empty() {
        writeln!(text, "{to}: no address is known, so none is allowed")?;
        hints(scene, question, &Destination { ip: None, pod: None }, &mut text)?;
    }
    Ok(Explanation { text, allowed })
}

/// Judges one destination; says whether it is allowed.
fn judge(scene: &Scene, question: &Question<'_>, to: &Destination<'_>, name: &str, text: &mut String) -> Result<bool> {
    let Question { source, protocol, port, .. } = question;
    let verdict = evaluate(&scene.network_policies, source, to, *protocol, *port);
    match &verdict {
        Verdict::Unrestricted => {
            writeln!(text, "{name}: allowed\n  no NetworkPolicy restricts the egress of these pods")?;
        }
        Verdict::Denied { selected_by } => {
            writeln!(text, "{name}: denied\n  restricted by {}; no rule allows it", selected_by.join(", "))?;
            hints(scene, question, to, text)?;
        }
        Verdict::Allowed { .. } => {
            writeln!(text, "{name}: allowed")?;
            // Each policy on its own: two may allow the same.
            for object in &scene.network_policies {
                if let Verdict::Allowed { policy, rule } = evaluate([object], source, to, *protocol, *port) {
                    writeln!(text, "  NetworkPolicy {policy}, egress rule {}", rule + 1)?;
                    causes(scene, question, object, to, text)?;
                }
            }
        }
    }
    Ok(verdict.is_allowed())
}

/// The destinations that a NetworkPolicy allows this connection for.
fn causes(
    scene: &Scene,
    question: &Question<'_>,
    object: &NetworkPolicy,
    to: &Destination<'_>,
    text: &mut String,
) -> Result<()> {
    let owner = scene.policies.iter().find(|known| {
        known.object.namespace() == object.namespace()
            && format!("egress-{}", known.object.name_any()) == object.name_any()
    });
    let Some(known) = owner else { return Ok(()) };
    let mut explained = false;
    for part in parts(scene, known) {
        if part.allows(&question.source, to, question.protocol, question.port) {
            explained = true;
            writeln!(text, "    {}", part.describe(known, to.ip))?;
        }
    }
    if !explained {
        writeln!(text, "    no destination of {}: the DNS rule, or an older spec", title(known))?;
    }
    Ok(())
}

/// What comes near to allowing a connection that is denied.
fn hints(scene: &Scene, question: &Question<'_>, to: &Destination<'_>, text: &mut String) -> Result<()> {
    let Question { source, protocol, port, .. } = question;
    let here = |known: &&Known| known.object.namespace().as_deref() == Some(source.namespace);
    for known in scene.policies.iter().filter(here) {
        for mut part in parts(scene, known) {
            let described = part.describe(known, to.ip);
            if part.allows(source, to, *protocol, *port) {
                let dry = part.policy.mode == Mode::DryRun;
                let why = if dry { "would allow it, but is a DryRun" } else { "allows it, but is not applied yet" };
                writeln!(text, "  {described}: {why}")?;
                continue;
            }
            let names_host =
                matches!(question.to, Target::Host(host) if part.policy.hosts.iter().any(|(h, _)| h == host));
            if names_host && !part.has_answer(known, to.ip) {
                writeln!(text, "  {described}: names the host, but no answer held this address")?;
                continue;
            }
            if part.excepts(to.ip) {
                writeln!(text, "  {described}: an except leaves this address out")?;
                continue;
            }
            let ports = part.ports();
            let other_port = ports.as_ref().and_then(|ports| ports.ranges().first().copied());
            if let (Some(ports), Some(range)) = (&ports, other_port)
                && part.allows(source, to, range.protocol, range.port)
            {
                writeln!(text, "  {described}: opens {} only", shown(ports))?;
                continue;
            }
            part.select_all();
            if part.allows(source, to, *protocol, *port) {
                writeln!(text, "  {described}: does not select these pods")?;
            }
        }
    }
    Ok(())
}

/// One entry of a spec, rendered alone.
struct Part {
    field: String,
    policy: ValidatedPolicy,
    object: NetworkPolicy,
}

/// Every entry of a spec on its own, so that each can be judged by the same evaluation as the whole.
fn parts(scene: &Scene, known: &Known) -> Vec<Part> {
    let spec = &known.object.spec;
    let destinations = spec.destinations.iter().enumerate().map(|(index, destination)| {
        let mut object = bare(&known.object);
        object.spec.destinations.push(destination.clone());
        (format!("spec.destinations[{index}]"), object)
    });
    let namespaces = spec.namespaces.iter().enumerate().map(|(index, name)| {
        let mut object = bare(&known.object);
        object.spec.namespaces.push(name.clone());
        (format!("spec.namespaces[{index}]"), object)
    });
    let mut cluster = (*scene.context.cluster).clone();
    cluster.dns.clear();
    let parts = destinations.chain(namespaces).map(|(field, object)| {
        let policy = ValidatedPolicy::parse(&object, &scene.context.settings);
        let spec = render(&policy, &known.book, &cluster);
        let object = network_policy::owned(&policy, spec, &known.book, None);
        Part { field, policy, object }
    });
    parts.collect()
}

fn bare(object: &EgressPolicy) -> EgressPolicy {
    let mut bare = object.clone();
    bare.spec.destinations.clear();
    bare.spec.namespaces.clear();
    bare
}

impl Part {
    fn allows(&self, source: &Source<'_>, to: &Destination<'_>, protocol: Protocol, port: u16) -> bool {
        matches!(evaluate([&self.object], source, to, protocol, port), Verdict::Allowed { .. })
    }

    fn select_all(&mut self) {
        if let Some(spec) = &mut self.object.spec {
            spec.pod_selector = None;
        }
    }

    fn ports(&self) -> Option<PortSet> {
        let host = self.policy.hosts.first().map(|(_, ports)| ports.clone());
        let block = self.policy.blocks.first().map(|(ports, _)| ports.clone());
        host.or(block).or_else(|| self.policy.namespaces.first()?.ports.clone())
    }

    fn excepts(&self, address: Option<IpAddr>) -> bool {
        let holes = self.policy.blocks.iter().flat_map(|(_, block)| &block.except);
        address.is_some_and(|address| holes.into_iter().any(|hole| hole.contains(&address)))
    }

    fn host(&self) -> Option<&Fqdn> {
        self.policy.hosts.first().map(|(host, _)| host)
    }

    fn has_answer(&self, known: &Known, address: Option<IpAddr>) -> bool {
        match (self.host(), address) {
            (Some(host), Some(address)) => known.book.last_seen(host, &address).is_some(),
            (Some(_) | None, _) => false,
        }
    }

    /// The entry, and for a host when an answer last held the address.
    fn describe(&self, known: &Known, address: Option<IpAddr>) -> String {
        let what = if let Some(host) = self.host() {
            let seen = address.and_then(|address| known.book.last_seen(host, &address));
            let seen = seen.and_then(|seen| Timestamp::from_second(i64::try_from(seen.0).ok()?).ok());
            format!(".hostname: {host}{}", seen.map(|seen| format!(", last answered {seen}")).unwrap_or_default())
        } else if let Some((_, block)) = self.policy.blocks.first() {
            format!(": {}", block.net)
        } else if let Some(peer) = self.policy.namespaces.first() {
            format!(": namespace {}", peer.name)
        } else {
            ": skipped, it is not understood".to_owned()
        };
        format!("{}: {}{what}", title(known), self.field)
    }
}

fn title(known: &Known) -> String {
    let place = known.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
    format!("EgressPolicy {}{place}", known.object.name_any())
}

fn shown(ports: &PortSet) -> String {
    let range = |r: &PortRange| match r.end == r.port {
        true => format!("{} {}", r.protocol, r.port),
        false => format!("{} {}-{}", r.protocol, r.port, r.end),
    };
    ports.ranges().iter().map(range).collect::<Vec<_>>().join(", ")
}
