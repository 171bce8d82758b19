//! The integer definition of a layer, written once: static and dynamic inference, quantization-aware training and
//! whatever writes models for others take their constants from here.
//!
//! With input `x = s_x·(q_x − z_x)`, weights `w[c] = s_w[c]·q_w` and output `y = s_y·(q_y − z_y)`,
//!
//! ```text
//! y[c]   = Σ w[c]·x + b[c]
//!        = s_x·s_w[c] · Σ q_w·(q_x − z_x) + b[c]
//!        = s_x·s_w[c] · (Σ q_w·q_x − z_x·Σ q_w) + b[c]
//! acc[c] = Σ q_w·q_x + acc_offset[c]              acc_offset[c] = −z_x·Σ q_w
//! q_y    = clamp(round_ties_even(fma(acc[c], multiplier[c], bias[c])) + z_y)
//!                                                 multiplier[c] = s_x·s_w[c] / s_y
//!                                                 bias[c]       = b[c] / s_y
//! ```
//!
//! (Jacob et al. 2018, equations 1–4, with a float multiplier instead of a fixed-point one.) Where the result stays f32,
//! `s_y` is 1 and nothing is rounded. All constants are derived in f64 and rounded once.
//!
//! The real zero of an image may lie between two integers, at `z_x − r` with |r| ≤ ½: then
//! `Σ q_w·(q_x − z_x + r) = acc + r·Σ q_w`, and the last term, exact, goes into the bias. (A padded first layer sees the
//! integer `z_x` in its border, not the zero between.)
//!
//! With [`Arithmetic::IntegerBias`](super::Arithmetic) a layer of 8-bit weights adds its bias before the product with the
//! multiplier, in whole steps of `s_x·s_w`, as ONNX's integer operators do:
//!
//! ```text
//! acc[c] = Σ q_w·q_x + acc_offset[c]              acc_offset[c] = −z_x·Σ q_w + round_ties_even(b[c]/(s_x·s_w[c]) + r·Σ q_w)
//! q_y    = clamp(round_ties_even(acc[c]·multiplier[c]) + z_y)
//!                                                 multiplier[c] = (s_x·s_w[c])/s_y, each rounded to f32
//! ```

use super::ActivationParams;

/// What the integers of a product's input stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct InputParams {
    pub(crate) params: ActivationParams,
    /// By how many steps the zero point lies above the real zero; not zero for pixels alone.
    pub(crate) residual: f64,
}

impl From<ActivationParams> for InputParams {
    fn from(params: ActivationParams) -> Self {
        Self {
            params,
            residual: 0.0,
        }
    }
}

/// The constants between a layer's accumulators and its results, per output channel.
#[derive(Clone, Debug)]
pub(crate) struct Requant {
    /// The input's `z_x`; a product derives where its accumulators start from it.
    pub(crate) input_zero_point: i32,
    pub(crate) multiplier: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    /// Added to the accumulators.
    pub(crate) bias_steps: Vec<i64>,
}

/// A bias in steps of `s_x·s_w`, with what the input's zero point moves: a whole number.
pub(crate) fn bias_steps(bias: f32, scale: f32, sum: i64, input: InputParams) -> f64 {
    let step = f64::from(input.params.scale) * f64::from(scale);
    (f64::from(bias) / step + input.residual * sum as f64).round_ties_even()
}

impl Requant {
    /// With biases of whole steps: of a layer that was checked.
    pub(crate) fn with_bias_steps(
        sums: &[i64],
        scale: &[f32],
        bias: &[f32],
        input: InputParams,
        output: Option<ActivationParams>,
    ) -> Self {
        let s_y = output.map_or(1.0, |output| output.scale);
        let steps = |c: usize| bias_steps(bias[c], scale[c], sums[c], input) as i64;
        Self {
            input_zero_point: i32::from(input.params.zero_point),
            multiplier: scale
                .iter()
                .map(|s_w| input.params.scale * s_w / s_y)
                .collect(),
            bias: vec![0.0; sums.len()],
            bias_steps: (0..sums.len()).map(steps).collect(),
        }
    }

