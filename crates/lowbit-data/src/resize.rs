//! Resizing by a triangle filter: bilinear when enlarging, an average over the covered area when reducing.

use crate::decode::Picture;

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
