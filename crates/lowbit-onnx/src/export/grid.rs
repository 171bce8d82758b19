//! Pairs of QuantizeLinear and DequantizeLinear.

use super::{Attribute, Elements, Exporter, Source};
use lowbit::graph::{MaxPool, Step};
use lowbit::quant::{ActivationParams, ActivationQuant};

impl Exporter<'_> {
    /// What the integers of a value mean; none where it is f32.
    pub(super) fn params(&self, value: usize) -> Option<ActivationParams> {
        match self.source {
            Source::Quantized(model) if model.method == ActivationQuant::Static => match value {
                0 => self.rounds_image.then(|| model.image_params()),
                value => model.activations[value],
            },
            Source::Quantized(_) | Source::Float(_) => None,
        }
    }

    /// Rounds a tensor to a grid: QuantizeLinear and DequantizeLinear, in which engines see u8.
    pub(super) fn quantized(&mut self, name: &str, x: &str, params: ActivationParams) -> String {
        let quantized = self.quantize(name, x, params);
        self.dequantize(name, &quantized, params)
    }

    /// u8 of f32.
    pub(super) fn quantize(&mut self, name: &str, x: &str, params: ActivationParams) -> String {
        let [scale, zero_point] = self.grid(name, params);
        let name = format!("{name}.quantize");
        let inputs = [x, &scale, &zero_point];
        self.writer.node(&name, "QuantizeLinear", &inputs, &[])
    }

    /// f32 of u8.
    pub(super) fn dequantize(&mut self, name: &str, q: &str, params: ActivationParams) -> String {
        let [scale, zero_point] = self.grid(name, params);
        let name = format!("{name}.dequantize");
        let inputs = [q, &scale, &zero_point];
        self.writer.node(&name, "DequantizeLinear", &inputs, &[])
    }

    fn grid(&mut self, name: &str, params: ActivationParams) -> [String; 2] {
        let scale = Elements::F32(&[params.scale]);
        let zero_point = Elements::U8(&[params.zero_point]);
        let scale = self.writer.tensor(&format!("{name}.scale"), &[], &scale);
        let name = format!("{name}.zero_point");
        [scale, self.writer.tensor(&name, &[], &zero_point)]
    }

    /// What moves a value's elements leaves them on its grid; engines want to see that.
    pub(super) fn requantized(&mut self, name: &str, x: String, value: usize) -> String {
        match self.params(value) {
            Some(params) => self.quantized(name, &x, params),
            None => x,
        }
    }

    /// A step's ReLU and ceiling in f32.
    pub(super) fn cut(&mut self, step: &Step, x: String) -> String {
        match (step.epilogue.relu, step.epilogue.ceiling) {
            (false, None) => x,
            (true, None) => {
                let name = format!("{}.relu", step.name);
                self.writer.node(&name, "Relu", &[&x], &[])
            }
            (relu, Some(ceiling)) => {
                let low = if relu { 0.0 } else { f32::MIN };
                self.clip(&format!("{}.clip", step.name), &x, [low, ceiling])
            }
        }
    }

    /// `min(max(x, low), high)`.
    pub(super) fn clip(&mut self, name: &str, x: &str, bounds: [f32; 2]) -> String {
        let [low, high] = [("min", bounds[0]), ("max", bounds[1])].map(|(which, bound)| {
            let bound = Elements::F32(&[bound]);
            self.writer.tensor(&format!("{name}.{which}"), &[], &bound)
        });
        self.writer.node(name, "Clip", &[x, &low, &high], &[])
    }

    /// A step's fused max-pool.
    pub(super) fn pooled(&mut self, step: &Step, x: String) -> String {
        if !step.epilogue.max_pool {
            return x;
        }
        let pool = MaxPool {
            kernel: [2; 2],
            stride: [2; 2],
            padding: [0; 4],
        };
        self.max_pool(&format!("{}.pool", step.name), pool, &x)
    }

    /// A step's result on its grid, cut and pooled. QuantizeLinear cuts at 0 and 255: where that is where the step cuts, the
    /// ReLU before it is nothing but a hint, which engines take up; else the result is cut on its grid.
    pub(super) fn cut_and_quantize(
        &mut self,
        step: &Step,
        x: String,
        params: ActivationParams,
    ) -> String {
        let [low, high] = self.bounds(step, params);
        let name = &step.name;
        let hinted = match step.epilogue.relu && params.zero_point == 0 {
            true => self
                .writer
                .node(&format!("{name}.relu"), "Relu", &[&x], &[]),
            false => x,
        };
        let mut x = self.quantized(name, &hinted, params);
        if low > 0 || high < u8::MAX {
            let real = |level: u8| (f32::from(level) - f32::from(params.zero_point)) * params.scale;
            x = self.clip(&format!("{name}.clip"), &x, [real(low), real(high)]);
            x = self.quantized(&format!("{name}.clip"), &x, params);
        }
        if step.epilogue.max_pool {
            x = self.pooled(step, x);
            x = self.quantized(&format!("{name}.pool"), &x, params);
        }
        x
    }

    /// Lowest and highest level of a step's result, as its executor cuts it.
    fn bounds(&self, step: &Step, params: ActivationParams) -> [u8; 2] {
        let Source::Quantized(model) = self.source else {
            return [0, u8::MAX];
        };
        let low = match step.epilogue.relu {
            true => params.zero_point,
            false => 0,
        };
        let highest = model.activation_bits.level_max();
        let level = |ceiling: f32| {
            let steps = (f64::from(ceiling) / f64::from(params.scale)).round_ties_even();
            let level = steps + f64::from(params.zero_point);
            (level.clamp(0.0, 255.0) as u8).clamp(low, highest)
        };
        [low, step.epilogue.ceiling.map_or(highest, level)]
    }

    /// Weights, packed where they are.
    pub(super) fn dequantized_weights(
        &mut self,
        name: &str,
        dims: &[usize],
        bits: u8,
        codes: &[i16],
        scale: &[f32],
    ) -> String {
        // ONNX has no type of one bit; −1 and 1 are numbers of two bits. Between values of u8 those become four: ONNX
        // Runtime 1.32 takes weights of two bits there for those of an integer product, and refuses the model.
        let bits = match self.params(0) {
            Some(_) => bits.max(4),
            None => bits.max(2),
        };
        self.writer.need_opset(match bits {
            8 => 13,
            16 | 4 => 21,
            _ => 25,
        });
        let weights = self.writer.tensor(
            &format!("{name}.weight"),
            dims,
            &Elements::Bits(bits, codes),
        );
        let channels = [scale.len()];
        let scales = Elements::F32(scale);
        let scales = self
            .writer
            .tensor(&format!("{name}.weight_scale"), &channels, &scales);
        // Without it ONNX Runtime makes no integer product of a Gemm.
        let zeros = vec![0; scale.len()];
        let zeros = Elements::Bits(bits, &zeros);
        let zero_point = format!("{name}.weight_zero_point");
        let zero_point = self.writer.tensor(&zero_point, &channels, &zeros);
        let inputs = [weights.as_str(), &scales, &zero_point];
        let axis = [("axis", Attribute::Int(0))];
        let name = format!("{name}.weight_dequantize");
        self.writer.node(&name, "DequantizeLinear", &inputs, &axis)
    }
}
