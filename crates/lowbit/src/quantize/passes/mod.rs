//! Passes that repair what rounding does, layer by layer in the order of the layers: each reads what the quantized layers
//! before it give, not what the float ones would.

mod adaround;
mod bias_correction;
mod gptq;

use crate::Weights;
use crate::bits::WeightBits;
use crate::exec::{Layerwise, RuntimeError};
use crate::graph::{Step, fold_batch_norm};
use crate::quant::{Granularity, QuantizedLayer, QuantizedModel};
use adaround::Rounding;
use bias_correction::correct;
use gptq::Compensation;
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};

/// Which passes repair a model that is quantized after training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Passes {
    /// Weight ranges below 8 bits with the smallest squared error (with `gptq`, of what the layer gives), instead of the largest
    /// weight.
    pub mse_weights: bool,
    /// Rounding below 16 bits in which each weight makes good what those before it have spoilt (Frantar et al. 2022).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gptq: bool,
    /// Steps in which the rounding of weights below 16 bits is learned, layer by layer (Nagel et al. 2020).
    pub adaround: Option<u32>,
    /// Steps in which, after all other passes, weights and steps of each block are learned so that it gives what it gives in
    /// FP32 (Li et al. 2021).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconstruct: Option<u32>,
    /// Biases that give each channel its mean in FP32 again.
    pub bias_correction: bool,
}

/// Steps of AdaRound where nobody says how many.
const ADAROUND_STEPS: u32 = 500;

/// Steps of the reconstruction of each block where nobody says how many.
const RECONSTRUCTION_STEPS: u32 = 500;

/// A text that names no passes, or passes that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PassesError(String);

impl PassesError {
    fn unknown(name: &str) -> Self {
        Self(format!(
            "unknown pass {name}: use bias-correction, mse-weights, gptq, adaround, adaround:1000, reconstruct, reconstruct:2000, several with commas, or none"
        ))
    }
}

impl Passes {
    /// Whether any of them needs images.
    #[must_use]
    pub fn need_images(self) -> bool {
        self.gptq || self.adaround.is_some() || self.reconstruct.is_some() || self.bias_correction
    }

    /// Checks that no two of them round the same weights.
    ///
    /// # Errors
    /// [`PassesError`] with `gptq` and `adaround`.
    pub fn check(self) -> Result<(), PassesError> {
        match self.gptq && self.adaround.is_some() {
            true => Err(PassesError(
                "gptq and adaround both round the weights: use one of them".into(),
            )),
            false => Ok(()),
        }
    }
}

/// Steps that a user gives a pass.
fn steps(text: &str) -> Option<u32> {
    let steps = text.parse().ok();
    steps.filter(|steps| (1..=1_000_000).contains(steps))
}

impl std::fmt::Display for Passes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut names = Vec::new();
        if self.mse_weights {
            names.push("mse-weights".to_owned());
        }
        if self.gptq {
            names.push("gptq".to_owned());
        }
        match self.adaround {
            None => {}
            Some(ADAROUND_STEPS) => names.push("adaround".into()),
            Some(steps) => names.push(format!("adaround:{steps}")),
        }
        if self.bias_correction {
            names.push("bias-correction".into());
        }
        match self.reconstruct {
            None => {}
            Some(RECONSTRUCTION_STEPS) => names.push("reconstruct".into()),
            Some(steps) => names.push(format!("reconstruct:{steps}")),
        }
        match names.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&names.join(",")),
        }
    }
}

impl std::str::FromStr for Passes {
    type Err = PassesError;
    fn from_str(text: &str) -> Result<Self, PassesError> {
        let mut passes = Self::default();
        if text == "none" {
            return Ok(passes);
        }
        for name in text.split(',').map(str::trim) {
            let unknown = || PassesError::unknown(name);
            match name.split_once(':') {
                None if name == "mse-weights" => passes.mse_weights = true,
                None if name == "gptq" => passes.gptq = true,
                None if name == "bias-correction" => passes.bias_correction = true,
                None if name == "adaround" => passes.adaround = Some(ADAROUND_STEPS),
                None if name == "reconstruct" => passes.reconstruct = Some(RECONSTRUCTION_STEPS),
                Some(("adaround", text)) => {
                    passes.adaround = Some(steps(text).ok_or_else(unknown)?);
                }
                Some(("reconstruct", text)) => {
                    passes.reconstruct = Some(steps(text).ok_or_else(unknown)?);
                }
                _ => return Err(unknown()),
            }
        }
        passes.check()?;
        Ok(passes)
    }
}

/// Images that the passes look at, at most.
const IMAGES: usize = 256;

/// Bytes that the values of those images may take: of larger images there are fewer.
const MEMORY: usize = 1 << 30;

