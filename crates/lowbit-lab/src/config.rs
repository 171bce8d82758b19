//! The settings of every command: the same names as flags, as keys of a TOML file and in `--set key=value`.

use crate::augment::Augment;
use lowbit::quant::{FLOAT_ACTIVATIONS, Method, Observer, PtqConfig};
use lowbit::train::{ActivationQuantizer, Optimizer, QatConfig, Schedule, WeightQuantizer};
use lowbit::{ActivationBits, WeightBits};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// All settings. `Default` is what a command does without flags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of a model of the zoo.
    pub model: String,
    /// `landcover`, `eurosat`, or a path.
    pub data: String,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per training step.
    pub batch_size: usize,
    /// Base learning rate.
    pub lr: f32,
    /// `adam` or `sgd`.
    #[serde(with = "text")]
    pub optimizer: Optimizer,
    /// `cosine` or `constant`.
    #[serde(with = "text")]
    pub schedule: Schedule,
    /// Random changes to training images: `none`, `flip`, `dihedral`, `shift:4`, `flip,shift:4`.
    #[serde(with = "text")]
    pub augment: Augment,
    /// Of initial weights, shuffling, splits and generated data.
    pub seed: u64,
    /// Threads; 0 for all cores.
    pub threads: usize,
    /// Most images per split; 0 for all.
    pub limit: usize,
    /// Resize images to this many pixels; 0 for their own size.
    pub image_size: usize,
    /// Folder for results.
    pub out: PathBuf,
    /// `static` or `dynamic`.
    #[serde(with = "text")]
    pub method: Method,
    /// `minmax`, `percentile`, `percentile:99.9` or `mse`.
    #[serde(with = "text")]
    pub observer: Observer,
    /// Training images that set the activation ranges.
    pub calibration_images: usize,
    /// Bits per weight of a quantized model.
    pub bits: u8,
    /// Bits per activation of a quantized model; `float` (32) quantizes weights only.
    #[serde(deserialize_with = "activation_bits")]
    pub act_bits: u8,
    /// Bits per weight of the first and the last layer (at least `bits`).
    pub edge_bits: u8,
    /// Of weights in quantization-aware training: `lsq`, `absmax`, `dorefa`, or `auto`, which chooses by the width.
    #[serde(with = "text")]
    pub quantizer: WeightQuantizer,
    /// Of activations in quantization-aware training: `lsq`, `pact`, `ema`, or `auto`, which chooses by the width.
    #[serde(with = "text")]
    pub act_quantizer: ActivationQuantizer,
    /// Whether rounding passes gradients.
    pub ste: bool,
    /// Last epochs of quantization-aware training that leave batch-norm's running statistics and moving
    /// activation ranges alone.
    pub freeze_bn_epochs: usize,
    /// Seeds of an experiment over seeds: `seed`, `seed + 1`, ...
    pub seeds: usize,
    /// Where data sets lie that have a name.
    pub data_dir: PathBuf,
    /// Whether decoded images are kept for the next run.
    pub cache: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: "eurosat-cnn".into(),
            data: "landcover".into(),
            epochs: 10,
            batch_size: 64,
            lr: 1e-3,
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
            augment: Augment::default(),
            seed: 1,
            threads: 0,
            limit: 0,
            image_size: 0,
            out: "outputs".into(),
            method: Method::Static,
            observer: Observer::MinMax,
            calibration_images: 512,
            bits: 8,
            act_bits: 8,
            edge_bits: 8,
            quantizer: WeightQuantizer::default(),
            act_quantizer: ActivationQuantizer::default(),
            ste: true,
            freeze_bn_epochs: 0,
            seeds: 3,
            data_dir: "data".into(),
            cache: true,
        }
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {reason}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What the parser says, on one line.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown setting {key}{}", hint(.suggestion))]
    Unknown {
        /// Where it stands.
        origin: String,
        /// The key.
        key: String,
        /// The closest known key.
        suggestion: Option<String>,
    },
    /// A value that cannot be.
    #[error("{origin}: {reason}")]
    Value {
        /// Where it stands.
        origin: String,
        /// What is wrong.
        reason: String,
    },
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map_or_else(String::new, |known| format!(" (did you mean {known}?)"))
}

