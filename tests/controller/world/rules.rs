//! The rules that hold at every stored revision, whatever fails.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::allowed;
use super::revisions::assert_shape;

/// What the revisions of one NetworkPolicy are held against, by address.
pub struct Rules<'a> {
    /// Allowed before the first of the revisions.
    pub held: &'a [&'a str],
    /// What the present spec and the answers to its hosts justify; of it, nothing ever goes.
    pub justified: &'a [&'a str],
}

impl Rules<'_> {
    /// At each of these revisions of the controller's own, oldest first: legal (I1), not wider than justified (I2), never
    /// narrower by failure (I3), no two the same (I4).
    #[track_caller]
    pub fn hold_at(&self, revisions: &[NetworkPolicy]) {
        let justified = |address: &&String| self.justified.contains(&address.as_str());
        let mut before: BTreeSet<String> = self.held.iter().map(|address| (*address).to_owned()).collect();
        let known = before.clone();
        for revision in revisions {
            assert_shape(revision);
            let found = allowed(revision);
            let wide = found.iter().find(|address| !justified(address) && !known.contains(*address));
            assert_eq!(wide, None, "wider than justified: {before:?}, then {found:?} in {revision:?}");
            let lost = before.iter().filter(justified).find(|address| !found.contains(*address));
            assert_eq!(lost, None, "narrower by failure: {before:?}, then {found:?} in {revision:?}");
            before = found;
        }
        for pair in revisions.windows(2) {
            assert_ne!(pair[0].spec, pair[1].spec, "written though nothing changed: {pair:?}");
        }
    }
}
