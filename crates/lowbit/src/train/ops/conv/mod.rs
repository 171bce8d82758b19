//! Convolution with the batch-norm, ReLU, ceiling and 2×2 max-pool behind it.

mod backward;
mod depthwise;
mod general;
mod gradients;
mod kernel;
mod product;

use super::normalization::Normalization;
use super::{Layer, Parameter, Pass};
use crate::Weights;
use crate::graph::{Op, Step};
use crate::lower::Plan;
use crate::ops;
use crate::quant::QuantizedLayer;
use crate::train::qat::WeightState;
use crate::train::{QatConfig, SLICE};
use lowbit_kernels::batch_norm::{self, Cut, MapShape};
use lowbit_kernels::{AlignedBuffer, Isa};
use product::{FloatProduct, IntegerForm, OfSlice};
use rayon::prelude::*;

pub(super) struct Conv {
    index: usize,
    step: Step,
    shape: MapShape,
    product: FloatProduct,
    weight: Parameter,
    bias: Option<Parameter>,
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
    /// HWIO, of each group; of none where they are summed by blocks.
    grad_weights: Vec<f32>,
    grad_input: AlignedBuffer<f32>,
}

/// The convolution that a step is: of one pixel, if it is a linear layer.
fn as_convolution(op: &Op) -> ops::Conv {
    match (op, Op::conv(1, 1, 1, 0)) {
        (Op::Conv(conv), _) => *conv,
        (Op::Linear(linear), Op::Conv(conv)) => ops::Conv {
            out_channels: linear.out_features,
            bias: true,
            ..conv
        },
        _ => unreachable!("only convolutions and linear layers come here"),
    }
}

impl Conv {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        weights: &Weights,
        isa: Isa,
        qat: Option<&QatConfig>,
    ) -> Self {
        let step = plan.exec.program.steps()[index].clone();
        let conv = as_convolution(&step.op);
        let map = step.main_shape;
        let weight = Parameter::new(format!("{}.weight", step.name), weights);
        let bias = conv
            .bias
            .then(|| Parameter::new(format!("{}.bias", step.name), weights));
        let quantizer = super::weight_state(plan, index, &weight, weights, qat);
        Self {
            index,
            quantizer,
            shape: MapShape {
                h: map.h(),
                w: map.w(),
                c: map.c(),
                pool: if step.epilogue.max_pool { 2 } else { 1 },
                cut: Cut {
                    relu: step.epilogue.relu,
                    ceiling: step.epilogue.ceiling.unwrap_or(f32::INFINITY),
                },
            },
            product: FloatProduct::new(plan, index, (&step, &conv), isa),
            weight,
            bias,
            maps: AlignedBuffer::zeroed(0),
            winners: AlignedBuffer::zeroed(0),
            peaks: AlignedBuffer::zeroed(0),
            slices: Vec::new(),
            normalization: Normalization::new(&step, weights),
            step,
        }
    }

    /// Whether the gradient of the value is that of the map, as the products take it: nothing is done between them but cutting.
    fn is_direct(&self) -> bool {
        let scratch = self.product.scratch(&self.shape);
        self.shape.pool == 1 && !self.normalization.is_there() && scratch.is_dense(&self.shape)
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
        let weights = self.weight.value.len();
        while self.slices.len() < count.div_ceil(SLICE) {
            let input_len = self.product.own_len(self.step.in_shapes[0].len());
            self.slices.push(Slice {
                grad_map: AlignedBuffer::zeroed(match self.is_direct() {
                    true => 0,
                    false => self.product.scratch(&self.shape).len,
                }),
                grad_weights: match gradients::by_blocks(&self.product, weights) {
                    Some(_) => Vec::new(),
                    None => vec![0.0; weights],
                },
                grad_input: AlignedBuffer::zeroed(input_len),
            });
        }
    }

    /// Brings the weights into the kernels' orders; the integer product in quantization-aware training.
    fn pack(&mut self, pass: &Pass) -> Option<IntegerForm> {
        let Some(quantizer) = &mut self.quantizer else {
            self.product.pack_both(&self.weight.value);
            return None;
        };
        quantizer.forward(&self.weight.value);
        let (quantizer, product) = (&*quantizer, &mut self.product);
        if !pass.has_integer_products() {
            product.pack_both(&quantizer.dequantized);
            return None;
        }
        let (_, input) = pass.codes(self.step.inputs[0]);
        let bias = self.bias.as_ref().map(|bias| &bias.value[..]);
        let kind = product.kind();
        let integers = || IntegerForm::new(kind, quantizer, pass.isa, input, bias);
        let backward = || product.pack_backward(&quantizer.dequantized);
        Some(rayon::join(integers, backward).0)
    }
}

