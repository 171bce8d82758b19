//! GPTQ: the weights of a layer are rounded one tap after the other, and those that are not rounded yet make good what the
//! rounded ones have spoilt, as far as the layer's inputs let them (Frantar et al. 2022, "GPTQ: Accurate Post-Training
//! Quantization for Generative Pre-trained Transformers", after OBQ, Frantar & Alistarh 2022, "Optimal Brain Compression"). The
//! layer reads what the quantized layers before it give.
//!
//! With `e = w − q` the squared error of a channel over the inputs `x` is `eᵀHe`, where `H = Σ x·xᵀ`. Where the bias is corrected
//! afterwards, inputs are counted from their means: rounding need not repair what the bias does.
//!
//! The paper takes the Cholesky factor of `H⁻¹`. With `H = L·Lᵀ` and taps taken from the last to the first, that factor is
//! `L⁻¹` up to its order, and what rounding tap `s` adds to tap `r` becomes `e_s·L[s][r] / L[r][r]`: the same numbers without any
//! inverse (Chee et al. 2023, "QuIP", theorem 6). The error is the sum of `(L[r][r]·(t_r − q_r))²`, where `t_r` is what tap `r`
//! is rounded from.
//!
//! Where weight ranges are chosen, they are chosen by that error: of some steps for each channel the one with which the
//! compensated weights lose least. The step that suits weights rounded one by one cuts too many of them at 2 bits, where what is
//! cut off is the largest of all debts.
//!
//! What differs from the paper: a channel whose error is no smaller than that of rounding to the nearest keeps the latter; and a
//! tap whose input never changes is rounded to the nearest, where the paper's code makes a zero of its weight, since other
//! images may reach it.

mod cholesky;

use crate::bits::WeightBits;
use crate::exec::Patches;
use crate::pool::for_each_chunk;
use crate::quant::QuantizedLayer;
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, conv_f32};
use std::ops::Range;

/// Pixels that are drawn from the batch, at most.
const PIXELS: usize = 16_384;

/// Pixels whose products are added up in f32.
const BATCH: usize = 512;

/// Pixels that a thread gathers at a time.
const GATHERED: usize = 32;

/// Rows of the Hessian that a thread takes at a time.
const ROWS: usize = 64;

/// Taps of one Hessian, at most: half a GiB. Of a longer filter, parts are taken as if their inputs had nothing in common.
const TAPS: usize = 8192;

/// What is added to the Hessian's diagonal, as a share of its mean (the paper's 1 %).
const DAMPING: f64 = 0.01;

/// Output channels that are rounded side by side.
const LANES: usize = 8;

/// Ranges that are tried, as shares of the largest weight.
const RANGES: [f32; 8] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];

/// A layer whose rounding errors are compensated.
pub(super) struct Compensation<'a> {
    pub(super) kernel: &'a [f32],
    /// Whether each channel's range is chosen as well, where the width has one to choose.
    pub(super) ranges: bool,
    /// The mean input at each tap of the quantized model (`[groups, taps]`), where the bias is corrected by them.
    pub(super) means: Option<&'a [f64]>,
    pub(super) isa: Isa,
}

