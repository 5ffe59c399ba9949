//! The book as an annotation on the NetworkPolicy it explains: `{"v":1,"hosts":{"a.example":{"192.0.2.1":29390400}}}`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use super::{AddressBook, Entries};
use crate::fqdn::Fqdn;
use crate::time::{UnixMinutes, UnixTime};

/// Format version. Readers also accept the previous one, once there is one.
const VERSION: u32 = 1;
/// The API server takes 256 KiB of annotations per object in all; the rest is left to others.
pub const MAX_ANNOTATION_BYTES: usize = 200 * 1024;

/// Longest text of an address, with quotes, colon, 8 digits of minutes and comma.
const ENTRY_BYTES: usize = "\"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\":29390400,".len();
/// Quotes, colon, braces and comma of a host.
const HOST_EXTRA_BYTES: usize = "\"\":{},".len();
/// The longest host name with them.
const HOST_BYTES: usize = 253 + HOST_EXTRA_BYTES;
/// Schema bound of destinations, so of hosts.
const MAX_HOSTS: usize = 256;
const ENVELOPE_BYTES: usize = "{\"v\":1,\"hosts\":{}}".len();

/// Size of the largest book of `pairs` (host, address) pairs, in bytes.
pub fn worst_case_bytes(pairs: usize) -> usize {
    ENVELOPE_BYTES + pairs * ENTRY_BYTES + pairs.min(MAX_HOSTS) * HOST_BYTES
}

/// `cap`, or fewer (host, address) pairs where the book of so many might not fit the annotation. That happens only to an
/// object from before the schema, which may have more hosts than [`worst_case_bytes`] counts. `hosts` are sorted.
pub fn pairs_that_fit<'a>(hosts: impl ExactSizeIterator<Item = &'a Fqdn>, cap: usize) -> usize {
    if hosts.len() <= MAX_HOSTS {
        return cap;
    }
    let mut distinct: Vec<&Fqdn> = hosts.collect();
    distinct.dedup();
    let mut names: Vec<usize> = distinct.into_iter().map(|host| host.as_str().len()).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    let mut bytes = ENVELOPE_BYTES;
    let fits = |pair: &usize| {
        bytes += ENTRY_BYTES + names.get(*pair).map_or(0, |name| name + HOST_EXTRA_BYTES);
        bytes <= MAX_ANNOTATION_BYTES
    };
    (0..cap).take_while(fits).count()
}

/// Why an annotation is no book.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// Not JSON of the known shape, or not a host name or an address.
    #[error("the address book does not parse: {0}")]
    Format(#[from] serde_json::Error),
    /// Written by a version that we do not know.
    #[error("the address book has format version {0}; this version reads {VERSION}")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    v: u32,
    #[serde(borrow)]
    hosts: BTreeMap<std::borrow::Cow<'a, str>, BTreeMap<IpAddr, u32>>,
}

impl AddressBook {
    /// The annotation's text: the same text for the same book. Over [`MAX_ANNOTATION_BYTES`] is impossible while the
    /// caps obey [`worst_case_bytes`] and [`pairs_that_fit`].
    pub fn to_annotation(&self) -> String {
        let hosts = self
            .hosts
            .iter()
            .map(|(host, all)| (host.as_str().into(), all.iter().map(|(address, seen)| (*address, seen.0)).collect()))
            .collect();
        serde_json::to_string(&Stored { v: VERSION, hosts }).unwrap_or_default()
    }

    /// Reads an annotation. Last-seen times move forward by `checkpoint` (how late they may be stored; none when they
    /// are not stored at all between writes: then they become now) and are clamped to `now`, so that nothing expires
    /// early, whatever the clocks did.
    pub fn from_annotation(text: &str, now: UnixTime, checkpoint: Option<Duration>) -> Result<Self, BookError> {
        Self::from_annotation_with_age(text, now, checkpoint).map(|(book, _)| book)
    }

    /// As [`Self::from_annotation`], with the newest of the stored last-seen times: about when it was written.
    pub fn from_annotation_with_age(
        text: &str,
        now: UnixTime,
        checkpoint: Option<Duration>,
    ) -> Result<(Self, Option<UnixTime>), BookError> {
        let stored: Stored<'_> = serde_json::from_str(text)?;
        if stored.v != VERSION {
            return Err(BookError::Version(stored.v));
        }
        let latest = now.minutes_up();
        let late = checkpoint.map(|interval| u32::try_from(interval.as_secs().div_ceil(60)).unwrap_or(u32::MAX));
        let newest = stored.hosts.values().flat_map(BTreeMap::values).max().map(|newest| UnixMinutes(*newest).into());
        let mut hosts = LiteMap::new();
        for (name, entries) in stored.hosts {
            // A name that is none explains nothing; its addresses count as unexplained.
            let Ok(host) = Fqdn::parse(&name) else { continue };
            let entries: Entries = entries
                .into_iter()
                .map(|(address, seen)| {
                    (address, late.map_or(latest, |late| latest.min(UnixMinutes(seen.saturating_add(late)))))
                })
                .collect();
            if !entries.is_empty() {
                hosts.insert(host, entries);
            }
        }
        Ok((Self { hosts }, newest))
    }
}
