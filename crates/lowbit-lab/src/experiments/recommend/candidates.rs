//! What is tried, in the order in which it is worth its time.

use lowbit::quant::{ActivationQuant, Observer};
use lowbit::quantize::{LayerBits, Passes, PtqConfig};
use lowbit::{ActivationBits, WeightBits};
use serde::{Deserialize, Serialize};

/// One way to quantize the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What people call it, e.g. `W8A8, bias-correction`: its widths, and the pass that does most.
    pub name: String,
    /// Candidates of one group differ in their passes alone: the best of them goes on.
    pub group: &'static str,
    /// How it is made, or, of one that is trained, what its widths are.
    pub config: PtqConfig,
    /// How it is fine-tuned; none of those that are quantized after training.
    pub training: Option<FineTuning>,
}

/// Quantization-aware fine-tuning, by the settings of `lowbit sweep --from` but for these.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FineTuning {
    /// Bits per weight.
    #[serde(with = "crate::config::number")]
    pub bits: WeightBits,
    /// Passes over the training images.
    pub epochs: usize,
    /// Learning rate at the start; it falls as a cosine.
    pub lr: f32,
}

impl FineTuning {
    /// What may be trained, the narrowest first.
    pub const WIDTHS: [WeightBits; 3] = [WeightBits::B2, WeightBits::B4, WeightBits::B8];

    /// Of weights that are trained already.
    const LR: f32 = 1e-4;
}

/// A width fine-tuned with 8-bit activations, in the group of those that are only rounded to it.
#[must_use]
pub fn trained(bits: WeightBits, epochs: usize) -> Candidate {
    let group = match bits {
        WeightBits::B1 => "W1A8",
        WeightBits::Ternary | WeightBits::B2 => "W2A8",
        WeightBits::B4 | WeightBits::Odd4 => "W4A8",
        WeightBits::B8 => "W8A8",
        WeightBits::B16 => "W16A8",
    };
    let mut made = Candidate::new(group, bits, "none");
    made.name = format!("{group}, trained");
    made.training = Some(FineTuning {
        bits,
        epochs,
        lr: FineTuning::LR,
    });
    made
}

impl Candidate {
    fn new(group: &'static str, weight_bits: WeightBits, passes: &str) -> Self {
        let weights_alone = group.ends_with("A32");
        let config = PtqConfig {
            method: match group {
                _ if weights_alone => ActivationQuant::WeightOnly,
                "W8 dynamic" => ActivationQuant::Dynamic,
                _ => ActivationQuant::Static,
            },
            observer: match passes {
                "none" => Observer::MinMax,
                _ => Observer::Mse,
            },
            weight_bits,
            activation_bits: match weights_alone {
                true => ActivationBits::Float,
                false => ActivationBits::B8,
            },
            passes: passes.parse::<Passes>().expect("a list of this file"),
            ..PtqConfig::default()
        };
        Self {
            name: match passes {
                "none" => group.to_owned(),
                LEARNED => format!("{group}, adaround"),
                COMPENSATED => format!("{group}, gptq"),
                passes => {
                    let most = passes.split(',').next().unwrap_or(passes);
                    format!("{group}, {most}")
                }
            },
            group,
            config,
            training: None,
        }
    }

    /// Layers with bits of their own, the others with 8.
    pub(super) fn mixed(group: &'static str, layers: LayerBits, passes: &str) -> Self {
        let mut made = Self::new(group, WeightBits::B8, passes);
        made.name = group.into();
        made.config.layer_bits = layers;
        made
    }

    /// Whether its layers have different widths by their own choice.
    pub(super) fn is_mixed(&self) -> bool {
        !self.config.layer_bits.is_empty()
    }

    /// The command that makes it of the model `file`, without flags: trainings have another.
    #[must_use]
    pub fn verb(&self, file: &str) -> String {
        match self.training {
            None => format!("lowbit quantize {file}"),
            Some(_) => format!("lowbit sweep --from {file}"),
        }
    }

