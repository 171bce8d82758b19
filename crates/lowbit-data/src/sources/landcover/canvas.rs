//! A small picture of linear light and what can be drawn on it.

use lowbit_kernels::random::{RngCore, normal, uniform};

/// Height and width of a patch in pixels.
pub(crate) const SIDE: usize = 64;

/// Linear RGB, each about 0 to 1.
pub(crate) type Color = [f32; 3];

/// A picture `[64, 64]` of colors.
pub(crate) struct Canvas {
    pub(crate) pixels: Vec<Color>,
}

impl Canvas {
    pub(crate) fn new() -> Self {
        Self {
            pixels: vec![[0.0; 3]; SIDE * SIDE],
        }
    }

    /// Repaints every pixel from its position and its present color.
    pub(crate) fn repaint(&mut self, mut color: impl FnMut(f32, f32, Color) -> Color) {
        for (at, pixel) in self.pixels.iter_mut().enumerate() {
            *pixel = color((at % SIDE) as f32, (at / SIDE) as f32, *pixel);
        }
    }

    /// Draws a line of `width` pixels along `path`, with a soft edge.
    pub(crate) fn line(&mut self, path: &[(f32, f32)], width: f32, color: Color) {
        let reach = width / 2.0 + 0.5;
        let mut inside = vec![0f32; SIDE * SIDE];
        for ends in path.windows(2) {
            let ((x0, y0), (x1, y1)) = (ends[0], ends[1]);
            for y in span(y0.min(y1), y0.max(y1), reach) {
                for x in span(x0.min(x1), x0.max(x1), reach) {
                    let near = reach - distance(ends[0], ends[1], (x as f32, y as f32));
                    let at = &mut inside[y * SIDE + x];
                    *at = at.max(near.min(1.0));
                }
            }
        }
        for (pixel, inside) in self.pixels.iter_mut().zip(inside) {
            if inside > 0.0 {
                *pixel = mix(*pixel, color, inside);
            }
        }
    }

    /// Draws a rectangle around `center`, `half` its half width and half height, turned by `angle`.
    pub(crate) fn rectangle(
        &mut self,
        center: (f32, f32),
        half: (f32, f32),
        angle: f32,
        color: Color,
    ) {
        let (sin, cos) = angle.sin_cos();
        let reach = half.0.abs() + half.1.abs() + 1.0;
        for y in span(center.1, center.1, reach) {
            for x in span(center.0, center.0, reach) {
                let (dx, dy) = (x as f32 - center.0, y as f32 - center.1);
                let (u, v) = (dx * cos + dy * sin, dy * cos - dx * sin);
                let inside = (half.0 - u.abs()).min(half.1 - v.abs()) + 0.5;
                let pixel = &mut self.pixels[y * SIDE + x];
                *pixel = mix(*pixel, color, inside.clamp(0.0, 1.0));
            }
        }
    }

    /// Draws a disk, as a tree's crown is.
    pub(crate) fn disk(&mut self, center: (f32, f32), radius: f32, color: Color) {
        for y in span(center.1, center.1, radius + 1.0) {
            for x in span(center.0, center.0, radius + 1.0) {
                let (dx, dy) = (x as f32 - center.0, y as f32 - center.1);
                let inside = radius - (dx * dx + dy * dy).sqrt() + 0.5;
                let pixel = &mut self.pixels[y * SIDE + x];
                *pixel = mix(*pixel, color, inside.clamp(0.0, 1.0));
            }
        }
    }

    /// Lets `other` cover `share` of the picture, from one side, with a winding border.
    pub(crate) fn cover(&mut self, rng: &mut impl RngCore, other: &Self, share: f32) {
        let angle = uniform(rng) * std::f32::consts::TAU;
        let (sin, cos) = angle.sin_cos();
        let noise = Noise::new(rng, 20.0);
        let height: Vec<f32> = (0..SIDE * SIDE)
            .map(|at| {
                let (x, y) = ((at % SIDE) as f32, (at / SIDE) as f32);
                x * cos + y * sin + 9.0 * noise.at(x, y)
            })
            .collect();
        let covered = ((SIDE * SIDE) as f32 * share) as usize;
        let mut sorted = height.clone();
        let at = covered.min(sorted.len() - 1);
        let (_, &mut border, _) = sorted.select_nth_unstable_by(at, f32::total_cmp);
        for ((pixel, &over), height) in self.pixels.iter_mut().zip(&other.pixels).zip(height) {
            if height < border {
                *pixel = over;
            }
        }
    }

    /// A cross-shaped blur: each pixel keeps `1 - 4 · weight` of itself.
    pub(crate) fn blur(&mut self, weight: f32) {
        let before = self.pixels.clone();
        for y in 0..SIDE {
            for x in 0..SIDE {
                let near = [
                    before[y * SIDE + x.saturating_sub(1)],
                    before[y * SIDE + (x + 1).min(SIDE - 1)],
                    before[y.saturating_sub(1) * SIDE + x],
                    before[(y + 1).min(SIDE - 1) * SIDE + x],
                ];
                let pixel = &mut self.pixels[y * SIDE + x];
                for (channel, value) in pixel.iter_mut().enumerate() {
                    let sum: f32 = near.iter().map(|color| color[channel]).sum();
                    *value += weight * (sum - 4.0 * *value);
                }
            }
        }
    }
}

