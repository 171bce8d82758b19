//! Resizing by a triangle filter: bilinear when enlarging, an average over the covered area when reducing.

use crate::decode::Picture;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// How images are brought to one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resize {
    /// The whole image, stretched to height and width: `stretch`.
    #[default]
    Stretch,
    /// The shorter side is brought to so many pixels, the longer one in proportion; then height and width are cut out of the
    /// middle: `short:256`. So do torchvision's `Resize(256)` and `CenterCrop(224)`.
    Short(usize),
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stretch => f.write_str("stretch"),
            Self::Short(side) => write!(f, "short:{side}"),
        }
    }
}

impl FromStr for Resize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "stretch" => Ok(Self::Stretch),
            Some(("short", side)) => match side.parse() {
                Ok(side @ 1..=crate::options::MAX_IMAGE_SIZE) => Ok(Self::Short(side)),
                _ => Err(format!(
                    "{text}: the shorter side is 1 to 4096 pixels, as in short:256"
                )),
            },
            _ => Err(format!(
                "unknown way to resize {text}: use stretch or short:256"
            )),
        }
    }
}

impl Resize {
    /// Height and width of an image of another height and width, before anything is cut off, and after.
    pub(crate) fn sizes(self, own: [usize; 2], size: Option<usize>) -> [[usize; 2]; 2] {
        let whole = match self {
            Self::Stretch => size.map_or(own, |size| [size; 2]),
            Self::Short(short) => {
                let shorter = own[0].min(own[1]).max(1);
                own.map(|side| (side * short / shorter).max(1))
            }
        };
        [whole, size.map_or(whole, |size| [size; 2])]
    }

    /// `picture`, brought to `size`; `size` is at most the shorter side.
    pub(crate) fn apply<'a>(self, picture: &'a Picture, size: Option<usize>) -> Cow<'a, Picture> {
        let own = [picture.height, picture.width];
        let [whole, cut] = self.sizes(own, size);
        let resized = match whole == own {
            true => Cow::Borrowed(picture),
            false => Cow::Owned(resize(picture, whole[0], whole[1])),
        };
        match cut == whole {
            true => resized,
            false => Cow::Owned(middle(&resized, cut)),
        }
    }
}

/// The middle of a picture; where there is no middle pixel, as Python's `round` chooses.
fn middle(picture: &Picture, [height, width]: [usize; 2]) -> Picture {
    let first = |own: usize, part: usize| ((own - part) as f64 / 2.0).round_ties_even() as usize;
    let (top, left) = (first(picture.height, height), first(picture.width, width));
    let channels = picture.channels;
    let rows = picture.pixels.chunks_exact(picture.width * channels);
    let pixels = rows
        .skip(top)
        .take(height)
        .flat_map(|row| &row[left * channels..][..width * channels]);
    Picture {
        height,
        width,
        channels,
        pixels: pixels.copied().collect(),
    }
}

/// The sources of one output pixel along one axis and their weights.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// `picture` at `height` × `width`.
pub(crate) fn resize(picture: &Picture, height: usize, width: usize) -> Picture {
    if (picture.height, picture.width) == (height, width) {
        return picture.clone();
    }
    let channels = picture.channels;
    let rows: Vec<f32> = along_width(picture, &taps(picture.width, width));
    let stride = width * channels;
    let mut pixels = Vec::with_capacity(height * stride);
    for tap in taps(picture.height, height) {
        for at in 0..stride {
            let sum: f32 = tap
                .weights
                .iter()
                .enumerate()
                .map(|(offset, weight)| weight * rows[(tap.first + offset) * stride + at])
                .sum();
            pixels.push((sum + 0.5).clamp(0.0, 255.0) as u8);
        }
    }
    Picture {
        height,
        width,
        channels,
        pixels,
    }
}

