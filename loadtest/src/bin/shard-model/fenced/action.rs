//! What can happen next in the fenced model.

use std::fmt;

/// Which API server a request arrives at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    /// It sees the table as it is.
    Present,
    /// It sees the table as it was.
    Lagging,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Join { member: u8 },
    Remove { member: u8, heir: Option<u8> },
    HandOver { shard: u8, to: u8 },
    Assign { shard: u8, to: u8 },
    Garble { shard: u8 },
    DeleteTable,
    CreateTable,
    CatchUp,
    Write { shard: u8, tenure: u8, server: Server },
    SendRestamp { shard: u8 },
    Restamp { shard: u8, tenure: u8, server: Server },
    Forge { shard: u8 },
    Delete { shard: u8, tenure: u8, server: Server },
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Present => "the API server that is up to date",
            Self::Lagging => "the API server that lags",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Join { member } => write!(f, "m{member} joins with a new incarnation"),
            Self::Remove { member, heir: Some(heir) } => write!(f, "m{member} is removed, its shards go to m{heir}"),
            Self::Remove { member, heir: None } => write!(f, "m{member} is removed, its shards are free"),
            Self::HandOver { shard, to } => write!(f, "s{shard} is handed over to m{to}"),
            Self::Assign { shard, to } => write!(f, "s{shard}, which is free, goes to m{to}"),
            Self::Garble { shard } => write!(f, "somebody makes the entry of s{shard} unreadable"),
            Self::DeleteTable => write!(f, "somebody deletes the table"),
            Self::CreateTable => write!(f, "the table is created anew"),
            Self::CatchUp => write!(f, "the API server that lags sees the next version of the table"),
            Self::Write { shard, tenure, server } => {
                write!(f, "a write of s{shard} under the entry of change {tenure} arrives at {server}")
            }
            Self::SendRestamp { shard } => {
                write!(f, "the holder of s{shard} meets a higher stamp, reads the table and sends a re-stamp")
            }
            Self::Restamp { shard, tenure, server } => {
                write!(f, "the re-stamp of s{shard} under the entry of change {tenure} arrives at {server}")
            }
            Self::Forge { shard } => write!(f, "a tenant forges a high stamp on the object of s{shard}"),
            Self::Delete { shard, tenure, server } => {
                write!(f, "a deletion of s{shard}'s object under the entry of change {tenure} arrives at {server}")
            }
        }
    }
}
