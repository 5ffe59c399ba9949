//! I1-I4, I6 and I7 over random specs, answers, failures, edits, restarts and books: checked at every stored revision.
//! I5 is in `forbidden`.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::model::{Pair, book_of, covers};
use super::sim::{Sim, foreign, hosts};
use super::wanted::{NAMES, Wanted, opened};
use super::world::{Op, World, op, ops};
use crate::answer::LookupFailure;
use crate::settings::Settings;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_revision_of_ours_has_an_empty_list_or_lacks_egress(ops in ops()) {
        let mut world = World::capped();
        for op in &ops {
            world.play(op);
        }
        for spec in &world.sim.revisions {
            prop_assert_eq!(spec.policy_types.as_deref(), Some(&["Egress".to_owned()][..]));
            let rules = spec.egress.as_ref().unwrap();
            prop_assert!(!rules.is_empty());
            for rule in rules {
                let to = rule.to.as_deref().unwrap_or_default();
                prop_assert!(!to.is_empty());
                // The shorthand of whole namespaces is the one rule without ports.
                let shorthand = to.iter().all(|peer| peer.namespace_selector.is_some() && peer.pod_selector.is_none());
                prop_assert!(rule.ports.as_ref().map_or(shorthand, |ports| !ports.is_empty()), "{:?}", rule);
            }
        }
    }

    #[test]
    fn every_revision_opens_only_what_the_present_spec_and_its_answers_justify(ops in ops()) {
        let mut world = World::capped();
        for op in &ops {
            let first = world.sim.written.len();
            world.play(op);
            let World { sim, model, .. } = &world;
            prop_assert!(!model.wanted.dry || sim.written.len() == first, "a dry run writes nothing");
            let justified = model.wanted.justifies(&model.answered);
            for (_, object) in &sim.written[first..] {
                let spec = object.spec.as_ref().unwrap();
                let excess: Vec<_> = opened(spec).difference(&justified).cloned().collect();
                prop_assert!(excess.is_empty(), "{:?} after {:?}", excess, op);
                prop_assert_eq!(json!(spec.pod_selector), model.wanted.selector());
                let book: BTreeSet<Pair> = book_of(object).unwrap().into_keys().collect();
                prop_assert!(book.is_subset(&model.answered), "{:?} after {:?}", book, op);
            }
        }
    }

    #[test]
    fn nothing_leaves_before_an_answer_without_it_a_retention_after_the_last_with_it(ops in ops()) {
        // The caps stand above I3.
        let mut world = World::new(Settings::default());
        for op in &ops {
            let first = world.sim.written.len();
            let before = world.model.held.clone();
            world.play(op);
            let World { sim, model, .. } = &world;
            for (at, object) in &sim.written[first..] {
                for ((n, address), last) in model.held.iter().filter(|(pair, _)| before.contains_key(pair)) {
                    for port in model.wanted.ports_of(*n) {
                        let stays = covers(object.spec.as_ref().unwrap(), *address, &port);
                        prop_assert!(stays, "{} {address} {port}, held at {last}, left at {at:?} by {op:?}", NAMES[*n]);
                    }
                }
            }
        }
    }

    #[test]
    fn failures_and_restarts_remove_nothing(ops in ops(), fails in vec((0..3_usize, 1..100_000_u32), 1..30)) {
        let mut world = World::capped();
        // After a lost book a block stays only until its host has answered, and it may have answered already.
        for op in ops.iter().filter(|op| !matches!(op, Op::LoseBook(_))) {
            world.play(op);
        }
        let mut sim = world.sim;
        sim.advance(Duration::from_secs(1_300));
        let allowed = sim.allowed();
        for (n, seconds) in fails {
            sim.fail(NAMES[n], LookupFailure::ServFail);
            sim.advance(Duration::from_secs(seconds.into()));
            if seconds % 7 == 0 {
                sim.restart();
            }
            let now = sim.allowed();
            prop_assert!(allowed.is_subset(&now), "{allowed:?} became {now:?}");
        }
    }

    #[test]
    fn what_is_as_wanted_is_not_written_again(ops in ops()) {
        let mut world = World::capped();
        for op in &ops {
            world.play(op);
        }
        // After the drift back-off everything is at rest; after a start the first checkpoint is half an hour away.
        let mut sim = world.sim;
        sim.advance(Duration::from_secs(1_300));
        let writes = sim.revisions.len();
        sim.restart();
        sim.advance(Duration::from_secs(1_300));
        prop_assert_eq!(sim.revisions.len(), writes);
    }

    #[test]
    fn the_caps_and_the_quota_of_hosts_hold_at_every_revision(ops in ops()) {
        let mut world = World::capped();
        for op in &ops {
            world.play(op);
            prop_assert!(world.sim.lookups.len() <= world.quota);
        }
        for (_, object) in &world.sim.written {
            let book = book_of(object).unwrap();
            prop_assert!(book.len() <= 20, "{} pairs", book.len());
            for (n, name) in NAMES.iter().enumerate() {
                prop_assert!(book.keys().filter(|(host, _)| *host == n).count() <= 8, "{}", name);
            }
            // What the book does not name stands in the spec: nothing learned is outside the count.
            let fixed = Wanted::fixed_cidrs();
            let learned = opened(object.spec.as_ref().unwrap()).into_iter().map(|(peer, _)| peer);
            let learned = learned.filter(|peer| peer.contains("ipBlock") && !fixed.contains(peer));
            for peer in learned.collect::<BTreeSet<_>>() {
                let named = book.keys().any(|(_, address)| peer.contains(&format!("\"{address}/")));
                prop_assert!(named, "{} is not in the book", peer);
            }
        }
    }

    #[test]
    fn hosts_at_a_cap_swap_addresses_once_a_minute_at_most(
        answers in vec((0..2_usize, vec(0..30_u8, 0..6), 0..50_u32), 1..60),
    ) {
        let mut world =
            World::new(Settings { max_addresses_per_host: 4, max_addresses_per_policy: 6, ..Settings::default() });
        let mut wanted = Wanted::every_name();
        wanted.retention = 7 * 86_400;
        world.play(&Op::Spec(wanted));
        for (n, octets, seconds) in answers {
            world.play(&Op::Answer(n, octets));
            world.play(&Op::Advance(seconds));
        }
        let mut last_swap = None;
        for pair in world.sim.written.windows(2) {
            let [old, new] = [&pair[0], &pair[1]].map(|(_, object)| book_of(object).unwrap().into_keys().collect::<BTreeSet<_>>());
            // Nothing expires here: as many pairs as before, and others, is a swap.
            if old.len() == new.len() && old != new {
                let now = pair[1].0.instant;
                let gap = last_swap.map(|last| now.since(last));
                prop_assert!(gap.is_none_or(|gap| gap >= Duration::from_secs(60)), "{:?} after the last swap", gap);
                last_swap = Some(now);
            }
        }
    }

    #[test]
    fn somebody_elses_object_is_never_touched(ops in vec(op(), 1..40)) {
        let theirs = foreign(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}));
        let mut world = World::new(Settings::default());
        world.sim = Sim::with(hosts(&NAMES), Some(theirs.clone()), Settings::default());
        let theirs_only = |op: &&Op| !matches!(op, Op::Widen | Op::Delete | Op::Book(_) | Op::LoseBook(_));
        for op in ops.iter().filter(theirs_only) {
            world.play(op);
        }
        prop_assert_eq!(world.sim.stored, Some(theirs));
        prop_assert!(world.sim.revisions.is_empty());
    }
}
