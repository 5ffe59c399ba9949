//! What the schema of the table allows.

use std::collections::BTreeMap;

use anyhow::Result;
use egress_domain::api::{EgressShardTable, EgressShardTableSpec, ShardTableEntry, ShardTableMember};
use kube::api::PostParams;

use crate::bed::{Bed, tables};
use crate::objects::table;

/// A table of so many shards, whose pods have the longest names there are.
fn full_table(shard_count: u32, epoch: u64) -> EgressShardTableSpec {
    let pod = |number: u32| format!("{}-{number:02}", "p".repeat(250));
    let member = ShardTableMember { incarnation: "1f.0".into(), since: "now".into(), ..ShardTableMember::default() };
    EgressShardTableSpec {
        shard_count,
        members: (0..64).map(|number| (pod(number), member.clone())).collect(),
        shards: (0..shard_count)
            .map(|shard| (shard.to_string(), ShardTableEntry(format!("{}/{epoch}", pod(shard % 64)))))
            .collect(),
        ..table()
    }
}

#[tokio::test]
async fn a_table_only_moves_forward() -> Result<()> {
    let bed = Bed::shared().await;
    let tables = tables(bed.control_plane.client());
    for shard_count in [256, 1_024] {
        let name = format!("table-{shard_count}");
        let highest = 999_999_999_999_999_998;
        let first = EgressShardTable::new(&name, full_table(shard_count, highest));
        let stored = tables.create(&PostParams::default(), &first).await?;
        let with = |change: &dyn Fn(&mut EgressShardTableSpec)| {
            let mut changed = stored.clone();
            change(&mut changed.spec);
            let (tables, name) = (tables.clone(), name.clone());
            async move { tables.replace(&name, &PostParams::default(), &changed).await }
        };
        let rejected = |outcome: kube::Result<EgressShardTable>, part: &str| match outcome {
            Err(kube::Error::Api(status)) if status.code == 422 && status.message.contains(part) => {}
            other => panic!("should be refused with {part:?}: {other:?}"),
        };
        let set = |shard: &'static str, entry: &'static str| {
            move |spec: &mut EgressShardTableSpec| {
                spec.shards.insert(shard.to_owned(), ShardTableEntry(entry.to_owned()));
            }
        };
        for entry in ["a/999999999999999998", "a/999999999999999997", "a/1", "/999999999999999998"] {
            rejected(with(&set("17", entry)).await, "a changed shard gets a higher epoch");
        }
        for entry in [
            "a/1000000000000000000",
            "a",
            "a/",
            "A/999999999999999999",
            "a/b/999999999999999999",
            "-/999999999999999999",
        ] {
            rejected(with(&set("17", entry)).await, "spec.shards.17");
        }
        rejected(with(&|spec| drop(spec.shards.remove("17"))).await, "a shard is never taken out");
        rejected(with(&|spec| spec.shards.clear()).await, "a shard is never taken out");
        let never = "never change";
        rejected(with(&|spec| spec.shard_count = 128).await, never);
        rejected(with(&|spec| spec.lease_duration_seconds = 16).await, never);
        rejected(with(&|spec| spec.installation = "other".to_owned()).await, never);
        rejected(with(&|spec| spec.hash_version = 2).await, "hashVersion");
        rejected(
            with(&|spec| *spec = EgressShardTableSpec { shards: BTreeMap::new(), ..spec.clone() }).await,
            "taken out",
        );

        let moved = with(&|spec| spec.shards = full_table(shard_count, highest + 1).shards).await?;
        assert_eq!(moved.spec, full_table(shard_count, highest + 1));
        let mut alone = moved;
        alone.spec.members.clear();
        alone.spec.settled = false;
        tables.replace(&name, &PostParams::default(), &alone).await?;
    }
    Ok(())
}
