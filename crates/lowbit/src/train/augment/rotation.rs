//! Rotation of an image by a small angle, in integers: the same bytes on every machine.

use crate::Shape;

/// Parts of a degree that angles are counted in.
pub(super) const PARTS: u32 = 64;
/// Bits behind the point of sines and cosines.
const TURN: u32 = 16;
/// Bits behind the point of coordinates between two pixels: 2 × 11 and 8 of a pixel fit 31.
const BETWEEN: u32 = 11;

/// The image, turned counterclockwise about its center by `angle` 64ths of a degree. Between pixels values are bilinear and
/// rounded to nearest; outside the image they are those of its nearest edge.
pub(super) fn rotated(image: &[u8], shape: Shape, angle: i32) -> Vec<u8> {
    let (h, w, c) = (shape.h(), shape.w(), shape.c());
    let (sin, cos) = sine_and_cosine(angle);
    let mut out = Vec::with_capacity(image.len());
    for row in 0..h {
        // Twice the distance from the center is whole.
        let down = 2 * row as i64 - (h as i64 - 1);
        for column in 0..w {
            let right = 2 * column as i64 - (w as i64 - 1);
            let x = Place::of(cos * right - sin * down, w);
            let y = Place::of(sin * right + cos * down, h);
            for channel in 0..c {
                let pixel = |y: usize, x: usize| u32::from(image[(y * w + x) * c + channel]);
                let above = x.between(pixel(y.first, x.first), pixel(y.first, x.second));
                let below = x.between(pixel(y.second, x.first), pixel(y.second, x.second));
                let rounded = y.between(above, below) + (1 << (2 * BETWEEN - 1));
                out.push((rounded >> (2 * BETWEEN)) as u8);
            }
        }
    }
    out
}

/// Two neighboring pixels of an axis, and how far the second has come in.
struct Place {
    first: usize,
    second: usize,
    part: u32,
}

impl Place {
    /// `twice` is twice the distance from the middle of an axis of `extent` pixels, with `TURN` bits behind the point.
    fn of(twice: i64, extent: usize) -> Self {
        let last = extent as i64 - 1;
        let place = twice + (last << TURN);
        let shift = TURN + 1 - BETWEEN;
        let place = (place + (1 << (shift - 1))) >> shift;
        let place = place.clamp(0, last << BETWEEN);
        let first = (place >> BETWEEN) as usize;
        Self {
            first,
            second: (first + 1).min(extent - 1),
            part: (place & ((1 << BETWEEN) - 1)) as u32,
        }
    }

    fn between(&self, first: u32, second: u32) -> u32 {
        first * ((1 << BETWEEN) - self.part) + second * self.part
    }
}

/// Sine and cosine of 64ths of a degree, with `TURN` bits behind the point. Mathematical libraries differ in the last bit;
/// the first terms of the two series are sums and products, which IEEE 754 defines: up to 45 degrees their error is below 1e-14.
fn sine_and_cosine(angle: i32) -> (i64, i64) {
    let x = f64::from(angle) * (std::f64::consts::PI / 180.0 / f64::from(PARTS));
    let (mut sin, mut cos) = (0.0, 0.0);
    let mut term = 1.0;
    for power in 0..16 {
        let sign = if power / 2 % 2 == 0 { term } else { -term };
        match power % 2 {
            0 => cos += sign,
            _ => sin += sign,
        }
        term *= x / f64::from(power + 1);
    }
    let fixed = |x: f64| (x * f64::from(1 << TURN)).round() as i64;
    (fixed(sin), fixed(cos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::recipe::{bytes, golden};

    #[test]
    fn sines_are_those_of_the_library() {
        for angle in (-45 * 64..=45 * 64).step_by(7) {
            let x = f64::from(angle) / 64.0;
            let (sin, cos) = sine_and_cosine(angle);
            assert!(
                (sin as f64 / 65536.0 - x.to_radians().sin()).abs() < 8e-6,
                "{x}"
            );
            assert!(
                (cos as f64 / 65536.0 - x.to_radians().cos()).abs() < 8e-6,
                "{x}"
            );
        }
    }

    /// PyTorch samples in f64 with its edges replicated; Pillow cuts fractions off instead of rounding
    /// (bench/peers/golden_rotations.py).
    #[test]
    fn rotations_are_those_of_pytorch_and_pillow() {
        let golden = golden("rotations");
        let mut seen = 0;
        for case in golden["cases"].as_array().unwrap() {
            let [h, w, c] = [0, 1, 2].map(|axis| case["shape"][axis].as_u64().unwrap() as usize);
            let image = bytes(&case["image"]);
            for turned in case["turned"].as_array().unwrap() {
                let angle = turned["angle_64ths"].as_i64().unwrap() as i32;
                let found = rotated(&image, Shape::new(h, w, c), angle);
                let (pytorch, pillow) = (bytes(&turned["pytorch"]), bytes(&turned["pillow"]));
                assert_eq!((pytorch.len(), pillow.len()), (found.len(), found.len()));
                let apart = |peer: &[u8]| found.iter().zip(peer).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(apart(&pytorch) <= Some(1), "{h}x{w} {angle}: PyTorch");
                assert!(apart(&pillow) <= Some(1), "{h}x{w} {angle}: Pillow");
                let same = found.iter().zip(&pytorch).filter(|(a, b)| a == b).count();
                assert!(
                    same * 100 >= found.len() * 96,
                    "{h}x{w} {angle}: {same} the same"
                );
                seen += 1;
            }
        }
        assert_eq!(seen, 10);
    }

    #[test]
    fn no_angle_changes_nothing_and_gray_stays_gray() {
        let image: Vec<u8> = (0..5 * 4 * 3).map(|i| i * 4).collect();
        assert_eq!(rotated(&image, Shape::new(5, 4, 3), 0), image);
        let gray = [200; 7];
        assert_eq!(rotated(&gray, Shape::new(7, 1, 1), 45 * 64), gray);
        assert_eq!(rotated(&[9], Shape::new(1, 1, 1), -2000), [9]);
    }
}
