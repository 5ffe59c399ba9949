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
    let mut held: Vec<(ShardId, f64)> =
        table.held_by(pod).map(|(shard, _)| (shard, weight(weights, shard))).collect();
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
