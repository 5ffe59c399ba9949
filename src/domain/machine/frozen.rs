//! A frozen policy (Enforce that became DryRun): its NetworkPolicy stays as it is, except that the guard rail still
//! takes what it forbids (I5 stands above I2 and I3).

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};

use super::{Effect, Machine, WriteKind};
use crate::book::AddressBook;
use crate::fingerprint::Fingerprint;
use crate::guard::Verdict;
use crate::network_policy;
use crate::policy::Block;
use crate::write::{Lane, WriteRequest};

impl Machine {
    /// The guard rail changed: if it now forbids something that DNS gave, the live object has to be read and trimmed.
    pub(super) fn check_frozen(&mut self, effects: &mut Vec<Effect>) {
        let guard = &self.context.cluster.guard;
        if self.book.iter().any(|(_, address, _)| guard.judge(address) != Verdict::Fine) {
            self.book_loaded = false;
            if let super::Live::Ours(stored) = &mut self.live {
                stored.version = 0;
            }
            self.emit_read(effects);
        }
    }

    /// Removes from a frozen object the blocks that its book explains and the guard rail forbids.
    pub(super) fn unfreeze_guarded(&mut self, object: &NetworkPolicy, book: &AddressBook, effects: &mut Vec<Effect>) {
        let guard = &self.context.cluster.guard;
        let is_forbidden = |block: &Block| {
            let address = block.net.addr();
            block.net == address.into()
                && guard.judge(address) != Verdict::Fine
                && book.iter().any(|(_, known, _)| known == address)
                && !self.policy.blocks.iter().any(|(_, explicit)| explicit == block)
        };
        let Some(spec) = &object.spec else { return };
        let trimmed = without(spec, is_forbidden);
        if Fingerprint::of(&trimmed) == Fingerprint::of(spec) {
            return;
        }
        let mut kept = book.clone();
        kept.retain(|_, address| guard.judge(address) == Verdict::Fine);
        let fingerprint = Some(Fingerprint::of(&trimmed));
        let object = network_policy::owned(&self.policy, trimmed, &kept, object.metadata.uid.as_deref());
        self.emit_write(WriteKind::Trim, Lane::Spec, fingerprint, WriteRequest::Apply(Box::new(object)), effects);
    }
}

/// The spec without some blocks; a rule that loses its last peer goes with it (I1).
fn without(spec: &NetworkPolicySpec, is_forbidden: impl Fn(&Block) -> bool) -> NetworkPolicySpec {
    let mut spec = spec.clone();
    let rules = spec.egress.take().unwrap_or_default().into_iter().filter_map(|mut rule| {
        let had_peers = rule.to.as_ref().is_some_and(|to| !to.is_empty());
        if let Some(to) = &mut rule.to {
            to.retain(|peer| {
                let block = peer.ip_block.as_ref().and_then(|block| block.cidr.parse().ok());
                !block.is_some_and(|net| is_forbidden(&Block { net, except: Vec::new() }))
            });
        }
        (!had_peers || rule.to.as_ref().is_some_and(|to| !to.is_empty())).then_some(rule)
    });
    let rules: Vec<_> = rules.collect();
    spec.egress = (!rules.is_empty()).then_some(rules);
    spec
}