impl Layer for Conv {
    fn forward(&mut self, pass: &mut Pass) {
        let (isa, count, c) = (pass.isa, pass.count, self.shape.c);
        self.reserve(count);
        let (from, to) = (self.step.inputs[0], self.index + 1);
        let integers = self.pack(pass);
        let (input, output) = (pass.plan.layouts[from], pass.plan.layouts[to]);
        let image = pass.values[from].with_slack();
        let codes: &[u8] = if integers.is_some() {
            pass.codes(from).0.with_slack()
        } else {
            &[]
        };
        self.normalization.prepare();
        let normalized = self.normalization.is_there();
        let (product, view_start) = (&self.product, self.product.view_start());
        let (shape, normalization) = (&self.shape, &self.normalization);
        let bias = self.bias.as_ref().map(|bias| &bias.value[..]);
        let mut moments = vec![0.0f64; count * 2 * c];
        let (map_len, pooled) = (shape.len(), shape.pooled_len());
        let pools = shape.pool == 2;
        let windows = if pools { count * pooled } else { 0 };
        let mut peaks: Vec<_> = self.peaks[..windows].chunks_mut(pooled).collect();
        let mut winners: Vec<_> = self.winners[..windows].chunks_mut(pooled).collect();
        peaks.resize_with(count, Default::default);
        winners.resize_with(count, Default::default);
        // As many images as keep all threads busy.
        let at_once = product
            .images_at_once()
            .min(count.div_ceil(rayon::current_num_threads()));
        self.maps[..count * map_len]
            .par_chunks_mut(at_once * map_len)
            .zip(moments.par_chunks_mut(at_once * 2 * c))
            .zip(peaks.par_chunks_mut(at_once))
            .zip(winners.par_chunks_mut(at_once))
            .enumerate()
            .for_each(|(chunk, (((maps, moments), peaks), winners))| {
                let start = chunk * at_once * input.image_len + view_start;
                let images = maps.len() / map_len;
                match &integers {
                    None => product.run(images, &image[start..], bias, maps),
                    Some(integers) => {
                        integers.run(images, [shape.h, shape.w], &codes[start..], maps);
                    }
                }
                let maps = maps.chunks_exact(map_len);
                let of_image = maps.zip(moments.chunks_exact_mut(2 * c));
                for ((map, moments), (peaks, winners)) in
                    of_image.zip(peaks.iter_mut().zip(winners))
                {
                    if normalized {
                        let (sum, squares) = moments.split_at_mut(c);
                        let pivot = &normalization.pivot;
                        batch_norm::channel_moments(isa, map, pivot, [sum, squares]);
                    }
                    if pools {
                        batch_norm::pool_peaks(
                            isa,
                            shape,
                            map,
                            &normalization.sign,
                            peaks,
                            winners,
                        );
                    }
                }
            });
        let pixels = (count * self.shape.h * self.shape.w) as f64;
        self.normalization.see(&moments, pixels, pass.statistics);
        let Normalization { scale, shift, .. } = &self.normalization;
        let (shape, affine) = (&self.shape, [&scale[..], shift]);
        let peaks = if pools { &self.peaks } else { &self.maps };
        pass.values[to][..count * output.image_len]
            .par_chunks_mut(output.image_len)
            .zip(peaks.par_chunks(pooled))
            .for_each(|(value, peaks)| {
                let out = &mut value[output.first()..];
                batch_norm::normalize(isa, shape, peaks, affine, out, output.row_stride);
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
        let (cut, affine) = (self.shape.cut, self.normalization.affine());
        let mut sums = vec![0.0f64; count * 2 * c];
        sums.par_chunks_mut(2 * c)
            .zip(grad_out.par_chunks_mut(pooled))
            .zip(peaks.par_chunks(pooled))
            .for_each(|((sums, grad), peaks)| {
                let (dy, dy_x) = sums.split_at_mut(c);
                batch_norm::cut_and_sum(isa, cut, grad, peaks, affine, [dy, dy_x]);
            });
        let [a, b, shift] = self.normalization.gradients(
            &sums,
            (count * self.shape.h * self.shape.w) as f64,
            pass.statistics,
            self.bias.as_mut(),
        );
        let input = pass.plan.layouts[from];
        let image = pass.values[from].with_slack();
        let dense = input.dense_len();
        let accumulate = pass.written[from];
        let (shape, product) = (&self.shape, &self.product);
        let (scratch, view_start) = (product.scratch(shape), product.view_start());
        let (maps, at_once) = (&self.maps, product.images_at_once());
        let grad_out = later[0].with_slack();
        let (is_direct, by_blocks) = (
            self.is_direct(),
            gradients::by_blocks(product, self.weight.value.len()),
        );
        let winners = |number: usize| match pools {
            true => &self.winners[number * pooled..][..pooled],
            false => &[],
        };
        self.slices[..count.div_ceil(SLICE)]
            .par_iter_mut()
            .zip(earlier[from][..count * dense].par_chunks_mut(SLICE * dense))
            .enumerate()
            .for_each(|(slice_number, (slice, grad_input))| {
                for (chunk, grad_input) in grad_input.chunks_mut(at_once * dense).enumerate() {
                    let first = slice_number * SLICE + chunk * at_once;
                    let images = grad_input.len() / dense;
                    let gradient = |within: usize, out: &mut [f32]| {
                        let number = first + within;
                        batch_norm::map_gradient(
                            isa,
                            shape,
                            &maps[number * map_len..][..map_len],
                            &grad_out[number * pooled..][..pooled],
                            winners(number),
                            [&a, &b, &shift],
                            out,
                            (scratch.row_stride, c),
                        );
                    };
                    let Slice {
                        grad_map,
                        grad_weights,
                        grad_input: own,
                    } = &mut *slice;
                    let grad_map = match is_direct {
                        true => &grad_out[first * pooled..],
                        false => {
                            let room = &mut grad_map.with_slack_mut()[scratch.offset..];
                            (0..images).for_each(|within| {
                                gradient(within, &mut room[within * scratch.image_len..]);
                            });
                            grad_map.with_slack()
                        }
                    };
                    let view = &image[first * input.image_len + view_start..];
                    let map = &grad_map[scratch.offset..];
                    let by_weights =
                        || product.grad_weights((chunk == 0, images), view, map, grad_weights);
                    let mut by_input =
                        || product.grad_input(images, grad_map, own, grad_input, accumulate);
                    if by_blocks.is_some() {
                        by_input();
                    } else {
                        // Two tasks, so that a thread that has run out of slices can help with another's.
                        rayon::join(by_weights, by_input);
                    }
                }
            });
        let slices = &self.slices[..count.div_ceil(SLICE)];
        let grad = &mut self.weight.grad;
        match by_blocks {
            None => gradients::reduce(slices, (c, product.groups()), grad),
            Some(matrix) => {
                let of_slice = |number: usize| {
                    let first = number * SLICE;
                    let grad_map = match is_direct {
                        true => &grad_out[first * pooled..],
                        false => &slices[number].grad_map.with_slack()[scratch.offset..],
                    };
                    OfSlice {
                        images: SLICE.min(count - first),
                        view: &image[first * input.image_len + view_start..],
                        grad_map,
                    }
                };
                let slices: Vec<_> = (0..slices.len()).map(of_slice).collect();
                gradients::sum_by_blocks(matrix, &slices, grad);
            }
        }
        pass.written[from] = true;
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
