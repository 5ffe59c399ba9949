//! The gate: whether this replica may write to an object now. Asked right before each request that changes something.

use std::fmt;
use std::sync::Arc;

use egress_domain::object::ObjectKey;
use egress_domain::shard::stamp::Stamp;

/// The object is not ours to write, or not under this stamp any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied;

/// Decides for each request anew; never waits. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Keeper>);

type Keeper = dyn Fn(&ObjectKey, Option<Stamp>) -> Result<(), Denied> + Send + Sync;

impl Gate {
    /// A gate that this function keeps.
    pub fn new(keeper: impl Fn(&ObjectKey, Option<Stamp>) -> Result<(), Denied> + Send + Sync + 'static) -> Self {
        Self(Arc::new(keeper))
    }

    /// A gate that lets everything pass.
    pub fn open() -> Self {
        Self::new(|_, _| Ok(()))
    }

    /// Whether a request that was decided under this stamp may be sent now.
    ///
    /// # Errors
    /// When it may not.
    pub fn permit(&self, key: &ObjectKey, stamp: Option<Stamp>) -> Result<(), Denied> {
        (self.0)(key, stamp)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}
