//! What this replica may write at the moment: set by the shards actor, read before every request.

use std::sync::{Arc, PoisonError, RwLock};

use egress_domain::shard::member::View;
use egress_domain::shard::shard_of;
use egress_domain::shard::stamp::Stamp;

use super::gate::{Denied, Gate};
use crate::clock::BootClock;

/// The rights. Clones are the same.
#[derive(Clone, Default)]
pub struct Rights(Arc<RwLock<View>>);

impl Rights {
    /// From now on.
    pub fn set(&self, view: View) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// The gate that obeys these rights: the stamp is the table's last confirmed entry for the shard of the object's
    /// namespace, and the fence is ahead (R1, R2).
    /// `ignores_deadline` is fault injection: time alone closes nothing.
    pub fn gate(&self, clock: BootClock, ignores_deadline: bool) -> Gate {
        let rights = self.clone();
        Gate::new(move |key, stamp| {
            let view = rights.0.read().unwrap_or_else(PoisonError::into_inner);
            let stamp: Stamp = stamp.ok_or(Denied)?;
            let ours = view.open.get(&stamp.shard) == Some(&stamp.epoch)
                && shard_of(key.namespace(), view.shard_count) == stamp.shard;
            let alive = ignores_deadline || view.fence.is_some_and(|fence| fence.is_ahead_of(clock.now()));
            if ours && alive { Ok(()) } else { Err(Denied) }
        })
    }
}

#[cfg(test)]
mod tests {
    use egress_domain::object::{ObjectKey, PolicyKey};
    use egress_domain::shard::ShardId;
    use egress_domain::shard::fence::Fence;

    use super::*;

    /// Whether a write to `team` passes that was decided under epoch 7, when the shard of `team` is open at `epoch`.
    fn passes(epoch: u64, alive: bool, stamp: Option<Stamp>) -> bool {
        let rights = Rights::default();
        let now = BootClock.now();
        let fence = Fence::after(now, std::time::Duration::from_secs(if alive { 60 } else { 0 }));
        let open = [(shard_of("team", 256), epoch)].into();
        rights.set(View { fence: Some(fence), open, shard_count: 256 });
        let key = ObjectKey::NetworkPolicy(PolicyKey::new("team", "web"));
        rights.gate(BootClock, false).permit(&key, stamp).is_ok()
    }

    fn stamp() -> Stamp {
        Stamp { shard: shard_of("team", 256), epoch: 7 }
    }

    #[test]
    fn a_write_passes_under_the_very_epoch_it_was_decided_under() {
        assert!(passes(7, true, Some(stamp())));
        assert!(!passes(8, true, Some(stamp())), "the shard is ours again, but the decision is old");
    }

    #[test]
    fn nothing_passes_after_the_fence_without_a_stamp_or_with_that_of_another_shard() {
        assert!(!passes(7, false, Some(stamp())));
        assert!(!passes(7, true, None));
        assert!(!passes(7, true, Some(Stamp { shard: ShardId(stamp().shard.0 ^ 1), epoch: 7 })));
    }

    #[test]
    fn before_anything_is_known_nothing_passes() {
        let key = ObjectKey::DefaultDeny("team".into());
        assert_eq!(Rights::default().gate(BootClock, false).permit(&key, Some(stamp())), Err(Denied));
    }
}
