//! What can happen next in the timed model.

use std::fmt;

use super::state::{NOBODY, Placement};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Tick,
    RenewLease(u8),
    ReadTable(u8),
    TakeAnswer(u8),
    Lapse(u8),
    WriteOwnLease(u8),
    Join(u8),
    CreateTable(u8),
    Watch { observer: u8, member: u8 },
    ConfirmDeath { observer: u8, member: u8 },
    Kill { member: u8, to: Placement },
    AssignFree { to: Placement },
    Drain { member: u8, shard: u8 },
    Drained(u8),
    SendHandOver(u8),
    HandOver { member: u8, to: Placement },
    Resume(u8),
    Leave { member: u8, to: Placement },
    Crash(u8),
    Start { member: u8, same_pod: bool },
    DeleteLease(u8),
    ChangeLease(u8),
    RestoreLease(u8),
    DeleteTable,
    GarbleEntry(u8),
}

impl Action {
    /// Does it happen by itself, without a fault, a restart, a planned move or a clock that jumps?
    pub fn is_ordinary(self) -> bool {
        use Action::*;
        !matches!(
            self,
            Lapse(_)
                | Drain { .. }
                | Leave { .. }
                | Crash(_)
                | Start { .. }
                | DeleteLease(_)
                | ChangeLease(_)
                | RestoreLease(_)
                | DeleteTable
                | GarbleEntry(_)
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Action::*;
        match *self {
            Tick => write!(f, "a tick passes"),
            RenewLease(m) => write!(f, "m{m} renews: its Lease PUT is sent and stored"),
            ReadTable(m) => write!(f, "m{m}'s GET of the table is served; the answer is under way"),
            TakeAnswer(m) => write!(f, "m{m} handles the answer of its renewal"),
            Lapse(m) => write!(f, "m{m}'s clock is past its fence, or jumps there: it lapses"),
            WriteOwnLease(m) => write!(f, "m{m} writes the Lease of a new incarnation"),
            Join(m) => write!(f, "m{m}'s CAS lists its new incarnation; its entries get new epochs"),
            CreateTable(m) => write!(f, "m{m} creates the table: all shards are free"),
            Watch { observer, member } => write!(f, "m{observer} sees the present Lease of m{member}"),
            ConfirmDeath { observer, member } => {
                write!(f, "m{observer} takes m{member} for dead and sends the CAS that removes it")
            }
            Kill { member, to } => write!(f, "a CAS removes m{member}{}", Moves(to)),
            AssignFree { to } => write!(f, "a CAS assigns free shards{}", Moves(to)),
            Drain { member, shard } => write!(f, "m{member} stops writing s{shard}, to hand it over"),
            Drained(m) => write!(f, "m{m} has the answers to all its writes"),
            SendHandOver(m) => write!(f, "m{m} sends the CAS that hands over"),
            HandOver { member, to } => write!(f, "m{member}'s CAS hands over{}", Moves(to)),
            Resume(m) => write!(f, "m{m} gives the hand-over up and writes again"),
            Leave { member, to } => write!(f, "m{member} removes itself and ends{}", Moves(to)),
            Crash(m) => write!(f, "m{m} is killed; its requests go on"),
            Start { member, same_pod: true } => write!(f, "m{member} starts again in its pod"),
            Start { member, same_pod: false } => write!(f, "a pod named m{member} starts"),
            DeleteLease(m) => write!(f, "somebody deletes the Lease of m{m}"),
            ChangeLease(m) => write!(f, "somebody changes the renewTime of m{m}'s Lease"),
            RestoreLease(m) => write!(f, "somebody puts an older renewTime back into m{m}'s Lease"),
            DeleteTable => write!(f, "somebody deletes the table"),
            GarbleEntry(s) => write!(f, "somebody makes the entry of s{s} unreadable"),
        }
    }
}

/// Where the shards of a compare-and-swap go.
struct Moves(Placement);

impl fmt::Display for Moves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shard, &to) in self.0.iter().enumerate() {
            if to != NOBODY {
                write!(f, ", s{shard} goes to m{to}")?;
            }
        }
        Ok(())
    }
}
