//! The stamp of a write: the shard and the epoch it was decided under, as the fence in the API server reads it.

use std::fmt;
use std::str::FromStr;

use super::ShardId;

/// `shard/epoch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The shard of the object's namespace.
    pub shard: ShardId,
    /// The epoch of its holder.
    pub epoch: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shard, self.epoch)
    }
}

/// The text is no stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stamp is SHARD/EPOCH, two numbers")]
pub struct NoStamp;

impl FromStr for Stamp {
    type Err = NoStamp;

    fn from_str(text: &str) -> Result<Self, NoStamp> {
        let (shard, epoch) = text.split_once('/').ok_or(NoStamp)?;
        Ok(Self { shard: ShardId(shard.parse().map_err(|_| NoStamp)?), epoch: epoch.parse().map_err(|_| NoStamp)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_its_text() {
        let stamp = Stamp { shard: ShardId(12), epoch: 345_678 };
        assert_eq!(stamp.to_string(), "12/345678");
        assert_eq!("12/345678".parse(), Ok(stamp));
    }

    #[test]
    fn anything_else_is_no_stamp() {
        for text in ["", "12", "12/", "/7", "a/7", "12/7/9", "70000/1"] {
            assert_eq!(text.parse::<Stamp>(), Err(NoStamp), "{text}");
        }
    }
}
