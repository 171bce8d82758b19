//! One model per weight width, from the same initial weights and data order, each a real file and a real kernel.

use super::compare::graph_for;
use crate::machine::Machine;
use crate::training::{EpochRecord, Plan, Trained, train};
use crate::{Config, Events, LabError, timing};
use lowbit::format;
use lowbit::runtime::{FloatModel, IntegerModel, Model};
use lowbit::{Graph, Weights};
use lowbit_data::Dataset;
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// All widths, widest first.
pub const WIDTHS: [u8; 6] = [32, 16, 8, 4, 2, 1];

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
    /// At batch 64 on one thread.
    #[serde(default)]
    pub img_per_s: Option<f64>,
    /// Against FP32, paired, at batch 64 on one thread.
    #[serde(default)]
    pub speedup: Option<f64>,
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

/// One epoch, under the names of a federation; not a number where an older run does not say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// From 1.
    pub round: usize,
    /// Mean over the epoch, while the weights changed.
    #[serde(default = "unknown")]
    pub train_loss: f64,
    /// Over the epoch, while the weights changed, share of 1.
    #[serde(default = "unknown")]
    pub train_accuracy: f64,
    /// As deployed.
    #[serde(default = "unknown")]
    pub test_loss: f64,
    /// As deployed, share of 1.
    #[serde(default = "unknown")]
    pub test_accuracy: f64,
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

/// One width of one seed.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its folder.
    pub folder: PathBuf,
    /// What it came to.
    pub results: RunResults,
    /// Whether an earlier call had finished it.
    pub earlier: bool,
}

/// Trains every width of `widths` for every seed, one after the other, on rayon's current pool. A width that is finished
/// with the same settings is not run again; a stopped one goes on.
///
/// # Errors
/// [`LabError`] saying what stopped it; finished runs are kept.
pub fn sweep(
    config: &Config,
    widths: &[u8],
    data: &Dataset,
    isa: Isa,
    events: &dyn Events,
) -> Result<Vec<Finished>, LabError> {
    let graph = graph_for(&config.model, data)?;
    let mut all = Vec::new();
    for seed in config.seed..config.seed + config.seeds as u64 {
        for &bits in widths {
            let config = Config {
                seed,
                bits: bits.min(16),
                ..config.clone()
            };
            let run = Run {
                config,
                bits,
                graph: &graph,
                data,
                isa,
                events,
            };
            all.push(run.finish()?);
        }
    }
    Ok(all)
}

struct Run<'a> {
    config: Config,
    /// 32 for float.
    bits: u8,
    graph: &'a Graph,
    data: &'a Dataset,
    isa: Isa,
    events: &'a dyn Events,
}

