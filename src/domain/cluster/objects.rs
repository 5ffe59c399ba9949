//! Facts from API objects: each takes the few fields that count, so that a watch keeps nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::dns_egress::DNS_PORT;
use super::facts::{DnsService, DnsSlice, Fact, KUBE_SYSTEM, NodeFacts, OPENSHIFT_DNS, ReadyEndpoint, SlicePort};

/// Label that every DNS Service of kube-system carries, CoreDNS included.
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
/// Names of DNS Services of kube-system without that label.
const DNS_NAMES: [&str; 2] = ["kube-dns", "coredns"];
/// The DNS Service of OpenShift.
const OPENSHIFT_SERVICE: &str = "dns-default";
/// Label of an EndpointSlice that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Blocks of a ServiceCIDR, as long as it exists: addresses of a deleted one may be in use until it is gone.
pub fn service_cidr(object: &ServiceCIDR) -> Option<Fact> {
    let cidrs = object.spec.as_ref()?.cidrs.iter().flatten();
    Some(Fact::ServiceCidr(cidrs.filter_map(|cidr| cidr.parse().ok()).collect()))
}

/// Pod blocks and addresses of a Node.
pub fn node(object: &Node) -> Option<Fact> {
    let mut facts = NodeFacts::default();
    if let Some(spec) = &object.spec {
        let cidrs = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
        facts.pod_cidrs = cidrs.filter_map(|cidr| cidr.parse::<IpNet>().ok()).collect();
    }
    for address in object.status.iter().flat_map(|status| status.addresses.iter().flatten()) {
        let Ok(ip) = address.address.parse::<IpAddr>() else { continue };
        match address.type_.as_str() {
            "InternalIP" => facts.internal.push(ip),
            "ExternalIP" => facts.external.push(ip),
            _ => {}
        }
    }
    Some(Fact::Node(facts))
}

/// A Service, if it answers the cluster's DNS queries on port 53.
pub fn dns_service(object: &Service) -> Option<Fact> {
    let (namespace, name) = (object.metadata.namespace.as_deref()?, object.metadata.name.as_deref()?);
    let is_labelled = || {
        let labels = object.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(DNS_LABEL.0)).is_some_and(|value| value == DNS_LABEL.1)
    };
    let is_dns = match namespace {
        KUBE_SYSTEM => DNS_NAMES.contains(&name) || is_labelled(),
        OPENSHIFT_DNS => name == OPENSHIFT_SERVICE,
        _ => false,
    };
    let spec = object.spec.as_ref().filter(|_| is_dns)?;
    // Distributions name these ports differently (dns, dns-tcp; udp-53, tcp-53), but the number is what pods ask.
    let ports: Vec<_> = spec.ports.iter().flatten().filter(|port| port.port == i32::from(DNS_PORT)).collect();
    let target_ports = ports.iter().filter_map(|port| match &port.target_port {
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok().filter(|port| *port != 0),
        Some(IntOrString::String(_)) | None => None,
    });
    let target_ports = target_ports.collect();
    let port_names: BTreeSet<String> = ports.iter().map(|port| port.name.clone().unwrap_or_default()).collect();
    let single = spec.cluster_ips.is_none().then_some(&spec.cluster_ip).into_iter().flatten();
    let cluster_ips = spec.cluster_ips.iter().flatten().chain(single);
    (!port_names.is_empty()).then(|| {
        Fact::DnsService(DnsService {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            // "None" of a headless Service is no address.
            cluster_ips: cluster_ips.filter_map(|ip| ip.parse().ok()).collect(),
            port_names,
            target_ports,
        })
    })
}

/// An EndpointSlice that belongs to a Service; its Service may not have been seen yet, so every one counts.
pub fn slice(object: &EndpointSlice) -> Option<Fact> {
    let service = object.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    let ports = object.ports.iter().flatten().filter_map(|port| {
        Some(SlicePort {
            name: port.name.clone().unwrap_or_default(),
            // Absent means TCP.
            udp: port.protocol.as_deref() == Some("UDP"),
            port: u16::try_from(port.port?).ok().filter(|port| *port != 0)?,
        })
    });
    // Absent means ready.
    let is_ready = |conditions: Option<bool>| conditions.unwrap_or(true);
    let ready = object.endpoints.iter().filter(|e| is_ready(e.conditions.as_ref().and_then(|all| all.ready)));
    let ready = ready.filter_map(|endpoint| {
        let pod = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
        Some(ReadyEndpoint { address: endpoint.addresses.first()?.parse().ok()?, pod })
    });
    Some(Fact::Slice(DnsSlice {
        namespace: object.metadata.namespace.clone()?,
        service: service.clone(),
        ports: ports.collect(),
        ready: ready.collect(),
    }))
}
