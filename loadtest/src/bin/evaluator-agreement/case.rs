//! A case: policies, and connections out of a pod.

use std::fmt;
use std::net::IpAddr;

use egress_domain::evaluate::{Destination, DestinationPod, Labels, NamedPorts, Source, Verdict, evaluate};
use egress_domain::ports::Protocol;
use k8s_openapi::api::networking::v1::NetworkPolicy;

/// What both evaluators are asked to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No policy restricts the egress of the source.
    Unrestricted,
    /// Policies do, and none allows the connection.
    Denied,
    /// Policies do, and one allows the connection.
    Allowed,
}

/// Policies, and connections to judge by them.
pub struct PolicySet {
    pub policies: Vec<NetworkPolicy>,
    pub cases: Vec<Case>,
}

impl PolicySet {
    pub fn policies_as_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&self.policies)
    }
}

/// A pod and what is known of it.
#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: &'static str,
    pub namespace_labels: Labels,
    pub labels: Labels,
    pub ip: IpAddr,
    pub named_ports: NamedPorts,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Case {
    pub source: Pod,
    pub ip: IpAddr,
    /// The pod that has this address, if one has.
    pub pod: Option<Pod>,
    pub protocol: Protocol,
    pub port: u16,
}

impl Case {
    /// What the evaluator of this repository says.
    pub fn outcome(&self, policies: &[NetworkPolicy]) -> Outcome {
        let pod = self.pod.as_ref().map(|pod| DestinationPod {
            namespace: pod.namespace,
            namespace_labels: &pod.namespace_labels,
            labels: &pod.labels,
            named_ports: &pod.named_ports,
        });
        let source = Source { namespace: self.source.namespace, labels: &self.source.labels };
        let destination = Destination { ip: Some(self.ip), pod };
        match evaluate(policies, &source, &destination, self.protocol, self.port) {
            Verdict::Unrestricted => Outcome::Unrestricted,
            Verdict::Denied { .. } => Outcome::Denied,
            Verdict::Allowed { .. } => Outcome::Allowed,
        }
    }

    /// The name that the destination pod gives to the port of this connection.
    pub fn port_name(&self) -> Option<&str> {
        let named = self.pod.iter().flat_map(|pod| &pod.named_ports);
        named
            .filter(|((_, protocol), number)| (*protocol, **number) == (self.protocol, self.port))
            .map(|((name, _), _)| name.as_str())
            .next()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?} to {} {} {}", self.source.namespace, self.source.labels, self.protocol, self.ip, self.port)?;
        match &self.pod {
            Some(pod) => write!(
                f,
                " = {}/{:?} (namespace {:?}, ports {:?})",
                pod.namespace, pod.labels, pod.namespace_labels, pod.named_ports
            ),
            None => Ok(()),
        }
    }
}
