//! A layer's integer weights in the kernels' order, and the product of an input with them.
//!
//! Kernels add in 32 bits, and take only weights with which no input can overflow them. Where a layer's real weights do
//! not allow that (a linear layer over a whole large image), its inputs are split into parts that are small enough for
//! each part's accumulator to be exact in f32; the parts are added in 64 bits, and the sum meets the same constants. The
//! definition of `quant/requant.rs` holds for both.

mod signs;

use super::requant::Requant;
use crate::bits::WeightBits;
use lowbit_kernels::bits::{self, BitWeights};
use lowbit_kernels::images::Window;
use lowbit_kernels::{ConvGeometry, ImagesGeometry, Isa, WeightShape, qconv};
use signs::as_signs;
use std::ops::Range;

/// Weights packed for an ISA, whole or in parts.
pub(crate) struct Product {
    isa: Isa,
    shape: WeightShape,
    form: Form,
    /// Σ w per output channel.
    sums: Vec<i64>,
    /// Σ w of what a window leaves of the kernel, `[window, out_channels]`; empty where images are not taken together.
    window_sums: Vec<i64>,
}

enum Form {
    Whole(qconv::PackedWeights),
    /// For activations of one bit.
    Signs(BitWeights),
    Parts(Vec<Part>),
}

/// A range of the input channels.
struct Part {
    first: usize,
    weights: qconv::PackedWeights,
}

/// How a product's u8 results are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levels {
    pub(crate) zero_point: u8,
    pub(crate) low: u8,
    pub(crate) high: u8,
}

/// Constants for the form that the weights have.
pub(crate) struct ProductConstants {
    /// Where each accumulator starts; one list per part.
    acc_offset: Vec<Vec<i32>>,
    /// The same for each window, `[window, out_channels]`.
    window_offset: Vec<i32>,
    multiplier: Vec<f32>,
    bias: Vec<f32>,
    /// Where the sums of parts start; empty where accumulators start there.
    bias_steps: Vec<i64>,
}

impl ProductConstants {
    fn requantize(&self, levels: Levels) -> qconv::Requantize<'_> {
        qconv::Requantize {
            acc_offset: &self.acc_offset[0],
            multiplier: &self.multiplier,
            bias: &self.bias,
            zero_point: i32::from(levels.zero_point),
            low: levels.low,
            high: levels.high,
        }
    }

    fn dequantize(&self, relu: bool) -> qconv::Dequantize<'_> {
        qconv::Dequantize {
            acc_offset: &self.acc_offset[0],
            multiplier: &self.multiplier,
            bias: &self.bias,
            relu,
        }
    }
}

/// Largest Σ|w| of a part: its accumulator stays within 2²⁴, and so exact in f32.
const PART_MAGNITUDES: u64 = (1 << 24) / 255;

impl Product {
    /// Packs `weights` (`[out, kernel_h, kernel_w, in]`) at `width`. If `one_bit_input`, weights of one bit are packed for
    /// products of signs.
    ///
    /// # Errors
    /// A reason, where weights are not of their width, or not even one input channel can be summed exactly.
    pub(crate) fn pack(
        isa: Isa,
        width: WeightBits,
        weights: &[i16],
        shape: WeightShape,
        one_bit_input: bool,
    ) -> Result<Self, String> {
        let filters = || weights.chunks_exact(shape.fan_in().max(1));
        let is_small = filters().all(|filter| width.width().fits(filter));
        if !is_small {
            check(width, weights, shape)?;
        }
        let form = if one_bit_input && width == WeightBits::B1 {
            Form::Signs(BitWeights::pack(isa, weights, shape))
        } else if is_small {
            let width = width.width();
            Form::Whole(qconv::PackedWeights::pack_width(isa, width, weights, shape))
        } else {
            Form::Parts(split(isa, width, weights, shape))
        };
        let sum = |filter: &[i16]| filter.iter().map(|&w| i64::from(w)).sum();
        let sums = match &form {
            Form::Whole(weights) => weights.sums().iter().map(|&sum| sum.into()).collect(),
            Form::Signs(_) | Form::Parts(_) => filters().map(sum).collect(),
        };
        Ok(Self {
            isa,
            shape,
            form,
            sums,
            window_sums: Vec::new(),
        })
    }

