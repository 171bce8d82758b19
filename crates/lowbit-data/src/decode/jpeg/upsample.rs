//! Chroma at the picture's size: libjpeg's "fancy" triangle filters, and repetition where it has none.
//!
//! A sample weighs 3/4 in the pixels that it covers and 1/4 in those next to them, along each axis that is halved. The
//! roundings alternate, as libjpeg's do.

use super::Plane;
use super::headers::{Component, Frame};

/// How a component is enlarged.
enum Filter {
    None,
    /// Half the width.
    Across,
    /// Half the height.
    Down,
    /// Half of both.
    Both,
    /// Whole multiples in any other case.
    Repeat,
}

/// Brings one component's rows to the picture's size.
pub(super) struct Upsampler<'a> {
    plane: &'a Plane,
    component: &'a Component,
    filter: Filter,
    /// Pixels that one sample covers.
    across: usize,
    down: usize,
    sums: Vec<u16>,
    out: Vec<u8>,
}

impl<'a> Upsampler<'a> {
    pub(super) fn new(frame: &Frame, component: &'a Component, plane: &'a Plane) -> Self {
        let (across, down) = (frame.h / component.h, frame.v / component.v);
        let filter = match (across, down) {
            (1, 1) => Filter::None,
            (2, 1) if component.width > 2 => Filter::Across,
            (1, 2) => Filter::Down,
            (2, 2) if component.width > 2 => Filter::Both,
            _ => Filter::Repeat,
        };
        Self {
            plane,
            component,
            filter,
            across,
            down,
            sums: vec![0; component.width],
            out: vec![0; component.width * across],
        }
    }

    /// Row `y` of the picture.
    pub(super) fn row(&mut self, y: usize) -> &[u8] {
        let (plane, width) = (self.plane, self.component.width);
        let near = y / self.down;
        let row = plane.row(near, width);
        // The other row that the pixels lie next to; the picture's first and last rows stand beside themselves.
        let far = match y % self.down {
            0 => near.saturating_sub(1),
            _ => (near + 1).min(self.component.height - 1),
        };
        match self.filter {
            Filter::None => return row,
            Filter::Across => across(row, &mut self.out),
            Filter::Down => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                let pairs = row.iter().zip(plane.row(far, width));
                for (out, (&near, &far)) in self.out.iter_mut().zip(pairs) {
                    *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
            }
            Filter::Both => {
                let pairs = row.iter().zip(plane.row(far, width));
                for (sum, (&near, &far)) in self.sums.iter_mut().zip(pairs) {
                    *sum = 3 * u16::from(near) + u16::from(far);
                }
                both(&self.sums, &mut self.out);
            }
            Filter::Repeat => {
                for (out, &value) in self.out.chunks_exact_mut(self.across).zip(row) {
                    out.fill(value);
                }
            }
        }
        &self.out
    }
}

/// A row of more than two samples at twice its width.
fn across(row: &[u8], out: &mut [u8]) {
    let last = row.len() - 1;
    let at = |index: usize| u16::from(row[index]);
    out[0] = row[0];
    out[1] = ((3 * at(0) + at(1) + 2) >> 2) as u8;
    let inner = row.windows(3).zip(out[2..].chunks_exact_mut(2));
    for (near, out) in inner {
        let [left, here, right] = [0, 1, 2].map(|i| u16::from(near[i]));
        out[0] = ((3 * here + left + 1) >> 2) as u8;
        out[1] = ((3 * here + right + 2) >> 2) as u8;
    }
    out[2 * last] = ((3 * at(last) + at(last - 1) + 1) >> 2) as u8;
    out[2 * last + 1] = row[last];
}

/// The same for sums of two rows, which weigh four samples.
fn both(sums: &[u16], out: &mut [u8]) {
    let last = sums.len() - 1;
    out[0] = ((4 * sums[0] + 8) >> 4) as u8;
    out[1] = ((3 * sums[0] + sums[1] + 7) >> 4) as u8;
    let inner = sums.windows(3).zip(out[2..].chunks_exact_mut(2));
    for (near, out) in inner {
        out[0] = ((3 * near[1] + near[0] + 8) >> 4) as u8;
        out[1] = ((3 * near[1] + near[2] + 7) >> 4) as u8;
    }
    out[2 * last] = ((3 * sums[last] + sums[last - 1] + 8) >> 4) as u8;
    out[2 * last + 1] = ((4 * sums[last] + 7) >> 4) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_becomes_a_ramp_of_quarters() {
        let mut out = [0; 8];
        across(&[0, 0, 100, 100], &mut out);
        assert_eq!(out, [0, 0, 0, 25, 75, 100, 100, 100]);
        both(&[0, 0, 400, 400], &mut out);
        assert_eq!(out, [0, 0, 0, 25, 75, 100, 100, 100]);
    }

    #[test]
    fn halves_are_rounded_in_turn() {
        // 3/4 of 10 and 1/4 of 12 is 10.5: down on the left of a pair, up on its right.
        let mut out = [0; 6];
        across(&[12, 10, 12], &mut out);
        assert_eq!(out, [12, 12, 10, 11, 11, 12]);
        // Sixteenths: 10.5 is 168, and 8 more make 11, 7 do not.
        both(&[48, 40, 48], &mut out);
        assert_eq!(out, [12, 11, 11, 10, 12, 12]);
    }
}