impl Run<'_> {
    fn finish(&self) -> Result<Finished, LabError> {
        let parent = self.config.out.join(format!("{}bit", self.bits));
        let io = |path: &Path, source| LabError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(&parent).map_err(|source| io(&parent, source))?;
        let (folder, done) = self.earlier(&parent);
        if let Some(results) = done {
            self.events.note(&format!(
                "{} bits, seed {}: finished earlier, {}",
                self.bits,
                self.config.seed,
                folder.display()
            ));
            return Ok(Finished {
                folder,
                results,
                earlier: true,
            });
        }
        std::fs::create_dir_all(&folder).map_err(|source| io(&folder, source))?;
        self.events
            .stage(&format!("{} bits, seed {}", self.bits, self.config.seed));
        write_json(&folder.join("config.json"), &self.config)?;
        let checkpoint = folder.join("checkpoint.safetensors");
        let plan = Plan {
            qat: (self.bits < 32).then(|| self.config.qat(self.bits)),
            frozen_norm_epochs: self.config.freeze_bn_epochs,
            checkpoint: Some(&checkpoint),
            resume: true,
            ..Plan::default()
        };
        let trained = train(
            &self.config,
            &plan,
            self.graph,
            self.data,
            self.isa,
            self.events,
        )?;
        let results = self.measure(&folder, &trained)?;
        write_json(
            &folder.join("compression_metrics.json"),
            &results.compression_metrics,
        )?;
        // Last: its presence says that the run is whole.
        write_json(&folder.join("training_results.json"), &results)?;
        Ok(Finished {
            folder,
            results,
            earlier: false,
        })
    }

    /// The folder of a run with the same settings, and its results if it is whole; else a new folder's name.
    fn earlier(&self, parent: &Path) -> (PathBuf, Option<RunResults>) {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        for entry in entries {
            let folder = entry.path();
            let same = std::fs::read(folder.join("config.json"))
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Config>(&bytes).ok())
                .is_some_and(|config| {
                    Config {
                        threads: self.config.threads,
                        ..config
                    } == self.config
                });
            if same {
                let results = std::fs::read(folder.join("training_results.json"))
                    .ok()
                    .and_then(|bytes| serde_json::from_slice(&bytes).ok());
                return (folder, results);
            }
        }
        let name = format!("run_{}_seed{}", timestamp(), self.config.seed);
        (parent.join(name), None)
    }

    fn measure(&self, folder: &Path, trained: &Trained) -> Result<RunResults, LabError> {
        let float = folder.join("model_fp32.safetensors");
        let graph_weights = deployable(self.graph, &trained.weights);
        let original = format::save_float(&float, self.graph, &graph_weights)?;
        let fp32 = FloatModel::compile(self.graph, &graph_weights, self.isa)?;
        let count = self.data.test.len().min(64);
        let images = &self.data.test.images()[..count * self.graph.input().len()];
        let (compressed, speed) = match &trained.quantized {
            None => (original, timing::one_thread(&fp32, &fp32, images)),
            Some(model) => {
                let path = folder.join(format!("model_{}bit.safetensors", self.bits));
                let compressed = format::save_quantized(&path, model)?;
                let packed = IntegerModel::compile(model, self.isa)?;
                (
                    compressed,
                    timing::one_thread(&fp32, &packed as &dyn Model, images),
                )
            }
        };
        let last = trained.last();
        Ok(RunResults {
            bit_width: self.bits,
            num_rounds: trained.epochs.len(),
            fraction_train: 1.0,
            local_epochs: 1,
            batch_size: self.config.batch_size,
            learning_rate: self.config.lr,
            training_time_seconds: Some(trained.train_seconds()),
            final_test_accuracy: last.test_accuracy,
            final_test_loss: Some(last.test_loss),
            results_per_round: trained.epochs.iter().map(round).collect(),
            compression_metrics: Some(CompressionMetrics {
                bit_width: self.bits,
                original_size_mb: original as f64 / 1e6,
                compressed_size_mb: compressed as f64 / 1e6,
                compression_ratio: original as f64 / compressed as f64,
                size_reduction_percent: 100.0 * (1.0 - compressed as f64 / original as f64),
            }),
            timestamp: timestamp(),
            seed: self.config.seed,
            model: self.graph.name().into(),
            data: self.data.name.clone(),
            synthetic: self.data.synthetic,
            img_per_s: Some(speed.int8_img_per_s()),
            speedup: Some(speed.speedup.median),
            machine: Some(Machine::here(self.isa)),
            config: Some(self.config.clone()),
        })
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LabError> {
    let json = serde_json::to_string_pretty(value).expect("results are plain data");
    format::write_atomically(path, json.as_bytes())?;
    Ok(())
}

/// The graph's own tensors: without those of the quantizers.
fn deployable(graph: &Graph, weights: &Weights) -> Weights {
    let mut own = Weights::new();
    for parameter in graph.parameters() {
        if let Some(tensor) = weights.get(&parameter.name) {
            own.insert(parameter.name, tensor.clone());
        }
    }
    own
}

fn round(epoch: &EpochRecord) -> RoundRecord {
    RoundRecord {
        round: epoch.epoch,
        train_loss: epoch.train_loss,
        train_accuracy: epoch.train_accuracy,
        test_loss: epoch.test_loss,
        test_accuracy: epoch.test_accuracy,
    }
}

/// UTC as `YYYYMMDD_hhmmss`.
fn timestamp() -> String {
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
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
