//! What answers do to a book, and what is stored of it.

mod annotation;
mod properties;

use super::*;

const NO_CAPS: Caps = Caps { per_host: usize::MAX, per_policy: usize::MAX };

fn host(name: &str) -> Fqdn {
    Fqdn::parse(name).unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The start of a minute.
fn minute(minutes: u32) -> UnixTime {
    UnixMinutes(minutes).into()
}

/// A book of (host, address, minute in which it was last seen).
fn book(entries: &[(&str, &str, u32)]) -> AddressBook {
    let mut book = AddressBook::default();
    for (name, address, seen) in entries {
        book.learn(&host(name), &ips(&[address]), minute(*seen), NO_CAPS);
    }
    book
}

#[track_caller]
fn check(book: &AddressBook, expected: &[(&str, &str, u32)]) {
    let entries: Vec<_> = book.iter().map(|(host, address, seen)| (host.to_string(), address, seen.0)).collect();
    let expected: Vec<_> =
        expected.iter().map(|(name, address, seen)| ((*name).to_owned(), address.parse().unwrap(), *seen)).collect();
    assert_eq!(entries, expected);
    assert_eq!((book.len(), book.is_empty()), (expected.len(), expected.is_empty()));
}

fn caps(per_host: usize, per_policy: usize) -> Caps {
    Caps { per_host, per_policy }
}

fn learned(added: usize, evicted: usize) -> Learned {
    Learned { added, evicted, ..Learned::default() }
}

#[test]
fn an_answer_adds_what_is_new_and_sees_again_what_is_known() {
    let mut book = book(&[("a.example", "192.0.2.1", 10), ("a.example", "192.0.2.9", 10)]);
    let answer = ips(&["192.0.2.2", "192.0.2.1", "192.0.2.2"]);
    assert_eq!(book.learn(&host("a.example"), &answer, minute(20), NO_CAPS), learned(1, 0));
    check(&book, &[("a.example", "192.0.2.1", 20), ("a.example", "192.0.2.2", 20), ("a.example", "192.0.2.9", 10)]);
    assert_eq!(book.last_seen(&host("a.example"), &ips(&["192.0.2.9"])[0]), Some(minute(10)));
    assert_eq!(book.host_last_seen(&host("a.example")), Some(minute(20)));
    assert_eq!(book.host_last_seen(&host("b.example")), None);
}

#[test]
fn last_seen_is_rounded_up_and_never_moves_back() {
    let mut book = AddressBook::default();
    book.learn(&host("a.example"), &ips(&["192.0.2.1"]), UnixTime(61), NO_CAPS);
    check(&book, &[("a.example", "192.0.2.1", 2)]);
    book.learn(&host("a.example"), &ips(&["192.0.2.1"]), UnixTime(5), NO_CAPS);
    check(&book, &[("a.example", "192.0.2.1", 2)]);
}

#[test]
fn an_answer_without_addresses_leaves_no_trace() {
    let mut book = AddressBook::default();
    assert_eq!(book.learn(&host("a.example"), &[], minute(1), NO_CAPS), learned(0, 0));
    check(&book, &[]);
}

#[test]
fn at_the_host_cap_the_longest_unseen_goes() {
    let mut book =
        book(&[("a.example", "192.0.2.1", 12), ("a.example", "192.0.2.2", 11), ("b.example", "192.0.2.3", 1)]);
    let result = book.learn(&host("a.example"), &ips(&["192.0.2.4"]), minute(20), caps(2, 100));
    assert_eq!(result, Learned { host_cap: true, ..learned(1, 1) });
    check(&book, &[("a.example", "192.0.2.1", 12), ("a.example", "192.0.2.4", 20), ("b.example", "192.0.2.3", 1)]);
}

#[test]
fn a_host_that_answers_more_than_its_cap_does_not_churn() {
    let mut book = AddressBook::default();
    let answer = ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    let first = book.learn(&host("a.example"), &answer, minute(1), caps(2, 100));
    assert_eq!(first, Learned { host_cap: true, ..learned(2, 0) });
    let again = book.learn(&host("a.example"), &answer, minute(2), caps(2, 100));
    assert_eq!(again, Learned { host_cap: true, ..learned(0, 0) });
    check(&book, &[("a.example", "192.0.2.1", 2), ("a.example", "192.0.2.2", 2)]);
}

#[test]
fn at_the_policy_cap_the_longest_unseen_of_any_host_goes_but_none_of_this_answer() {
    let mut book = book(&[("a.example", "192.0.2.1", 1), ("b.example", "192.0.2.2", 2), ("c.example", "192.0.2.3", 3)]);
    let answer = ips(&["192.0.2.1", "192.0.2.4"]);
    let result = book.learn(&host("a.example"), &answer, minute(1), caps(100, 3));
    assert_eq!(result, Learned { policy_cap: true, ..learned(1, 1) });
    check(&book, &[("a.example", "192.0.2.1", 1), ("a.example", "192.0.2.4", 1), ("c.example", "192.0.2.3", 3)]);
    let full = ips(&["192.0.2.1", "192.0.2.4", "192.0.2.5", "192.0.2.6"]);
    let result = book.learn(&host("a.example"), &full, minute(5), caps(100, 3));
    assert_eq!(result, Learned { policy_cap: true, ..learned(1, 1) });
    check(&book, &[("a.example", "192.0.2.1", 5), ("a.example", "192.0.2.4", 5), ("a.example", "192.0.2.5", 5)]);
}

#[test]
fn an_address_that_makes_room_in_its_host_makes_room_in_the_policy() {
    let mut book = book(&[("a.example", "192.0.2.1", 5), ("b.example", "192.0.2.2", 1)]);
    let result = book.learn(&host("a.example"), &ips(&["192.0.2.3"]), minute(9), caps(1, 2));
    assert_eq!(result, Learned { host_cap: true, ..learned(1, 1) });
    check(&book, &[("a.example", "192.0.2.3", 9), ("b.example", "192.0.2.2", 1)]);
}

#[test]
fn an_address_expires_at_its_retention_unless_an_answer_holds_it() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let entries = [
        ("a.example", "192.0.2.1", 10),
        ("a.example", "192.0.2.2", 10),
        ("a.example", "2001:db8::1", 10),
        ("b.example", "192.0.2.1", 10),
    ];
    let mut book = book(&entries);
    let present = |address: &IpAddr| *address == ips(&["192.0.2.2"])[0];
    let early = UnixTime(minute(70).0 - 1);
    assert_eq!(book.expire(&host("a.example"), Family::V4, present, early, HOUR), 0);
    check(&book, &entries);
    assert_eq!(book.expire(&host("c.example"), Family::V4, present, minute(70), HOUR), 0);
    assert_eq!(book.expire(&host("a.example"), Family::V4, present, minute(70), HOUR), 1);
    check(&book, &entries[1..]);
    assert_eq!(book.expire(&host("a.example"), Family::V4, |_| false, minute(70), Duration::MAX), 0);
    assert_eq!(book.expire(&host("b.example"), Family::V4, |_| false, minute(10), Duration::ZERO), 1);
    check(&book, &entries[1..3]);
}

