//! What holds for every book.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const NAMES: [&str; 3] = ["a.example", "b.example", "c.example"];

fn a_host() -> impl Strategy<Value = Fqdn> {
    select(&NAMES[..]).prop_map(host)
}

/// Few enough that answers overlap.
fn address() -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), 0..6_u8).prop_map(|(v4, last)| match v4 {
        true => IpAddr::from([192, 0, 2, last]),
        false => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)]),
    })
}

fn family() -> impl Strategy<Value = Family> {
    select(&[Family::V4, Family::V6][..])
}

/// (host, address) and the second in which an answer held it.
fn seen() -> impl Strategy<Value = BTreeMap<(Fqdn, IpAddr), u64>> {
    btree_map((a_host(), address()), 0..10_000_u64, 0..24)
}

fn learn<'a>(all: impl IntoIterator<Item = (&'a (Fqdn, IpAddr), &'a u64)>) -> AddressBook {
    let mut book = AddressBook::default();
    for ((host, address), at) in all {
        book.learn(host, &[*address], UnixTime(*at), NO_CAPS);
    }
    book
}

/// Names of every length up to the longest, with addresses of every length and their minutes.
fn any_lines() -> impl Strategy<Value = Vec<(Fqdn, Vec<(IpAddr, u32)>)>> {
    let name = "[a-z]{1,63}(\\.[a-z]{1,62}){0,3}".prop_map(|name| host(&name));
    vec((name, vec((any::<IpAddr>(), 0..=99_999_999_u32), 1..6)), 0..40)
}

/// One address for each name, and all of them of the longest.
fn longest_lines() -> impl Strategy<Value = Vec<(Fqdn, Vec<(IpAddr, u32)>)>> {
    let name = "[a-z]{63}\\.[a-z]{63}\\.[a-z]{63}\\.[a-z]{61}".prop_map(|name| host(&name));
    let address = vec(0x1000..=0xffff_u16, 8).prop_map(|all| IpAddr::from(<[u16; 8]>::try_from(all).unwrap()));
    vec((name, vec((address, 10_000_000..=99_999_999_u32), 1)), 0..20)
}

proptest! {
    #[test]
    fn the_text_is_never_longer_than_the_bound_of_as_many_pairs(hosts in prop_oneof![any_lines(), longest_lines()]) {
        let mut book = AddressBook::default();
        for (host, entries) in &hosts {
            for (address, minutes) in entries {
                book.learn(host, &[*address], minute(*minutes), NO_CAPS);
            }
        }
        let text = book.to_annotation();
        prop_assert!(text.len() <= worst_case_bytes(book.len()), "{} pairs: {} bytes", book.len(), text.len());
    }

    /// I3, both halves.
    #[test]
    fn expiry_is_never_early_and_never_takes_what_is_present(
        seen in seen(),
        name in a_host(),
        family in family(),
        present in btree_set(address(), 0..4),
        now in 0..20_000_u64,
        retention in 0..10_000_u64,
    ) {
        let before = learn(&seen);
        let mut after = before.clone();
        let gone =
            after.expire(&name, family, |a| present.contains(a), UnixTime(now), Duration::from_secs(retention));
        prop_assert_eq!(before.len() - after.len(), gone);
        for ((host, address), at) in &seen {
            let stays = after.last_seen(host, address).is_some();
            let concerned = *host == name && Family::of(address) == family && !present.contains(address);
            let may_go = concerned && now >= at + retention;
            prop_assert!(stays || may_go, "{} {} went early", host, address);
            // Late by the rounding only.
            let must_go = concerned && now >= at + 60 + retention;
            prop_assert!(!(stays && must_go), "{} {} stayed", host, address);
        }
    }

    #[test]
    fn caps_hold_and_an_answer_never_pushes_out_its_own(
        answers in vec((a_host(), vec(address(), 0..8), 0..1_000_u64), 1..12),
        per_host in 1..6_usize,
        per_policy in 1..9_usize,
    ) {
        let mut book = AddressBook::default();
        for (name, answer, at) in answers {
            let before = book.clone();
            let learned = book.learn(&name, &answer, UnixTime(at), caps(per_host, per_policy));
            prop_assert!(book.len() <= per_policy);
            prop_assert!(NAMES.iter().all(|name| book.count(&host(name)) <= per_host));
            prop_assert_eq!(book.len() + learned.evicted, before.len() + learned.added);
            for address in &answer {
                let kept = before.last_seen(&name, address).is_none() || book.last_seen(&name, address).is_some();
                prop_assert!(kept, "{} was known, is present, and went", address);
            }
            let complete = answer.iter().all(|address| book.last_seen(&name, address).is_some());
            prop_assert!(complete || learned.host_cap || learned.policy_cap);
        }
    }

    #[test]
    fn the_same_book_has_the_same_text_whatever_came_first(
        (first, second) in seen().prop_flat_map(|all| {
            let all: Vec<_> = all.into_iter().collect();
            (Just(all.clone()), Just(all).prop_shuffle())
        }),
    ) {
        let of = |all: &[((Fqdn, IpAddr), u64)]| learn(all.iter().map(|(pair, at)| (pair, at)));
        prop_assert_eq!(of(&first), of(&second));
        prop_assert_eq!(of(&first).to_annotation(), of(&second).to_annotation());
    }

    #[test]
    fn what_is_written_is_read(seen in seen()) {
        let book = learn(&seen);
        let read = AddressBook::from_annotation(&book.to_annotation(), UnixTime(10_000), Some(Duration::ZERO));
        prop_assert_eq!(read.unwrap(), book);
    }

    #[test]
    fn reading_never_makes_an_address_older_or_younger_than_now(
        seen in seen(), now in 0..20_000_u64, late in prop::option::of(0..100_000_u64),
    ) {
        let book = learn(&seen);
        let now = UnixTime(now);
        let read = AddressBook::from_annotation(&book.to_annotation(), now, late.map(Duration::from_secs)).unwrap();
        prop_assert_eq!(read.len(), book.len());
        for (host, address, before) in book.iter() {
            let after = read.last_seen(host, &address).unwrap();
            prop_assert!(after <= now.minutes_up().into());
            prop_assert!(after >= UnixTime::from(before).min(now));
        }
    }

    #[test]
    fn shrinking_keeps_the_latest(seen in seen(), cap in 0..10_usize) {
        let before = learn(&seen);
        let mut after = before.clone();
        prop_assert_eq!(after.shrink_to(cap), before.len().saturating_sub(cap));
        let oldest = after.iter().map(|(_, _, seen)| seen).min();
        let gone = before.iter().filter(|(host, address, _)| after.last_seen(host, address).is_none());
        prop_assert!(gone.map(|(_, _, seen)| Some(seen)).max().is_none_or(|latest| latest <= oldest || oldest.is_none()));
        prop_assert_eq!(after.is_empty(), after.iter().next().is_none());
    }

    #[test]
    fn merging_is_the_same_from_both_sides(left in seen(), right in seen()) {
        let (mut one, mut two) = (learn(&left), learn(&right));
        let (first, second) = (one.clone(), two.clone());
        one.merge(second);
        two.merge(first);
        prop_assert_eq!(one, two);
    }
}
