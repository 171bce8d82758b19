//! Convolution with the batch-norm, ReLU and 2×2 max-pool behind it.

use super::normalization::Normalization;
use super::{Layer, Parameter, Pass};
use crate::Weights;
use crate::graph::{Block, BlockKind};
use crate::quant::QuantizedLayer;
use crate::runtime::plan::Plan;
use crate::train::qat::{IntegerProduct, WeightState};
use crate::train::{QatConfig, SLICE};
use lowbit_kernels::norm::{self, MapShape};
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape, float, u8i8};
use rayon::prelude::*;

pub(super) struct Conv {
    index: usize,
    block: Block,
    shape: MapShape,
    /// From the input value to the dense map.
    forward: ConvGeometry,
    backward: Backward,
    weight: Parameter,
    bias: Option<Parameter>,
    packed: float::PackedWeights,
    /// Dense results of the convolution, `[n, h, w, c]`.
    maps: AlignedBuffer<f32>,
    /// Where a 2×2 max-pool follows: each window's winner and its value in the map.
    winners: AlignedBuffer<u8>,
    peaks: AlignedBuffer<f32>,
    slices: Vec<Slice>,
    normalization: Normalization,
    /// None in f32 training.
    quantizer: Option<WeightState>,
}

/// How the gradient of the map lies in a slice's scratch, zeros around it, so that the gradient of the input is a plain
/// convolution of it, or one for each phase of a stride.
struct Backward {
    /// None for the first layer: the image needs no gradient.
    phases: Vec<Phase>,
    /// Of the map's first pixel.
    offset: usize,
    row_stride: usize,
    scratch_len: usize,
}

/// The pixels of the input whose distance from the first kernel position is the same, modulo the stride: they see every
/// `stride`-th row and column of the kernel.
struct Phase {
    /// From the scratch to the input's gradient; none where a stride is wider than the kernel and nothing is seen.
    geometry: Option<ConvGeometry>,
    /// First kernel row and column.
    first: [usize; 2],
    /// Kernel rows and columns.
    taps: [usize; 2],
    /// Of the first pixel that is seen, in the scratch.
    from: usize,
    /// Of the first pixel, in the input's gradient.
    to: usize,
    /// Rows and columns of zeros around the scratch.
    border: usize,
    packed: float::PackedWeights,
    /// The phase's weights, OHWI, where they are not the whole kernel.
    gathered: Vec<f32>,
}

/// One direction of a phase.
#[derive(Clone, Copy)]
struct Axis {
    first: usize,
    taps: usize,
    /// First pixel, and how many there are.
    pixel: usize,
    count: usize,
    /// The map's pixel that the first kernel position of the first pixel sees.
    seen: usize,
}

impl Axis {
    fn new(first: usize, (kernel, stride, padding): (usize, usize, usize), size: usize) -> Self {
        let pixel = (first + stride * padding - padding) % stride;
        Self {
            first,
            taps: kernel.saturating_sub(first).div_ceil(stride),
            pixel,
            count: size.saturating_sub(pixel).div_ceil(stride),
            seen: (pixel + padding - first) / stride,
        }
    }

    /// Zeros that are needed before a map of `size` pixels, and behind it.
    fn zeros(&self, size: usize) -> [usize; 2] {
        if self.taps == 0 || self.count == 0 {
            return [0, 0];
        }
        let last = self.seen + self.count - 1;
        [
            (self.taps - 1).saturating_sub(self.seen),
            last.saturating_sub(size - 1),
        ]
    }
}

