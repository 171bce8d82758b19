//! The settings of every command: the same names as flags, as keys of a TOML file and in `--set key=value`.
//!
//! They stand in [`areas`], grouped by what they are for; [`Config`] is all of them. In files and results they are one flat
//! list of keys.

pub mod areas;
mod error;
mod layers;
pub mod recipes;
#[cfg(test)]
mod tests;

pub use areas::{Area, Group, Setting, Values};
pub use error::ConfigError;
pub use layers::Layers;

use areas::{
    Calibration, Chain, Curves, Federating, Images, Input, Network, Onnx, OtherWidths, Ptq, Qat,
    Recipe, Repeats, Results, Run, Training, Widths,
};
use lowbit::quant::ActivationQuant;
use lowbit::quantize::{LayerBits, PtqConfig};
use lowbit::train::QatConfig;
use lowbit::{ActivationBits, WeightBits};
use lowbit_data::{ClassCounts, Partition};
use serde::{Deserialize, Serialize};

/// Defines [`Config`] and the list of its groups, so that an area stands in both.
macro_rules! config {
    ($($(#[doc = $help:literal])+ $name:ident: $area:ident,)+) => {
        /// All settings. `Default` is what a command does without flags.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct Config {
            $($(#[doc = $help])+ #[serde(flatten)] pub $name: $area,)+
        }

        /// The groups of all settings, in the order of the help.
        pub const GROUPS: &[&Group] = &[$($area::GROUP),+];
    };
}

config! {
    /// Which model.
    network: Network,
    /// Which images.
    images: Images,
    /// How large the images are.
    input: Input,
    /// How a model that another program made is read.
    onnx: Onnx,
    /// How it is trained.
    training: Training,
    /// What its training does besides.
    recipe: Recipe,
    /// What the runs of a sweep give each other.
    chain: Chain,
    /// How many bits its weights have.
    widths: Widths,
    /// How many its other parts have.
    other_widths: OtherWidths,
    /// How it is quantized after training.
    ptq: Ptq,
    /// What activation ranges are set from.
    calibration: Calibration,
    /// How it is trained with quantization.
    qat: Qat,
    /// Across whom it is trained.
    federation: Federating,
    /// Seed and threads.
    run: Run,
    /// How often.
    repeats: Repeats,
    /// Where results go.
    results: Results,
    /// Where learning curves go.
    curves: Curves,
}

impl Config {
    /// Quantization-aware training at `bits` as the settings say.
    #[must_use]
    pub fn qat(&self, bits: WeightBits) -> QatConfig {
        let other = &self.other_widths;
        QatConfig {
            weight_bits: bits.on(other.weight_grid),
            activation_bits: other.act_bits,
            edge_bits: other.edge_bits.on(other.weight_grid),
            quantizer: self.qat.quantizer,
            activation_quantizer: self.qat.act_quantizer,
            ste: self.qat.ste,
        }
    }

    /// Post-training quantization at `bits` as the settings say.
    #[must_use]
    pub fn ptq(&self, bits: WeightBits) -> PtqConfig {
        PtqConfig {
            method: if self.other_widths.float_activations() {
                ActivationQuant::WeightOnly
            } else {
                self.ptq.method
            },
            observer: self.ptq.observer,
            weight_bits: bits,
            grid: self.other_widths.weight_grid,
            activation_bits: self.other_widths.act_bits,
            edge_bits: self.other_widths.edge_bits,
            layer_bits: self.ptq.layer_bits.clone(),
            passes: self.ptq.passes,
            exclude: self.excluded(),
            ..PtqConfig::default()
        }
    }

    fn excluded(&self) -> Vec<String> {
        let names = self.ptq.exclude.split(',').map(str::trim);
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// The same settings with another seed.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        let mut config = self.clone();
        config.run.seed = seed;
        config
    }

    /// What no type can say.
    fn check(&self) -> Result<(), String> {
        let Self {
            training, recipe, ..
        } = self;
        let rules = [
            (training.epochs > 0, "epochs must be at least 1"),
            (
                (1..=65_536).contains(&training.batch_size),
                "batch_size must lie in 1..65536",
            ),
            (
                training.lr.is_finite() && training.lr > 0.0,
                "lr must be a positive number",
            ),
            (
                recipe.weight_decay.is_finite() && recipe.weight_decay >= 0.0,
                "weight_decay must be 0 or a positive number",
            ),
            (
                (0.0..1.0).contains(&recipe.label_smoothing),
                "label_smoothing must lie in 0..1",
            ),
            (
                recipe.clip_norm.is_finite() && recipe.clip_norm >= 0.0,
                "clip_norm must be 0 or a positive number",
            ),
            (
                (0.0..=1.0).contains(&recipe.mixup) && (0.0..=1.0).contains(&recipe.cutmix),
                "mixup and cutmix must lie in 0..1",
            ),
            ((0.0..1.0).contains(&recipe.ema), "ema must lie in 0..1"),
            (
                (0.0..=1.0).contains(&recipe.teacher_weight),
                "teacher_weight must lie in 0..1",
            ),
            (
                recipe.temperature.is_finite() && recipe.temperature > 0.0,
                "temperature must be a positive number",
            ),
            (
                self.calibration.calibration_images > 0,
                "calibration_images must be at least 1",
            ),
            (
                (1..=1000).contains(&self.repeats.seeds),
                "seeds must lie in 1..1000",
            ),
            (
                (1..=100_000).contains(&self.federation.rounds),
                "rounds must lie in 1..100000",
            ),
            (
                (1..=10_000).contains(&self.federation.local_epochs),
                "local_epochs must lie in 1..10000",
            ),
            (self.run.threads <= 1024, "threads must be at most 1024"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err((*reason).to_owned()),
            None => Ok(()),
        }
    }
}

/// A number of bits, or `float`.
fn activation_bits<'de, D: serde::Deserializer<'de>>(d: D) -> Result<ActivationBits, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Bits {
        Number(ActivationBits),
        Text(String),
    }
    match Bits::deserialize(d) {
        Ok(Bits::Number(bits)) => Ok(bits),
        Ok(Bits::Text(text)) if text == "float" => Ok(ActivationBits::Float),
        _ => Err(serde::de::Error::custom("use 8, 4, 2, 1 or float")),
    }
}

/// How images are spread, or a file with a table of it behind `@`.
fn partition<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Partition, D::Error> {
    use serde::de::Error;
    let text = String::deserialize(d)?;
    let Some(path) = text.strip_prefix('@') else {
        return text.parse().map_err(D::Error::custom);
    };
    let counts = std::fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| ClassCounts::from_file(&text));
    counts
        .map(Partition::Counts)
        .map_err(|reason| D::Error::custom(format!("{path}: {reason}")))
}

/// A text, which may be given as a number where it looks like one.
fn text_or_number<'de, T, D>(d: D) -> Result<T, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    D: serde::Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Whole(i64),
        Fraction(f64),
        Text(String),
    }
    let text = match Given::deserialize(d)? {
        Given::Whole(number) => number.to_string(),
        Given::Fraction(number) => number.to_string(),
        Given::Text(text) => text,
    };
    text.parse().map_err(serde::de::Error::custom)
}

/// Bits of weights as a number: their grid is a setting of its own.
pub(crate) mod number {
    use lowbit::WeightBits;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bits: &WeightBits, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u8(bits.get())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<WeightBits, D::Error> {
        WeightBits::try_from(u8::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// Layers and their bits, or a file of them behind `@`.
fn layer_bits<'de, D: serde::Deserializer<'de>>(d: D) -> Result<LayerBits, D::Error> {
    use serde::de::Error;
    let text = String::deserialize(d)?;
    let text = match text.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|e| D::Error::custom(format!("{path}: {e}")))?
        }
        None => text,
    };
    text.parse().map_err(D::Error::custom)
}

/// Settings that are written as their names.
mod text {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Display;
    use std::str::FromStr;

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(d: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