/// FP32 and a quantized model with the same images before their first layers, and how many these are.
fn begin(
    weights: &Weights,
    model: &QuantizedModel,
    calibration: &[u8],
    isa: Isa,
) -> Result<(Layerwise, Layerwise, usize), RuntimeError> {
    let graph = &model.graph;
    let mut float = Layerwise::float(graph, isa, |step, _| fold_batch_norm(step, weights))?;
    let mut quantized = Layerwise::quantized(model, isa)?;
    let fitting = MEMORY / (float.bytes_per_image() + quantized.bytes_per_image());
    let image_len = graph.input().len();
    let count = (calibration.len() / image_len)
        .min(IMAGES)
        .min(fitting.max(1));
    let images = &calibration[..count * image_len];
    float.begin(images, graph);
    quantized.begin(images, graph);
    Ok((float, quantized, count))
}

/// Makes each layer at other widths and corrects its bias, with the layers before it as they are in `model`.
pub(super) fn each_alone(
    weights: &Weights,
    model: &QuantizedModel,
    widths: &[WeightBits],
    calibration: &[u8],
    isa: Isa,
    make: impl Fn(&Step, WeightBits) -> QuantizedLayer,
) -> Result<Vec<Vec<QuantizedLayer>>, RuntimeError> {
    let (mut float, mut quantized, _) = begin(weights, model, calibration, isa)?;
    let program = model.graph.program()?;
    let mut layers = Vec::with_capacity(program.steps().len());
    for (index, step) in program.steps().iter().enumerate() {
        if model.layers[index].is_none() {
            layers.push(Vec::new());
            continue;
        }
        let (kernel, bias) = fold_batch_norm(step, weights);
        let means = [float.before(index).means(), quantized.before(index).means()];
        let at = |&bits: &WeightBits| {
            let mut layer = make(step, bits);
            correct(&mut layer, (&kernel, &bias), &means);
            layer
        };
        layers.push(widths.iter().map(at).collect());
    }
    Ok(layers)
}

/// Applies the passes that need images to a static or weight-only model; returns how many images they looked at.
pub(super) fn apply(
    weights: &Weights,
    model: &mut QuantizedModel,
    (passes, granularity): (Passes, Granularity),
    calibration: &[u8],
    isa: Isa,
) -> Result<usize, RuntimeError> {
    let (mut float, mut quantized, count) = begin(weights, model, calibration, isa)?;
    for (index, step) in model.graph.program()?.steps().iter().enumerate() {
        let Some(layer) = &mut model.layers[index] else {
            continue;
        };
        let (kernel, bias) = fold_batch_norm(step, weights);
        let (before, after) = (float.before(index), quantized.before(index));
        let means = [before.means(), after.means()];
        if passes.gptq {
            let compensation = Compensation {
                kernel: &kernel,
                ranges: passes.mse_weights && granularity == Granularity::PerChannel,
                means: passes.bias_correction.then_some(means[1].as_slice()),
                isa,
            };
            compensation.round(layer, index, &after);
        }
        if let Some(steps) = passes.adaround {
            let rounding = Rounding {
                kernel: &kernel,
                bias: &bias,
                epilogue: &step.epilogue,
                means: passes.bias_correction.then_some(&means),
                steps,
                isa,
            };
            rounding.learn(layer, index, [&before, &after]);
        }
        if passes.bias_correction {
            correct(layer, (&kernel, &bias), &means);
            // A channel of wider steps has other integers, and so another mean.
            if model.fit_biases(index, step)
                && let Some(layer) = &mut model.layers[index]
            {
                correct(layer, (&kernel, &bias), &means);
            }
        }
        if let Some(layer) = &model.layers[index] {
            quantized.replace(index, layer);
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_in_the_order_in_which_passes_run() {
        for (given, shown) in [
            ("none", "none"),
            ("bias-correction", "bias-correction"),
            ("bias-correction,mse-weights", "mse-weights,bias-correction"),
            ("adaround, bias-correction", "adaround,bias-correction"),
            (
                "bias-correction,gptq,mse-weights",
                "mse-weights,gptq,bias-correction",
            ),
            ("adaround:1000", "adaround:1000"),
            ("reconstruct,bias-correction", "bias-correction,reconstruct"),
            ("reconstruct:20", "reconstruct:20"),
        ] {
            assert_eq!(given.parse::<Passes>().unwrap().to_string(), shown);
        }
        for wrong in ["", "gptq:1", "adaround:0", "adaround:x", "bias-correction,"] {
            let error = wrong.parse::<Passes>().unwrap_err().to_string();
            assert!(error.contains("unknown pass"), "{wrong}: {error}");
        }
        let both = "gptq,adaround:20".parse::<Passes>().unwrap_err();
        assert!(both.to_string().contains("use one of them"), "{both}");
    }
}
