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