    /// `sums` is Σ q_w, `scale` s_w per channel; no `output` for f32 results, no `bias` for zeros.
    pub(crate) fn new(
        sums: &[i64],
        scale: &[f32],
        bias: Option<&[f32]>,
        input: InputParams,
        output: Option<ActivationParams>,
    ) -> Self {
        let s_x = f64::from(input.params.scale);
        let s_y = output.map_or(1.0, |output| f64::from(output.scale));
        let step = |c: usize| s_x * f64::from(scale[c]);
        let moved = |c: usize| step(c) * input.residual * sums[c] as f64;
        let own = |c: usize| bias.map_or(0.0, |bias| f64::from(bias[c]));
        let channels = 0..sums.len();
        Self {
            input_zero_point: i32::from(input.params.zero_point),
            multiplier: channels.clone().map(|c| (step(c) / s_y) as f32).collect(),
            bias: channels
                .map(|c| ((own(c) + moved(c)) / s_y) as f32)
                .collect(),
            bias_steps: vec![0; sums.len()],
        }
    }

    /// Where the accumulators of a depthwise convolution start, `sums` being Σ q_w per channel.
    pub(crate) fn acc_offset(&self, sums: &[i64]) -> Vec<i32> {
        let offset = |(&sum, &steps): (&i64, &i64)| {
            let offset = steps - i64::from(self.input_zero_point) * sum;
            i32::try_from(offset).expect("a checked layer's bias fits beside its products")
        };
        sums.iter().zip(&self.bias_steps).map(offset).collect()
    }
}

/// From one value's steps to another's: `s_from / s_to`.
pub(crate) fn ratio(from: ActivationParams, to: ActivationParams) -> f32 {
    (f64::from(from.scale) / f64::from(to.scale)) as f32
}

#[cfg(test)]
mod tests {
    use super::super::Arithmetic;
    use super::*;

    #[test]
    fn biases_are_whole_steps_of_input_times_weight() {
        let params = ActivationParams {
            scale: 0.5,
            zero_point: 3,
        };
        // Steps of 0.125: 6.3 is 50.4 of them, and half a step below the zero point moves 10 by 5.
        let requant = Requant::with_bias_steps(&[10], &[0.25], &[6.3], params.into(), None);
        assert_eq!((requant.multiplier[0], requant.bias[0]), (0.125, 0.0));
        assert_eq!(requant.bias_steps, [50]);
        let pixels = InputParams {
            params,
            residual: 0.5,
        };
        let output = ActivationParams {
            scale: 2.0,
            zero_point: 7,
        };
        let requant = Requant::with_bias_steps(&[10], &[0.25], &[6.3], pixels, Some(output));
        assert_eq!((requant.multiplier[0], requant.bias_steps[0]), (0.0625, 55));
    }

    #[test]
    fn constants_of_a_layer_worked_out_by_hand() {
        // x = 0.5·(q − 3), w = 0.25·q_w, y = 2·(q − z): multiplier 0.5·0.25/2, bias 6/2.
        let input = ActivationParams {
            scale: 0.5,
            zero_point: 3,
        };
        let output = ActivationParams {
            scale: 2.0,
            zero_point: 7,
        };
        let requant = Requant::new(&[10], &[0.25], Some(&[6.0]), input.into(), Some(output));
        assert_eq!(requant.multiplier, [0.0625]);
        assert_eq!(requant.bias, [3.0]);
        assert_eq!(requant.input_zero_point, 3);
        // A real zero half a step below the zero point moves the bias by 0.5·0.25·½·10.
        let pixels = InputParams {
            params: input,
            residual: 0.5,
        };
        let requant = Requant::new(&[10], &[0.25], None, pixels, None);
        assert_eq!(requant.multiplier, [0.125]);
        assert_eq!(requant.bias, [0.625]);
    }

    #[test]
    fn a_value_moves_to_another_grid_by_one_rounding() {
        let of = |scale, zero_point| ActivationParams { scale, zero_point };
        let (from, to) = (of(1.0, 10), of(2.0, 100));
        for arithmetic in [Arithmetic::RealBias, Arithmetic::IntegerBias] {
            let moved = |q, bounds| arithmetic.move_to_grid(q, from, to, bounds);
            assert_eq!(moved(10, [0, 255]), 100);
            assert_eq!(moved(13, [0, 255]), 102, "1.5 goes to the even 2");
            assert_eq!(moved(0, [100, 255]), 100);
            assert_eq!(moved(255, [0, 200]), 200);
        }
    }
}
