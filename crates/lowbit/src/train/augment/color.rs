//! Other light: brightness, contrast and saturation, as Pillow's `ImageEnhance` and so torchvision's `ColorJitter` change them
//! (that in an order that it draws, with hue, too), in integers: the same bytes on every machine.

use crate::Shape;

/// Parts of one that factors are counted in.
pub(super) const PARTS: u32 = 256;

/// By what brightness, contrast and saturation are multiplied, in 256ths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Factors {
    pub(super) brightness: u32,
    pub(super) contrast: u32,
    pub(super) saturation: u32,
}

/// Changes an `[h, w, c]` image, first its brightness, then its contrast, then its saturation, each rounded to whole numbers:
/// distances from black, from the image's mean gray and from each pixel's own gray are multiplied. What is not RGB has no
/// saturation.
pub(super) fn colored(image: &[u8], shape: Shape, factors: Factors) -> Vec<u8> {
    let channels = shape.c();
    let mut out: Vec<u8> = image
        .iter()
        .map(|&value| blend(0, value, factors.brightness))
        .collect();
    let sum: u64 = out
        .chunks_exact(channels)
        .map(|pixel| u64::from(gray(pixel)))
        .sum();
    let pixels = (shape.h() * shape.w()) as u64;
    let mean = ((2 * sum + pixels) / (2 * pixels)) as u8;
    for value in &mut out {
        *value = blend(mean, *value, factors.contrast);
    }
    if channels == 3 {
        for pixel in out.chunks_exact_mut(3) {
            let gray = gray(pixel);
            for value in pixel {
                *value = blend(gray, *value, factors.saturation);
            }
        }
    }
    out
}

/// From `from` by `factor` times the way to `to` and beyond, cut to a byte.
fn blend(from: u8, to: u8, factor: u32) -> u8 {
    let way = (i32::from(to) - i32::from(from)) * factor as i32;
    ((i32::from(from) * PARTS as i32 + way).max(0) / PARTS as i32).min(255) as u8
}

/// The luma of ITU-R BT.601 of three channels, in 65536ths as Pillow has them; the mean of others.
fn gray(pixel: &[u8]) -> u8 {
    match *pixel {
        [red, green, blue] => {
            let [red, green, blue] = [red, green, blue].map(u32::from);
            ((red * 19_595 + green * 38_470 + blue * 7_471 + (1 << 15)) >> 16) as u8
        }
        _ => {
            let sum: usize = pixel.iter().map(|&value| usize::from(value)).sum();
            (sum / pixel.len()) as u8
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::recipe::{bytes, golden};

    /// `ImageEnhance.Brightness`, `.Contrast` and `.Color`, one after the other (bench/peers/golden_colors.py).
    #[test]
    fn colors_are_pillows_to_the_byte() {
        let golden = golden("colors");
        let mut seen = 0;
        for case in golden["cases"].as_array().unwrap() {
            let [h, w, c] = [0, 1, 2].map(|axis| case["shape"][axis].as_u64().unwrap() as usize);
            let image = bytes(&case["image"]);
            for changed in case["changed"].as_array().unwrap() {
                let [brightness, contrast, saturation] = [0, 1, 2]
                    .map(|which| changed["factors_256ths"][which].as_u64().unwrap() as u32);
                let factors = Factors {
                    brightness,
                    contrast,
                    saturation,
                };
                let found = colored(&image, Shape::new(h, w, c), factors);
                assert_eq!(found, bytes(&changed["pillow"]), "{h}x{w}x{c} {factors:?}");
                seen += 1;
            }
        }
        assert_eq!(seen, 24);
    }

    #[test]
    fn factors_of_one_change_nothing() {
        let factors = Factors {
            brightness: PARTS,
            contrast: PARTS,
            saturation: PARTS,
        };
        for channels in 1..=4 {
            let image: Vec<u8> = (0..5 * 4 * channels)
                .map(|i| (i * 97 % 256) as u8)
                .collect();
            assert_eq!(colored(&image, Shape::new(5, 4, channels), factors), image);
        }
    }
}
