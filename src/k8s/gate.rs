//! The gate: whether this replica may write to an object now. Asked right before each request that changes something.

use std::fmt;
use std::sync::Arc;

use egress_domain::object::ObjectKey;

/// Leave for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    /// The write fence's stamp, `shard/epoch`, that the written object must carry.
    pub stamp: Option<String>,
}

/// The object is not ours to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied;

/// Decides for each request anew; never waits. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Keeper>);

type Keeper = dyn Fn(&ObjectKey) -> Result<Permit, Denied> + Send + Sync;

impl Gate {
    /// A gate that this function keeps.
    pub fn new(keeper: impl Fn(&ObjectKey) -> Result<Permit, Denied> + Send + Sync + 'static) -> Self {
        Self(Arc::new(keeper))
    }

    /// A gate that lets everything pass without a stamp: the only replica there is.
    pub fn open() -> Self {
        Self::new(|_| Ok(Permit::default()))
    }

    /// Whether a request may be sent now.
    ///
    /// # Errors
    /// When it may not.
    pub fn permit(&self, key: &ObjectKey) -> Result<Permit, Denied> {
        (self.0)(key)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}
