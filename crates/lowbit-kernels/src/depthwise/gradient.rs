//! Gradients of depthwise convolutions, in f32.
//!
//! Nothing is contracted or reassociated: sums run over the pixels in their order, so that bits depend neither on the ISA nor
//! on the number of threads.

use super::DepthwiseGeometry;
use crate::Isa;
use crate::lanes::{LANES, each_group, lanewise, load, store};
use crate::vectorize::vectorized;

impl DepthwiseGeometry {
    fn check_gradient(&self, [rows, columns]: [usize; 2], grad: &[f32], weights: &[f32]) {
        let taps = self.kernel[0].checked_mul(self.kernel[1]);
        assert!(
            self.channels > 0 && !self.kernel.contains(&0) && !self.stride.contains(&0),
            "a kernel has taps, channels and strides"
        );
        assert!(
            self.out_pixel_stride >= self.channels,
            "pixels must not overlap"
        );
        assert_eq!(
            taps.and_then(|taps| taps.checked_mul(self.channels)),
            Some(weights.len()),
            "a weight for each tap and channel"
        );
        assert!(
            self.output_extent(rows, columns) <= grad.len(),
            "the gradient must hold all pixels"
        );
    }
}

/// Adds the gradient of the weights, `[kernel_h, kernel_w, channels]`, from that of the result (`grad`, at the geometry's strides of
/// the result) and the input, a view as [`conv_f32`](super::conv_f32) takes it (without its slack): for each tap the sum over
/// `extents` (rows and columns of the result) of input times gradient.
///
/// # Panics
/// If geometry and slices do not fit together.
pub fn grad_weights(
    isa: Isa,
    geometry: &DepthwiseGeometry,
    extents: [usize; 2],
    input: &[f32],
    grad: &[f32],
    weights: &mut [f32],
) {
    geometry.check_gradient(extents, grad, weights);
    let [rows, columns] = extents;
    assert!(
        geometry.input_extent(rows, columns) <= input.len(),
        "the input must hold its extent"
    );
    let channels = geometry.channels;
    vectorized!(isa, || for (tap, offset) in geometry.taps().enumerate() {
        each_group(channels, |start, lanes| {
            let mut sum = load(weights, tap * channels + start, lanes);
            for row in 0..rows {
                for column in 0..columns {
                    let from = geometry.origin(row, column) + offset + start;
                    let at = row * geometry.out_row_stride + column * geometry.out_pixel_stride;
                    let (x, dy) = (load(input, from, lanes), load(grad, at + start, lanes));
                    for lane in 0..LANES {
                        sum[lane] += x[lane] * dy[lane];
                    }
                }
            }
            store(weights, tap * channels + start, lanes, sum);
        });
    });
}

/// An image whose gradient is looked for: dense, `[h, w, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaddedImage {
    /// Rows and columns.
    pub size: [usize; 2],
    /// Rows above and columns left of it that the kernel sees too.
    pub padding: [usize; 2],
}

