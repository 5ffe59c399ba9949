//! Numbers for people.

use serde_json::Value;

/// For a number that is not there.
pub const NOTHING: &str = "–";

/// A value as its unit wants it: counts in full, everything else with three significant digits.
pub fn number(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    if unit == "count" && value.fract() == 0.0 { plain(value) } else { significant(value) }
}

/// A value with its unit.
pub fn with_unit(value: f64, unit: &str) -> String {
    join(number(value, unit), unit)
}

/// A value that somebody wrote, with its unit: no digit is added or taken.
pub fn plain_with_unit(value: f64, unit: &str) -> String {
    join(plain(value), unit)
}

/// The unit as it stands behind a number; empty where a number alone says it.
pub fn unit_label(unit: &str) -> &str {
    if matches!(unit, "count" | "ratio") { "" } else { unit }
}

/// A value without more digits than it has.
pub fn plain(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    if is_extreme(value) { format!("{value:e}") } else { grouped(&value.to_string()) }
}

/// How many times as much.
pub fn times(ratio: f64) -> String {
    if ratio.is_finite() { format!("×{}", significant(ratio)) } else { NOTHING.to_owned() }
}

/// A parameter of a run.
pub fn setting(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), plain),
        other => other.to_string(),
    }
}

/// `2026-07-30T12:00:00.123Z` as `2026-07-30 12:00:00 UTC`; anything else as it is.
pub fn moment(rfc3339: &str) -> String {
    let Some((date, time)) = rfc3339.split_once('T') else { return rfc3339.to_owned() };
    let Some(time) = time.strip_suffix('Z') else { return rfc3339.to_owned() };
    let time = time.split_once('.').map_or(time, |(seconds, _)| seconds);
    format!("{date} {time} UTC")
}

/// How long something took: in seconds below two minutes, then in minutes and hours.
pub fn duration(seconds: f64) -> String {
    if !(120.0..=1e9).contains(&seconds) {
        return with_unit(seconds, "s");
    }
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours} h {minutes:02} min") } else { format!("{minutes} min {seconds:02} s") }
}

fn join(number: String, unit: &str) -> String {
    let label = unit_label(unit);
    if label.is_empty() || number == NOTHING { number } else { format!("{number} {label}") }
}

/// Too large or too small to be written without an exponent.
fn is_extreme(value: f64) -> bool {
    value != 0.0 && !(1e-4..1e15).contains(&value.abs())
}

/// Three digits, or all of those before the point.
fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.2e}");
    if is_extreme(value) {
        return scientific;
    }
    // Of the rounded value: 9.996 has one digit before the point, and 10.0 two.
    let exponent = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok());
    let decimals = usize::try_from(2 - exponent.unwrap_or(0_i32)).unwrap_or(0);
    grouped(&format!("{value:.decimals$}"))
}

/// With thousands separators before the point.
pub(crate) fn grouped(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |text| ("-", text));
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut result = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            result.push(',');
        }
        result.push(digit);
    }
    if let Some(fraction) = fraction {
        result.push('.');
        result.push_str(fraction);
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn reads(value: f64, unit: &str, expected: &str) {
        assert_eq!(with_unit(value, unit), expected, "{value} {unit}");
    }

    #[test]
    fn measurements_have_three_significant_digits_and_their_unit() {
        reads(94.2345, "s", "94.2 s");
        reads(9.996, "s", "10.0 s");
        reads(0.012345, "ms", "0.0123 ms");
        reads(1.1, "ratio", "1.10");
        reads(23.456, "MiB", "23.5 MiB");
        reads(123_456.7, "KiB", "123,457 KiB");
        reads(1234.5, "1/s", "1,234 1/s");
        reads(99.96, "%", "100 %");
        reads(-1.5, "ms", "-1.50 ms");
        reads(0.0, "s", "0 s");
    }

    #[test]
    fn counts_are_told_in_full() {
        reads(1_234_567.0, "count", "1,234,567");
        reads(999.0, "count", "999");
        reads(2.5, "count", "2.50");
        reads(0.0, "count", "0");
    }

    #[test]
    fn what_is_too_large_or_too_small_has_an_exponent_and_nothing_is_a_dash() {
        reads(0.000_012_345, "s", "1.23e-5 s");
        reads(1.5e18, "count", "1.5e18");
        reads(f64::NAN, "s", "–");
        reads(f64::INFINITY, "count", "–");
    }

    #[test]
    fn a_number_that_somebody_wrote_keeps_its_digits() {
        assert_eq!(plain_with_unit(1.2, "ratio"), "1.2");
        assert_eq!(plain_with_unit(12_345.678_9, "s"), "12,345.6789 s");
        assert_eq!(setting(&json!(10_000)), "10,000");
        assert_eq!(setting(&json!("a text")), "a text");
        assert_eq!(setting(&json!([1, true])), "[1,true]");
    }

    #[test]
    fn moments_and_durations_read_well() {
        assert_eq!(moment("2026-07-30T12:00:00.123Z"), "2026-07-30 12:00:00 UTC");
        assert_eq!(moment("yesterday"), "yesterday");
        assert_eq!(duration(94.23), "94.2 s");
        assert_eq!(duration(754.0), "12 min 34 s");
        assert_eq!(duration(7384.0), "2 h 03 min");
        assert_eq!(duration(f64::NAN), "–");
    }
}
