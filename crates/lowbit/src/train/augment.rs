//! Random changes to training images that leave their class alone, drawn anew each time an image is shown.

use crate::Shape;
use lowbit_kernels::random::{RngCore, below};
use std::fmt;
use std::str::FromStr;

/// What may happen to a training image (`--augment`). Test images stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    symmetry: Symmetry,
    /// Pixels by which the image moves at most, in each direction; what moves in is zero.
    shift: usize,
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

/// The largest shift.
const MOST: usize = 64;

impl Augment {
    /// Appends one `[h, w, c]` image to `out`, changed as `rng` says. Padding by `shift` zeros and cutting at random is He et
    /// al. 2016, section 4.2.
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
        let parts: Vec<String> = symmetry.into_iter().chain(shift).collect();
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
                "unknown augmentation {text}; use none, flip or dihedral, shift:1 to shift:{MOST}, or flip,shift:4"
            )
        };
        for part in text.split(',') {
            match (part, part.strip_prefix("shift:")) {
                ("flip", _) if augment.symmetry == Symmetry::None => {
                    augment.symmetry = Symmetry::Flip;
                }
                ("dihedral", _) if augment.symmetry == Symmetry::None => {
                    augment.symmetry = Symmetry::Dihedral;
                }
                (_, Some(pixels)) if augment.shift == 0 => {
                    augment.shift = pixels.parse().map_err(|_| unknown())?;
                    if !(1..=MOST).contains(&augment.shift) {
                        return Err(unknown());
                    }
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

    #[test]
    fn names_are_read_back_and_others_refused() {
        for text in ["none", "flip", "dihedral", "shift:4", "flip,shift:4"] {
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
        ] {
            let error = text.parse::<Augment>().unwrap_err();
            assert!(error.contains("use none, flip"), "{text}: {error}");
        }
    }
}
