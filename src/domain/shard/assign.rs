//! Who gets which shards: an even share for each member, by number and by weight, moving as little as possible.

use std::collections::BTreeMap;

use super::ShardId;
use super::table::{Pod, Table};

/// Weight of each shard, by its number: how many namespaces it has.
pub type Weights = [u32];

/// What a member has, and may have.
#[derive(Clone, Debug, PartialEq)]
struct Share {
    count: usize,
    weight: f64,
    quota: usize,
}

/// The shares of `members`, who are to hold all shards: floor or ceiling of the mean, the fuller ones get the ceiling.
fn shares(table: &Table, members: &[Pod], weights: &Weights) -> BTreeMap<Pod, Share> {
    let mut order: Vec<(Pod, usize, f64)> = members
        .iter()
        .map(|pod| {
            let held = table.held_by(pod).map(|(shard, _)| weight(weights, shard));
            let (count, sum) = held.fold((0, 0.0), |(count, sum), weight| (count + 1, sum + weight));
            (pod.clone(), count, sum)
        })
        .collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let (floor, rest) = (table.shards.len() / order.len().max(1), table.shards.len() % order.len().max(1));
    let share = |(rank, (pod, count, weight))| (pod, Share { count, weight, quota: floor + usize::from(rank < rest) });
    order.into_iter().enumerate().map(share).collect()
}

/// Gives each of `free` to one of `members`: the heaviest first, each to the member that misses most weight per open
/// slot. Empty when there is no member.
pub fn assign(table: &Table, free: &[ShardId], members: &[Pod], weights: &Weights) -> Vec<(ShardId, Pod)> {
    let mut shares = shares(table, members, weights);
    let mean = mean(table, members, weights);
    let mut free: Vec<(ShardId, f64)> = free.iter().map(|shard| (*shard, weight(weights, *shard))).collect();
    free.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut given = Vec::with_capacity(free.len());
    for (shard, weight) in free {
        let open = |share: &Share| share.quota.saturating_sub(share.count);
        let missing = |share: &Share| (mean - share.weight) / open(share).max(1) as f64;
        // More shards than slots only when some were counted twice: they go to the emptiest all the same.
        let has_slots = shares.values().any(|share| open(share) > 0);
        let takers = shares.iter_mut().filter(|(_, share)| !has_slots || open(share) > 0);
        let Some((pod, share)) = takers.max_by(|a, b| missing(a.1).total_cmp(&missing(b.1)).then(b.0.cmp(a.0))) else {
            break;
        };
        share.count += 1;
        share.weight += weight;
        given.push((shard, pod.clone()));
    }
    given
}

/// The shards that a member has too many, chosen so that what it keeps weighs nearest to the mean.
pub fn excess(table: &Table, pod: &str, members: &[Pod], weights: &Weights) -> Vec<ShardId> {
    let shares = shares(table, members, weights);
    let Some(share) = shares.get(pod) else { return Vec::new() };
    let mean = mean(table, members, weights);
    let mut held: Vec<(ShardId, f64)> = table.held_by(pod).map(|(shard, _)| (shard, weight(weights, shard))).collect();
    let mut load = share.weight;
    let mut chosen = Vec::new();
    for left in (1..=share.count.saturating_sub(share.quota)).rev() {
        let wanted = (load - mean) / left as f64;
        let distance = |candidate: &(ShardId, f64)| (candidate.1 - wanted).abs();
        let nearest = held.iter().enumerate().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
        let Some((index, _)) = nearest else { break };
        let (shard, weight) = held.swap_remove(index);
        load -= weight;
        chosen.push(shard);
    }
    chosen.sort_unstable();
    chosen
}

/// What each member would weigh if all weighed the same.
fn mean(table: &Table, members: &[Pod], weights: &Weights) -> f64 {
    table.entries().map(|(shard, _)| weight(weights, shard)).sum::<f64>() / members.len().max(1) as f64
}

