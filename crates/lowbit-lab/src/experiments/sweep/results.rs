//! What one run of a sweep leaves.

use crate::Config;
use crate::decisive::Decisive;
use crate::evaluate::Score;
use crate::experiments::artifacts::{FP32, packed};
use crate::experiments::learning::Learning;
use crate::experiments::results::DataResults;
use crate::experiments::unseen::Evaluated;
use crate::machine::Machine;
use crate::records::{EpochRecord, Watched, number_or_nan};
use lowbit::ModelBits;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// `training_results.json` of one run. Runs of older layouts may lack all but the width and the accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResults {
    /// Bits per weight.
    pub bit_width: u8,
    /// Epochs (in a federation: rounds).
    #[serde(default)]
    pub num_rounds: usize,
    /// Share of the clients that train in a round; 1 in central training.
    #[serde(default = "whole")]
    pub fraction_train: f64,
    /// Epochs per round and client; 1 in central training.
    #[serde(default)]
    pub local_epochs: usize,
    /// Images per step.
    #[serde(default)]
    pub batch_size: usize,
    /// Base learning rate.
    #[serde(default)]
    pub learning_rate: f32,
    /// Seconds of training, evaluation not counted.
    #[serde(default)]
    pub training_time_seconds: Option<f64>,
    /// As deployed, share of 1.
    pub final_test_accuracy: f64,
    /// As deployed.
    #[serde(default)]
    pub final_test_loss: Option<f64>,
    /// One per epoch.
    #[serde(default)]
    pub results_per_round: Vec<RoundRecord>,
    /// From real files.
    #[serde(default)]
    pub compression_metrics: Option<CompressionMetrics>,
    /// UTC, `YYYYMMDD_hhmmss`.
    #[serde(default)]
    pub timestamp: String,
    /// The seed.
    #[serde(default)]
    pub seed: u64,
    /// Name of the model.
    #[serde(default)]
    pub model: String,
    /// Name of the data.
    #[serde(default)]
    pub data: String,
    /// Whether the data were generated.
    #[serde(default)]
    pub synthetic: bool,
    /// The epoch that was kept, from 1: the best on the validation images, or the last where there are none; none of a
    /// federation, and in results of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_epoch: Option<usize>,
    /// At batch 64 on one thread.
    #[serde(default)]
    pub img_per_s: Option<f64>,
    /// Against FP32, paired, at batch 64 on one thread.
    #[serde(default)]
    pub speedup: Option<f64>,
    /// Whether the training learned anything; none in results of older versions.
    #[serde(default)]
    pub learning: Option<Learning>,
    /// What was classified, in numbers; none in results of older versions.
    #[serde(default)]
    pub images: Option<DataResults>,
    /// Which images were measured, where the model that training began with may have seen some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated: Option<Evaluated>,
    /// The trainings behind the weights that it began with, where a sweep's wider runs gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_with: Option<BeganWith>,
    /// Everything that decided the result; none in results of older versions.
    #[serde(default)]
    pub decisive: Option<Decisive>,
    /// What it was measured on.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// All settings.
    #[serde(default)]
    pub config: Option<Config>,
}

fn whole() -> f64 {
    1.0
}

fn unknown() -> f64 {
    f64::NAN
}

fn is_unknown(number: &f64) -> bool {
    number.is_nan()
}

/// Whose trained weights a run began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeganWith {
    /// Widths that were trained one after the other before it, widest first: its epochs are not all that it learned in.
    pub widths: Vec<u8>,
    /// Name of the last one's folder.
    pub run: String,
}

/// One epoch, under the names of a federation; not a number where an older run does not say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// From 1.
    pub round: usize,
    /// Mean over the epoch, while the weights changed.
    #[serde(default = "unknown", deserialize_with = "number_or_nan")]
    pub train_loss: f64,
    /// Over the epoch, while the weights changed, share of 1.
    #[serde(default = "unknown", deserialize_with = "number_or_nan")]
    pub train_accuracy: f64,
    /// As deployed; not written where validation images watch over the training.
    #[serde(
        default = "unknown",
        skip_serializing_if = "is_unknown",
        deserialize_with = "number_or_nan"
    )]
    pub test_loss: f64,
    /// As deployed, share of 1.
    #[serde(
        default = "unknown",
        skip_serializing_if = "is_unknown",
        deserialize_with = "number_or_nan"
    )]
    pub test_accuracy: f64,
    /// As deployed, on the validation images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// As deployed, on the validation images, share of 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
}

impl RunResults {
    /// How many clients a federation had; none of a training in one place.
    #[must_use]
    pub fn clients(&self) -> Option<&str> {
        self.decisive.as_ref()?.get("clients")
    }

