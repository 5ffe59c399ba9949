//! Names of Kubernetes objects, as keys.

use std::fmt;
use std::sync::Arc;

/// Prefix of the NetworkPolicy that belongs to an EgressPolicy.
pub const EGRESS_PREFIX: &str = "egress-";
/// Name of the NetworkPolicy that denies all egress of a namespace.
pub const DEFAULT_DENY: &str = "default-deny-egress";

/// Namespace and name of an EgressPolicy. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    /// Namespace of the policy.
    pub namespace: Arc<str>,
    /// Name of the policy, without any prefix.
    pub name: Arc<str>,
}

impl PolicyKey {
    /// A key from its two parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Name of the NetworkPolicy that this policy owns.
    pub fn network_policy_name(&self) -> String {
        format!("{EGRESS_PREFIX}{}", self.name)
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a write goes to. One write per object is in flight at a time, and the latest pending one wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// `egress-{name}`, the NetworkPolicy of a policy.
    NetworkPolicy(PolicyKey),
    /// `default-deny-egress` of a namespace.
    DefaultDeny(Arc<str>),
    /// The status of a policy.
    Status(PolicyKey),
    /// Finalizers and annotations of a policy (taking over from the seed).
    Metadata(PolicyKey),
    /// An Event about a policy; the number makes each its own.
    Event(PolicyKey, u64),
}

impl ObjectKey {
    /// The namespace the object is in.
    pub fn namespace(&self) -> &Arc<str> {
        match self {
            Self::NetworkPolicy(key) | Self::Status(key) | Self::Metadata(key) | Self::Event(key, _) => &key.namespace,
            Self::DefaultDeny(namespace) => namespace,
        }
    }
}
