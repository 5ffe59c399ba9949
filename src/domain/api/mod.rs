//! The `EgressPolicy` resource: the types that users write and read. Their field docs are the user manual.

mod condition;
mod crd;
mod egress_policy;
mod fence;
mod shard_table;

pub use condition::{AcceptedReason, AppliedReason, ConditionType, DroppedReason, ResolvedReason};
pub use crd::{custom_resource_definition, shard_table_definition};
pub use egress_policy::{
    Destination, DestinationNamespace, DestinationPort, EgressPolicy, EgressPolicySpec, EgressPolicyStatus, HostStatus,
    Mode, TransportProtocol,
};
pub use fence::{
    FENCE_DELETE_BINDING, FENCE_POLICY, FENCE_STATUS_POLICY, FenceRefusal, LEASES_FLOW_SCHEMA, ServiceAccountRef,
    fence_bindings, fence_policy, fence_status_policy, is_fence_refusal, leases_flow_schema,
};
pub use shard_table::{EgressShardTable, EgressShardTableSpec, ShardTableEntry, ShardTableMember};

/// API group of the resource, and prefix of our annotations.
pub const GROUP: &str = "platform.example.com";
/// Version of the resource.
pub const VERSION: &str = "v1alpha1";
/// Kind of the resource.
pub const KIND: &str = "EgressPolicy";
/// Name of the one EgressShardTable.
pub const SHARD_TABLE: &str = "egress-controller";
/// Field manager of every write, create and apply alike.
pub const FIELD_MANAGER: &str = "egress-controller";
/// Label of every NetworkPolicy of ours; the drift watch selects it.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Annotation with the address book.
pub const BOOK_ANNOTATION: &str = "platform.example.com/book";
/// Annotation with the write fence's stamp, `shard/epoch`.
pub const FENCE_ANNOTATION: &str = "platform.example.com/fence";
/// Annotation that allows the adoption of a foreign `egress-{name}` when it is `"true"`.
pub const ADOPT_ANNOTATION: &str = "platform.example.com/adopt";
