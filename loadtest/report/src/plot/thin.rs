//! Long series, reduced to what pixels show.

use std::collections::HashSet;

/// A point of a series: its place in the unit square, and what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spot {
    pub(crate) at: (f64, f64),
    pub(crate) value: (f64, f64),
}

/// Points that are joined: of each column the first, the lowest, the highest and the last.
pub(crate) fn joined(spots: &[Spot], columns: usize) -> Vec<Spot> {
    if spots.len() <= columns * 2 {
        return spots.to_vec();
    }
    let column = |spot: &Spot| (spot.at.0 * columns as f64) as usize;
    let mut kept = Vec::new();
    for run in spots.chunk_by(|a, b| column(a) == column(b)) {
        let height = |index: &usize| run[*index].at.1;
        let lowest = (0..run.len()).min_by(|a, b| height(a).total_cmp(&height(b)));
        let highest = (0..run.len()).max_by(|a, b| height(a).total_cmp(&height(b)));
        let mut indices: Vec<usize> = [0, run.len() - 1].into_iter().chain(lowest).chain(highest).collect();
        indices.sort_unstable();
        indices.dedup();
        kept.extend(indices.into_iter().map(|index| run[index]));
    }
    kept
}

/// Points that stand alone: one of each cell of a grid.
pub(crate) fn scattered(spots: &[Spot], columns: usize, rows: usize) -> Vec<Spot> {
    let cell = |spot: &Spot| ((spot.at.0 * columns as f64) as usize, (spot.at.1 * rows as f64) as usize);
    let mut taken = HashSet::new();
    spots.iter().filter(|spot| taken.insert(cell(spot))).copied().collect()
}

/// About `count` of them, at even distances, and the last.
pub(crate) fn some(spots: &[Spot], count: usize) -> Vec<Spot> {
    let every = spots.len().div_ceil(count.max(1)).max(1);
    let last = spots.len().checked_sub(1);
    let chosen = spots.iter().enumerate().filter(|(index, _)| index % every == 0 || Some(*index) == last);
    chosen.map(|(_, spot)| *spot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(x: f64, y: f64) -> Spot {
        Spot { at: (x, y), value: (x, y) }
    }

    /// A wave with one value above and one below all others.
    fn long() -> Vec<Spot> {
        let mut spots: Vec<Spot> =
            (0..100_000).map(|i| spot(f64::from(i) / 100_000.0, 0.5 + (f64::from(i) / 50.0).sin() / 10.0)).collect();
        spots[33_333].at.1 = 0.99;
        spots[77_777].at.1 = 0.01;
        spots
    }

    #[test]
    fn thinning_keeps_the_extremes_of_each_column_and_both_ends() {
        let spots = long();
        let kept = joined(&spots, 500);
        assert!(kept.len() <= 2000, "{}", kept.len());
        for index in [0, 33_333, 77_777, 99_999] {
            assert!(kept.contains(&spots[index]), "{index}");
        }
        assert!(kept.is_sorted_by(|a, b| a.at.0 <= b.at.0));
    }

    #[test]
    fn a_short_series_stays_as_it_is() {
        let spots = [spot(0.5, 0.1), spot(0.5, 0.2), spot(0.5, 0.15), spot(0.5, 0.17), spot(0.2, 0.3)];
        assert_eq!(joined(&spots, 500), spots);
        assert_eq!(joined(&[], 500), []);
    }

    #[test]
    fn of_points_in_the_same_place_one_is_kept() {
        let spots = [spot(0.1, 0.1), spot(0.1001, 0.1), spot(0.1, 0.9), spot(1.0, 1.0)];
        assert_eq!(scattered(&spots, 100, 50), [spots[0], spots[2], spots[3]]);
        assert!(scattered(&long(), 300, 150).len() < 10_000);
    }

    #[test]
    fn some_of_many_are_chosen_with_the_first_and_the_last() {
        let spots = long();
        let chosen = some(&spots, 100);
        assert!((100..=102).contains(&chosen.len()));
        assert_eq!((chosen.first(), chosen.last()), (spots.first(), spots.last()));
        assert_eq!(some(&spots[..3], 100).len(), 3);
        assert_eq!(some(&[], 100), []);
    }
}