impl Compensation<'_> {
    /// Rounds `layer` again, whose scales are set and whose integers are those of rounding to the nearest. `read` is what the
    /// quantized model reads; `index` numbers the layer.
    pub(super) fn round(&self, layer: &mut QuantizedLayer, index: usize, read: &Patches<'_>) {
        // Sixteen bits have no error to repair, and a sum that may not grow.
        if layer.bits == WeightBits::B16 {
            return;
        }
        let drawn = read.draw("gptq", index, PIXELS);
        let (bits, taps) = (layer.bits, read.taps());
        let channels = layer.scale.len() / read.groups;
        let rest = layer.weights.chunks_exact_mut(taps).zip(&mut layer.scale);
        let filters = self.kernel.chunks_exact(taps).zip(rest);
        let filters = filters.map(|(kernel, (integers, scale))| Filter {
            kernel,
            integers,
            scale,
        });
        let mut filters: Vec<Filter<'_>> = filters.collect();
        // Signs have their best scale, eight bits are fine enough for the largest weight, and parts of a filter share a step.
        let ranges = match bits {
            WeightBits::B4 | WeightBits::Odd4 | WeightBits::Ternary | WeightBits::B2
                if self.ranges && taps <= TAPS =>
            {
                &RANGES[..]
            }
            _ => &[],
        };
        for_each_chunk(&mut filters, channels, read.groups, |group, filters| {
            for part in parts(taps) {
                if let Some(factor) = self.factor(group, &drawn, read, part) {
                    let panels = filters.len().div_ceil(LANES);
                    for_each_chunk(filters, LANES, panels, |_, filters| {
                        factor.round(filters, bits, ranges);
                    });
                }
            }
        });
    }

    /// The factor of the damped Hessian of some of a group's taps; none where no input changes.
    fn factor(
        &self,
        group: usize,
        drawn: &[usize],
        read: &Patches<'_>,
        part: Range<usize>,
    ) -> Option<Factor> {
        let taps = read.taps();
        let mean = match self.means {
            Some(means) => means[group * taps..][part.clone()]
                .iter()
                .map(|&mean| mean as f32)
                .collect(),
            None => vec![0.0; part.len()],
        };
        let mut hessian = Hessian::new(part.len(), self.isa);
        for drawn in drawn.chunks(BATCH) {
            let width = part.len();
            let shares = drawn.len().div_ceil(GATHERED);
            let rows = &mut hessian.batch[..drawn.len() * width];
            for_each_chunk(rows, GATHERED * width, shares, |share, rows| {
                let pixels = &drawn[share * GATHERED..][..rows.len() / width];
                let mut gathered = vec![0.0; pixels.len() * taps];
                read.gather(group, pixels, &mut gathered);
                for (row, gathered) in rows
                    .chunks_exact_mut(width)
                    .zip(gathered.chunks_exact(taps))
                {
                    let pairs = gathered[part.clone()].iter().zip(&mean);
                    let numbers = row.iter_mut().zip(pairs);
                    numbers.for_each(|(to, (x, mean))| *to = x - mean);
                }
            });
            hessian.add(drawn.len());
        }
        hessian.factor(part)
    }
}

/// A filter's taps in as few parts of nearly the same length as need be.
fn parts(taps: usize) -> impl Iterator<Item = Range<usize>> {
    let count = taps.div_ceil(TAPS);
    (0..count).map(move |part| part * taps / count..(part + 1) * taps / count)
}

/// The sum of `x·xᵀ` over pixels.
struct Hessian {
    isa: Isa,
    taps: usize,
    /// Inputs that are to be added: `[pixels, taps]`.
    batch: AlignedBuffer<f32>,
    /// `[taps, taps]`, of which the lower triangle is right.
    sums: Vec<f64>,
}

impl Hessian {
    fn new(taps: usize, isa: Isa) -> Self {
        Self {
            isa,
            taps,
            batch: AlignedBuffer::zeroed(BATCH * taps),
            sums: vec![0.0; taps * taps],
        }
    }

    /// Adds the first pixels of the batch: their products in f32, these sums in f64.
    fn add(&mut self, pixels: usize) {
        let (taps, isa) = (self.taps, self.isa);
        let batch = self.batch.with_slack();
        let blocks = taps.div_ceil(ROWS);
        for_each_chunk(&mut self.sums, ROWS * taps, blocks, |block, sums| {
            let first = block * ROWS;
            let rows = sums.len() / taps;
            // As the gradient of weights: the block's taps are the inputs, all up to its last one the results.
            let columns = first + rows;
            let geometry = ConvGeometry {
                in_row_stride: pixels * taps,
                in_pixel_stride: taps,
                out_row_stride: pixels * taps,
                out_pixel_stride: taps,
                ..ConvGeometry::linear(pixels, rows, columns)
            };
            let mut products = vec![0.0; rows * columns];
            conv_f32::conv_grad_weights(isa, &geometry, &batch[first..], batch, &mut products);
            let pairs = sums
                .chunks_exact_mut(taps)
                .zip(products.chunks_exact(columns));
            for (sums, products) in pairs {
                let pairs = sums.iter_mut().zip(products);
                pairs.for_each(|(sum, &product)| *sum += f64::from(product));
            }
        });
    }

    /// Damps and factors it; `part` is which of a filter's taps it is of.
    fn factor(self, part: Range<usize>) -> Option<Factor> {
        let (taps, mut lower) = (self.taps, self.sums);
        let trace: f64 = lower.iter().step_by(taps + 1).sum();
        let damping = DAMPING * trace / taps as f64;
        if damping <= 0.0 || !damping.is_finite() {
            return None;
        }
        let diagonal = lower.iter_mut().step_by(taps + 1);
        diagonal.for_each(|x| *x += damping);
        cholesky::factor(&mut lower, taps, damping);
        Some(Factor { part, lower })
    }
}

