//! Condition types and their reasons: one enum each, so that no other string can appear.

/// Types of conditions in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec is understood.
    Accepted,
    /// The hosts have addresses.
    Resolved,
    /// The NetworkPolicy in the cluster is the one wanted.
    Applied,
    /// All of the above.
    Ready,
    /// DNS gave addresses that are not allowed (true is bad).
    AddressesDropped,
}

impl ConditionType {
    /// The spelling in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Resolved => "Resolved",
            Self::Applied => "Applied",
            Self::Ready => "Ready",
            Self::AddressesDropped => "AddressesDropped",
        }
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $text:literal])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $text])* $variant),+ }

        impl $name {
            /// All reasons with their meaning, in the order of the documentation.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, concat!($($text),*))),+];

            /// The spelling in the API.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }
    };
}

reasons! {
    /// Reasons of the condition Accepted.
    AcceptedReason {
        /// Every entry of the spec is understood.
        Valid,
        /// Some entries are skipped; the message names them. The rest is served.
        PartlyInvalid,
    }
}

reasons! {
    /// Reasons of the condition Resolved.
    ResolvedReason {
        /// Every host has an answer.
        AllResolved,
        /// Some hosts fail; what was allowed for them stays.
        SomeFailing,
        /// No host has an answer.
        NoneResolved,
        /// A host has had no successful answer for longer than `--max-stale-seconds`.
        Stale,
        /// A host is inside the cluster: use a namespace destination.
        ClusterLocalName,
        /// First lookups are under way.
        Pending,
    }
}

reasons! {
    /// Reasons of the condition Applied.
    AppliedReason {
        /// The NetworkPolicy in the cluster is the one wanted.
        Applied,
        /// The first write has not been answered yet.
        Pending,
        /// The policy is a dry run: nothing is written.
        DryRun,
        /// The policy became a dry run: its last NetworkPolicy stays as it is.
        DryRunFrozen,
        /// A NetworkPolicy of this name belongs to somebody else; it is left alone and tried again every 5 minutes.
        NameConflict,
        /// The namespace is protected: nothing is written.
        ProtectedNamespace,
        /// Something changes what we write while it is written (a mutating admission policy or webhook).
        Mutated,
        /// Another client keeps rewriting the NetworkPolicy; the message names its field managers.
        Contested,
        /// The API server refuses the NetworkPolicy; the last good one stays.
        Rejected,
        /// The NetworkPolicy is too large for the API server; the last good one stays.
        TooLarge,
        /// Another replica holds this namespace.
        Fenced,
    }
}

reasons! {
    /// Reasons of the condition AddressesDropped.
    DroppedReason {
        /// DNS gave addresses of the cluster, the node or the cloud platform, which no host may stand for.
        GuardRail,
        /// A host has more addresses than `--max-addresses-per-host`; the longest unseen went.
        HostCap,
        /// The policy has more addresses than `--max-addresses-per-policy`; the longest unseen went.
        PolicyCap,
    }
}
