//! What is asked of the API server, and what it said.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::EgressPolicyStatus;

/// Importance of a write; the first is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A new or changed spec, drift, a default deny: what a person waits for.
    Spec,
    /// Added addresses: a pod needs them now.
    Added,
    /// Expired addresses.
    Expired,
    /// Last-seen times only.
    Checkpoint,
    /// Status and Events: derived, and never worth a delay of the above.
    Status,
}

impl Lane {
    /// All lanes, the most important first.
    pub const ALL: [Self; 5] = [Self::Spec, Self::Added, Self::Expired, Self::Checkpoint, Self::Status];
}

/// One request to the API server. The object's name is in its `ObjectKey`.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteRequest {
    /// POST of a NetworkPolicy that should not exist yet. 409 is [`WriteOutcome::AlreadyExists`].
    Create(Box<NetworkPolicy>),
    /// Forced server-side apply of the whole object, which carries `metadata.uid`.
    Apply(Box<NetworkPolicy>),
    /// Merge patch that replaces ownerReferences (they merge by uid, so an apply cannot remove a stale one). The object
    /// carries the ownerReferences wanted, and uid and resourceVersion, which must be those of the stored one.
    RepairOwners(Box<NetworkPolicy>),
    /// Read the object as it is: the answer is [`WriteOutcome::Read`]. In the same queue, so that reads obey its limits.
    Read,
    /// DELETE with preconditions on both.
    Delete {
        /// Uid of the object meant.
        uid: String,
        /// Its resourceVersion.
        resource_version: String,
    },
    /// JSON patch that replaces the status, with `test` on the uid of the EgressPolicy: an apply of a status is no guard,
    /// the server ignores the uid in it (tried).
    Status {
        /// Uid of the EgressPolicy.
        uid: String,
        /// The whole status.
        status: Box<EgressPolicyStatus>,
    },
    /// Remove exactly the kopf finalizer and the kopf annotations from the EgressPolicy (idempotent).
    RemoveKopf,
    /// Publish an Event about the EgressPolicy.
    Event(Box<PolicyEvent>),
}

/// An Event about an EgressPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEvent {
    /// Uid of the EgressPolicy.
    pub uid: String,
    /// Machine-readable reason, CamelCase.
    pub reason: &'static str,
    /// What happened, for a person; at most 1,024 bytes by the API.
    pub note: String,
    /// Warning, or Normal.
    pub warning: bool,
}

/// What became of a [`WriteRequest`]. Transient failures (429, 5xx, timeouts, refused connections) are retried by the
/// writer and never seen here.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteOutcome {
    /// Created, applied or patched; the object as the server returned it (none for status, Events, deletes).
    Written(Option<Box<NetworkPolicy>>),
    /// The object as it is, or none where it is absent.
    Read(Option<Box<NetworkPolicy>>),
    /// Create: the object exists (409). Reread and classify.
    AlreadyExists,
    /// The object is gone, or has another uid or resourceVersion than expected (404, 409, 422 on uid): reread.
    Stale,
    /// The namespace is terminating, or gone.
    NamespaceGone,
    /// The server refuses this object as invalid or forbids it (400, 403, 422). Trying the same again is pointless.
    Rejected(String),
    /// The object is larger than the server takes (413, or etcd's request limit).
    TooLarge(String),
    /// The write gate said no: not ours to write (any more).
    Fenced,
}
