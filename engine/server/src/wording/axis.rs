//! The axis of a timeline: where a moment is, once the long stretches in which nothing changes are folded.

use cerebelum_history::Timestamp;
use cerebelum_timeline::Lane;

/// A stretch is folded if it is longer than this many times all shorter ones together.
const FOLDED_FROM: u64 = 4;
/// The width of the picture: places are percents.
const WIDTH: u32 = 100;
/// The width of a folded stretch, in percent.
pub const FOLD_WIDTH: u32 = 6;
/// The most stretches that are folded: more would leave no room for the others.
const FOLDS_MAX: usize = 6;
/// The narrowest bar.
const BAR_WIDTH_MIN: f64 = 0.4;

/// A folded stretch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fold {
    /// Where it begins, in percent of the width.
    pub x: f64,
    /// How long it really is, in milliseconds.
    pub ms: u64,
}

/// The places of moments. Between two moments at which something changes, it is even.
#[derive(Debug)]
pub struct Axis {
    /// Moments, ascending, and their places.
    knots: Vec<(u64, f64)>,
    folds: Vec<Fold>,
}

impl Axis {
    /// The axis of these lanes; an even one has no folds.
    #[must_use]
    pub fn new((from, until): (Timestamp, Timestamp), lanes: &[Lane], even: bool) -> Self {
        let mut moments: Vec<u64> =
            lanes.iter().flat_map(|lane| &lane.bars).flat_map(|bar| [bar.from.0, bar.until.0]).collect();
        moments.extend([from.0, until.0]);
        moments.retain(|moment| (from.0..=until.0).contains(moment));
        moments.sort_unstable();
        moments.dedup();
        let gaps: Vec<u64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let longest = if even { u64::MAX } else { longest_unfolded(&gaps) };
        let folded = gaps.iter().filter(|gap| **gap > longest).count();
        let unfolded: u64 = gaps.iter().filter(|gap| **gap <= longest).sum();
        let left = WIDTH - FOLD_WIDTH * u32::try_from(folded).unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "a place on a picture needs no more than 52 bits")]
        let unit = f64::from(left) / (unfolded.max(1) as f64);
        let (mut knots, mut folds, mut x) = (vec![(from.0, 0.0)], Vec::new(), 0.0);
        for (gap, moment) in gaps.iter().zip(moments.iter().skip(1)) {
            if *gap > longest {
                folds.push(Fold { x, ms: *gap });
                x += f64::from(FOLD_WIDTH);
            } else {
                #[expect(clippy::cast_precision_loss, reason = "a place on a picture needs no more than 52 bits")]
                let width = *gap as f64 * unit;
                x += width;
            }
            knots.push((*moment, x));
        }
        Self { knots, folds }
    }

    /// The folded stretches, the earliest first.
    #[must_use]
    pub fn folds(&self) -> &[Fold] {
        &self.folds
    }

    /// The place and the width of a bar, in percent of the width.
    #[must_use]
    pub fn place(&self, from: Timestamp, until: Timestamp) -> (f64, f64) {
        let (x, end) = (self.at(from.0), self.at(until.0));
        let width = (end - x).max(BAR_WIDTH_MIN);
        (x.min(f64::from(WIDTH) - width), width)
    }

    /// The moment at a place, in percent of the width.
    #[must_use]
    pub fn moment(&self, x: f64) -> Timestamp {
        let after = self.knots.partition_point(|(_, place)| *place <= x);
        let (from, to) = (self.knots[after.saturating_sub(1)], self.knots.get(after).or(self.knots.last()));
        let Some((until, end)) = to.filter(|(_, end)| *end > from.1) else { return Timestamp(from.0) };
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a stretch"
        )]
        let part = ((until - from.0) as f64 * (x - from.1) / (end - from.1)).round() as u64;
        Timestamp(from.0 + part)
    }

    /// The place of a moment: bars begin and end at knots.
    fn at(&self, moment: u64) -> f64 {
        let next = self.knots.partition_point(|(knot, _)| *knot < moment);
        self.knots.get(next).or(self.knots.last()).map_or(0.0, |(_, x)| *x)
    }
}

/// The longest stretch that is not folded.
fn longest_unfolded(gaps: &[u64]) -> u64 {
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable();
    let mut shorter = 0_u64;
    for (place, gap) in sorted.iter().enumerate() {
        let is_long = place > 0 && *gap > shorter.saturating_mul(FOLDED_FROM) && sorted.len() - place <= FOLDS_MAX;
        if is_long {
            return sorted[place - 1];
        }
        shorter += gap;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use cerebelum_timeline::{Bar, BarEnd};

    use super::*;

    fn lane(bars: &[(u64, u64)]) -> Lane {
        let bar = |(from, until): &(u64, u64)| Bar {
            from: Timestamp(*from),
            until: Timestamp(*until),
            end: BarEnd::Completed,
            position: 1,
            count: 1,
        };
        Lane { kind: "step", name: "s".into(), depth: 0, calls: 1, failed: 0, bars: bars.iter().map(bar).collect() }
    }

    const MONTH: u64 = 30 * 86_400_000;

    #[test]
    fn a_month_of_sleep_is_folded_and_the_seconds_around_it_are_wide() {
        let lanes = [lane(&[(0, 1_000), (1_000 + MONTH, 2_000 + MONTH)]), lane(&[(1_000, 1_000 + MONTH)])];
        let span = (Timestamp(0), Timestamp(2_000 + MONTH));
        let axis = Axis::new(span, &lanes, false);
        assert_eq!(axis.folds(), [Fold { x: 47.0, ms: MONTH }]);
        assert_eq!(axis.place(Timestamp(0), Timestamp(1_000)), (0.0, 47.0));
        assert_eq!(axis.place(Timestamp(1_000 + MONTH), Timestamp(2_000 + MONTH)), (53.0, 47.0));
        let moments = [0.0, 23.5, 50.0, 76.5, 100.0].map(|x| axis.moment(x).0);
        assert_eq!(moments, [0, 500, 1_000 + MONTH / 2, 1_500 + MONTH, 2_000 + MONTH]);
        let even = Axis::new(span, &lanes, true);
        assert!(even.folds().is_empty());
        assert_eq!(even.place(Timestamp(0), Timestamp(1_000)).1, BAR_WIDTH_MIN);
    }

    #[test]
    fn stretches_of_like_length_are_not_folded_and_no_bar_leaves_the_picture() {
        let lanes = [lane(&[(0, 1_000), (2_000, 5_000), (9_000, 9_000)])];
        let axis = Axis::new((Timestamp(0), Timestamp(9_000)), &lanes, false);
        assert!(axis.folds().is_empty());
        let (x, width) = axis.place(Timestamp(9_000), Timestamp(9_000));
        assert!(x + width <= f64::from(WIDTH), "{x} {width}");
        let empty = Axis::new((Timestamp(7), Timestamp(7)), &[], false);
        assert_eq!(empty.place(Timestamp(7), Timestamp(7)), (0.0, BAR_WIDTH_MIN));
        assert_eq!(empty.moment(50.0), Timestamp(7));
    }
}
