//! The whole NetworkPolicy object: what we put around a spec, and whose a stored object is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{ADOPT_ANNOTATION, BOOK_ANNOTATION, FIELD_MANAGER, GROUP, KIND, MANAGED_BY_LABEL, VERSION};
use crate::book::AddressBook;
use crate::object::{DEFAULT_DENY, EGRESS_PREFIX, PolicyKey};
use crate::policy::ValidatedPolicy;
use crate::render::render_default_deny;
use crate::settings::Adoption;

mod seed;

/// Whose an `egress-{name}` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Ours, and its owner references are right.
    Ours,
    /// Ours, but the owner's uid is an older one (restore, delete and re-create) or a stale reference stands beside.
    OursStaleOwner,
    /// Not ours, but may be taken over.
    Adoptable,
    /// Somebody else's (I6).
    Foreign,
}

/// The object `egress-{name}` as it is written. `uid` is that of the stored object, none for a create.
pub fn owned(
    policy: &ValidatedPolicy,
    spec: NetworkPolicySpec,
    book: &AddressBook,
    uid: Option<&str>,
) -> NetworkPolicy {
    let mut metadata = ObjectMeta {
        name: Some(policy.key.network_policy_name()),
        namespace: Some(policy.key.namespace.to_string()),
        uid: uid.map(str::to_owned),
        labels: Some(managed_by()),
        owner_references: (!policy.uid.is_empty()).then(|| vec![owner_reference(policy)]),
        ..ObjectMeta::default()
    };
    // `render` works on files that have no uid: the book explains a stored object only.
    if !policy.uid.is_empty() {
        metadata.annotations = Some(BTreeMap::from([(BOOK_ANNOTATION.to_owned(), book.to_annotation())]));
    }
    NetworkPolicy { metadata, spec: Some(spec) }
}

/// The object `default-deny-egress` of a namespace.
pub fn default_deny(namespace: &str) -> NetworkPolicy {
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(DEFAULT_DENY.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(managed_by()),
            ..ObjectMeta::default()
        },
        spec: Some(render_default_deny()),
    }
}

fn managed_by() -> BTreeMap<String, String> {
    BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), FIELD_MANAGER.to_owned())])
}

fn owner_reference(policy: &ValidatedPolicy) -> OwnerReference {
    OwnerReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: KIND.to_owned(),
        name: policy.key.name.to_string(),
        uid: policy.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Judges a stored `egress-{name}` against the policy of that name.
pub fn ownership(object: &NetworkPolicy, key: &PolicyKey, uid: &str, adoption: Adoption) -> Ownership {
    let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
    let ours: Vec<&OwnerReference> =
        owners.iter().filter(|owner| is_our_kind(owner) && *owner.name == *key.name).collect();
    if let [only] = ours[..] {
        return if only.uid == uid { Ownership::Ours } else { Ownership::OursStaleOwner };
    }
    if !ours.is_empty() {
        return Ownership::OursStaleOwner;
    }
    let annotations = object.metadata.annotations.as_ref();
    let asked = annotations.and_then(|all| all.get(ADOPT_ANNOTATION)).is_some_and(|value| value == "true");
    if asked || (adoption == Adoption::Seed && seed::is_of_seed(object)) {
        return Ownership::Adoptable;
    }
    Ownership::Foreign
}

/// The EgressPolicy that an object of ours says it belongs to, with the owner's uid.
pub fn owner(object: &NetworkPolicy) -> Option<(PolicyKey, &str)> {
    // A reference to another EgressPolicy may stand before that of the policy that the object is named after.
    let name = object.metadata.name.as_deref()?.strip_prefix(EGRESS_PREFIX)?;
    let owners = object.metadata.owner_references.iter().flatten();
    let owner = owners.filter(|owner| is_our_kind(owner)).find(|owner| owner.name == name)?;
    Some((PolicyKey::new(object.metadata.namespace.clone()?, name), owner.uid.as_str()))
}

fn is_our_kind(owner: &OwnerReference) -> bool {
    owner.kind == KIND && owner.api_version.split('/').next() == Some(GROUP)
}

/// The owner references that `object` should have: its own, less those of our kind and name, plus the present owner.
pub fn repaired_owners(object: &NetworkPolicy, policy: &ValidatedPolicy) -> Vec<OwnerReference> {
    let stays = |owner: &&OwnerReference| !(is_our_kind(owner) && *owner.name == *policy.key.name);
    let others = object.metadata.owner_references.iter().flatten().filter(stays).cloned();
    others.chain([owner_reference(policy)]).collect()
}

/// Whether the object has the label and the owner that we write; without them it has drifted even where its spec is
/// right.
pub fn is_marked(object: &NetworkPolicy, key: &PolicyKey) -> bool {
    let label = object.metadata.labels.as_ref().and_then(|all| all.get(MANAGED_BY_LABEL));
    label.is_some_and(|value| value == FIELD_MANAGER) && owner(object).is_some_and(|(owner, _)| owner == *key)
}

/// The text of the book annotation.
pub fn book_text(object: &NetworkPolicy) -> Option<&str> {
    object.metadata.annotations.as_ref()?.get(BOOK_ANNOTATION).map(String::as_str)
}

/// Field managers of the object beside ours, sorted: who else writes it.
pub fn other_managers(object: &NetworkPolicy) -> Vec<String> {
    let managers = object.metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.clone());
    let others: BTreeSet<String> = managers.filter(|manager| manager != FIELD_MANAGER).collect();
    others.into_iter().collect()
}

/// Blocks of a spec's egress rules: what it allows by address.
pub fn blocks(spec: &NetworkPolicySpec) -> impl Iterator<Item = (IpNet, Vec<IpNet>)> {
    let peers = spec.egress.iter().flatten().flat_map(|rule| rule.to.iter().flatten());
    peers.filter_map(|peer: &NetworkPolicyPeer| {
        let block = peer.ip_block.as_ref()?;
        let except = block.except.iter().flatten().filter_map(|hole| hole.parse().ok()).collect();
        Some((block.cidr.parse().ok()?, except))
    })
}

/// Whether a spec allows every address: by a rule without peers, or because it does not govern egress.
pub fn is_open(spec: &NetworkPolicySpec) -> bool {
    let governs = spec.policy_types.as_ref().is_none_or(|types| types.iter().any(|kind| kind == "Egress"));
    !governs || spec.egress.iter().flatten().any(|rule| rule.to.as_ref().is_none_or(Vec::is_empty))
}

/// Whether a spec allows an address by one of its blocks.
pub fn allows(blocks: &[(IpNet, Vec<IpNet>)], address: IpAddr) -> bool {
    blocks.iter().any(|(net, except)| net.contains(&address) && !except.iter().any(|hole| hole.contains(&address)))
}

#[cfg(test)]
mod tests;
