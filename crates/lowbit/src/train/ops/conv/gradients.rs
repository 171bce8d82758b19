//! Gradients of the weights of a batch: the sums of those of its slices, in their order, whatever the number of threads.

use super::Slice;
use super::product::{FloatProduct, Matrix};
use crate::train::SLICE;
use rayon::prelude::*;

/// Taps whose gradients are reduced at a time: a cache line of each output channel's.
const TAPS: usize = 16;

/// Weights from which on each slice's gradient is summed as soon as a block of it is there: of fewer, those of all slices wait in the
/// caches.
const MANY_WEIGHTS: usize = 1 << 16;

/// Output channels of a block: those of the widest register tile.
const OUTPUTS: usize = 32;

/// Input channels of a block: two such gradients of a 3×3 kernel lie in a second-level cache.
const INPUTS: usize = 64;

/// What the gradient of a slice's weights is made of, where its images are taken at once.
#[derive(Clone, Copy)]
pub(super) struct OfSlice<'a> {
    pub(super) images: usize,
    /// The first image's view of the input.
    pub(super) view: &'a [f32],
    /// The gradient of the first image's map, as [`FloatProduct::scratch`] says.
    pub(super) grad_map: &'a [f32],
}

/// The product, if the gradient of its so many weights is summed block by block: each slice would write and read more of them than
/// caches hold.
pub(super) fn by_blocks(product: &FloatProduct, weights: usize) -> Option<&Matrix> {
    match product {
        FloatProduct::Matrix(matrix)
            if product.images_at_once() == SLICE && weights >= MANY_WEIGHTS =>
        {
            Some(matrix)
        }
        _ => None,
    }
}

/// Adds the slices' gradients, and turns HWIO, of `groups` groups, into OHWI of so many channels.
pub(super) fn reduce(slices: &[Slice], (channels, groups): (usize, usize), grad: &mut [f32]) {
    let out = channels / groups;
    let fan_in = grad.len() / channels;
    // Each thread reads long runs of the slices' gradients, of one group.
    let channels = out.div_ceil(rayon::current_num_threads());
    let channels = channels.next_multiple_of(TAPS).min(out);
    let of_groups = grad.par_chunks_mut(out * fan_in).enumerate();
    let parts = of_groups.flat_map(|(group, grad)| {
        let parts = grad.par_chunks_mut(channels * fan_in).enumerate();
        parts.map(move |(part, grad)| (group, part, grad))
    });
    parts.for_each(|(group, part, grad)| {
        let (first, channels) = (part * channels, grad.len() / fan_in);
        let group = group * out * fan_in;
        let mut sums = vec![0.0; TAPS * channels];
        for tap in (0..fan_in).step_by(TAPS) {
            let taps = TAPS.min(fan_in - tap);
            sums.fill(0.0);
            for slice in slices {
                for (within, sums) in sums.chunks_exact_mut(channels).take(taps).enumerate() {
                    let at = group + (tap + within) * out + first;
                    let of_slice = &slice.grad_weights[at..][..channels];
                    sums.iter_mut().zip(of_slice).for_each(|(sum, x)| *sum += x);
                }
            }
            for (channel, grad) in grad.chunks_exact_mut(fan_in).enumerate() {
                let sums = sums[channel..].iter().step_by(channels);
                let grad = grad[tap..][..taps].iter_mut();
                grad.zip(sums).for_each(|(grad, sum)| *grad = *sum);
            }
        }
    });
}

/// Computes and adds the slices' gradients (OHWI), a block of channels at a time: the same bits as slice by slice.
pub(super) fn sum_by_blocks(matrix: &Matrix, slices: &[OfSlice<'_>], grad: &mut [f32]) {
    let shape = matrix.shape();
    let (inputs, taps) = (shape.in_channels, shape.kernel_h * shape.kernel_w);
    let panels = grad.par_chunks_mut(OUTPUTS * shape.fan_in()).enumerate();
    panels.for_each(|(panel, grad)| {
        let outputs = grad.len() / shape.fan_in();
        // Of each block what each output channel and tap has of it.
        let mut blocks: Vec<_> = (0..inputs.div_ceil(INPUTS))
            .map(|_| Vec::with_capacity(outputs * taps))
            .collect();
        for tap in grad.chunks_exact_mut(inputs) {
            let parts = blocks.iter_mut().zip(tap.chunks_mut(INPUTS));
            parts.for_each(|(block, part)| block.push(part));
        }
        let first = [0, panel * OUTPUTS];
        blocks.into_par_iter().enumerate().for_each(|(block, to)| {
            let first = [block * INPUTS, first[1]];
            let channels = [to[0].len(), outputs];
            let mut sums = vec![0.0; taps * channels[0] * outputs];
            let mut of_slice = sums.clone();
            for slice in slices {
                matrix.grad_block([first, channels], slice, &mut of_slice);
                let pairs = sums.iter_mut().zip(&of_slice);
                pairs.for_each(|(sum, x)| *sum += x);
            }
            for (number, to) in to.into_iter().enumerate() {
                let (output, tap) = (number / taps, number % taps);
                let from = &sums[tap * channels[0] * outputs + output..];
                let pairs = to.iter_mut().zip(from.iter().step_by(outputs));
                pairs.for_each(|(to, from)| *to = *from);
            }
        });
    });
}