    /// The same for several images at once as well, where the kernels take them; `weights` are those that were packed, and
    /// `windows` what pixels see of the kernel.
    pub(crate) fn with_windows(mut self, weights: &[i16], windows: &[Window]) -> Self {
        let takes = matches!(&self.form, Form::Whole(weights) if weights.takes_images());
        if !takes {
            return self;
        }
        let (channels, columns) = (self.shape.in_channels, self.shape.kernel_w);
        let sum = |window: &Window, filter: &[i16]| -> i64 {
            let row = |row: usize| {
                let taps = row * columns + window.columns.start..row * columns + window.columns.end;
                let weights = &filter[taps.start * channels..taps.end * channels];
                weights.iter().map(|&w| i64::from(w)).sum::<i64>()
            };
            window.rows.clone().map(row).sum()
        };
        for window in windows {
            let filters = weights.chunks_exact(self.shape.fan_in().max(1));
            self.window_sums
                .extend(filters.map(|filter| sum(window, filter)));
        }
        self
    }

    /// Whether several images can be taken at once.
    pub(crate) fn takes_images(&self) -> bool {
        !self.window_sums.is_empty()
    }

    /// Σ w per output channel.
    pub(crate) fn sums(&self) -> &[i64] {
        &self.sums
    }

    /// Brings a layer's constants into the form that its weights have.
    pub(crate) fn constants(&self, requant: Requant) -> ProductConstants {
        let Requant {
            input_zero_point,
            multiplier,
            bias,
            bias_steps,
        } = requant;
        let moved = |sum: i64, steps: i64| i32::try_from(steps - i64::from(input_zero_point) * sum);
        let with_steps = |(&sum, &steps): (&i64, &i64)| {
            moved(sum, steps).expect("a checked layer's bias fits beside its products")
        };
        let offset = |sum: i64| moved(sum, 0).expect("sums of packed weights times a byte fit");
        match &self.form {
            Form::Whole(_) => ProductConstants {
                acc_offset: vec![self.sums.iter().zip(&bias_steps).map(with_steps).collect()],
                window_offset: self
                    .window_sums
                    .iter()
                    .zip(bias_steps.iter().cycle())
                    .map(with_steps)
                    .collect(),
                multiplier,
                bias,
                bias_steps: Vec::new(),
            },
            // With q = (1 + σ)/2 and σ = ±1, Σ q·w is (Σ w + Σ σ·w)/2: twice the accumulator is Σ σ·w + Σ w + 2·offset,
            // and half the multiplier (exact) undoes it.
            Form::Signs(_) => ProductConstants {
                acc_offset: vec![
                    self.sums
                        .iter()
                        .map(|&sum| sum as i32 + 2 * offset(sum))
                        .collect(),
                ],
                window_offset: Vec::new(),
                multiplier: multiplier.iter().map(|m| m / 2.0).collect(),
                bias,
                bias_steps: Vec::new(),
            },
            Form::Parts(parts) => ProductConstants {
                acc_offset: parts
                    .iter()
                    .map(|part| {
                        let sums = part.weights.sums().iter();
                        sums.map(|&sum| offset(i64::from(sum))).collect()
                    })
                    .collect(),
                window_offset: Vec::new(),
                multiplier,
                bias,
                bias_steps,
            },
        }
    }

    /// Computes rows `rows` (after pooling) as u8; `view` and `out` as the kernels want them.
    pub(crate) fn run_u8(
        &self,
        constants: &ProductConstants,
        levels: Levels,
        geometry: &ConvGeometry,
        rows: Range<usize>,
        view: &[u8],
        out: &mut [u8],
    ) {
        let requantize = constants.requantize(levels);
        match &self.form {
            Form::Whole(weights) => {
                qconv::conv_u8(weights, geometry, rows, view, &requantize, out);
            }
            Form::Signs(weights) => {
                let (signs, geometry) = as_signs(self.isa, geometry, &rows, view);
                let rows = 0..rows.len();
                bits::conv_u8(
                    weights,
                    &geometry,
                    rows,
                    signs.with_slack(),
                    &requantize,
                    out,
                );
            }
            Form::Parts(parts) => {
                let totals = self.totals(parts, constants, geometry, &rows, view);
                let level = |acc: i64, c: usize| {
                    let real = (acc as f32).mul_add(constants.multiplier[c], constants.bias[c]);
                    let level = real.round_ties_even() + f32::from(levels.zero_point);
                    level.clamp(f32::from(levels.low), f32::from(levels.high)) as u8
                };
                self.store(&totals, geometry, rows.len(), level, out);
            }
        }
    }

