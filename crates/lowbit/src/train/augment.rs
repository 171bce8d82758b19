//! Random changes to training images that leave their class alone, drawn anew each time an image is shown.

mod color;
mod rotation;

use crate::Shape;
use lowbit_kernels::random::{RngCore, below};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// What may happen to a training image (`--augment`). Test images stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    symmetry: Symmetry,
    /// Pixels by which the image moves at most, in each direction; what moves in is zero.
    shift: usize,
    /// Degrees by which the image is turned at most, either way; what turns in is its nearest edge.
    rotate: u32,
    /// Per cent by which brightness, contrast and saturation change at most, up or down.
    color: u32,
    /// Side of a square that is filled with gray.
    cutout: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Symmetry {
    #[default]
    None,
    /// Left and right are swapped, or not.
    Flip,
    /// One of the eight ways to lay down a square; of the four for other rectangles.
    Dihedral,
}

/// The largest shift, rotation, change of colors and square.
const MOST_SHIFT: usize = 64;
const MOST_ROTATE: u32 = 45;
const MOST_COLOR: u32 = 90;
const MOST_CUTOUT: usize = 256;

/// The pixel that quantization takes for zero where mean and std are ½.
const GRAY: u8 = 127;

impl Augment {
    /// Appends one `[h, w, c]` image to `out`, changed as `rng` says: in another light, turned by an angle, flipped or laid
    /// down another way, moved, and covered in part. Padding by `shift` zeros and cutting at random is He et al. 2016, section 4.2; a gray
    /// square whose center lies anywhere in the image, cut off at its edges, is DeVries & Taylor 2017.
    ///
    /// # Panics
    /// If `image` is not of `shape`.
    pub fn apply(&self, rng: &mut impl RngCore, image: &[u8], shape: Shape, out: &mut Vec<u8>) {
        let (h, w, c) = (shape.h(), shape.w(), shape.c());
        assert_eq!(image.len(), h * w * c, "an image of the shape");
        let mut coin = |sides: u32| below(rng, sides);
        let (mirrored, upended, turned) = match self.symmetry {
            Symmetry::None => (false, false, false),
            Symmetry::Flip => (coin(2) == 1, false, false),
            Symmetry::Dihedral => {
                let which = coin(8);
                (which & 1 == 1, which & 2 == 2, which & 4 == 4 && h == w)
            }
        };
        let mut moved = || coin(2 * self.shift as u32 + 1) as isize - self.shift as isize;
        let (down, right) = match self.shift {
            0 => (0, 0),
            _ => (moved(), moved()),
        };
        let angle = match self.rotate * rotation::PARTS {
            0 => 0,
            most => coin(2 * most + 1) as i32 - most as i32,
        };
        let center = match self.cutout {
            0 => None,
            _ => Some((coin(h as u32) as usize, coin(w as u32) as usize)),
        };
        let factors = match self.color * color::PARTS / 100 {
            0 => None,
            most => {
                let mut factor = || color::PARTS - most + coin(2 * most + 1);
                Some(color::Factors {
                    brightness: factor(),
                    contrast: factor(),
                    saturation: factor(),
                })
            }
        };
        let mut image = Cow::Borrowed(image);
        if let Some(factors) = factors {
            image = color::colored(&image, shape, factors).into();
        }
        if angle != 0 {
            image = rotation::rotated(&image, shape, angle).into();
        }
        let from = out.len();
        out.reserve(image.len());
        for row in 0..h {
            for column in 0..w {
                let (y, x) = match turned {
                    true => (column, row),
                    false => (row, column),
                };
                let y = if upended { h - 1 - y } else { y };
                let x = if mirrored { w - 1 - x } else { x };
                let (y, x) = (y.wrapping_add_signed(down), x.wrapping_add_signed(right));
                if y < h && x < w {
                    out.extend_from_slice(&image[(y * w + x) * c..][..c]);
                } else {
                    out.extend(std::iter::repeat_n(0, c));
                }
            }
        }
        if let Some(center) = center {
            self.cut_out(center, shape, &mut out[from..]);
        }
    }

