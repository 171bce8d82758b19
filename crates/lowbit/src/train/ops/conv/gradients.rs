//! Gradients of the weights of a batch: the sums of those of its slices, in their order, whatever the number of threads.

use super::Slice;
use super::product::{FloatProduct, Matrix, OfSlice};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphBuilder, Op, Shape};
    use crate::lower::{ExecProgram, Plan};
    use lowbit_kernels::batch_norm::{Cut, MapShape};
    use lowbit_kernels::random::{stream, uniform};
    use lowbit_kernels::{AlignedBuffer, Isa};

    /// The gradients of 19 images by both ways, of a convolution from 70 channels to 45, neither whole blocks.
    fn check([side, kernel, stride, padding]: [usize; 4]) {
        let shape = Shape::new(side, side, 3);
        let mut graph = GraphBuilder::new("test", shape, &["a".into(), "b".into()]);
        let x = graph.conv("conv1", 0, 70, 1, (1, 0), false);
        let x = graph.add("conv2", Op::conv(45, kernel, stride, padding), &[x]);
        let x = graph.add("flatten", Op::Flatten, &[x]);
        graph.add("fc", Op::linear(2), &[x]);
        let program = graph.finish().unwrap().program().unwrap();
        let step = program.steps()[1].clone();
        let Op::Conv(conv) = step.op else {
            unreachable!("it is one")
        };
        let plan = Plan::new(ExecProgram::float(program)).unwrap();
        let (map, weights) = (step.main_shape, step.weight_shape().unwrap().len());
        let input = plan.input(1, 0);
        let mut rng = stream(1, "gradients", side as u64);
        let mut random = |length: usize| {
            let mut buffer = AlignedBuffer::<f32>::zeroed(length);
            buffer.fill_with(|| uniform(&mut rng) - 0.5);
            buffer
        };
        let images = 19;
        let values = random(images * input.image_len);
        for isa in Isa::available() {
            let product = FloatProduct::new(&plan, 1, (&step, &conv), isa);
            assert_eq!(product.images_at_once(), SLICE);
            let scratch = product.scratch(&MapShape {
                h: map.h(),
                w: map.w(),
                c: map.c(),
                pool: 1,
                cut: Cut {
                    relu: false,
                    ceiling: f32::INFINITY,
                },
            });
            let count = images.div_ceil(SLICE);
            let grad_maps: Vec<_> = (0..count).map(|_| random(scratch.len)).collect();
            let of_slice = |number: usize| OfSlice {
                images: SLICE.min(images - number * SLICE),
                view: &values.with_slack()
                    [number * SLICE * input.image_len + product.view_start()..],
                grad_map: &grad_maps[number].with_slack()[scratch.offset..],
            };
            let parts: Vec<_> = (0..count).map(of_slice).collect();
            let whole = |part: &OfSlice<'_>| {
                let mut grad_weights = vec![f32::NAN; weights];
                let OfSlice {
                    images,
                    view,
                    grad_map,
                } = *part;
                product.grad_weights((true, images), view, grad_map, &mut grad_weights);
                Slice {
                    grad_map: AlignedBuffer::zeroed(0),
                    grad_weights,
                    grad_input: AlignedBuffer::zeroed(0),
                }
            };
            let slices: Vec<_> = parts.iter().map(whole).collect();
            let mut expected = vec![0.0; weights];
            reduce(&slices, (map.c(), 1), &mut expected);
            let FloatProduct::Matrix(matrix) = &product else {
                unreachable!("a plain convolution is one")
            };
            let mut found = vec![f32::NAN; weights];
            sum_by_blocks(matrix, &parts, &mut found);
            assert_eq!(found, expected, "{isa}, {conv:?} on {side}×{side}");
        }
    }

    #[test]
    fn blocks_of_channels_have_the_bits_of_whole_slices() {
        check([4, 3, 1, 1]);
        check([5, 3, 2, 1]);
        check([6, 1, 1, 0]);
        check([2, 2, 1, 1]);
    }
}
