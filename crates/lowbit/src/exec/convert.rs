//! Steps between u8 and f32.

use super::kernel::{Call, Kernel, out_row};
use super::u8::Values;
use crate::graph::Pixels;
use crate::lower::{Layout, Plan};
use crate::quant::ActivationParams;
use lowbit_kernels::{Isa, elementwise};

/// u8 to f32; pixels are what the f32 path takes them for.
pub(super) struct Dequantize {
    input: Layout,
    output: Layout,
    /// `q ↦ q·scale + shift` for a pixel; else `(q − zero_point)·scale`.
    pixel: Option<(f32, f32)>,
    params: ActivationParams,
    isa: Isa,
}

impl Dequantize {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        values: &Values,
        pixels: &Pixels,
        isa: Isa,
    ) -> Self {
        let value = plan.exec.values[plan.exec.steps[index].output].value;
        let pixel = match (value, &pixels.maps[..]) {
            (0, &[map]) if pixels.stand_for_themselves() => Some(map),
            _ => None,
        };
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            pixel,
            params: values.params[value],
            isa,
        }
    }
}

impl Kernel for Dequantize {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.u8(0), call.out.f32());
        let ActivationParams { scale, zero_point } = self.params;
        for (image, y) in rows(call.images, &self.output) {
            let from = &input[self.input.row(image, y)];
            let to = &mut out[out_row(&self.output, image, y)];
            match self.pixel {
                Some((scale, shift)) => elementwise::scale_u8(self.isa, from, scale, shift, to),
                None => elementwise::dequantize_u8(self.isa, from, scale, zero_point, to),
            }
        }
    }
}

/// f32 to u8 with parameters found before.
pub(super) struct Quantize {
    input: Layout,
    output: Layout,
    params: ActivationParams,
    high: u8,
    isa: Isa,
}

impl Quantize {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        params: ActivationParams,
        high: u8,
        isa: Isa,
    ) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            params,
            high,
            isa,
        }
    }
}

impl Kernel for Quantize {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.u8());
        let ActivationParams { scale, zero_point } = self.params;
        for (image, y) in rows(call.images, &self.output) {
            let from = &input[self.input.row(image, y)];
            let to = &mut out[out_row(&self.output, image, y)];
            elementwise::quantize_linear_u8(self.isa, from, scale, zero_point, self.high, to);
        }
    }
}

/// f32 to u8 with parameters that cover what the batch holds.
pub(super) struct QuantizeDynamic {
    input: Layout,
    output: Layout,
    isa: Isa,
}

impl QuantizeDynamic {
    pub(super) fn new(plan: &Plan, index: usize, isa: Isa) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            isa,
        }
    }
}

impl Kernel for QuantizeDynamic {
    fn writes_halo(&self) -> bool {
        true
    }

    fn run(&self, call: Call<'_>) {
        let input = call.inputs.f32(0);
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for (image, y) in rows(call.images, &self.input) {
            let row = elementwise::min_max(self.isa, &input[self.input.row(image, y)]);
            (low, high) = (low.min(row.0), high.max(row.1));
        }
        let params = ActivationParams::covering(low, high, u8::MAX);
        call.inputs.keep_found(params);
        let zero_point = params.zero_point;
        let out = call.out.u8();
        if !self.output.is_dense() {
            out[..call.images * self.output.image_len].fill(zero_point);
        }
        for (image, y) in rows(call.images, &self.output) {
            elementwise::quantize_u8(
                self.isa,
                &input[self.input.row(image, y)],
                1.0 / params.scale,
                i32::from(zero_point),
                &mut out[self.output.row(image, y)],
            );
        }
    }
}

/// The rows of several images.
fn rows(images: usize, layout: &Layout) -> impl Iterator<Item = (usize, usize)> {
    let h = layout.h;
    (0..images).flat_map(move |image| (0..h).map(move |y| (image, y)))
}
