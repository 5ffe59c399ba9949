//! The live object: what the watch, a read or a write's answer shows of `egress-{name}`.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::{Adopting, Effect, Machine, Standing, Trouble, WriteKind};
use crate::api::{AppliedReason, Mode};
use crate::book::AddressBook;
use crate::fingerprint::Fingerprint;
use crate::guard::Verdict;
use crate::network_policy::{self, Ownership};
use crate::object::PolicyKey;
use crate::settings::Settings;
use crate::time::{Instant, Now};
use crate::write::{Lane, WriteRequest};

/// What is known of `egress-{name}` in the cluster.
#[derive(Clone, Debug, Default)]
pub(super) enum Live {
    /// It does not exist, as far as is known.
    #[default]
    Absent,
    /// It is ours, or may be.
    Ours(Stored),
    /// It is somebody else's; asked again at this time.
    Foreign { retry_at: Instant },
}

/// An object of ours.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) uid: String,
    /// resourceVersions of one resource are comparable as numbers (KEP-5504); 0 where one is not a number.
    pub(super) version: u64,
    pub(super) fingerprint: Fingerprint,
    /// Our label and an owner reference of ours are in place.
    pub(super) is_marked: bool,
    /// It differs from what we wrote last: the next write is a repair.
    pub(super) drifted: bool,
}

impl Stored {
    pub(super) fn of(object: &NetworkPolicy, key: &PolicyKey) -> Self {
        let spec = object.spec.as_ref();
        Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            version: version(object),
            fingerprint: spec.map_or_else(|| Fingerprint::of(&Default::default()), Fingerprint::of),
            is_marked: network_policy::is_marked(object, key),
            drifted: false,
        }
    }
}

fn version(object: &NetworkPolicy) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

impl Machine {
    /// Takes in what the cluster holds now under the policy's name.
    pub(super) fn observe(&mut self, object: Option<&NetworkPolicy>, now: Now, effects: &mut Vec<Effect>) {
        let Some(object) = object else { return self.observe_absence() };
        if let Live::Ours(stored) = &self.live
            && object.metadata.uid.as_deref() == Some(&stored.uid)
            && version(object) <= stored.version
        {
            return;
        }
        if !matches!(self.live, Live::Ours(_)) {
            // It is there (again): what the status says of it may be its absence.
            self.status.touch();
        }
        let adoption = self.context.settings.adoption;
        match network_policy::ownership(object, &self.policy.key, &self.policy.uid, adoption) {
            // Known as ours by its uid: whoever took the owner reference away has drifted it.
            Ownership::Foreign | Ownership::Adoptable if self.knows(object) => self.observe_ours(object, now, effects),
            Ownership::Foreign => self.observe_foreign(object, now, effects),
            Ownership::Adoptable => {
                self.adopting = Some(Adopting::Foreign(
                    object.spec.iter().flat_map(network_policy::blocks).map(|(net, _)| net).collect(),
                ));
                self.load_book(object, now, effects);
                self.live = Live::Ours(Stored::of(object, &self.policy.key));
            }
            Ownership::Ours => self.observe_ours(object, now, effects),
            Ownership::OursStaleOwner => {
                self.observe_ours(object, now, effects);
                self.repair_owners(object, now, effects);
            }
        }
        self.touch(Lane::Spec);
    }

    fn knows(&self, object: &NetworkPolicy) -> bool {
        matches!(&self.live, Live::Ours(stored) if object.metadata.uid.as_deref() == Some(&stored.uid))
    }

    fn observe_absence(&mut self) {
        for write in &mut self.outstanding {
            write.gone_meanwhile = true;
        }
        if !matches!(self.live, Live::Absent) {
            // What was allowed is in memory; the object is made anew from it, with back-off like every repair.
            self.live = Live::Absent;
            self.adopting = None;
            self.trouble = None;
            self.status.touch();
            self.touch(Lane::Spec);
        }
    }

    fn observe_foreign(&mut self, object: &NetworkPolicy, now: Now, effects: &mut Vec<Effect>) {
        let retry_at = now.instant + self.context.settings.retry_interval;
        self.live = Live::Foreign { retry_at };
        self.adopting = None;
        self.status.touch();
        let managers = network_policy::other_managers(object).join(", ");
        let name = self.policy.key.network_policy_name();
        let note = format!("NetworkPolicy {name} is not ours (field managers: {managers}): it is left alone");
        self.event(AppliedReason::NameConflict.as_str(), true, note, now.instant, effects);
    }

