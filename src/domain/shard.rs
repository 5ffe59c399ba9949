//! Shards: which replica writes for which namespace.
//!
//! Namespaces are hashed onto shards; one table says which replica holds each shard, and since which epoch. A replica
//! may write for a shard only while its own sign of life is fresh enough ([`fence`]), and every write carries the epoch
//! it was decided under ([`stamp`]), so that the API server can refuse a stale one.
//!
//! ```text
//! Lease of each member --seen by the others--> observe --dead?--+
//! table --compare-and-swap--> change <-- assign <---------------+-- member (the machine of one replica)
//! ```

pub mod assign;
pub mod change;
pub mod fence;
pub mod member;
pub mod observe;
pub mod stamp;
pub mod table;
pub mod timing;

use std::fmt;

/// Version of [`shard_of`], kept in the table: it never changes while a table lives.
pub const HASH_VERSION: u32 = 1;
/// Shards of a table that is made anew: many enough that four replicas differ by less than 1 % of the namespaces, few
/// enough that the table stays a few kilobytes.
pub const DEFAULT_SHARD_COUNT: u16 = 256;

/// Number of a shard, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The shard of a namespace: FNV-1a with 64 bits, then the finaliser of MurmurHash3. The bare FNV-1a puts names that
/// differ only at the end into few of its high bits.
pub fn shard_of(namespace: &str, shard_count: u16) -> ShardId {
    let hash = fmix64(fnv1a64(namespace.as_bytes()));
    ShardId(u16::try_from(hash % u64::from(shard_count.max(1))).unwrap_or_default())
}

/// FNV-1a, 64 bits (draft-eastlake-fnv).
fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The 64-bit finaliser of MurmurHash3.
fn fmix64(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // Test vectors of the FNV authors: "" and "a" and "foobar".
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(fmix64(0), 0);
    }

    #[test]
    fn a_namespace_never_changes_its_shard() {
        // Stored tables depend on these numbers.
        let shards = ["default", "team-0000", "team-0001", "payments"].map(|name| shard_of(name, 256).0);
        assert_eq!(shards, PINNED);
    }

    const PINNED: [u16; 4] = [173, 203, 237, 122];

    #[test]
    fn names_that_count_spread_over_all_shards() {
        let mut counts = [0_u32; 256];
        for number in 0..10_000 {
            counts[usize::from(shard_of(&format!("team-{number:04}"), 256).0)] += 1;
        }
        let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
        assert!(least >= Some(15) && most <= Some(70), "{least:?} to {most:?} of 39 on average");
    }
}
