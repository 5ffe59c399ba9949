//! Round numbers: steps, ends and labels of an axis.

use super::LARGEST;
use crate::format::grouped;

/// 90, 99, 99.9.
pub(super) fn percent_of_nines(nines: i32) -> String {
    match nines {
        1 => "90".to_owned(),
        2 => "99".to_owned(),
        more => format!("99.{}", "9".repeat(usize::try_from(more - 2).unwrap_or(0))),
    }
}

/// By more than the noise of floating point.
pub(super) fn differ(low: f64, high: f64) -> bool {
    high - low > low.abs().max(high.abs()) * 1e-9
}

/// A range that has a length which floating point can divide.
pub(super) fn widened(low: f64, high: f64) -> (f64, f64) {
    let size = low.abs().max(high.abs());
    if differ(low, high) {
        return (low, high);
    }
    let by = if size > 1.0 / LARGEST { size / 2.0 } else { 0.5 };
    if size == 0.0 { (0.0, 1.0) } else { (low - by, high + by) }
}

/// 1, 2 or 5 times a power of ten: the one next to this length.
pub(super) fn nice_step(raw: f64) -> f64 {
    let power = 10_f64.powf(raw.log10().floor());
    let digit = raw / power;
    let borders = [(2_f64.sqrt(), 1.0), (10_f64.sqrt(), 2.0), (50_f64.sqrt(), 5.0)];
    borders.iter().find(|(border, _)| digit < *border).map_or(10.0, |(_, nice)| *nice) * power
}

/// The next 1, 2 or 5 times a power of ten that is not above.
pub(super) fn snapped_down(value: f64) -> f64 {
    let exponent = (value.log10() + 1e-9).floor() as i32;
    let power = 10_f64.powi(exponent);
    [5.0, 2.0].into_iter().map(|digit| digit * power).find(|nice| *nice <= value * (1.0 + 1e-9)).unwrap_or(power)
}

/// The next 1, 2 or 5 times a power of ten that is not below.
pub(super) fn snapped_up(value: f64) -> f64 {
    let power = 10_f64.powi((value.log10() + 1e-9).floor() as i32);
    let nice = [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power);
    nice.into_iter().find(|nice| *nice >= value * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// A tick of an axis whose labels tell differences of `step`, in the magnitude of its largest value.
pub(super) fn label(value: f64, step: f64, largest: f64) -> String {
    if value.abs() < step * 1e-6 {
        return "0".to_owned();
    }
    if step < 1e-4 || largest >= 1e15 {
        let exponent = largest.log10().floor();
        let digits = usize::try_from((exponent - step.log10().floor()) as i64).unwrap_or(0).min(6);
        return format!("{value:.digits$e}");
    }
    let magnitudes = [(1e12, "T"), (1e9, "G"), (1e6, "M")];
    let (power, suffix) = magnitudes.into_iter().find(|(power, _)| largest >= *power).unwrap_or((1.0, ""));
    let decimals = usize::try_from(-((step / power).log10() + 1e-9).floor() as i64).unwrap_or(0).min(9);
    let text = format!("{:.decimals$}", value / power);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    // Labels beside each other have the same decimals, unless a magnitude stands behind them.
    let text = if suffix.is_empty() { format!("{value:.decimals$}") } else { text };
    grouped(&text) + suffix
}
