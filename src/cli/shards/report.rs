//! What is told of the shards, and how it reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use egress_domain::api::EgressShardTableSpec;
use egress_domain::shard::table::{MemberEntry, Table};
use egress_domain::shard::{ShardId, shard_of};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use serde::Serialize;

/// The columns of the members.
const COLUMNS: [&str; 7] = ["POD", "INCARNATION", "SHARDS", "NAMESPACES", "SINCE", "LAST SIGN OF LIFE", "LEAVING"];

/// What is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// The installation that the table belongs to.
    installation: String,
    shard_count: u16,
    lease_duration_seconds: u64,
    /// Whether the shards have been assigned once, and every entry can be read.
    settled: bool,
    /// Namespaces of the cluster.
    namespaces: usize,
    members: Vec<MemberReport>,
    /// The member with the most namespaces; none without members or without namespaces.
    fullest: Option<Fullest>,
    /// Shards whose entry names nobody.
    unowned: Vec<u16>,
    /// Shards whose entry names a pod that is no member, by that pod.
    held_by_no_member: BTreeMap<String, Vec<u16>>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberReport {
    pod: String,
    incarnation: String,
    shards: Vec<u16>,
    namespaces: usize,
    /// When the incarnation joined, by the clock of the replica.
    since: String,
    /// Age of the Lease's renewTime by this machine's clock, negative for one that is ahead of it; null without a Lease.
    seconds_since_last_sign_of_life: Option<f64>,
    /// Whom the Lease speaks for, where that is not this incarnation.
    lease_of: Option<String>,
    leaving: bool,
}

/// The fullest member.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Fullest {
    pod: String,
    namespaces: usize,
    /// Its namespaces over the mean of all members.
    times_the_mean: f64,
}

impl Report {
    /// # Errors
    /// When this program does not know how the table maps namespaces to shards.
    pub(super) fn new(
        spec: &EgressShardTableSpec,
        leases: &[Lease],
        namespaces: &[String],
        now: Timestamp,
    ) -> Result<Self> {
        let table = Table::parse(spec, &spec.installation)?;
        let mut weights = vec![0; table.shards.len()];
        for namespace in namespaces {
            if let Some(weight) = weights.get_mut(usize::from(shard_of(namespace, table.shard_count()).0)) {
                *weight += 1;
            }
        }
        let members: Vec<MemberReport> = table
            .members
            .iter()
            .map(|(pod, member)| {
                let held: Vec<ShardId> = table.held_by(pod).map(|(shard, _)| shard).collect();
                let weight = |shard: &ShardId| weights.get(usize::from(shard.0)).copied().unwrap_or(0_usize);
                let namespaces = held.iter().map(weight).sum();
                MemberReport::new(pod, member, &held, namespaces, leases, now)
            })
            .collect();
        let mut unowned = Vec::new();
        let mut held_by_no_member = BTreeMap::<String, Vec<u16>>::new();
        for (shard, entry) in table.entries() {
            match &entry.holder {
                None => unowned.push(shard.0),
                Some(pod) if !table.members.contains_key(pod) => {
                    held_by_no_member.entry(pod.to_string()).or_default().push(shard.0);
                }
                Some(_) => {}
            }
        }
        Ok(Self {
            installation: spec.installation.clone(),
            shard_count: table.shard_count(),
            lease_duration_seconds: table.lease.as_secs(),
            settled: table.settled,
            namespaces: namespaces.len(),
            fullest: fullest(&members),
            members,
            unowned,
            held_by_no_member,
        })
    }

    /// Whether each shard has a holder that is a member.
    pub(super) fn is_whole(&self) -> bool {
        self.unowned.is_empty() && self.held_by_no_member.is_empty()
    }
}