impl Config {
    /// Defaults, overlaid by a TOML file, by `key=value` pairs, and by `flags`, in this order.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown key or a value that cannot be, naming where it stands.
    pub fn layered(
        file: Option<&Path>,
        pairs: &[String],
        flags: toml::Table,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?;
            let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
                let reason = error.message().replace('\n', " ");
                ConfigError::Toml {
                    path: path.to_owned(),
                    reason,
                }
            })?;
            config = config.overlaid(table, &path.display().to_string())?;
        }
        for pair in pairs {
            let origin = format!("--set {pair}");
            let Some((key, value)) = pair.split_once('=') else {
                let reason = "expected key=value".into();
                return Err(ConfigError::Value { origin, reason });
            };
            let (key, value) = (key.trim().replace('-', "_"), value.trim());
            let parsed = format!("{key} = {value}")
                .parse::<toml::Table>()
                .unwrap_or_else(|_| toml::Table::from_iter([(key, value.into())]));
            config = config.overlaid(parsed, &origin)?;
        }
        config = config.overlaid(flags, "command line")?;
        config.check()?;
        Ok(config)
    }

    fn overlaid(self, table: toml::Table, origin: &str) -> Result<Self, ConfigError> {
        let mut all = toml::Table::try_from(&self).expect("settings are plain data");
        for (key, value) in table {
            let key = key.replace('-', "_");
            let Some(known) = all.get(&key) else {
                let suggestion = closest(&key, all.keys());
                return Err(ConfigError::Unknown {
                    origin: origin.into(),
                    key,
                    suggestion,
                });
            };
            // Whole numbers are welcome where fractions stand.
            let value = match (known, &value) {
                (toml::Value::Float(_), toml::Value::Integer(whole)) => {
                    toml::Value::Float(*whole as f64)
                }
                _ => value,
            };
            let mut one = all.clone();
            one.insert(key.clone(), value.clone());
            one.clone()
                .try_into::<Self>()
                .map_err(|error| ConfigError::Value {
                    origin: origin.into(),
                    reason: format!("{key} = {value}: {}", error.message().replace('\n', " ")),
                })?;
            all = one;
        }
        Ok(all.try_into().expect("every single key was accepted"))
    }

    /// Quantization-aware training at `bits` as the settings say.
    #[must_use]
    pub fn qat(&self, bits: u8) -> QatConfig {
        QatConfig {
            weight_bits: weight_bits(bits),
            activation_bits: self.activation_bits(),
            edge_bits: weight_bits(self.edge_bits),
            quantizer: self.quantizer,
            activation_quantizer: self.act_quantizer,
            ste: self.ste,
        }
    }

    /// Post-training quantization at `bits` as the settings say.
    #[must_use]
    pub fn ptq(&self, bits: u8) -> PtqConfig {
        PtqConfig {
            method: if self.act_bits == FLOAT_ACTIVATIONS {
                Method::WeightOnly
            } else {
                self.method
            },
            observer: self.observer,
            weight_bits: weight_bits(bits),
            activation_bits: self.activation_bits(),
            edge_bits: weight_bits(self.edge_bits),
            ..PtqConfig::default()
        }
    }

    fn activation_bits(&self) -> ActivationBits {
        ActivationBits::try_from(self.act_bits).expect("settings are checked when they are read")
    }

    /// What no type can say.
    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |reason: &str| {
            Err(ConfigError::Value {
                origin: "settings".into(),
                reason: reason.into(),
            })
        };
        if self.epochs == 0 {
            return wrong("epochs must be at least 1");
        }
        if self.batch_size == 0 || self.batch_size > 65_536 {
            return wrong("batch_size must lie in 1..65536");
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return wrong("lr must be a positive number");
        }
        if self.calibration_images == 0 {
            return wrong("calibration_images must be at least 1");
        }
        if ![16, 8, 4, 2, 1].contains(&self.bits) || ![16, 8, 4, 2, 1].contains(&self.edge_bits) {
            return wrong("bits and edge_bits must be 16, 8, 4, 2 or 1");
        }
        if ![FLOAT_ACTIVATIONS, 8, 4, 2, 1].contains(&self.act_bits) {
            return wrong("act_bits must be 8, 4, 2, 1 or float");
        }
        if self.seeds == 0 || self.seeds > 1000 {
            return wrong("seeds must lie in 1..1000");
        }
        if self.threads > 1024 {
            return wrong("threads must be at most 1024");
        }
        Ok(())
    }
}

fn weight_bits(bits: u8) -> WeightBits {
    WeightBits::try_from(bits).expect("settings are checked when they are read")
}

/// A number of bits, or `float`.
fn activation_bits<'de, D: serde::Deserializer<'de>>(d: D) -> Result<u8, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Bits {
        Number(u8),
        Text(String),
    }
    match Bits::deserialize(d) {
        Ok(Bits::Number(bits)) => Ok(bits),
        Ok(Bits::Text(text)) if text == "float" => Ok(FLOAT_ACTIVATIONS),
        _ => Err(serde::de::Error::custom("use 8, 4, 2, 1 or float")),
    }
}

/// The key with the fewest edits, if there are few.
fn closest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    known
        .map(|candidate| (edits(key, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, candidate)| candidate.clone())
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> toml::Table {
        text.parse().unwrap()
    }

    #[test]
    fn flags_beat_pairs_and_pairs_beat_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        std::fs::write(&path, "epochs = 3\nlr = 1\nseed = 5\nbatch-size = 7").unwrap();
        let pairs = [
            "epochs=4".into(),
            "observer=percentile:99.9".into(),
            "seed=6".into(),
        ];
        let config = Config::layered(Some(&path), &pairs, flags("seed = 9")).unwrap();
        assert_eq!(
            (config.epochs, config.lr, config.seed, config.batch_size),
            (4, 1.0, 9, 7)
        );
        assert_eq!(config.observer, Observer::Percentile(99.9));
        for (text, bits) in [("act_bits=float", 32), ("act_bits=4", 4)] {
            let config = Config::layered(None, &[text.into()], flags("")).unwrap();
            assert_eq!(config.act_bits, bits);
        }
        assert_eq!(config.model, Config::default().model);
    }

    #[test]
    fn unknown_settings_are_named_with_the_closest_one() {
        let error = Config::layered(None, &["epoch=3".into()], flags(""))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "--set epoch=3: unknown setting epoch (did you mean epochs?)"
        );
    }

    #[test]
    fn values_of_another_kind_are_refused_with_their_place() {
        for (pair, part) in [
            ("epochs=many", "epochs"),
            ("epochs=0", "at least 1"),
            ("lr=-1", "positive"),
            ("schedule=linear", "unknown schedule linear"),
            ("epochs", "expected key=value"),
            ("act_bits=7", "8, 4, 2, 1 or float"),
            ("act_bits=half", "8, 4, 2, 1 or float"),
            ("augment=rotate", "unknown augmentation rotate"),
        ] {
            let error = Config::layered(None, &[pair.into()], flags(""))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(part) && !error.contains('\n'),
                "{pair}: {error}"
            );
        }
    }
}