impl Backward {
    fn new(block: &Block, (kernel, stride, padding): (usize, usize, usize), isa: Isa) -> Self {
        let (map, input) = (block.conv_shape, block.in_shape);
        let shape = block.weight_shape().expect("convolutions have weights");
        if block.inputs[0] == 0 {
            return Self {
                phases: Vec::new(),
                offset: 0,
                row_stride: map.w * map.c,
                scratch_len: map.len(),
            };
        }
        let axes = |size: usize| -> Vec<Axis> {
            let axis = |first| Axis::new(first, (kernel, stride, padding), size);
            (0..stride).map(axis).collect()
        };
        let (rows, columns) = (axes(input.h), axes(input.w));
        let most = |axes: &[Axis], size: usize| {
            let zeros = axes.iter().map(|axis| axis.zeros(size));
            zeros.fold([0, 0], |[a, b], [c, d]| [a.max(c), b.max(d)])
        };
        let ([above, below], [left, right]) = (most(&rows, map.h), most(&columns, map.w));
        let row_stride = (left + map.w + right) * map.c;
        let phase = |row: &Axis, column: &Axis| {
            let taps = [row.taps, column.taps];
            let seen = |axis: &Axis, before: usize| before + axis.seen + 1 - axis.taps;
            let sees = row.taps > 0 && column.taps > 0;
            let geometry = (sees && row.count > 0 && column.count > 0).then(|| ConvGeometry {
                kernel_h: row.taps,
                kernel_w: column.taps,
                stride: 1,
                in_channels: map.c,
                out_channels: input.c,
                in_row_stride: row_stride,
                in_pixel_stride: map.c,
                out_h: row.count,
                out_w: column.count,
                pool: 1,
                out_row_stride: stride * input.w * input.c,
                out_pixel_stride: stride * input.c,
            });
            let from = geometry.map_or(0, |_| {
                seen(row, above) * row_stride + seen(column, left) * map.c
            });
            let part = WeightShape {
                kernel_h: row.taps,
                kernel_w: column.taps,
                ..shape
            };
            let gathered = vec![0.0; if stride > 1 { part.len() } else { 0 }];
            Phase {
                geometry,
                first: [row.first, column.first],
                taps,
                from,
                to: (row.pixel * input.w + column.pixel) * input.c,
                border: if stride == 1 { above } else { 0 },
                packed: float::PackedWeights::pack_backward(isa, &vec![0.0; part.len()], part),
                gathered,
            }
        };
        let phases = rows
            .iter()
            .flat_map(|row| columns.iter().map(move |column| phase(row, column)))
            .collect();
        Self {
            phases,
            offset: above * row_stride + left * map.c,
            row_stride,
            scratch_len: (above + map.h + below) * row_stride,
        }
    }

    /// Brings the weights (OHWI) into the phases' orders.
    fn pack(&mut self, weights: &[f32], shape: WeightShape, stride: usize) {
        for phase in &mut self.phases {
            if stride == 1 {
                phase.packed.repack_backward(weights);
                continue;
            }
            let ([top, left], [rows, columns]) = (phase.first, phase.taps);
            let channels = shape.in_channels;
            let mut to = phase.gathered.chunks_exact_mut(channels.max(1));
            for filter in weights.chunks_exact(shape.fan_in().max(1)) {
                for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                    let tap = (top + row * stride) * shape.kernel_w + left + column * stride;
                    let to = to.next().expect("the phase's own shape");
                    to.copy_from_slice(&filter[tap * channels..][..channels]);
                }
            }
            phase.packed.repack_backward(&phase.gathered);
        }
    }

    /// The gradient of the input from that of the map; pixels that no kernel position sees are left as they are.
    fn run(&self, grad_map: &[f32], grad_input: &mut [f32]) {
        let epilogue = float::Epilogue::default();
        for phase in &self.phases {
            let Some(geometry) = &phase.geometry else {
                continue;
            };
            let (rows, border) = (0..geometry.out_h, phase.border);
            let (from, to) = (&grad_map[phase.from..], &mut grad_input[phase.to..]);
            float::conv_haloed(&phase.packed, geometry, rows, border, from, &epilogue, to);
        }
    }

    /// Whether every pixel of the input is seen.
    fn is_complete(&self) -> bool {
        self.phases.iter().all(|phase| phase.geometry.is_some())
    }
}