    /// The flags of that command that make it, but for the bits of single layers.
    #[must_use]
    pub fn flags(&self) -> String {
        if let Some(FineTuning { bits, epochs, lr }) = self.training {
            return format!("--widths {bits} --seeds 1 --epochs {epochs} --lr {lr}");
        }
        let config = &self.config;
        let mut flags = vec![format!("--bits {}", config.weight_bits)];
        match config.method {
            ActivationQuant::Static => flags.push(format!("--observer {}", config.observer)),
            ActivationQuant::Dynamic => flags.push("--method dynamic".into()),
            ActivationQuant::WeightOnly => flags.push("--act-bits float".into()),
        }
        if config.passes != Passes::default() {
            flags.push(format!("--passes {}", config.passes));
        }
        flags.join(" ")
    }

    /// Its name in the names of files: `W4A8, adaround` becomes `w4a8_adaround`.
    #[must_use]
    pub fn slug(&self) -> String {
        let parts = self.name.split([',', ' ']).filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join("_").to_lowercase()
    }

    /// Whether its rounding is learned, which takes minutes where the others take seconds.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.config.passes.adaround.is_some()
    }
}

/// The quick passes that look at what a layer reads.
const COMPENSATED: &str = "mse-weights,gptq,bias-correction";

/// The passes that learn their rounding.
pub(super) const LEARNED: &str = "mse-weights,adaround,bias-correction";

/// The groups of models with mixed widths: with the bytes of so many bits, or for their time.
pub(super) const MIXED: [&str; 3] = ["mixed, 6 bits", "mixed, 4 bits", "mixed, time"];

/// The number of the candidate before which mixed widths are tried, which want 8 bits first.
pub(super) const MIXED_BEFORE: usize = 9;

/// Everything that is tried but mixed widths, of which only measuring tells.
#[must_use]
pub fn candidates() -> Vec<Candidate> {
    use WeightBits::{B1, B2, B4, B8, B16};
    [
        ("W8A8", B8, "none"),
        ("W8A8", B8, "bias-correction"),
        ("W16A8", B16, "none"),
        ("W8 dynamic", B8, "none"),
        ("W8A32", B8, "bias-correction"),
        ("W4A8", B4, "mse-weights,bias-correction"),
        ("W4A32", B4, "mse-weights,bias-correction"),
        ("W4A8", B4, COMPENSATED),
        ("W4A8", B4, LEARNED),
        ("W2A8", B2, COMPENSATED),
        ("W2A8", B2, LEARNED),
        ("W1A8", B1, "bias-correction"),
    ]
    .into_iter()
    .map(|(group, bits, passes)| Candidate::new(group, bits, passes))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_is_trained_beside_those_that_are_rounded_to_it() {
        for bits in FineTuning::WIDTHS {
            let one = trained(bits, 7);
            let mut all = candidates().into_iter();
            assert!(all.any(|other| other.group == one.group && other.slug() != one.slug()));
        }
        let one = trained(WeightBits::B4, 7);
        assert_eq!(one.slug(), "w4a8_trained");
        let command = format!("{} {}", one.verb("m.onnx"), one.flags());
        assert_eq!(
            command,
            "lowbit sweep --from m.onnx --widths 4 --seeds 1 --epochs 7 --lr 0.0001"
        );
    }

    #[test]
    fn the_quick_rung_of_a_width_comes_before_the_slow_one_and_mixed_widths_behind_those_of_four_bits()
     {
        let names: Vec<String> = candidates().into_iter().map(|c| c.name).collect();
        let at = |name: &str| names.iter().position(|other| other == name).unwrap();
        assert!(at("W4A8, gptq") < at("W4A8, adaround"));
        assert_eq!(at("W4A8, adaround") + 1, MIXED_BEFORE);
        assert_eq!(at("W2A8, gptq"), MIXED_BEFORE);
        assert!(at("W2A8, gptq") < at("W2A8, adaround"));
    }

    #[test]
    fn flags_make_what_the_name_says() {
        let of = |name: &str| {
            let all = candidates();
            let found = all.iter().find(|candidate| candidate.name == name);
            found.unwrap().flags()
        };
        assert_eq!(of("W8A8"), "--bits 8 --observer minmax");
        assert_eq!(
            of("W4A8, adaround"),
            "--bits 4 --observer mse --passes mse-weights,adaround,bias-correction"
        );
        assert_eq!(
            of("W4A8, gptq"),
            "--bits 4 --observer mse --passes mse-weights,gptq,bias-correction"
        );
        assert_eq!(of("W8 dynamic"), "--bits 8 --method dynamic");
        assert_eq!(
            of("W8A32, bias-correction"),
            "--bits 8 --act-bits float --passes bias-correction"
        );
    }
}
