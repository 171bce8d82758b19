//! Convolution with the batch-norm, ReLU and 2×2 max-pool behind it.

mod backward;

use super::normalization::Normalization;
use super::{Layer, Parameter, Pass};
use crate::Weights;
use crate::graph::{Op, Step};
use crate::lower::Plan;
use crate::quant::QuantizedLayer;
use crate::train::qat::{IntegerProduct, WeightState};
use crate::train::{QatConfig, SLICE};
use backward::Backward;
use lowbit_kernels::norm::{self, MapShape};
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, float};
use rayon::prelude::*;

pub(super) struct Conv {
    index: usize,
    step: Step,
    shape: MapShape,
    /// From the input value to the dense map, and where the first pixel's view begins.
    forward: ConvGeometry,
    view_start: usize,
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
        let step = plan.exec.program.steps()[index].clone();
        let Op::Conv(conv) = step.op else {
            unreachable!("only convolutions come here")
        };
        let (map, c) = (step.main_shape, step.main_shape.c());
        let whole = plan.conv(index).plain();
        let forward = ConvGeometry {
            pool: 1,
            out_row_stride: map.w() * c,
            out_pixel_stride: c,
            ..whole.expect("only plain convolutions are trained")
        };
        let backward = Backward::new(&step, &conv, isa);
        let weight = Parameter::new(format!("{}.weight", step.name), weights);
        let bias = conv
            .bias
            .then(|| Parameter::new(format!("{}.bias", step.name), weights));
        let shape = step.weight_shape().expect("convolutions have weights");
        let quantizer = super::weight_state(plan, index, &weight, weights, qat);
        Self {
            index,
            quantizer,
            shape: MapShape {
                h: map.h(),
                w: map.w(),
                c,
                pool: if step.epilogue.max_pool { 2 } else { 1 },
                relu: step.epilogue.relu,
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
            normalization: Normalization::new(&step, weights),
            view_start: plan
                .input(index, 0)
                .border(conv.padding[0], conv.padding[1]),
            step,
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
            let input_len = match self.backward.is_needed() {
                true => self.step.in_shapes[0].len(),
                false => 0,
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
        let shape = self.step.weight_shape().expect("convolutions have weights");
        let stride = self.forward.stride;
        let Some(quantizer) = &mut self.quantizer else {
            self.packed.repack(&self.weight.value);
            self.backward.pack(&self.weight.value, shape, stride);
            return None;
        };
        quantizer.forward(&self.weight.value);
        let (quantizer, backward) = (&*quantizer, &mut self.backward);
        let mut pack_backward = || backward.pack(&quantizer.dequantized, shape, stride);
        if !pass.has_integer_products() {
            pack_backward();
            self.packed.repack(&quantizer.dequantized);
            return None;
        }
        let (_, input) = pass.codes(self.step.inputs[0]);
        let bias = self.bias.as_ref().map(|bias| &bias.value[..]);
        let product = || quantizer.product(pass.isa, shape, input, bias);
        Some(rayon::join(product, pack_backward).0)
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
        let (from, to) = (self.step.inputs[0], self.index + 1);
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
        let (packed, geometry, view_start) = (&self.packed, &self.forward, self.view_start);
        let (shape, normalization) = (&self.shape, &self.normalization);
        let epilogue = float::Epilogue {
            bias: self.bias.as_ref().map(|b| &b.value[..]),
            relu: false,
            ceiling: None,
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
                let start = number * input.image_len + view_start;
                let rows = 0..geometry.out_h;
                match &product {
                    None => float::conv(packed, geometry, rows, &image[start..], &epilogue, map),
                    Some(product) => {
                        product.run(false, geometry, rows, &codes[start..], map);
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
        self.normalization
            .see(&moments, pixels, pass.frozen_statistics);
        let Normalization { scale, shift, .. } = &self.normalization;
        let (shape, affine) = (&self.shape, [&scale[..], shift]);
        let peaks = if pools { &self.peaks } else { &self.maps };
        pass.values[to][..count * output.image_len]
            .par_chunks_mut(output.image_len)
            .zip(peaks.par_chunks(pooled))
            .for_each(|(value, peaks)| {
                let out = &mut value[output.first()..];
                norm::normalize(isa, shape, peaks, affine, out, output.row_stride);
            });
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let (isa, count, c) = (pass.isa, pass.count, self.shape.c);
        let (map_len, pooled) = (self.shape.len(), self.shape.pooled_len());
        let (from, to) = (self.step.inputs[0], self.index + 1);
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
            pass.frozen_statistics,
            self.bias.as_mut(),
        );
        let input = pass.plan.layouts[from];
        let image = pass.values[from].with_slack();
        let dense = input.dense_len();
        let accumulate = pass.written[from];
        let (shape, backward, view_start) = (&self.shape, &self.backward, self.view_start);
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
                    let view = &image[number * input.image_len + view_start..];
                    let Slice {
                        grad_map,
                        grad_weights,
                        grad_input: own,
                    } = &mut *slice;
                    let grad_map = grad_map.with_slack();
                    let map = &grad_map[backward.offset..];
                    // Two tasks, so that a thread that has run out of slices can help with another's.
                    let by_weights =
                        || float::conv_grad_weights(isa, &geometry, view, map, grad_weights);
                    let by_input = || match accumulate {
                        true => {
                            backward.run(grad_map, own);
                            let pairs = grad_input.iter_mut().zip(own.iter());
                            pairs.for_each(|(sum, x)| *sum += x);
                        }
                        false if backward.is_needed() => {
                            if !backward.is_complete() {
                                grad_input.fill(0.0);
                            }
                            backward.run(grad_map, grad_input);
                        }
                        false => {}
                    };
                    rayon::join(by_weights, by_input);
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