/// What one slice of the batch works on.
struct Slice {
    grad_map: AlignedBuffer<f32>,
    /// HWIO.
    grad_weights: Vec<f32>,
    grad_input: AlignedBuffer<f32>,
}

/// Output channels whose weight gradients one thread reduces at a time: a cache line of them.
const GROUP: usize = 16;

impl Conv {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        weights: &Weights,
        isa: Isa,
        qat: Option<&QatConfig>,
    ) -> Self {
        let block = plan.blocks.list()[index].clone();
        let BlockKind::Conv {
            kernel,
            stride,
            padding,
        } = block.kind
        else {
            unreachable!("only convolutions come here")
        };
        let map = block.conv_shape;
        let c = map.c;
        let forward = ConvGeometry {
            pool: 1,
            out_row_stride: map.w * c,
            out_pixel_stride: c,
            ..plan.conv(index)
        };
        let backward = Backward::new(&block, (kernel, stride, padding), isa);
        let weight = Parameter::new(format!("{}.weight", block.name), weights);
        let bias = block
            .bias
            .then(|| Parameter::new(format!("{}.bias", block.name), weights));
        let shape = block.weight_shape().expect("convolutions have weights");
        let quantizer = super::weight_state(plan, index, &weight, weights, qat);
        Self {
            index,
            quantizer,
            shape: MapShape {
                h: map.h,
                w: map.w,
                c,
                pool: block.pool,
                relu: block.relu,
            },
            forward,
            backward,
            packed: float::PackedWeights::pack(isa, &weight.value, shape),
            weight,
            bias,
            maps: AlignedBuffer::zeroed(0),
            winners: AlignedBuffer::zeroed(0),
            peaks: AlignedBuffer::zeroed(0),
            slices: Vec::new(),
            normalization: Normalization::new(&block, weights),
            block,
        }
    }

    fn reserve(&mut self, count: usize) {
        if self.maps.len() < count * self.shape.len() {
            self.maps = AlignedBuffer::zeroed(count * self.shape.len());
            let windows = match self.shape.pool {
                1 => 0,
                _ => count * self.shape.pooled_len(),
            };
            self.winners = AlignedBuffer::zeroed(windows);
            self.peaks = AlignedBuffer::zeroed(windows);
        }
        while self.slices.len() < count.div_ceil(SLICE) {
            let input_len = match self.backward.phases.is_empty() {
                true => 0,
                false => self.block.in_shape.len(),
            };
            self.slices.push(Slice {
                grad_map: AlignedBuffer::zeroed(self.backward.scratch_len),
                grad_weights: vec![0.0; self.weight.value.len()],
                grad_input: AlignedBuffer::zeroed(input_len),
            });
        }
    }

    /// Brings the weights into the kernels' orders; the integer product in quantization-aware training.
    fn pack(&mut self, pass: &Pass) -> Option<IntegerProduct> {
        let shape = self
            .block
            .weight_shape()
            .expect("convolutions have weights");
        let stride = self.forward.stride;
        let Some(quantizer) = &mut self.quantizer else {
            self.packed.repack(&self.weight.value);
            self.backward.pack(&self.weight.value, shape, stride);
            return None;
        };
        quantizer.forward(&self.weight.value);
        self.backward.pack(&quantizer.dequantized, shape, stride);
        if !pass.has_integer_products() {
            self.packed.repack(&quantizer.dequantized);
            return None;
        }
        let (_, params, residual) = pass.codes(self.block.inputs[0]);
        let bias = self.bias.as_ref().map(|bias| &bias.value[..]);
        Some(quantizer.product(pass.isa, shape, (params, residual), bias))
    }

    /// Adds the slices' gradients, in their order, and turns HWIO into OHWI.
    fn reduce(&mut self, slices: usize) {
        let out = self.shape.c;
        let fan_in = self.weight.value.len() / out;
        let slices = &self.slices[..slices];
        let groups = self.weight.grad.par_chunks_mut(GROUP * fan_in);
        groups.enumerate().for_each(|(group, grad)| {
            let channels = grad.len() / fan_in;
            for tap in 0..fan_in {
                let at = tap * out + group * GROUP;
                let mut sums = [0.0; GROUP];
                for slice in slices {
                    let of_slice = &slice.grad_weights[at..][..channels];
                    sums.iter_mut().zip(of_slice).for_each(|(sum, x)| *sum += x);
                }
                for (channel, &sum) in sums[..channels].iter().enumerate() {
                    grad[channel * fan_in + tap] = sum;
                }
            }
        });
    }
}