    /// Lists the model files of the run's folder and their bytes. Nothing is known of those of older layouts, and each client
    /// of a federation may have its own.
    #[must_use]
    pub fn models(&self) -> Vec<(String, u64)> {
        let known = (&self.decisive, self.clients(), self.compression_metrics);
        let (Some(_), None, Some(metrics)) = known else {
            return vec![];
        };
        let bytes = |megabytes: f64| (megabytes * 1e6).round() as u64;
        let mut files = vec![(FP32.to_owned(), bytes(metrics.original_size_mb))];
        if self.bit_width != ModelBits::Fp32.get() {
            files.push((packed(self.bit_width), bytes(metrics.compressed_size_mb)));
        }
        files
    }

    /// Says which model file of the run in `folder` is not there any more as it was written; none where all are.
    #[must_use]
    pub fn lost(&self, folder: &Path) -> Option<String> {
        self.models().into_iter().find_map(|(name, bytes)| {
            match std::fs::metadata(folder.join(&name)) {
                Ok(file) if file.len() == bytes => None,
                Ok(file) => Some(format!(
                    "{name} has {} bytes instead of {bytes}",
                    file.len()
                )),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Some(format!("{name} is not there any more"))
                }
                // What cannot be seen is not lost.
                Err(_) => None,
            }
        })
    }
}

impl RoundRecord {
    /// Accuracy of the deployed model on the images that watch over the training, share of 1.
    #[must_use]
    pub fn watched_accuracy(&self) -> f64 {
        self.validation_accuracy.unwrap_or(self.test_accuracy)
    }
}

/// `compression_metrics.json`: sizes of real files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompressionMetrics {
    /// Bits per weight.
    pub bit_width: u8,
    /// The FP32 model's file, 10⁶ bytes.
    pub original_size_mb: f64,
    /// The packed model's file, 10⁶ bytes.
    pub compressed_size_mb: f64,
    /// One over the other.
    pub compression_ratio: f64,
    /// Bytes saved, percent.
    pub size_reduction_percent: f64,
}

impl From<&EpochRecord> for RoundRecord {
    fn from(epoch: &EpochRecord) -> Self {
        let Score { accuracy, loss } = epoch.watched.score();
        let (test, validation) = match epoch.watched {
            Watched::Test { .. } => ((loss, accuracy), None),
            Watched::Validation { .. } => ((unknown(), unknown()), Some((loss, accuracy))),
        };
        Self {
            round: epoch.epoch,
            train_loss: epoch.train_loss,
            train_accuracy: epoch.train_accuracy,
            test_loss: test.0,
            test_accuracy: test.1,
            validation_loss: validation.map(|(loss, _)| loss),
            validation_accuracy: validation.map(|(_, accuracy)| accuracy),
        }
    }
}

impl CompressionMetrics {
    /// The sizes of two files, in bytes.
    #[must_use]
    pub fn of(bits: ModelBits, original: u64, compressed: u64) -> Self {
        let ratio = original as f64 / compressed as f64;
        Self {
            bit_width: bits.get(),
            original_size_mb: original as f64 / 1e6,
            compressed_size_mb: compressed as f64 / 1e6,
            compression_ratio: ratio,
            size_reduction_percent: 100.0 * (1.0 - compressed as f64 / original as f64),
        }
    }
}

/// Now, in UTC, as `YYYYMMDD_hhmmss`.
pub(in crate::experiments) fn timestamp() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    utc(since.map_or(0, |since| since.as_secs()))
}

fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days, for days since 1970.
    let shifted = days as i64 + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}_{h:02}{m:02}{s:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit::WeightBits;

    #[test]
    fn seconds_since_1970_are_a_date_in_utc() {
        // GNU date: `date -u -d @951782400 +%Y%m%d_%H%M%S` and so on.
        for (seconds, date) in [
            (0, "19700101_000000"),
            (951_782_400, "20000229_000000"),
            (951_868_800, "20000301_000000"),
            (1_735_689_599, "20241231_235959"),
            (1_764_104_645, "20251125_210405"),
            (4_107_542_400, "21000301_000000"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }

    #[test]
    fn now_is_a_date_of_this_century() {
        let now = timestamp();
        let (date, time) = now.split_once('_').unwrap();
        let (date, time): (u32, u32) = (date.parse().unwrap(), time.parse().unwrap());
        assert!(
            (20_251_101..21_000_000).contains(&date) && time < 240_000,
            "{now}"
        );
    }

    #[test]
    fn sizes_are_those_of_both_files() {
        let metrics = CompressionMetrics::of(WeightBits::B4.into(), 1_000_000, 250_000);
        assert_eq!(metrics.bit_width, 4);
        assert_eq!(
            (metrics.original_size_mb, metrics.compressed_size_mb),
            (1.0, 0.25)
        );
        assert_eq!(metrics.compression_ratio, 4.0);
        assert_eq!(metrics.size_reduction_percent, 75.0);
    }

    #[test]
    fn what_an_older_run_does_not_say_is_no_number() {
        let found: RoundRecord =
            serde_json::from_str("{\"round\": 3, \"test_accuracy\": 0.5}").unwrap();
        assert_eq!((found.round, found.test_accuracy), (3, 0.5));
        let others = [found.train_loss, found.train_accuracy, found.test_loss];
        assert!(others.iter().all(|x| x.is_nan()), "{found:?}");
    }
}