/// `L` of the damped `H = L·Lᵀ` of a part of the taps.
struct Factor {
    part: Range<usize>,
    lower: Vec<f64>,
}

impl Factor {
    /// Takes the taps from the last to the first. `choose` gives the integers of a tap for what stands there after all
    /// compensations; `steps` are the weights, in steps. Returns each channel's error, in squared steps.
    fn walk(
        &self,
        steps: &[[f64; LANES]],
        mut choose: impl FnMut(usize, [f64; LANES]) -> [f64; LANES],
    ) -> [f64; LANES] {
        let taps = steps.len();
        let mut owed = vec![[0.0; LANES]; taps];
        let mut errors = [0.0; LANES];
        for tap in (0..taps).rev() {
            let row = &self.lower[tap * taps..][..=tap];
            let pivot = row[tap];
            let wanted: [f64; LANES] =
                std::array::from_fn(|c| steps[tap][c] + owed[tap][c] / pivot);
            let chosen = choose(tap, wanted);
            let left: [f64; LANES] = std::array::from_fn(|c| steps[tap][c] - chosen[c]);
            for (c, error) in errors.iter_mut().enumerate() {
                *error += (pivot * (wanted[c] - chosen[c])).powi(2);
            }
            for (owed, &factor) in owed.iter_mut().zip(&row[..tap]) {
                for (owed, left) in owed.iter_mut().zip(&left) {
                    *owed += factor * left;
                }
            }
        }
        errors
    }

    /// Rounds these taps of up to `LANES` channels again, with their scales or, of `ranges`, the best; integers and scales stay
    /// where nothing better is found.
    fn round(&self, filters: &mut [Filter<'_>], bits: WeightBits, ranges: &[f32]) {
        let own: Vec<f32> = filters.iter().map(|filter| *filter.scale).collect();
        let whole: Vec<f32> = filters.iter().map(|filter| filter.whole(bits)).collect();
        let of_range = |share: &f32| {
            whole
                .iter()
                .map(|whole| (whole * share).max(f32::MIN_POSITIVE))
                .collect()
        };
        let mut best = self.errors_as_they_are(filters, &own);
        for scale in std::iter::once(own.clone()).chain(ranges.iter().map(of_range)) {
            let steps = self.steps(filters, &scale);
            let mut found = vec![[0.0; LANES]; steps.len()];
            let errors = self.walk(&steps, |tap, wanted| {
                found[tap] = wanted.map(|x| bits.nearest(x));
                found[tap]
            });
            for (c, filter) in filters.iter_mut().enumerate() {
                let error = errors[c] * f64::from(scale[c]).powi(2);
                if error < best[c] {
                    best[c] = error;
                    *filter.scale = scale[c];
                    let integers = filter.integers[self.part.clone()].iter_mut();
                    integers
                        .zip(&found)
                        .for_each(|(q, found)| *q = found[c] as i16);
                }
            }
        }
    }

    /// The squared error of each channel with its present integers.
    fn errors_as_they_are(&self, filters: &[Filter<'_>], scale: &[f32]) -> Vec<f64> {
        let errors = self.walk(&self.steps(filters, scale), |tap, _| {
            let integer = |filter: &Filter<'_>| f64::from(filter.integers[self.part.start + tap]);
            std::array::from_fn(|c| filters.get(c).map_or(0.0, integer))
        });
        let pairs = errors.iter().zip(scale);
        pairs
            .map(|(error, &scale)| error * f64::from(scale).powi(2))
            .collect()
    }

    /// The weights in steps; zeros in lanes without a channel.
    fn steps(&self, filters: &[Filter<'_>], scale: &[f32]) -> Vec<[f64; LANES]> {
        let of = |c: usize, tap: usize| match filters.get(c) {
            Some(filter) => f64::from(filter.kernel[tap]) / f64::from(scale[c]),
            None => 0.0,
        };
        let taps = self.part.clone();
        taps.map(|tap| std::array::from_fn(|c| of(c, tap)))
            .collect()
    }
}

/// An output channel.
struct Filter<'a> {
    kernel: &'a [f32],
    integers: &'a mut [i16],
    scale: &'a mut f32,
}

impl Filter<'_> {
    /// The step that takes the largest weight to the largest integer; positive even where all weights are zero.
    fn whole(&self, bits: WeightBits) -> f32 {
        let largest = self.kernel.iter().fold(0.0f32, |max, w| max.max(w.abs()));
        (largest / f32::from(bits.magnitude_max())).max(f32::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests;