impl MemberReport {
    fn new(
        pod: &str,
        member: &MemberEntry,
        held: &[ShardId],
        namespaces: usize,
        leases: &[Lease],
        now: Timestamp,
    ) -> Self {
        let incarnation = member.incarnation.to_string();
        let name = member.incarnation.lease_name(pod);
        let lease = leases.iter().find(|lease| lease.name_any() == name).and_then(|lease| lease.spec.as_ref());
        let renewed = lease.and_then(|lease| lease.renew_time.as_ref());
        let holder = lease.and_then(|lease| lease.holder_identity.clone());
        Self {
            pod: pod.to_owned(),
            shards: held.iter().map(|shard| shard.0).collect(),
            namespaces,
            since: to_the_second(&member.since),
            seconds_since_last_sign_of_life: renewed.map(|renewed| now.duration_since(renewed.0).as_secs_f64()),
            lease_of: holder.filter(|holder| *holder != incarnation),
            incarnation,
            leaving: member.leaving,
        }
    }

    fn sign_of_life(&self) -> String {
        let age = self.seconds_since_last_sign_of_life.map_or_else(|| "no Lease".to_owned(), age);
        match &self.lease_of {
            Some(other) => format!("{age}, as {other}"),
            None => age,
        }
    }
}

/// The report for people.
pub(super) fn text(report: &Report) -> String {
    let Report { installation, shard_count, lease_duration_seconds, namespaces, members, .. } = report;
    let settled =
        if report.settled { "settled" } else { "not settled: nothing was assigned yet, or an entry cannot be read" };
    let shards = count(usize::from(*shard_count), "shard");
    let namespaces = count(*namespaces, "namespace");
    let mut text = format!(
        "installation {installation}: {shards}, {namespaces}, lease duration {lease_duration_seconds} s, {settled}\n\n"
    );
    text.push_str(&table_of(members));
    if let Some(Fullest { pod, namespaces, times_the_mean }) = &report.fullest {
        let namespaces = count(*namespaces, "namespace");
        _ = writeln!(text, "Fullest: {pod} with {namespaces}, {times_the_mean:.2} times the mean of the members.");
    }
    text.push_str(&last_line(report));
    text
}

/// One line per member, and what is to be known of it.
fn table_of(members: &[MemberReport]) -> String {
    if members.is_empty() {
        return "No replica is a member.\n".to_owned();
    }
    let mut text = String::new();
    let rows = members.iter().map(|member| {
        [
            member.pod.clone(),
            member.incarnation.clone(),
            member.shards.len().to_string(),
            member.namespaces.to_string(),
            member.since.clone(),
            member.sign_of_life(),
            if member.leaving { "yes" } else { "no" }.to_owned(),
        ]
    });
    let rows: Vec<[String; 7]> = std::iter::once(COLUMNS.map(str::to_owned)).chain(rows).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text.push_str(
        "\nThe last sign of life is the renewTime of the member's Lease; its age is by the clock of this machine, and says \
         nothing where clocks differ.\n",
    );
    text
}

fn last_line(report: &Report) -> String {
    if report.is_whole() {
        return "Every shard has a holder.\n".to_owned();
    }
    let mut parts = Vec::new();
    if !report.unowned.is_empty() {
        parts.push(format!("Held by nobody: {} ({}).", count(report.unowned.len(), "shard"), ranges(&report.unowned)));
    }
    for (pod, shards) in &report.held_by_no_member {
        let number = count(shards.len(), "shard");
        parts.push(format!("Held by {pod}, which is no member: {number} ({}).", ranges(shards)));
    }
    format!("{}\n", parts.join(" "))
}

