//! What a member takes, and what it asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::shard::ShardId;
use crate::shard::fence::{Fence, Moment};
use crate::shard::observe::Renewal;
use crate::shard::stamp::Stamp;
use crate::shard::table::{Incarnation, Pod, Snapshot, Table};
use crate::time::Instant;

/// Who this replica is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Name of the pod, which the fence reads from its token.
    pub pod: Pod,
    /// Uid of the pod; empty outside a pod.
    pub uid: Arc<str>,
    /// Drawn at the start of the process.
    pub start: Arc<str>,
    /// The installation it belongs to.
    pub installation: Arc<str>,
    /// Shards of a table that it has to make.
    pub shard_count: u16,
}

/// What can happen to a member.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline of [`next_deadline`](super::Member::next_deadline) came; `healthy` when router, writer and resolver
    /// advance.
    Tick {
        /// A replica that does not work must not keep its shards.
        healthy: bool,
    },
    /// A renewal was answered: the Lease was written, then the table read.
    Renewed {
        /// When the first of its requests was sent.
        sent: Moment,
        /// The life that it was sent for.
        life: u32,
        /// None when any of them failed.
        answer: Option<TableRead>,
    },
    /// The Lease of this life is not the one that was written before: somebody deleted it. It is never made again, or
    /// an observer whose watch is late could take two absences for one.
    LeaseLost {
        /// The life.
        life: u32,
    },
    /// A read of the table, not part of a renewal, was answered; none when it failed.
    TableRead(Option<TableRead>),
    /// The watch of the table saw another version: it is read.
    TableChanged {
        /// resourceVersion.
        version: u64,
    },
    /// A change of the table was answered.
    Cas(CasAnswer),
    /// The watch of the Leases saw one; none when it went.
    LeaseSeen {
        /// Name of the Lease.
        lease: Arc<str>,
        /// Its present state.
        renewal: Option<Renewal>,
    },
    /// A consistent read of a member's Lease was answered.
    LeaseRead {
        /// The member.
        pod: Pod,
        /// Its state (none where it does not exist), or nothing when the read failed.
        answer: Option<Option<Renewal>>,
    },
    /// The shards of [`Effect::Release`] have stopped, and none of their writes can be committed any more.
    Released {
        /// Which release.
        number: u64,
    },
    /// The dry run of [`Effect::Probe`] was answered.
    Probed(ProbeAnswer),
    /// The shards of [`Effect::Gain`] have been read and act.
    Started {
        /// Shard and epoch.
        shards: Vec<Stamp>,
    },
    /// How many namespaces each shard has.
    Weights(Vec<u32>),
    /// Whether the API server refuses a write with a wrong stamp.
    FenceActive(bool),
    /// Hand everything over and end.
    Leave,
}

/// A consistent read of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableRead {
    /// As it is stored.
    Found(Snapshot),
    /// There is none.
    Missing,
    /// There is one that this program must not work with, and why.
    Unusable(String),
}

/// What became of a change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CasAnswer {
    /// Stored.
    Stored(Snapshot),
    /// Somebody else changed the table first.
    Conflict,
    /// The API server refuses it, and why.
    Refused(String),
    /// No answer: it may have been stored, or may be yet.
    Unknown,
}

/// What the API server said to a dry run with our stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// It passed, or something else than the fence refused it.
    Accepted,
    /// The fence has not seen the table yet.
    Fenced,
    /// No answer.
    Unknown,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "an effect that is not performed is lost"]
pub enum Effect {
    /// Write the Lease, then read the table; answered by [`Input::Renewed`].
    Renew {
        /// Who speaks.
        incarnation: Incarnation,
    },
    /// Read the table.
    ReadTable,
    /// Make a table where there is none; answered by [`Input::Cas`].
    CreateTable(Arc<Table>),
    /// Replace the table, if it is still at this version.
    Cas {
        /// resourceVersion read before.
        version: u64,
        /// Uid of the table.
        uid: Arc<str>,
        /// What to store.
        table: Arc<Table>,
    },
    /// Read the Lease of a member, consistently.
    ReadLease {
        /// The member.
        pod: Pod,
        /// Name of its Lease.
        lease: String,
    },
    /// Delete our own Lease.
    DeleteLease,
    /// Ask the API server whether it takes this stamp already, without writing anything.
    Probe(Stamp),
    /// The rights to write changed: the gate obeys from now on.
    View(View),
    /// Read these shards consistently and start their policies; answered by [`Input::Started`].
    Gain(Vec<Stamp>),
    /// The same shards under new epochs: decide again what is not yet written.
    Resume(Vec<Stamp>),
    /// Stop these shards, and wait for their writes in flight; answered by [`Input::Released`].
    Release {
        /// Returned with the answer.
        number: u64,
        /// Which.
        shards: Vec<ShardId>,
    },
    /// Stop these shards: they are somebody else's.
    Lose(Vec<ShardId>),
    /// A member was declared dead and its shards were taken; for the log, metrics and an Event.
    TookOver {
        /// The dead member.
        from: Pod,
        /// The shards that we got.
        shards: Vec<ShardId>,
        /// When its last sign of life was seen.
        silent_since: Instant,
    },
    /// The sign of life came too late: nothing is written until this replica has joined again.
    Lapsed,
    /// Something is wrong that a person should know.
    Alarm(Refused),
    /// Everything is handed over: the process may end.
    Left,
}

/// Something that does not heal by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The API server refuses a change of the table.
    #[error("the API server refuses a change of the shard table: {0}")]
    Table(String),
    /// This replica must not work with the table.
    #[error("this replica does not join: {0}")]
    Unusable(String),
    /// The fence refuses a stamp that the table confirms.
    #[error("the fence of the API server refuses {0}, which the table names as ours; it is asked again")]
    Probe(Stamp),
}

/// What may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Until when; none while nothing may be written.
    pub fence: Option<Fence>,
    /// The epoch of each shard that may be written.
    pub open: BTreeMap<ShardId, u64>,
    /// Number of shards there are, once known.
    pub shard_count: u16,
}

/// What a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not in the table yet.
    Joining,
    /// In the table, and alive.
    Member,
    /// Its sign of life came too late.
    Lapsed,
    /// It must not join, and why.
    Refused(String),
    /// It hands its shards over.
    Leaving,
    /// It has ended.
    Left,
}