    /// Computes rows `rows` (after pooling) as f32; otherwise as [`Product::run_u8`].
    pub(crate) fn run_f32(
        &self,
        constants: &ProductConstants,
        relu: bool,
        geometry: &ConvGeometry,
        rows: Range<usize>,
        view: &[u8],
        out: &mut [f32],
    ) {
        let dequantize = constants.dequantize(relu);
        match &self.form {
            Form::Whole(weights) => {
                qconv::conv_f32(weights, geometry, rows, view, &dequantize, out);
            }
            Form::Signs(weights) => {
                let (signs, geometry) = as_signs(self.isa, geometry, &rows, view);
                let rows = 0..rows.len();
                bits::conv_f32(
                    weights,
                    &geometry,
                    rows,
                    signs.with_slack(),
                    &dequantize,
                    out,
                );
            }
            Form::Parts(parts) => {
                let totals = self.totals(parts, constants, geometry, &rows, view);
                let real = |acc: i64, c: usize| {
                    let real = (acc as f32).mul_add(constants.multiplier[c], constants.bias[c]);
                    if !relu || real > 0.0 { real } else { 0.0 }
                };
                self.store(&totals, geometry, rows.len(), real, out);
            }
        }
    }

    /// Computes several images as u8; only where they are [taken](Self::takes_images).
    pub(crate) fn run_images_u8(
        &self,
        constants: &ProductConstants,
        levels: Levels,
        geometry: &ImagesGeometry,
        view: &[u8],
        out: &mut [u8],
    ) {
        let requantize = qconv::Requantize {
            acc_offset: &constants.window_offset,
            ..constants.requantize(levels)
        };
        qconv::conv_images_u8(self.whole(), geometry, view, &requantize, out);
    }

    /// Computes several images as f32; otherwise as [`Product::run_images_u8`].
    pub(crate) fn run_images_f32(
        &self,
        constants: &ProductConstants,
        relu: bool,
        geometry: &ImagesGeometry,
        view: &[u8],
        out: &mut [f32],
    ) {
        let dequantize = qconv::Dequantize {
            acc_offset: &constants.window_offset,
            ..constants.dequantize(relu)
        };
        qconv::conv_images_f32(self.whole(), geometry, view, &dequantize, out);
    }

    /// The weights of a product that takes images.
    fn whole(&self) -> &qconv::PackedWeights {
        match &self.form {
            Form::Whole(weights) => weights,
            Form::Signs(_) | Form::Parts(_) => unreachable!("they take no images"),
        }
    }

    /// Adds up the parts' accumulators for all pixels of `rows`, before pooling: `[pixels, out_channels]`.
    fn totals(
        &self,
        parts: &[Part],
        constants: &ProductConstants,
        geometry: &ConvGeometry,
        rows: &Range<usize>,
        view: &[u8],
    ) -> Vec<i64> {
        let channels = self.shape.out_channels;
        let (width, pool) = (geometry.out_w, geometry.pool);
        let rows = rows.start * pool..rows.end * pool;
        let mut totals = constants.bias_steps.repeat(rows.len() * width);
        let mut sums = vec![0.0f32; totals.len()];
        let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
        for (part, acc_offset) in parts.iter().zip(&constants.acc_offset) {
            let geometry = ConvGeometry {
                in_channels: part.weights.shape().in_channels,
                pool: 1,
                out_row_stride: width * channels,
                out_pixel_stride: channels,
                ..*geometry
            };
            let dequantize = qconv::Dequantize {
                acc_offset,
                multiplier: &ones,
                bias: &zeros,
                relu: false,
            };
            let view = &view[part.first..];
            qconv::conv_f32(
                &part.weights,
                &geometry,
                rows.clone(),
                view,
                &dequantize,
                &mut sums,
            );
            for (total, &sum) in totals.iter_mut().zip(&sums) {
                *total += sum as i64;
            }
        }
        totals
    }

