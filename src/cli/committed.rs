//! Generated files that are committed, for the tests that compare them.

/// Fails when a committed file is not what `command` prints.
#[track_caller]
pub(super) fn check(committed: &str, generated: &str, command: &str) {
    let path = format!("{}/{committed}", env!("CARGO_MANIFEST_DIR"));
    let present = std::fs::read_to_string(path).unwrap_or_default();
    assert!(present == generated, "{committed} is not what the types say; run:\n    {command} > {committed}");
}