fn along_width(picture: &Picture, taps: &[Taps]) -> Vec<f32> {
    let channels = picture.channels;
    let mut rows = Vec::with_capacity(picture.height * taps.len() * channels);
    for row in picture.pixels.chunks_exact(picture.width * channels) {
        for tap in taps {
            for channel in 0..channels {
                let sum = tap
                    .weights
                    .iter()
                    .enumerate()
                    .map(|(offset, weight)| {
                        weight * f32::from(row[(tap.first + offset) * channels + channel])
                    })
                    .sum();
                rows.push(sum);
            }
        }
    }
    rows
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f32 / to as f32;
    let reach = scale.max(1.0);
    (0..to)
        .map(|index| {
            let center = (index as f32 + 0.5) * scale;
            let first = (center - reach).max(0.0) as usize;
            let last = ((center + reach).ceil() as usize).clamp(first + 1, from);
            let first = first.min(last - 1);
            let mut weights: Vec<f32> = (first..last)
                .map(|source| (1.0 - (source as f32 + 0.5 - center).abs() / reach).max(0.0))
                .collect();
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            Taps { first, weights }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: usize, pixels: &[u8]) -> Picture {
        Picture {
            height: pixels.len() / width,
            width,
            channels: 1,
            pixels: pixels.to_vec(),
        }
    }

    #[test]
    fn a_flat_picture_stays_flat_at_any_size() {
        let flat = gray(7, &[93; 35]);
        for (height, width) in [(1, 1), (3, 2), (5, 7), (64, 64), (5, 1)] {
            let resized = resize(&flat, height, width);
            assert_eq!(resized.pixels, vec![93; height * width], "{height}×{width}");
        }
    }

    #[test]
    fn halving_a_picture_weighs_every_pixel() {
        let resized = resize(&gray(4, &[0, 0, 100, 100]), 1, 2);
        assert_eq!(resized.pixels, [14, 86]);
    }

    #[test]
    fn doubling_a_picture_interpolates() {
        let resized = resize(&gray(2, &[0, 100]), 1, 4);
        assert_eq!(resized.pixels, [0, 25, 75, 100]);
    }

    #[test]
    fn sizes_and_pixels_are_those_of_pillow() {
        let jpeg = include_bytes!("../tests/fixtures/images/noise_444.jpg");
        let picture = crate::decode::decode(jpeg).unwrap();
        assert_eq!((picture.height, picture.width), (37, 29));
        for (how, size, pillow) in [
            (
                "short:24",
                20,
                &include_bytes!("../tests/fixtures/resized/noise_444.jpg.24.20")[..],
            ),
            (
                "short:24",
                17,
                &include_bytes!("../tests/fixtures/resized/noise_444.jpg.24.17")[..],
            ),
            (
                "short:100",
                40,
                &include_bytes!("../tests/fixtures/resized/noise_444.jpg.100.40")[..],
            ),
            (
                "stretch",
                20,
                &include_bytes!("../tests/fixtures/resized/noise_444.jpg.stretch.20")[..],
            ),
        ] {
            let resize: Resize = how.parse().unwrap();
            assert_eq!(resize.to_string(), how);
            let found = resize.apply(&picture, Some(size));
            assert_eq!([found.height, found.width], [size; 2]);
            assert_eq!(found.pixels.len(), pillow.len());
            let apart = found.pixels.iter().zip(pillow).map(|(a, b)| a.abs_diff(*b));
            assert!(apart.max() <= Some(1), "{how} {size}");
        }
        // Without a size, nothing is cut off.
        let whole = Resize::Short(58).apply(&picture, None);
        assert_eq!([whole.height, whole.width], [74, 58]);
        let own = Resize::Stretch.apply(&picture, None);
        assert_eq!(own.pixels, picture.pixels);
    }

    #[test]
    fn ways_to_resize_that_do_not_exist_are_named() {
        for text in ["", "short", "short:0", "short:5000", "short:x", "long:3"] {
            let line = text.parse::<Resize>().unwrap_err();
            assert!(line.contains("short:256") && line.contains(text), "{line}");
        }
    }

    #[test]
    fn colors_stay_in_their_channels() {
        let color = Picture {
            height: 1,
            width: 2,
            channels: 3,
            pixels: vec![10, 20, 30, 10, 20, 30],
        };
        assert_eq!(resize(&color, 1, 1).pixels, [10, 20, 30]);
    }
}