fn weight(weights: &Weights, shard: ShardId) -> f64 {
    f64::from(weights.get(usize::from(shard.0)).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shard::table::Entry;
    use crate::shard::{DEFAULT_SHARD_COUNT, shard_of};

    fn pods(count: usize) -> Vec<Pod> {
        (0..count).map(|number| format!("pod-{number}").into()).collect()
    }

    /// Namespaces of each shard: team-0000, team-0001 and so on.
    fn weights(namespaces: usize) -> Vec<u32> {
        let mut weights = vec![0; usize::from(DEFAULT_SHARD_COUNT)];
        for number in 0..namespaces {
            weights[usize::from(shard_of(&format!("team-{number:04}"), DEFAULT_SHARD_COUNT).0)] += 1;
        }
        weights
    }

    fn give(table: &mut Table, given: Vec<(ShardId, Pod)>) -> usize {
        let moved = given.len();
        for (shard, pod) in given {
            table.shards[usize::from(shard.0)] = Entry { holder: Some(pod), epoch: 1 };
        }
        moved
    }

    /// All shards, as one replica after the other joins.
    fn grown(replicas: usize, weights: &Weights) -> (Table, Vec<usize>) {
        let mut table = Table::new(DEFAULT_SHARD_COUNT, Duration::from_secs(15), "egress".into());
        let free: Vec<ShardId> = (0..DEFAULT_SHARD_COUNT).map(ShardId).collect();
        let first = assign(&table, &free, &pods(1), weights);
        let mut moves = vec![give(&mut table, first)];
        for count in 2..=replicas {
            let members = pods(count);
            let mut moved = 0;
            // One after the other, each by what the table says then, until nobody has too many.
            while let Some((pod, excess)) = members.iter().find_map(|pod| {
                let excess = excess(&table, pod, &members, weights);
                (!excess.is_empty()).then_some((pod, excess))
            }) {
                let given = assign(&table, &excess, &members, weights);
                assert!(given.iter().all(|(_, to)| to != pod), "nobody gives to itself");
                moved += give(&mut table, given);
            }
            moves.push(moved);
        }
        (table, moves)
    }

    fn fullest(table: &Table, members: &[Pod], weights: &Weights) -> f64 {
        let load = |pod: &Pod| table.held_by(pod).map(|(shard, _)| weight(weights, shard)).sum::<f64>();
        members.iter().map(load).fold(0.0, f64::max) / mean(table, members, weights)
    }

    #[test]
    fn a_replica_that_joins_gets_its_share_and_nothing_else_moves() {
        let (table, moves) = grown(4, &weights(1_000));
        assert_eq!(moves, [256, 128, 85, 64]);
        assert!(pods(4).iter().all(|pod| table.held_by(pod).count() == 64));
    }

    #[test]
    fn a_thousand_teams_spread_evenly_over_four_replicas() {
        let weights = weights(1_000);
        let (table, _) = grown(4, &weights);
        let fullest = fullest(&table, &pods(4), &weights);
        assert!(fullest <= 1.05, "the fullest has {fullest} of the mean");
    }

    #[test]
    fn when_a_replica_goes_only_its_own_shards_move_and_the_rest_stays_even() {
        let weights = weights(1_000);
        let (mut table, _) = grown(4, &weights);
        let freed: Vec<ShardId> = table.held_by("pod-3").map(|(shard, _)| shard).collect();
        for shard in &freed {
            table.shards[usize::from(shard.0)].holder = None;
        }
        let given = assign(&table, &freed, &pods(3), &weights);
        assert_eq!(give(&mut table, given), freed.len());
        assert!(pods(3).iter().all(|pod| [85, 86].contains(&table.held_by(pod).count())));
        assert!(fullest(&table, &pods(3), &weights) <= 1.05);
    }

    #[test]
    fn without_a_member_nothing_is_given() {
        let table = Table::new(4, Duration::from_secs(15), "egress".into());
        assert!(assign(&table, &[ShardId(0)], &[], &[]).is_empty());
        assert!(excess(&table, "pod-0", &[], &[]).is_empty());
    }
}