impl Layer for Conv {
    fn forward(&mut self, pass: &mut Pass) {
        let (isa, count, c) = (pass.isa, pass.count, self.shape.c);
        self.reserve(count);
        let (from, to) = (self.block.inputs[0], self.index + 1);
        let product = self.pack(pass);
        let (input, output) = (pass.plan.layouts[from], pass.plan.layouts[to]);
        let image = pass.values[from].with_slack();
        let codes: &[u8] = if product.is_some() {
            pass.codes(from).0.with_slack()
        } else {
            &[]
        };
        self.normalization.prepare();
        let normalized = self.normalization.is_there();
        let (packed, geometry, block) = (&self.packed, &self.forward, &self.block);
        let (shape, normalization) = (&self.shape, &self.normalization);
        let epilogue = float::Epilogue {
            bias: self.bias.as_ref().map(|b| &b.value[..]),
            relu: false,
        };
        let mut moments = vec![0.0f64; count * 2 * c];
        let (map_len, pooled) = (shape.len(), shape.pooled_len());
        let pools = shape.pool == 2;
        let windows = if pools { count * pooled } else { 0 };
        let mut peaks: Vec<_> = self.peaks[..windows].chunks_mut(pooled).collect();
        let mut winners: Vec<_> = self.winners[..windows].chunks_mut(pooled).collect();
        peaks.resize_with(count, Default::default);
        winners.resize_with(count, Default::default);
        self.maps[..count * map_len]
            .par_chunks_mut(map_len)
            .zip(moments.par_chunks_mut(2 * c))
            .zip(peaks.into_par_iter().zip(winners))
            .enumerate()
            .for_each(|(number, ((map, moments), (peaks, winners)))| {
                let start = number * input.image_len + input.offset(block.padding());
                let rows = 0..geometry.out_h;
                match &product {
                    None => float::conv(packed, geometry, rows, &image[start..], &epilogue, map),
                    Some(product) => {
                        let dequantize = product.dequantize(false);
                        let view = &codes[start..];
                        u8i8::conv_f32(&product.weights, geometry, rows, view, &dequantize, map);
                    }
                }
                if normalized {
                    let (sum, squares) = moments.split_at_mut(c);
                    norm::channel_moments(isa, map, &normalization.pivot, [sum, squares]);
                }
                if pools {
                    norm::pool_peaks(isa, shape, map, &normalization.sign, peaks, winners);
                }
            });
        let pixels = (count * self.shape.h * self.shape.w) as f64;
        self.normalization.see(&moments, pixels, pass.frozen_norm);
        let Normalization { scale, shift, .. } = &self.normalization;
        let (shape, affine) = (&self.shape, [&scale[..], shift]);
        let peaks = if pools { &self.peaks } else { &self.maps };
        pass.values[to][..count * output.image_len]
            .par_chunks_mut(output.image_len)
            .zip(peaks.par_chunks(pooled))
            .for_each(|(value, peaks)| {
                let out = &mut value[output.offset(0)..];
                norm::normalize(isa, shape, peaks, affine, out, output.row_stride);
            });
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let (isa, count, c) = (pass.isa, pass.count, self.shape.c);
        let (map_len, pooled) = (self.shape.len(), self.shape.pooled_len());
        let (from, to) = (self.block.inputs[0], self.index + 1);
        pass.quantize_backward(to);
        let (earlier, later) = pass.grads.split_at_mut(to);
        let grad_out = &mut later[0][..count * pooled];
        let pools = self.shape.pool == 2;
        let peaks = if pools { &self.peaks } else { &self.maps };
        let (relu, affine) = (self.shape.relu, self.normalization.affine());
        let mut sums = vec![0.0f64; count * 2 * c];
        sums.par_chunks_mut(2 * c)
            .zip(grad_out.par_chunks_mut(pooled))
            .zip(peaks.par_chunks(pooled))
            .for_each(|((sums, grad), peaks)| {
                let (dy, dy_x) = sums.split_at_mut(c);
                norm::cut_and_sum(isa, relu, grad, peaks, affine, [dy, dy_x]);
            });
        let [a, b, shift] = self.normalization.gradients(
            &sums,
            (count * self.shape.h * self.shape.w) as f64,
            pass.frozen_norm,
            self.bias.as_mut(),
        );
        let input = pass.plan.layouts[from];
        let image = pass.values[from].with_slack();
        let dense = input.dense_len();
        let accumulate = pass.written[from];
        let (shape, backward, block) = (&self.shape, &self.backward, &self.block);
        let geometry = ConvGeometry {
            out_row_stride: backward.row_stride,
            out_pixel_stride: c,
            ..self.forward
        };
        let (maps, grad_out) = (&self.maps, &*grad_out);
        let winners = |number: usize| match pools {
            true => &self.winners[number * pooled..][..pooled],
            false => &[],
        };
        self.slices[..count.div_ceil(SLICE)]
            .par_iter_mut()
            .zip(earlier[from][..count * dense].par_chunks_mut(SLICE * dense))
            .enumerate()
            .for_each(|(slice_number, (slice, grad_input))| {
                slice.grad_weights.fill(0.0);
                for (within, grad_input) in grad_input.chunks_exact_mut(dense).enumerate() {
                    let number = slice_number * SLICE + within;
                    let grad_map = &mut slice.grad_map.with_slack_mut()[backward.offset..];
                    norm::map_gradient(
                        isa,
                        shape,
                        &maps[number * map_len..][..map_len],
                        &grad_out[number * pooled..][..pooled],
                        winners(number),
                        [&a, &b, &shift],
                        grad_map,
                        (backward.row_stride, c),
                    );
                    let view = &image[number * input.image_len + input.offset(block.padding())..];
                    float::conv_grad_weights(
                        isa,
                        &geometry,
                        view,
                        grad_map,
                        &mut slice.grad_weights,
                    );
                    let grad_map = slice.grad_map.with_slack();
                    if accumulate {
                        let own = &mut slice.grad_input[..];
                        backward.run(grad_map, own);
                        grad_input
                            .iter_mut()
                            .zip(own)
                            .for_each(|(sum, &mut x)| *sum += x);
                    } else if !backward.phases.is_empty() {
                        if !backward.is_complete() {
                            grad_input.fill(0.0);
                        }
                        backward.run(grad_map, grad_input);
                    }
                }
            });
        pass.written[from] = true;
        self.reduce(count.div_ceil(SLICE));
        if let Some(quantizer) = &mut self.quantizer {
            quantizer.backward(&self.weight.value, &mut self.weight.grad);
        }
    }