    fn observe_ours(&mut self, object: &NetworkPolicy, now: Now, effects: &mut Vec<Effect>) {
        let mut stored = Stored::of(object, &self.policy.key);
        if self.book_loaded {
            let own = self.outstanding.iter().any(|write| write.fingerprint == Some(stored.fingerprint));
            let same =
                matches!(&self.live, Live::Ours(known) if known.fingerprint == stored.fingerprint && !known.drifted);
            stored.drifted = !(own || same && stored.is_marked);
            if stored.drifted {
                self.contenders = network_policy::other_managers(object);
            }
        } else {
            self.load_book(object, now, effects);
        }
        self.live = Live::Ours(stored);
    }

    /// Start, handover, or a first look at an object that the watch did not show: the book is with the object.
    fn load_book(&mut self, object: &NetworkPolicy, now: Now, effects: &mut Vec<Effect>) {
        if self.book_loaded {
            return;
        }
        self.book_loaded = true;
        let checkpoint = Settings::checkpoint_interval(self.policy.retention);
        let text = network_policy::book_text(object);
        let parsed = text.map(|text| AddressBook::from_annotation_with_age(text, now.unix, checkpoint));
        let (stored, stored_at) = match parsed {
            Some(Ok(stored)) => stored,
            Some(Err(_)) | None if self.adopting.is_some() => Default::default(),
            Some(Err(_)) | None => {
                self.adopting = Some(Adopting::BookLost);
                Default::default()
            }
        };
        if self.policy.mode == Mode::DryRun {
            self.unfreeze_guarded(object, &stored, effects);
        }
        self.merge_book(stored, object);
        self.schedule_first_checkpoint(stored_at, now);
    }

    /// Takes over of a stored book what the present spec names, the live spec allows and the guard rail permits.
    fn merge_book(&mut self, mut stored: AddressBook, object: &NetworkPolicy) {
        let blocks: Vec<_> = object.spec.iter().flat_map(network_policy::blocks).collect();
        // Opened for everybody while nobody looked: it allows what the book names too, and is closed to that.
        let open = object.spec.as_ref().is_some_and(network_policy::is_open);
        let hosts = self.policy.host_names();
        let guard = &self.context.cluster.guard;
        stored.retain(|host, address| {
            hosts.binary_search(host).is_ok()
                && (open || network_policy::allows(&blocks, address))
                && guard.judge(address) == Verdict::Fine
        });
        // Answers that came before the object was read stand beside it.
        self.book.merge(stored);
        let caps = self.caps();
        for host in &hosts {
            self.book.shrink_host_to(host, caps.per_host);
        }
        self.book.shrink_to(caps.per_policy);
    }

    fn repair_owners(&mut self, object: &NetworkPolicy, now: Now, effects: &mut Vec<Effect>) {
        let blocked = self.standing != Standing::Normal || self.policy.mode == Mode::DryRun;
        if blocked || self.is_outstanding(WriteKind::RepairOwners) {
            return;
        }
        if !self.drift.allows(now.instant) {
            // Read again when the back-off is over: the patch needs the object as it is then.
            let retry_at = self.drift.next_allowed();
            let message = "waiting to repair the owner reference".to_owned();
            self.trouble = Some(Trouble { reason: AppliedReason::Contested, message, fingerprint: None, retry_at });
            return;
        }
        self.drift.record(now.instant);
        let mut patch = NetworkPolicy::default();
        patch.metadata.name.clone_from(&object.metadata.name);
        patch.metadata.namespace.clone_from(&object.metadata.namespace);
        patch.metadata.uid.clone_from(&object.metadata.uid);
        patch.metadata.resource_version.clone_from(&object.metadata.resource_version);
        patch.metadata.owner_references = Some(network_policy::repaired_owners(object, &self.policy));
        self.emit_write(
            WriteKind::RepairOwners,
            Lane::Spec,
            None,
            WriteRequest::RepairOwners(Box::new(patch)),
            effects,
        );
    }
}