    /// Writes results of accumulators, the largest of each pooling window.
    fn store<T: Copy + PartialOrd>(
        &self,
        totals: &[i64],
        geometry: &ConvGeometry,
        rows: usize,
        result: impl Fn(i64, usize) -> T,
        out: &mut [T],
    ) {
        let (channels, pool) = (self.shape.out_channels, geometry.pool);
        for (row, column) in (0..rows).flat_map(|y| (0..geometry.pooled_w()).map(move |x| (y, x))) {
            for c in 0..channels {
                let tap = |tap: usize| {
                    let (y, x) = (row * pool + tap / pool, column * pool + tap % pool);
                    result(totals[(y * geometry.out_w + x) * channels + c], c)
                };
                let larger = |a: T, b: T| if b > a { b } else { a };
                let best = (1..pool * pool).map(tap).fold(tap(0), larger);
                out[row * geometry.out_row_stride + column * geometry.out_pixel_stride + c] = best;
            }
        }
    }
}

/// Whether weights are of their width, and their sums exact.
///
/// # Errors
/// A reason, where they are not.
pub(crate) fn check(width: WeightBits, weights: &[i16], shape: WeightShape) -> Result<(), String> {
    let range = width.width().range();
    let fits = |w: &i16| range.contains(w) && (!width.width().is_odd() || w % 2 != 0);
    if let Some(w) = weights.iter().find(|w| !fits(w)) {
        return Err(format!("weight {w}, which {width} bits cannot hold"));
    }
    let (fan_in, channels) = (shape.fan_in().max(1), shape.in_channels.max(1));
    for filter in weights.chunks_exact(fan_in) {
        if width.width().fits(filter) {
            continue;
        }
        let magnitude = |c: usize| -> u64 {
            let taps = filter[c..].iter().step_by(channels);
            taps.map(|w| u64::from(w.unsigned_abs())).sum()
        };
        if (0..channels).any(|c| magnitude(c) > PART_MAGNITUDES) {
            return Err("sums that no accumulator holds".into());
        }
    }
    Ok(())
}

/// Cuts the input channels where the next one would make the accumulator of some output channel too large.
fn split(isa: Isa, width: WeightBits, weights: &[i16], shape: WeightShape) -> Vec<Part> {
    let (fan_in, channels) = (shape.fan_in(), shape.in_channels);
    let taps = fan_in / channels.max(1);
    let mut magnitudes = vec![0u64; shape.out_channels];
    let (mut cuts, mut first) = (vec![], 0);
    for c in 0..channels {
        let of = |filter: &[i16]| -> u64 {
            let taps = filter[c..].iter().step_by(channels);
            taps.map(|w| u64::from(w.unsigned_abs())).sum()
        };
        let next: Vec<u64> = weights.chunks_exact(fan_in).map(of).collect();
        let full = |(sum, next): (&u64, &u64)| sum + next > PART_MAGNITUDES;
        if c > first && magnitudes.iter().zip(&next).any(full) {
            cuts.push(first..c);
            (first, magnitudes) = (c, vec![0; shape.out_channels]);
        }
        magnitudes
            .iter_mut()
            .zip(&next)
            .for_each(|(sum, next)| *sum += next);
    }
    cuts.push(first..channels);
    let part = |range: Range<usize>| {
        let mut own = Vec::with_capacity(shape.out_channels * taps * range.len());
        for pixel in weights.chunks_exact(channels) {
            own.extend_from_slice(&pixel[range.clone()]);
        }
        let shape = WeightShape {
            in_channels: range.len(),
            ..shape
        };
        Part {
            first: range.start,
            weights: qconv::PackedWeights::pack_width(isa, width.width(), &own, shape),
        }
    };
    cuts.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests;
