//! How many shards move when a replica comes or goes.

use anyhow::Result;
use loadtest::handover::bed::Bed;

use crate::bed::{ended, small};

/// Long enough that nobody lapses on a slow machine, which would move shards as well.
const LEASE: u32 = 10;

fn held_by(bed: &Bed, pod: &str) -> usize {
    bed.judge.table().map_or(0, |table| table.held_by(pod).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_leaves_or_joins_moves_its_own_shards_and_no_other() -> Result<()> {
    let mut bed = small(3, 12, 12, LEASE).await?;
    let (before, since) = (bed.seen().await?, bed.judge.table_version());
    let gone = bed.replicas.remove(0);
    let held = held_by(&bed, &gone.pod);
    assert!([85, 86].contains(&held), "a third of 256, not {held}");
    gone.signal("TERM")?;
    ended(&bed, &gone).await?;
    bed.whole(bed.patience(8)).await?;
    let until = bed.judge.table_version();
    assert_eq!(bed.judge.moved(since, until), held, "the shards of the one that left");

    let next = bed.new_pod(0).await?;
    let pod = next.pod.clone();
    bed.replicas.push(next);
    bed.whole(bed.patience(8)).await?;
    let moved = bed.judge.moved(until, bed.judge.table_version());
    assert_eq!(moved, held_by(&bed, &pod), "the shards of the one that joined");
    assert!([85, 86].contains(&moved), "a third of 256, not {moved}");

    // Whoever would write because of a move has had its shards for a lease then.
    tokio::time::sleep(bed.lease).await;
    bed.seen().await?;
    assert!(bed.judge.writes_since(before).is_empty(), "nothing is written because shards moved");
    Ok(())
}