    fn parameters(&mut self) -> Vec<&mut Parameter> {
        let mut parameters = vec![&mut self.weight];
        // In front of a batch-norm the bias has no effect, and its gradient is zero exactly.
        parameters.extend(self.bias.as_mut());
        parameters.extend(self.normalization.parameters());
        parameters.extend(self.quantizer.as_mut().map(WeightState::parameter));
        parameters
    }

    fn save(&self, weights: &mut Weights) {
        self.weight.save(weights);
        if let Some(quantizer) = &self.quantizer {
            quantizer.save(weights);
        }
        if let Some(bias) = &self.bias {
            bias.save(weights);
        }
        self.normalization.save(weights);
    }

    fn export(&mut self) -> Option<QuantizedLayer> {
        let quantizer = self.quantizer.as_mut()?;
        quantizer.forward(&self.weight.value);
        let bias = self.bias.as_ref().map(|bias| &bias.value[..]);
        Some(quantizer.export(bias, |channel| self.normalization.folded(channel)))
    }

    fn restore(&mut self, weights: &Weights) {
        self.normalization.restore(weights);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphBuilder, Op, Shape};
    use lowbit_kernels::random;

    /// Every product of a pixel's gradient with a weight, added to the pixel that it came from.
    fn naive(
        block: &Block,
        weights: &[f32],
        grad: &[f32],
        step: (usize, usize, usize),
    ) -> Vec<f64> {
        let (kernel, stride, padding) = step;
        let (input, map) = (block.in_shape, block.conv_shape);
        let mut sums = vec![0.0; input.len()];
        for (at, &g) in grad.iter().enumerate() {
            let (y, x, o) = (at / map.c / map.w, at / map.c % map.w, at % map.c);
            for (kh, kw) in (0..kernel).flat_map(|kh| (0..kernel).map(move |kw| (kh, kw))) {
                let (row, column) = (y * stride + kh, x * stride + kw);
                let inside = |at: usize, size: usize| at >= padding && at - padding < size;
                if !inside(row, input.h) || !inside(column, input.w) {
                    continue;
                }
                let to = ((row - padding) * input.w + column - padding) * input.c;
                let from = ((o * kernel + kh) * kernel + kw) * input.c;
                for c in 0..input.c {
                    sums[to + c] += f64::from(g) * f64::from(weights[from + c]);
                }
            }
        }
        sums
    }