fn fullest(members: &[MemberReport]) -> Option<Fullest> {
    let sum: usize = members.iter().map(|member| member.namespaces).sum();
    // The first of several that are equally full.
    let fullest = members.iter().rev().max_by_key(|member| member.namespaces).filter(|_| sum > 0)?;
    let mean = sum as f64 / members.len() as f64;
    let times_the_mean = fullest.namespaces as f64 / mean;
    Some(Fullest { pod: fullest.pod.clone(), namespaces: fullest.namespaces, times_the_mean })
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn age(seconds: f64) -> String {
    if seconds < 0.0 { format!("{:.1} s ahead", -seconds) } else { format!("{seconds:.1} s ago") }
}

/// A timestamp without fractions; anything else as it is.
fn to_the_second(text: &str) -> String {
    let parsed = text.parse::<Timestamp>().ok();
    parsed.map_or_else(|| text.to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Sorted numbers, with runs as `first-last`.
fn ranges(numbers: &[u16]) -> String {
    let runs = numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    let run = |run: &[u16]| match run {
        [first, .., last] => format!("{first}-{last}"),
        [only] => only.to_string(),
        [] => String::new(),
    };
    runs.map(run).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use egress_domain::api::{ShardTableEntry, ShardTableMember};
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-11-21T13:00:30Z";

    /// Four shards, of which pod-a and pod-b hold two each. team-0000 is in shard 3, team-0001 and team-0002 in 1.
    fn example() -> EgressShardTableSpec {
        let member = |start: &str, leaving| ShardTableMember {
            incarnation: format!("{start}.1"),
            uid: String::new(),
            since: "2026-11-21T13:00:00.123Z".to_owned(),
            leaving,
        };
        EgressShardTableSpec {
            shard_count: 4,
            lease_duration_seconds: 15,
            hash_version: 1,
            installation: "egress-controller".to_owned(),
            settled: true,
            members: [("pod-a".to_owned(), member("1f", false)), ("pod-b".to_owned(), member("2e", true))].into(),
            shards: shards(["pod-a/7", "pod-a/7", "pod-b/7", "pod-b/7"]),
        }
    }

    fn shards(entries: [&str; 4]) -> BTreeMap<String, ShardTableEntry> {
        entries.iter().enumerate().map(|(shard, entry)| (shard.to_string(), ShardTableEntry((*entry).into()))).collect()
    }

    fn lease(name: &str, holder: &str, renewed: &str) -> Lease {
        let lease = json!({"metadata": {"name": name}, "spec": {"holderIdentity": holder, "renewTime": renewed}});
        serde_json::from_value(lease).unwrap()
    }

    fn told(spec: &EgressShardTableSpec, leases: &[Lease], namespaces: &[&str]) -> Report {
        let namespaces: Vec<String> = namespaces.iter().map(|&name| name.to_owned()).collect();
        Report::new(spec, leases, &namespaces, NOW.parse().unwrap()).unwrap()
    }

    #[track_caller]
    fn last_line_is(entries: [&str; 4], expected: &str) {
        let report = told(&EgressShardTableSpec { shards: shards(entries), ..example() }, &[], &[]);
        assert_eq!(text(&report).lines().last(), Some(expected));
        assert_eq!(report.is_whole(), expected.starts_with("Every"));
    }

    #[test]
    fn each_member_is_told_with_its_shards_its_namespaces_and_the_age_of_its_lease() {
        let leases = [lease("pod-a-1f", "1f.1", "2026-11-21T13:00:28.500000Z")];
        let report = told(&example(), &leases, &["team-0000", "team-0001", "team-0002"]);
        let expected = "\
installation egress-controller: 4 shards, 3 namespaces, lease duration 15 s, settled

POD    INCARNATION  SHARDS  NAMESPACES  SINCE                 LAST SIGN OF LIFE  LEAVING
pod-a  1f.1         2       2           2026-11-21T13:00:00Z  1.5 s ago          no
pod-b  2e.1         2       1           2026-11-21T13:00:00Z  no Lease           yes

The last sign of life is the renewTime of the member's Lease; its age is by the clock of this machine, and says nothing where clocks differ.
Fullest: pod-a with 2 namespaces, 1.33 times the mean of the members.
Every shard has a holder.
";
        assert_eq!(text(&report), expected);
    }

    #[test]
    fn shards_of_nobody_and_shards_of_pods_that_are_no_members_are_told_apart() {
        last_line_is(["pod-a/7", "pod-a/7", "pod-b/7", "pod-b/7"], "Every shard has a holder.");
        last_line_is(["/8", "pod-a/7", "/8", "/8"], "Held by nobody: 3 shards (0, 2-3).");
        last_line_is(
            ["/8", "pod-z/7", "pod-b/7", "pod-y/7"],
            "Held by nobody: 1 shard (0). Held by pod-y, which is no member: 1 shard (3). Held by pod-z, which is no member: 1 shard (1).",
        );
    }

    #[test]
    fn a_table_that_was_never_assigned_says_so() {
        let spec = EgressShardTableSpec { settled: false, shards: BTreeMap::new(), ..example() };
        let told = text(&told(&spec, &[], &[]));
        assert!(
            told.contains("lease duration 15 s, not settled: nothing was assigned yet, or an entry cannot be read\n"),
            "{told}"
        );
        assert!(told.ends_with("Held by nobody: 4 shards (0-3).\n"), "{told}");
    }

    #[test]
    fn a_lease_that_speaks_for_another_life_or_is_ahead_of_this_clock_says_so() {
        let leases = [
            lease("pod-a-1f", "1f.2", "2026-11-21T13:00:20.000000Z"),
            lease("pod-b-2e", "2e.1", "2026-11-21T13:00:33.000000Z"),
        ];
        let told = text(&told(&example(), &leases, &[]));
        assert!(told.contains("10.0 s ago, as 1f.2"), "{told}");
        assert!(told.contains("3.0 s ahead"), "{told}");
    }

    #[test]
    fn the_lease_of_an_earlier_process_of_the_same_pod_is_no_sign_of_life() {
        let leases = [lease("pod-a-0d", "0d.1", "2026-11-21T13:00:29.000000Z")];
        assert_eq!(told(&example(), &leases, &[]).members[0].seconds_since_last_sign_of_life, None);
    }

    #[test]
    fn nobody_is_the_fullest_where_there_is_nothing_to_hold() {
        assert_eq!(told(&example(), &[], &[]).fullest, None);
        let spec = EgressShardTableSpec { members: BTreeMap::new(), ..example() };
        let told = told(&spec, &[], &["team-0000"]);
        assert_eq!(told.fullest, None);
        assert!(
            text(&told).contains("\n\nNo replica is a member.\nHeld by pod-a, which is no member"),
            "{}",
            text(&told)
        );
    }

    #[test]
    fn a_table_with_another_hash_is_an_error() {
        let spec = EgressShardTableSpec { hash_version: 2, ..example() };
        let error = Report::new(&spec, &[], &[], NOW.parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("hash version 2"), "{error}");
    }

    #[test]
    fn scripts_find_the_names_that_the_manual_tells() {
        let spec = EgressShardTableSpec { shards: shards(["/8", "pod-z/7", "pod-b/7", "pod-a/7"]), ..example() };
        let leases = [lease("pod-a-1f", "1f.1", "2026-11-21T13:00:28.000000Z")];
        let told = serde_json::to_value(told(&spec, &leases, &["team-0000"])).unwrap();
        let expected = json!({
            "installation": "egress-controller",
            "shardCount": 4,
            "leaseDurationSeconds": 15,
            "settled": true,
            "namespaces": 1,
            "members": [
                {
                    "pod": "pod-a", "incarnation": "1f.1", "shards": [3], "namespaces": 1,
                    "since": "2026-11-21T13:00:00Z", "secondsSinceLastSignOfLife": 2.0, "leaseOf": null, "leaving": false,
                },
                {
                    "pod": "pod-b", "incarnation": "2e.1", "shards": [2], "namespaces": 0,
                    "since": "2026-11-21T13:00:00Z", "secondsSinceLastSignOfLife": null, "leaseOf": null, "leaving": true,
                },
            ],
            "fullest": {"pod": "pod-a", "namespaces": 1, "timesTheMean": 2.0},
            "unowned": [0],
            "heldByNoMember": {"pod-z": [1]},
        });
        assert_eq!(told, expected);
    }
}