/// Smooth random hills and valleys between -1 and 1 (value noise).
pub(crate) struct Noise {
    knots: Vec<f32>,
    across: usize,
    period: f32,
}

impl Noise {
    /// Hills about `period` pixels wide.
    pub(crate) fn new(rng: &mut impl RngCore, period: f32) -> Self {
        let across = (SIDE as f32 / period).ceil() as usize + 2;
        Self {
            knots: (0..across * across)
                .map(|_| 2.0 * uniform(rng) - 1.0)
                .collect(),
            across,
            period,
        }
    }

    pub(crate) fn at(&self, x: f32, y: f32) -> f32 {
        let (u, v) = (x / self.period, y / self.period);
        let (column, row) = (u as usize, v as usize);
        let ease = |t: f32| t * t * (3.0 - 2.0 * t);
        let (a, b) = (ease(u - column as f32), ease(v - row as f32));
        let knot = |dx, dy| self.knots[(row + dy) * self.across + column + dx];
        let top = knot(0, 0) + a * (knot(1, 0) - knot(0, 0));
        let bottom = knot(0, 1) + a * (knot(1, 1) - knot(0, 1));
        top + b * (bottom - top)
    }
}

/// `under` with `share` of `over`.
pub(crate) fn mix(under: Color, over: Color, share: f32) -> Color {
    std::array::from_fn(|channel| under[channel] + share * (over[channel] - under[channel]))
}

/// `color` brightened or darkened, alike in all channels.
pub(crate) fn shade(color: Color, factor: f32) -> Color {
    color.map(|value| value * factor)
}

/// `color`, a little off in brightness (by `spread`) and in each channel (by a third of it).
pub(crate) fn vary(rng: &mut impl RngCore, color: Color, spread: f32) -> Color {
    let all = 1.0 + spread * normal(rng);
    color.map(|value| (value * (all + spread / 3.0 * normal(rng))).max(0.01))
}

/// A color up to `most` of the way from `from` to `to`, varied by `spread`.
pub(crate) fn tint(
    rng: &mut impl RngCore,
    from: Color,
    to: Color,
    most: f32,
    spread: f32,
) -> Color {
    let share = most * uniform(rng);
    vary(rng, mix(from, to, share), spread)
}

/// A path right through the picture, bent by up to `bend` pixels.
pub(crate) fn winding_path(rng: &mut impl RngCore, bend: f32) -> Vec<(f32, f32)> {
    let angle = uniform(rng) * std::f32::consts::TAU;
    let (sin, cos) = angle.sin_cos();
    let offset = 32.0 * (uniform(rng) - 0.5);
    let (phase, second) = (uniform(rng) * 6.3, uniform(rng) * 6.3);
    let waves = 0.6 + 0.9 * uniform(rng);
    (0..=16)
        .map(|step| {
            let along = (step as f32 - 8.0) * 6.5;
            let turn = along / 64.0 * std::f32::consts::TAU * waves;
            let aside = offset + bend * ((turn + phase).sin() + 0.4 * (2.3 * turn + second).sin());
            let middle = SIDE as f32 / 2.0;
            (
                middle + along * cos - aside * sin,
                middle + along * sin + aside * cos,
            )
        })
        .collect()
}

/// The pixels from `low` to `high` and `reach` beyond, as far as there are any.
fn span(low: f32, high: f32, reach: f32) -> std::ops::Range<usize> {
    let first = (low - reach).max(0.0) as usize;
    first..((high + reach).max(-1.0) + 1.0).min(SIDE as f32) as usize
}

/// The distance of `point` from the stretch between two points, in pixels.
fn distance(from: (f32, f32), to: (f32, f32), point: (f32, f32)) -> f32 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (px, py) = (point.0 - from.0, point.1 - from.1);
    let t = ((px * dx + py * dy) / (dx * dx + dy * dy).max(1e-9)).clamp(0.0, 1.0);
    let (ex, ey) = (px - t * dx, py - t * dy);
    (ex * ex + ey * ey).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit_kernels::random::stream;

    #[test]
    fn a_cover_takes_the_share_it_was_given() {
        let mut rng = stream(1, "test", 0);
        let mut canvas = Canvas::new();
        let mut white = Canvas::new();
        white.repaint(|_, _, _| [1.0; 3]);
        canvas.cover(&mut rng, &white, 0.25);
        let covered = canvas.pixels.iter().filter(|pixel| pixel[0] > 0.5).count();
        assert!(covered.abs_diff(1024) <= 2, "{covered}");
    }

    #[test]
    fn a_line_is_as_wide_as_asked() {
        let mut canvas = Canvas::new();
        canvas.line(&[(-10.0, 32.0), (80.0, 32.0)], 4.0, [1.0; 3]);
        let column: f32 = (0..SIDE).map(|y| canvas.pixels[y * SIDE + 20][0]).sum();
        assert!((column - 4.0).abs() < 0.6, "{column}");
    }
}
