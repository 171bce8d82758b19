//! Dynamic quantization: integer products, float between the layers, ranges taken from each batch.

use super::LayerProfile;
use super::plan::Plan;
use crate::graph::{Block, BlockKind, PixelMap, pixel_params};
use crate::quant::{ActivationParams, InputParams, Product, QuantizedModel, Requant};
use lowbit_kernels::{AlignedBuffer, Isa, quantize};
use rayon::prelude::*;
use std::time::Instant;

pub(super) struct DynamicModel {
    plan: Plan,
    isa: Isa,
    pixel: PixelMap,
    pixel_params: InputParams,
    layers: Vec<Option<Layer>>,
}

struct Layer {
    product: Product,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl DynamicModel {
    pub(super) fn new(model: &QuantizedModel, mut plan: Plan, isa: Isa) -> Self {
        for layout in &mut plan.layouts {
            layout.chunked = true;
        }
        let layer = |(block, layer): (&Block, &Option<crate::quant::QuantizedLayer>)| {
            let layer = layer.as_ref()?;
            let shape = block.weight_shape()?;
            Some(Layer {
                product: Product::of_layer(layer, shape, isa, false),
                scale: layer.scale.clone(),
                bias: layer.bias.clone(),
            })
        };
        let layers = plan
            .blocks
            .list()
            .iter()
            .zip(&model.layers)
            .map(layer)
            .collect();
        let pixel = PixelMap::of(model.graph.normalization());
        Self {
            plan,
            isa,
            pixel,
            pixel_params: pixel_params(&model.graph),
            layers,
        }
    }

    /// Runs the whole batch layer by layer and times each.
    pub(super) fn run(&self, images: &[u8], count: usize, logits: &mut [f32]) -> Vec<LayerProfile> {
        let mut values: Vec<AlignedBuffer<f32>> = vec![AlignedBuffer::zeroed(0)];
        let mut profiles = Vec::new();
        for (index, block) in self.plan.blocks.list().iter().enumerate() {
            let start = Instant::now();
            let mut out = AlignedBuffer::zeroed(self.plan.buffer_len(index + 1, count));
            if block.has_weights() {
                self.weighted(index, images, count, &values, &mut out);
            } else {
                self.unweighted(index, images, count, &values, &mut out);
            }
            values.push(out);
            profiles.push(LayerProfile {
                name: block.name.clone(),
                macs: block.macs,
                seconds: start.elapsed().as_secs_f64(),
            });
        }
        logits.copy_from_slice(values.last().expect("a plan has blocks"));
        profiles
    }

    /// Quantizes the block's input over the whole batch, then multiplies.
    fn weighted(
        &self,
        index: usize,
        images: &[u8],
        count: usize,
        values: &[AlignedBuffer<f32>],
        out: &mut AlignedBuffer<f32>,
    ) {
        let block = &self.plan.blocks.list()[index];
        let layer = self.layers[index].as_ref().expect("checked");
        let from = block.inputs[0];
        let layout = self.plan.layouts[from];
        let (input, integers) = if from == 0 {
            let zero_point = self.pixel_params.params.zero_point;
            (self.pixel_params, self.pixels(images, count, zero_point))
        } else {
            // The halo's zeros do no harm: a range always holds zero.
            let (low, high) = quantize::min_max(self.isa, &values[from]);
            let params = ActivationParams::covering(low, high, u8::MAX);
            let mut integers = AlignedBuffer::zeroed(values[from].len());
            quantize::quantize_u8(
                self.isa,
                &values[from],
                1.0 / params.scale,
                i32::from(params.zero_point),
                &mut integers,
            );
            (InputParams::from(params), integers)
        };
        let product = &layer.product;
        let (scale, bias) = (&layer.scale, Some(&layer.bias[..]));
        let requant = Requant::new(product.sums(), scale, bias, input, None);
        let constants = &product.constants(requant);
        if block.kind == BlockKind::Linear {
            let geometry = self.plan.linear(index, count);
            let integers = integers.with_slack();
            product.run_f32(constants, block.relu, &geometry, 0..1, integers, out);
            return;
        }
        let geometry = self.plan.conv(index);
        let output = *self.plan.output(index);
        out.par_chunks_mut(output.image_len)
            .enumerate()
            .for_each(|(image, out)| {
                let start = image * layout.image_len + layout.offset(block.padding());
                let view = &integers.with_slack()[start..];
                let out = &mut out[output.offset(0)..];
                let rows = 0..geometry.pooled_h();
                product.run_f32(constants, block.relu, &geometry, rows, view, out);
            });
    }

    fn pixels(&self, images: &[u8], count: usize, zero_point: u8) -> AlignedBuffer<u8> {
        let layout = self.plan.layouts[0];
        let mut integers = AlignedBuffer::zeroed(layout.image_len * count);
        if layout.halo > 0 {
            integers.fill(zero_point);
        }
        let row_len = layout.w * layout.c;
        for (row, pixels) in images.chunks_exact(row_len).enumerate() {
            let start = row / layout.h * layout.image_len
                + layout.offset(0)
                + row % layout.h * layout.row_stride;
            integers[start..][..row_len].copy_from_slice(pixels);
        }
        integers
    }

    fn unweighted(
        &self,
        index: usize,
        images: &[u8],
        count: usize,
        values: &[AlignedBuffer<f32>],
        out: &mut AlignedBuffer<f32>,
    ) {
        let block = &self.plan.blocks.list()[index];
        let output = *self.plan.output(index);
        // A value's pixel, the image's computed from the u8 pixels.
        let read = |which: usize, image: usize, row: usize, at: usize| {
            let value = block.inputs[which];
            let layout = &self.plan.layouts[value];
            if value == 0 {
                let pixel = images[(image * layout.h + row) * layout.w * layout.c + at];
                return f32::from(pixel).mul_add(self.pixel.scale, self.pixel.shift);
            }
            let start = image * layout.image_len + layout.offset(0) + row * layout.row_stride;
            values[value][start + at]
        };
        let floor = if block.relu { 0.0 } else { f32::NEG_INFINITY };
        let (in_shape, c) = (block.in_shape, output.c);
        for image in 0..count {
            for row in 0..output.h {
                for at in 0..output.w * c {
                    let x = match block.kind {
                        BlockKind::Add => read(0, image, row, at) + read(1, image, row, at),
                        BlockKind::GlobalAvgPool => {
                            let pixels = (0..in_shape.h * in_shape.w).map(|pixel| {
                                let (y, x) = (pixel / in_shape.w, pixel % in_shape.w);
                                read(0, image, y, x * c + at)
                            });
                            pixels.sum::<f32>() / (in_shape.h * in_shape.w) as f32
                        }
                        _ => {
                            let (column, channel) = (at / c, at % c);
                            let taps = (0..block.pool * block.pool).map(|tap| {
                                let y = row * block.pool + tap / block.pool;
                                let x = column * block.pool + tap % block.pool;
                                read(0, image, y, x * c + channel)
                            });
                            taps.fold(f32::NEG_INFINITY, f32::max)
                        }
                    };
                    let start =
                        image * output.image_len + output.offset(0) + row * output.row_stride;
                    out[start + at] = x.max(floor);
                }
            }
        }
    }
}