/// Adds the gradient of the input to `out`, dense, from that of the result (`grad`, at the geometry's strides of the result) and the
/// weights, `[kernel_h, kernel_w, channels]`; `extents` are rows and columns of the result.
///
/// # Panics
/// If geometry and slices do not fit together.
pub fn grad_input(
    isa: Isa,
    geometry: &DepthwiseGeometry,
    extents: [usize; 2],
    weights: &[f32],
    grad: &[f32],
    image: PaddedImage,
    out: &mut [f32],
) {
    geometry.check_gradient(extents, grad, weights);
    let ([rows, columns], [h, w], channels) = (extents, image.size, geometry.channels);
    let len = h
        .checked_mul(w)
        .and_then(|pixels| pixels.checked_mul(channels));
    assert_eq!(len, Some(out.len()), "the image's own length");
    // The pixel of the image that a tap of a pixel of the result sees.
    let seen = |axis: usize, at: usize, tap: usize| {
        let place = at * geometry.stride[axis] + tap * geometry.dilation[axis];
        let place = place.checked_sub(image.padding[axis])?;
        (place < image.size[axis]).then_some(place)
    };
    let [kernel_h, kernel_w] = geometry.kernel;
    vectorized!(isa, || for row in 0..rows {
        for down in 0..kernel_h {
            let Some(y) = seen(0, row, down) else {
                continue;
            };
            for right in 0..kernel_w {
                let tap = &weights[(down * kernel_w + right) * channels..][..channels];
                for column in 0..columns {
                    let Some(x) = seen(1, column, right) else {
                        continue;
                    };
                    let at = row * geometry.out_row_stride + column * geometry.out_pixel_stride;
                    let to = (y * w + x) * channels;
                    each_group(channels, |start, lanes| {
                        let (sum, weight) = (load(out, to + start, lanes), load(tap, start, lanes));
                        let dy = load(grad, at + start, lanes);
                        let sum = lanewise(|lane| sum[lane] + weight[lane] * dy[lane]);
                        store(out, to + start, lanes, sum);
                    });
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{self, RngCore};

    fn uniform(rng: &mut impl RngCore, len: usize) -> Vec<f32> {
        (0..len).map(|_| random::uniform(rng) - 0.5).collect()
    }

    /// By the definition: each product of a pixel, a weight and a gradient, in f64.
    #[test]
    fn gradients_are_the_sums_of_their_definition_on_every_isa() {
        let mut rng = random::stream(3, "depthwise gradient", 0);
        for (channels, kernel, stride, dilation, padding, size) in [
            (1, [1, 1], [1, 1], [1, 1], [0, 0], [3, 4]),
            (5, [3, 3], [1, 1], [1, 1], [1, 1], [6, 5]),
            (16, [3, 3], [2, 2], [1, 1], [1, 1], [7, 8]),
            (37, [5, 3], [1, 2], [1, 2], [2, 2], [9, 8]),
            (24, [2, 4], [3, 1], [2, 1], [0, 3], [8, 6]),
        ] {
            let padded = [0, 1].map(|axis| size[axis] + 2 * padding[axis]);
            let extents: [usize; 2] = std::array::from_fn(|axis| {
                (padded[axis] - (kernel[axis] - 1) * dilation[axis] - 1) / stride[axis] + 1
            });
            let gap = channels + 3;
            let geometry = DepthwiseGeometry {
                channels,
                kernel,
                stride,
                dilation,
                in_row_stride: padded[1] * channels,
                in_pixel_stride: channels,
                out_row_stride: extents[1] * gap,
                out_pixel_stride: gap,
            };
            let taps = kernel[0] * kernel[1];
            let weights = uniform(&mut rng, taps * channels);
            let grad = uniform(&mut rng, extents[0] * extents[1] * gap);
            let mut view = vec![0.0; padded[0] * padded[1] * channels];
            let (mut by_weights, mut by_input) = (
                vec![1.0f64; weights.len()],
                vec![1.0f64; size[0] * size[1] * channels],
            );
            for y in 0..size[0] {
                let at = ((y + padding[0]) * padded[1] + padding[1]) * channels;
                let row = uniform(&mut rng, size[1] * channels);
                view[at..][..row.len()].copy_from_slice(&row);
            }
            for (row, column, tap, c) in (0..extents[0]).flat_map(|row| {
                (0..extents[1]).flat_map(move |column| {
                    (0..taps).flat_map(move |tap| (0..channels).map(move |c| (row, column, tap, c)))
                })
            }) {
                let dy = f64::from(grad[row * extents[1] * gap + column * gap + c]);
                let y = row * stride[0] + tap / kernel[1] * dilation[0];
                let x = column * stride[1] + tap % kernel[1] * dilation[1];
                by_weights[tap * channels + c] +=
                    dy * f64::from(view[(y * padded[1] + x) * channels + c]);
                let inside = y >= padding[0] && x >= padding[1];
                if inside && y - padding[0] < size[0] && x - padding[1] < size[1] {
                    let at = ((y - padding[0]) * size[1] + x - padding[1]) * channels + c;
                    by_input[at] += dy * f64::from(weights[tap * channels + c]);
                }
            }
            let mut first = None;
            for isa in Isa::available() {
                let (mut found_weights, mut found_input) =
                    (vec![1.0; weights.len()], vec![1.0; by_input.len()]);
                grad_weights(isa, &geometry, extents, &view, &grad, &mut found_weights);
                let image = PaddedImage { size, padding };
                grad_input(
                    isa,
                    &geometry,
                    extents,
                    &weights,
                    &grad,
                    image,
                    &mut found_input,
                );
                for (found, expected) in [(&found_weights, &by_weights), (&found_input, &by_input)]
                {
                    for (found, expected) in found.iter().zip(expected) {
                        assert!(
                            (f64::from(*found) - expected).abs() < 1e-4,
                            "{geometry:?}, {isa}"
                        );
                    }
                }
                let found = (found_weights, found_input);
                assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{isa}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "the image's own length")]
    fn an_image_of_another_length_is_refused() {
        let geometry = DepthwiseGeometry {
            channels: 2,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            in_row_stride: 4,
            in_pixel_stride: 2,
            out_row_stride: 4,
            out_pixel_stride: 2,
        };
        let image = PaddedImage {
            size: [2, 2],
            padding: [0, 0],
        };
        grad_input(
            Isa::best(),
            &geometry,
            [2, 2],
            &[1.0; 2],
            &[1.0; 8],
            image,
            &mut [0.0; 6],
        );
    }
}