    #[test]
    fn phases_of_any_stride_sum_to_the_gradient_of_the_input() {
        let mut rng = random::stream(1, "test", 0);
        let mut numbers = |count: usize| -> Vec<f32> {
            (0..count)
                .map(|_| random::uniform(&mut rng) - 0.5)
                .collect()
        };
        for kernel in 1..=5 {
            for (stride, padding) in (1..=3).flat_map(|s| (0..kernel).map(move |p| (s, p))) {
                for (h, w) in [(7, 5), (8, 11), (5, 6)] {
                    let mut graph =
                        GraphBuilder::new("test", Shape::new(h, w, 3), &["a".into(), "b".into()]);
                    let x = graph.conv("conv1", 0, 5, 1, (1, 0), true);
                    let x = graph.conv("conv2", x, 4, kernel, (stride, padding), true);
                    let x = graph.add("flatten", Op::Flatten, &[x]);
                    graph.add("fc", Op::Linear { out_features: 2 }, &[x]);
                    let graph = graph.finish().unwrap();
                    let block = graph.blocks().unwrap().list()[1].clone();
                    let shape = block.weight_shape().unwrap();
                    let step = (kernel, stride, padding);
                    let map = block.conv_shape;
                    let (weights, grad) = (numbers(shape.len()), numbers(map.len()));
                    let expected = naive(&block, &weights, &grad, step);
                    for isa in Isa::available() {
                        let mut backward = Backward::new(&block, step, isa);
                        backward.pack(&weights, shape, stride);
                        let mut scratch = AlignedBuffer::<f32>::zeroed(backward.scratch_len);
                        for (y, row) in grad.chunks_exact(map.w * map.c).enumerate() {
                            let start = backward.offset + y * backward.row_stride;
                            scratch[start..][..row.len()].copy_from_slice(row);
                        }
                        let mut found = AlignedBuffer::<f32>::zeroed(block.in_shape.len());
                        backward.run(scratch.with_slack(), &mut found);
                        for (found, expected) in found.iter().zip(&expected) {
                            let error = (f64::from(*found) - expected).abs();
                            assert!(
                                error < 1e-4,
                                "{step:?} on {h}×{w}, {isa}: {found} for {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}