#[test]
fn a_host_that_left_the_spec_is_forgotten() {
    let mut book = book(&[("a.example", "192.0.2.1", 1), ("b.example", "192.0.2.2", 1), ("c.example", "192.0.2.3", 1)]);
    book.keep_hosts(&[host("a.example"), host("c.example"), host("d.example")]);
    check(&book, &[("a.example", "192.0.2.1", 1), ("c.example", "192.0.2.3", 1)]);
    assert_eq!(book.retain(|host, _| host.as_str() != "c.example"), 1);
    check(&book, &[("a.example", "192.0.2.1", 1)]);
    book.keep_hosts(&[]);
    check(&book, &[]);
}

#[test]
fn merging_takes_every_pair_and_the_later_time() {
    let mut left = book(&[("a.example", "192.0.2.1", 5), ("a.example", "192.0.2.2", 1), ("b.example", "192.0.2.3", 1)]);
    left.merge(book(&[("a.example", "192.0.2.1", 4), ("a.example", "192.0.2.2", 3), ("c.example", "192.0.2.1", 2)]));
    check(
        &left,
        &[
            ("a.example", "192.0.2.1", 5),
            ("a.example", "192.0.2.2", 3),
            ("b.example", "192.0.2.3", 1),
            ("c.example", "192.0.2.1", 2),
        ],
    );
}

#[test]
fn shrinking_takes_the_longest_unseen_and_leaves_no_empty_host() {
    let entries = [("a.example", "192.0.2.1", 1), ("b.example", "192.0.2.2", 3), ("b.example", "192.0.2.3", 2)];
    let mut all = book(&entries);
    assert_eq!(all.shrink_to(3), 0);
    check(&all, &entries);
    assert_eq!(all.shrink_to(2), 1);
    check(&all, &entries[1..]);
    assert_eq!(all, book(&entries[1..]));
    all.shrink_host_to(&host("b.example"), 1);
    check(&all, &entries[1..2]);
    all.shrink_host_to(&host("b.example"), 0);
    check(&all, &[]);
    assert_eq!(all, AddressBook::default());
}
