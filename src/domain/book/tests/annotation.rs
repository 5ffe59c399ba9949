//! The book as text.

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// Reads at minute 1,000 what was stored, with and without a checkpoint interval of an hour.
#[track_caller]
fn check(stored: &str, with_checkpoint: &[(&str, &str, u32)], without: &[(&str, &str, u32)]) {
    let read = |checkpoint| AddressBook::from_annotation(stored, minute(1_000), checkpoint).unwrap();
    super::check(&read(Some(HOUR)), with_checkpoint);
    super::check(&read(None), without);
}

#[test]
fn the_text_has_a_version_and_minutes_per_host_and_address() {
    let book = book(&[
        ("b.example", "2001:db8::1", 29_390_400),
        ("a.example", "192.0.2.1", 7),
        ("a.example", "192.0.2.10", 8),
    ]);
    let text = r#"{"v":1,"hosts":{"a.example":{"192.0.2.1":7,"192.0.2.10":8},"b.example":{"2001:db8::1":29390400}}}"#;
    assert_eq!(book.to_annotation(), text);
    assert_eq!(AddressBook::default().to_annotation(), r#"{"v":1,"hosts":{}}"#);
}

#[test]
fn a_stored_time_may_be_late_by_a_checkpoint_and_is_never_in_the_future() {
    let stored = r#"{"v":1,"hosts":{"a.example":{"192.0.2.1":100,"192.0.2.2":950,"192.0.2.3":4294967295}}}"#;
    check(
        stored,
        &[("a.example", "192.0.2.1", 160), ("a.example", "192.0.2.2", 1_000), ("a.example", "192.0.2.3", 1_000)],
        &[("a.example", "192.0.2.1", 1_000), ("a.example", "192.0.2.2", 1_000), ("a.example", "192.0.2.3", 1_000)],
    );
}

#[test]
fn names_that_are_none_and_hosts_without_addresses_are_left_out() {
    check(
        r#"{"v":1,"hosts":{"*.example":{"192.0.2.1":1},"a.example":{},"B.example.":{"192.0.2.2":40}}}"#,
        &[("b.example", "192.0.2.2", 100)],
        &[("b.example", "192.0.2.2", 1_000)],
    );
}

#[test]
fn an_interval_that_is_no_whole_minute_counts_as_one_more() {
    let stored = r#"{"v":1,"hosts":{"a.example":{"192.0.2.1":100}}}"#;
    let read = AddressBook::from_annotation(stored, minute(1_000), Some(Duration::from_secs(61))).unwrap();
    super::check(&read, &[("a.example", "192.0.2.1", 102)]);
}

#[test]
fn garbage_and_unknown_versions_are_errors() {
    let read = |text: &str| AddressBook::from_annotation(text, minute(1_000), Some(HOUR));
    for garbage in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"v":1}"#,
        r#"{"hosts":{}}"#,
        r#"{"v":-1,"hosts":{}}"#,
        r#"{"v":1,"hosts":{"a.example":{"192.0.2":1}}}"#,
        r#"{"v":1,"hosts":{"a.example":{"192.0.2.1":"1"}}}"#,
        r#"{"v":1,"hosts":{"a.example":{"192.0.2.1":4294967296}}}"#,
        r#"{"v":1,"hosts":{"a.example":{"192.0.2.1":1}}"#,
    ] {
        assert!(matches!(read(garbage), Err(BookError::Format(_))), "{garbage}");
    }
    for version in [0, 2, 3] {
        let text = format!(r#"{{"v":{version},"hosts":{{}}}}"#);
        assert!(matches!(read(&text), Err(BookError::Version(found)) if found == version), "{text}");
    }
}

/// The `index`th of the longest names.
fn longest_name(index: usize) -> Fqdn {
    host(&format!("{index:0>63}.{}.{}.{}", "b".repeat(63), "c".repeat(63), "d".repeat(61)))
}

/// The `index`th of the addresses with the longest text.
fn longest_address(index: usize) -> IpAddr {
    let [high, low] = [index / 0x1000, index % 0x1000].map(|part| 0xf000 | u16::try_from(part).unwrap());
    IpAddr::from([0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, high, low])
}

/// So many pairs of the longest addresses, spread over so many of the longest names, at a time of 8 digits.
fn largest_book(hosts: usize, pairs: usize) -> AddressBook {
    let mut book = AddressBook::default();
    for index in 0..pairs {
        book.learn(&longest_name(index % hosts), &[longest_address(index)], minute(99_999_999), NO_CAPS);
    }
    assert_eq!((book.len(), book.hosts.len()), (pairs, hosts));
    book
}

#[test]
fn the_largest_book_at_the_default_cap_fits_and_its_size_is_known_exactly() {
    let pairs = crate::settings::Settings::default().max_addresses_per_policy;
    let text = largest_book(256, pairs).to_annotation();
    // Only the last entry of each list goes without its comma.
    assert_eq!(text.len(), worst_case_bytes(pairs) - 256 - 1);
    assert!(worst_case_bytes(pairs) <= MAX_ANNOTATION_BYTES, "{}", worst_case_bytes(pairs));
    assert_eq!(largest_book(3, 3).to_annotation().len(), worst_case_bytes(3) - 3 - 1);
}

#[test]
fn more_hosts_than_the_schema_takes_lower_the_cap_to_what_fits() {
    let pairs = crate::settings::Settings::default().max_addresses_per_policy;
    let names: Vec<Fqdn> = (0..pairs).map(longest_name).collect();
    assert_eq!(pairs_that_fit(names[..256].iter(), pairs), pairs);
    let fit = pairs_that_fit(names.iter(), pairs);
    assert_eq!(pairs_that_fit(names.iter().flat_map(|name| [name; 2]).collect::<Vec<_>>().into_iter(), pairs), fit);
    assert!(largest_book(fit, fit).to_annotation().len() <= MAX_ANNOTATION_BYTES, "{fit}");
    // The commas that are counted and not written are worth two pairs.
    assert!(largest_book(fit + 3, fit + 3).to_annotation().len() > MAX_ANNOTATION_BYTES, "{fit}");
    let short: Vec<Fqdn> = (0..400).map(|index| host(&format!("host-{index:0>4}.example"))).collect();
    assert_eq!(pairs_that_fit(short.iter(), pairs), pairs);
}
