//! Where the names of a chart's points stand.

use std::ops::Range;

/// Where labels may stand.
pub(super) struct Labels {
    /// Left and right of the plot.
    pub(super) columns: Range<i32>,
    /// Left, top, right and bottom of marks, intervals and the labels so far, lest another lies on them.
    pub(super) taken: Vec<[i32; 4]>,
}

impl Labels {
    /// Where the label of a point with a bar from `top` to `bottom` goes: beside it, above or below, where there is room; nowhere
    /// where there is none (pointing at it tells).
    pub(super) fn place(
        &mut self,
        label: &str,
        (x, y): (i32, i32),
        [top, bottom]: [i32; 2],
    ) -> Option<(i32, i32)> {
        // About half the height of a letter each.
        let (width, height) = (10 * label.chars().count() as i32, 19);
        let places = [
            (x + 7, y - height),
            (x - 7 - width, y - height),
            (x + 7, y + 2),
            (x - 7 - width, y + 2),
            (x - width / 2, top - height - 7),
            (x - width / 2, bottom + 7),
            (x + 7 - width, top - height - 7),
            (x + 7 - width, bottom + 7),
        ];
        let free = |&(left, top): &(i32, i32)| {
            let own = [left, top, left + width, top + height];
            let apart = |other: &[i32; 4]| {
                own[0] >= other[2] || own[2] <= other[0] || own[1] >= other[3] || own[3] <= other[1]
            };
            left >= self.columns.start && own[2] <= self.columns.end && self.taken.iter().all(apart)
        };
        let (left, top) = places.into_iter().find(free).filter(|_| width > 0)?;
        self.taken.push([left, top, left + width, top + height]);
        Some((left, top))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_inside_the_plot_and_on_nothing() {
        // Another mark right of it, and the axis 20 pixels left: above it there is room.
        let bar = [90, 110];
        let mut labels = Labels {
            columns: 80..640,
            taken: vec![[95, 95, 105, 105], [98, 90, 102, 110], [121, 80, 300, 121]],
        };
        assert_eq!(labels.place("abcd", (100, 100), bar), Some((80, 64)));
        // That place is taken now, and below it is one left.
        assert_eq!(labels.place("abcd", (100, 100), bar), Some((80, 117)));
        assert_eq!(labels.place("abcd", (100, 100), bar), None);
        assert_eq!(labels.place("", (400, 100), bar), None);
    }
}
