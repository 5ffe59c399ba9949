use super::*;

fn labels(scale: Scale, fit: Fit, values: &[f64]) -> Vec<String> {
    let ruler = Ruler::of(scale, fit, values.iter().copied());
    assert!(ruler.ticks.iter().all(|(place, _)| (0.0..=1.0).contains(place)), "{ruler:?}");
    assert!(ruler.minor.iter().all(|place| (0.0..=1.0).contains(place)), "{ruler:?}");
    ruler.ticks.into_iter().map(|(_, label)| label).collect()
}

#[test]
fn ticks_of_a_linear_axis_are_1_2_or_5_times_a_power_of_ten_apart() {
    let across = |low, high| labels(Scale::Linear, Fit::Snug, &[low, high]);
    assert_eq!(across(0.0, 94.2), ["0", "20", "40", "60", "80"]);
    assert_eq!(across(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"].map(|label| label.replace("0.0", "0")));
    assert_eq!(across(1000.0, 10_000.0), ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]);
    assert_eq!(across(-30.0, 30.0), ["-20", "0", "20"]);
    assert_eq!(across(1003.0, 1007.0), ["1,003", "1,004", "1,005", "1,006", "1,007"]);
    assert_eq!(across(0.0, 2_500_000.0), ["0", "0.5M", "1M", "1.5M", "2M", "2.5M"]);
    assert_eq!(across(0.0, 0.000_05), ["0", "1e-5", "2e-5", "3e-5", "4e-5", "5e-5"]);
}

#[test]
fn the_axis_up_ends_at_ticks_and_begins_at_zero_unless_the_values_are_far_from_it() {
    let up = |values: &[f64]| labels(Scale::Linear, Fit::Round, values);
    assert_eq!(up(&[12.0, 94.2]), ["0", "20", "40", "60", "80", "100"]);
    assert_eq!(up(&[481.0, 523.0]), ["480", "490", "500", "510", "520", "530"]);
    assert_eq!(up(&[-3.0, -1.0]), ["-3.0", "-2.5", "-2.0", "-1.5", "-1.0", "-0.5", "0"]);
}

#[test]
fn ticks_of_a_logarithmic_axis_are_decades_with_lines_between_them() {
    let log = |values: &[f64]| labels(Scale::Log, Fit::Round, values);
    assert_eq!(log(&[0.13, 4200.0]), ["0.1", "1", "10", "100", "1,000"]);
    assert_eq!(log(&[1.0, 1000.0]), ["1", "10", "100", "1,000"]);
    assert_eq!(log(&[0.001, 100_000.0]), ["0.001", "0.1", "10", "1,000", "100,000"]);
    assert_eq!(log(&[2.2, 40.0]), ["2", "5", "10", "20", "50"]);
    assert_eq!(log(&[30.0, 45.0]), ["20", "30", "40", "50"]);
    let ruler = Ruler::of(Scale::Log, Fit::Round, [1.0, 100.0, 1000.0].into_iter());
    assert_eq!(ruler.minor.len(), 24);
    assert!((ruler.at(100.0).unwrap() - 2.0 / 3.0).abs() < 1e-9);
}

#[test]
fn what_is_not_above_zero_has_no_place_on_a_logarithmic_axis() {
    let ruler = Ruler::of(Scale::Log, Fit::Round, [-1.0, 0.0, 10.0, 1000.0].into_iter());
    assert_eq!((ruler.at(0.0), ruler.at(-1.0), ruler.at(f64::NAN)), (None, None, None));
    assert_eq!((ruler.at(10.0), ruler.at(1000.0)), (Some(0.0), Some(1.0)));
}

#[test]
fn an_axis_without_values_or_with_one_value_has_ticks_all_the_same() {
    for scale in [Scale::Linear, Scale::Log] {
        for fit in [Fit::Snug, Fit::Round] {
            for values in [&[][..], &[0.0], &[7.0], &[-7.0, -7.0], &[1e16, 1e16 + 2.0], &[f64::NAN], &[1e-200, 1e200]] {
                let labels = labels(scale, fit, values);
                assert!((2..=9).contains(&labels.len()), "{scale:?} {values:?}: {labels:?}");
                assert!(labels.iter().all(|label| !label.contains("NaN") && !label.contains("inf")), "{labels:?}");
            }
        }
    }
}

#[test]
fn quantiles_stand_by_their_nines() {
    let ruler = Ruler::nines(0.9999);
    let labels: Vec<_> = ruler.ticks.iter().map(|(_, label)| label.as_str()).collect();
    assert_eq!(labels, ["0", "50", "90", "99", "99.9", "99.99"]);
    assert!((ruler.at(0.99).unwrap() - 0.5).abs() < 1e-9);
    assert_eq!((ruler.at(1.0), ruler.at(0.0)), (None, Some(0.0)));
}