    /// Rows and columns from `center - side / 2` on.
    fn cut_out(&self, center: (usize, usize), shape: Shape, image: &mut [u8]) {
        let covered = |center: usize, extent: usize| {
            let first = center as isize - (self.cutout / 2) as isize;
            let end = first.saturating_add_unsigned(self.cutout);
            first.max(0) as usize..(end.max(0) as usize).min(extent)
        };
        let columns = covered(center.1, shape.w());
        for row in covered(center.0, shape.h()) {
            let at = |column: usize| (row * shape.w() + column) * shape.c();
            image[at(columns.start)..at(columns.end)].fill(GRAY);
        }
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symmetry = match self.symmetry {
            Symmetry::None => None,
            Symmetry::Flip => Some("flip".to_owned()),
            Symmetry::Dihedral => Some("dihedral".to_owned()),
        };
        let shift = (self.shift > 0).then(|| format!("shift:{}", self.shift));
        let rotate = (self.rotate > 0).then(|| format!("rotate:{}", self.rotate));
        let color = (self.color > 0).then(|| format!("color:{}", self.color));
        let cutout = (self.cutout > 0).then(|| format!("cutout:{}", self.cutout));
        let parts = [symmetry, shift, rotate, color, cutout];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "none" } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

impl FromStr for Augment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut augment = Self::default();
        if text == "none" {
            return Ok(augment);
        }
        let unknown = || {
            format!(
                "unknown augmentation {text}; use none, flip or dihedral, shift:1 to shift:{MOST_SHIFT}, rotate:1 to \
                 rotate:{MOST_ROTATE}, color:1 to color:{MOST_COLOR} (per cent), cutout:1 to cutout:{MOST_CUTOUT}, or several as \
                 flip,shift:4"
            )
        };
        for part in text.split(',') {
            let size = |text: &str, most: usize| {
                let size = text.parse().ok();
                size.filter(|size| (1..=most).contains(size))
                    .ok_or_else(unknown)
            };
            match part.split_once(':') {
                None if part == "flip" && augment.symmetry == Symmetry::None => {
                    augment.symmetry = Symmetry::Flip;
                }
                None if part == "dihedral" && augment.symmetry == Symmetry::None => {
                    augment.symmetry = Symmetry::Dihedral;
                }
                Some(("shift", pixels)) if augment.shift == 0 => {
                    augment.shift = size(pixels, MOST_SHIFT)?;
                }
                Some(("rotate", degrees)) if augment.rotate == 0 => {
                    augment.rotate = size(degrees, MOST_ROTATE as usize)? as u32;
                }
                Some(("color", percent)) if augment.color == 0 => {
                    augment.color = size(percent, MOST_COLOR as usize)? as u32;
                }
                Some(("cutout", side)) if augment.cutout == 0 => {
                    augment.cutout = size(side, MOST_CUTOUT)?;
                }
                _ => return Err(unknown()),
            }
        }
        Ok(augment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit_kernels::random::stream;
    use std::collections::BTreeSet;

    fn square() -> Shape {
        Shape::new(2, 2, 2)
    }
    const IMAGE: [u8; 8] = [1, 1, 2, 2, 3, 3, 4, 4];

    fn all(text: &str, image: &[u8], shape: Shape) -> BTreeSet<Vec<u8>> {
        let augment: Augment = text.parse().unwrap();
        let mut rng = stream(1, "test", 0);
        let one = |_| {
            let mut out = Vec::new();
            augment.apply(&mut rng, image, shape, &mut out);
            out
        };
        (0..500).map(one).collect()
    }

    #[test]
    fn every_symmetry_and_every_shift_occurs_and_pixels_stay_whole() {
        let flipped = vec![2, 2, 1, 1, 4, 4, 3, 3];
        assert_eq!(all("none", &IMAGE, square()), [IMAGE.to_vec()].into());
        assert_eq!(
            all("flip", &IMAGE, square()),
            [IMAGE.to_vec(), flipped.clone()].into()
        );
        let laid_down = all("dihedral", &IMAGE, square());
        assert_eq!(laid_down.len(), 8);
        assert!(laid_down.contains(&flipped));
        assert!(laid_down.contains(&vec![1, 1, 3, 3, 2, 2, 4, 4]));
        let wide = Shape::new(1, 4, 2);
        assert_eq!(all("dihedral", &IMAGE, wide).len(), 2);
        let moved = all("shift:1", &IMAGE, square());
        assert_eq!(moved.len(), 9);
        assert!(moved.contains(&vec![2, 2, 0, 0, 4, 4, 0, 0]));
        assert!(moved.contains(&vec![0, 0, 0, 0, 0, 0, 1, 1]));
    }

    /// The definition: a mask of ones, zero in `[y - n/2, y + n/2)` and `[x - n/2, x + n/2)` cut off at the edges, for a
    /// center that is any pixel.
    #[test]
    fn squares_are_cut_out_around_every_pixel() {
        let (h, w, side) = (3, 4, 2);
        let image: Vec<u8> = (0..h * w).map(|i| i as u8).collect();
        let mut expected = BTreeSet::new();
        for y in 0..h as isize {
            for x in 0..w as isize {
                let inside = |at: usize, center: isize| {
                    (center - side / 2..center + side / 2).contains(&(at as isize))
                };
                let pixel = |i: usize| inside(i / w, y) && inside(i % w, x);
                let masked = |i: usize| if pixel(i) { GRAY } else { image[i] };
                expected.insert((0..h * w).map(masked).collect::<Vec<_>>());
            }
        }
        assert_eq!(all("cutout:2", &image, Shape::new(h, w, 1)), expected);
        let odd = all("cutout:1", &IMAGE, square());
        assert!(odd.len() == 4 && odd.contains(&vec![127, 127, 2, 2, 3, 3, 4, 4]));
        let whole = all("cutout:256", &IMAGE, square());
        assert_eq!(whole, [vec![127; 8]].into());
    }

    #[test]
    fn rotations_are_of_all_angles_up_to_the_largest_either_way() {
        let shape = Shape::new(33, 33, 1);
        let image: Vec<u8> = (0..33 * 33)
            .map(|i| if i % 33 > 16 { 255 } else { 0 })
            .collect();
        // The column in which the top row turns from black to white says the angle's sign and bounds its size.
        let seen: BTreeSet<usize> = all("rotate:15", &image, shape)
            .iter()
            .map(|turned| turned[..33].iter().filter(|&&x| x < 128).count())
            .collect();
        assert_eq!(seen, (13..=21).collect());
    }

    /// Of one gray pixel, brightness is all that changes: by up to a fifth, either way.
    #[test]
    fn light_is_of_all_strengths_up_to_the_largest_either_way() {
        let seen = all("color:20", &[200], Shape::new(1, 1, 1));
        let seen: Vec<u8> = seen.into_iter().map(|image| image[0]).collect();
        assert_eq!((seen[0], seen[seen.len() - 1]), (160, 239));
        assert!(seen.len() > 60, "{seen:?}");
    }

    /// Neither the library's sine nor an instruction set decides these bytes.
    #[test]
    fn all_together_are_the_same_bytes_everywhere() {
        let shape = Shape::new(8, 8, 3);
        let image: Vec<u8> = (0..8 * 8 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let augment: Augment = "cutout:3,rotate:15,shift:1,dihedral".parse().unwrap();
        assert_eq!(augment.to_string(), "dihedral,shift:1,rotate:15,cutout:3");
        let mut rng = stream(1, "test", 0);
        let mut out = Vec::new();
        for _ in 0..20 {
            augment.apply(&mut rng, &image, shape, &mut out);
        }
        let sum = out.iter().fold(0u64, |sum, &x| {
            sum.wrapping_mul(1_000_003).wrapping_add(u64::from(x))
        });
        assert_eq!(sum, 14_480_776_928_803_715_680);
    }

    #[test]
    fn names_are_read_back_and_others_refused() {
        for text in [
            "none",
            "flip",
            "dihedral",
            "shift:4",
            "flip,shift:4",
            "rotate:15",
            "cutout:8",
            "color:20",
            "flip,shift:4,rotate:45,color:90,cutout:256",
        ] {
            assert_eq!(text.parse::<Augment>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "flop",
            "flip,dihedral",
            "shift:0",
            "shift:x",
            "shift:65",
            "flip,none",
            "flip:1",
            "rotate",
            "rotate:46",
            "rotate:-1",
            "color",
            "color:0",
            "color:91",
            "cutout:0",
            "cutout:257",
            "cutout:2,cutout:4",
        ] {
            let error = text.parse::<Augment>().unwrap_err();
            assert!(error.contains("use none, flip"), "{text}: {error}");
        }
    }
}
