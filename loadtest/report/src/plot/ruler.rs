//! An axis: where a value has its place, and where the ticks are.

mod round;

use round::{differ, label, nice_step, percent_of_nines, snapped_down, snapped_up, widened};

use crate::report::Scale;

/// Beyond this, and below its inverse, a value is not drawn.
const LARGEST: f64 = 1e150;
/// Labels of a logarithmic axis, at most.
const DECADES: i32 = 6;

/// An axis with its range.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ruler {
    kind: Kind,
    /// After the mapping of the kind.
    low: f64,
    high: f64,
    /// Places from 0 to 1, with labels.
    pub(crate) ticks: Vec<(f64, String)>,
    /// Places of lines without labels.
    pub(crate) minor: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Linear,
    Log,
    /// Quantiles by the number of their nines.
    Nines,
}

/// How close the ends of a linear axis are to its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fit {
    /// They end where the values end, as on the axis across.
    Snug,
    /// They end at ticks, as on the axis up.
    Round,
}

impl Ruler {
    /// The axis for these values.
    pub(crate) fn of(scale: Scale, fit: Fit, values: impl Iterator<Item = f64>) -> Self {
        let kind = if scale == Scale::Log { Kind::Log } else { Kind::Linear };
        let (low, high) = values
            .filter(|value| kind.map(*value).is_some())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        match (scale, low <= high) {
            (Scale::Linear, true) => Self::linear(low, high, fit),
            (Scale::Linear, false) => Self::linear(0.0, 1.0, fit),
            (Scale::Log, true) => Self::log(low, high),
            (Scale::Log, false) => Self::log(1.0, 10.0),
        }
    }

    fn linear(low: f64, high: f64, fit: Fit) -> Self {
        // An axis that is almost at zero begins there.
        let near = if fit == Fit::Snug { 0.2 } else { 0.5 };
        let low = if low >= 0.0 && low <= near * high { 0.0 } else { low };
        let high = if high <= 0.0 && high >= near * low { 0.0 } else { high };
        let (low, high) =
            if fit == Fit::Round && !differ(low, high) { (low.min(0.0), high.max(0.0)) } else { (low, high) };
        let (low, high) = widened(low, high);
        let step = nice_step((high - low) / if fit == Fit::Snug { 4.0 } else { 5.0 });
        let (low, high) = match fit {
            Fit::Snug => (low, high),
            Fit::Round => ((low / step + 1e-6).floor() * step, (high / step - 1e-6).ceil() * step),
        };
        let mut ruler = Self { kind: Kind::Linear, low, high, ticks: Vec::new(), minor: Vec::new() };
        let first = (low / step - 1e-6).ceil();
        let values: Vec<f64> =
            (0..20).map(|index| (first + f64::from(index)) * step).take_while(|at| *at <= high + step * 1e-6).collect();
        let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        ruler.ticks =
            values.iter().map(|value| (ruler.at(*value).unwrap_or(0.0), label(*value, step, largest))).collect();
        ruler
    }

    fn log(low: f64, high: f64) -> Self {
        let (low, high) = (snapped_down(low), snapped_up(high));
        let (low, high) = if low < high { (low, high) } else { (low, low * 10.0) };
        let mut ruler =
            Self { kind: Kind::Log, low: low.log10(), high: high.log10(), ticks: Vec::new(), minor: Vec::new() };
        let (first, last) = ((ruler.low + 1e-9).floor() as i32, (ruler.high + 1e-9).floor() as i32);
        let decades = last - first;
        let every = 1 + decades / (DECADES + 1);
        for exponent in first..=last {
            for digit in 1..10 {
                let value = f64::from(digit) * 10_f64.powi(exponent);
                let place = (value.log10() - ruler.low) / (ruler.high - ruler.low);
                if !(-1e-9..=1.0 + 1e-9).contains(&place) {
                    continue;
                }
                let labelled = match digit {
                    1 => (exponent - first) % every == 0,
                    2 | 5 => ruler.high - ruler.low < 2.0 + 1e-9,
                    _ => ruler.high - ruler.low < 1.0 - 1e-9,
                };
                if labelled {
                    ruler.ticks.push((place.clamp(0.0, 1.0), label(value, 10_f64.powi(exponent), value)));
                } else if decades <= DECADES || digit == 1 {
                    ruler.minor.push(place.clamp(0.0, 1.0));
                }
            }
        }
        ruler
    }

    /// The axis for quantiles up to this one: 0, 50, 90, 99, 99.9 percent and on.
    pub(crate) fn nines(highest: f64) -> Self {
        let high = Kind::Nines.map(highest).unwrap_or(0.0).max(1.0);
        let mut ruler = Self { kind: Kind::Nines, low: 0.0, high, ticks: Vec::new(), minor: Vec::new() };
        let nines = (1..=15).take_while(|nines| f64::from(*nines) <= high + 1e-6);
        let quantiles = nines.map(|nines| (1.0 - 10_f64.powi(-nines), percent_of_nines(nines)));
        let quantiles = [(0.0, "0".to_owned()), (0.5, "50".to_owned())].into_iter().chain(quantiles);
        ruler.ticks = quantiles.map(|(quantile, label)| (ruler.at(quantile).unwrap_or(0.0), label)).collect();
        ruler
    }

    /// Whether its values are quantiles.
    pub(crate) fn is_nines(&self) -> bool {
        self.kind == Kind::Nines
    }

    /// The place of a value from 0 to 1; none for what the axis cannot show.
    pub(crate) fn at(&self, value: f64) -> Option<f64> {
        Some(((self.kind.map(value)? - self.low) / (self.high - self.low)).clamp(0.0, 1.0))
    }
}

impl Kind {
    fn map(self, value: f64) -> Option<f64> {
        let drawable = value.is_finite() && value.abs() <= LARGEST;
        match self {
            Self::Linear => drawable.then_some(value),
            Self::Log => (drawable && value >= 1.0 / LARGEST).then(|| value.log10()),
            Self::Nines => (0.0..1.0).contains(&value).then(|| -(1.0 - value).log10()),
        }
    }
}

#[cfg(test)]
mod tests;
