//! One model per weight width, from the same initial weights and data order, each a real file and a real kernel.

use super::compare::graph_for;
use crate::machine::Machine;
use crate::training::{EpochRecord, Plan, Trained, train};
use crate::{Config, Events, LabError, timing};
use lowbit::format::{self, StoredModel};
use lowbit::runtime::{FloatModel, IntegerModel, Model};
use lowbit::{Graph, Weights};
use lowbit_data::Dataset;
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// One width of one seed, done.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its folder.
    pub folder: PathBuf,
    /// What it came to.
    pub results: RunResults,
    /// Whether an earlier call had finished it.
    pub earlier: bool,
}

/// One width of one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId {
    /// Bits per weight.
    pub bits: u8,
    /// The seed.
    pub seed: u64,
}

/// A listener to a sweep.
pub trait SweepEvents: Sync {
    /// What is to be done, and how many epochs each run takes.
    fn planned(&self, _runs: &[RunId], _epochs: usize) {}

    /// A run begins: who listens to it?
    fn run(&self, run: RunId) -> Box<dyn Events + '_>;

    /// A run is done, now or in an earlier call.
    fn finished(&self, _run: RunId, _results: &RunResults, _earlier: bool) {}

    /// The speed of so many runs is being measured.
    fn timing(&self, _runs: usize) {}
}

/// Trains every width of `widths` for every seed, `jobs` of them at a time, on as many threads as rayon's current pool
/// has. A width that is finished with the same settings is not run again; a stopped one goes on. Speeds are measured at
/// the end, one model at a time.
///
/// # Errors
/// [`LabError`] saying what stopped it; finished runs are kept.
pub fn sweep(
    config: &Config,
    widths: &[u8],
    jobs: usize,
    data: &Dataset,
    isa: Isa,
    events: &dyn SweepEvents,
) -> Result<Vec<Finished>, LabError> {
    let mut all = train_widths(config, widths, jobs, data, isa, events)?;
    time_untimed(&mut all, data, isa, events)?;
    Ok(all)
}

/// Does what [`sweep`] does, and measures no speed.
///
/// # Errors
/// [`LabError`] saying what stopped it; finished runs are kept.
pub fn train_widths(
    config: &Config,
    widths: &[u8],
    jobs: usize,
    data: &Dataset,
    isa: Isa,
    events: &dyn SweepEvents,
) -> Result<Vec<Finished>, LabError> {
    let graph = graph_for(&config.network.model, data)?;
    let ids = run_ids(config, widths);
    events.planned(&ids, config.training.epochs);
    let run = |id: RunId| Run::new(config, id, &graph, data, isa).finish(events);
    if jobs <= 1 {
        ids.iter().map(|&id| run(id)).collect()
    } else {
        at_a_time(jobs, &ids, run)
    }
}

/// Measures the speeds of the runs of a sweep that are finished and have none yet, one model at a time; trains nothing.
/// Returns the finished runs.
///
/// # Errors
/// [`LabError`] saying what stopped it.
pub fn measure(
    config: &Config,
    widths: &[u8],
    data: &Dataset,
    isa: Isa,
    events: &dyn SweepEvents,
) -> Result<Vec<Finished>, LabError> {
    let graph = graph_for(&config.network.model, data)?;
    let finished = |id| Run::new(config, id, &graph, data, isa).finished();
    let mut all: Vec<Finished> = run_ids(config, widths)
        .into_iter()
        .filter_map(finished)
        .collect();
    time_untimed(&mut all, data, isa, events)?;
    Ok(all)
}

fn run_ids(config: &Config, widths: &[u8]) -> Vec<RunId> {
    let seeds = config.run.seed..config.run.seed + config.repeats.seeds as u64;
    seeds
        .flat_map(|seed| widths.iter().map(move |&bits| RunId { bits, seed }))
        .collect()
}

fn time_untimed(
    all: &mut [Finished],
    data: &Dataset,
    isa: Isa,
    events: &dyn SweepEvents,
) -> Result<(), LabError> {
    let is_untimed = |run: &&mut Finished| run.results.img_per_s.is_none();
    let untimed = all.iter_mut().filter(is_untimed).count();
    if untimed > 0 {
        events.timing(untimed);
    }
    for run in all.iter_mut().filter(is_untimed) {
        time(run, data, isa)?;
    }
    Ok(())
}

/// Runs `work` on every item, `jobs` at a time, each on its share of the current pool's threads. After a failure nothing
/// new is begun.
fn at_a_time(
    jobs: usize,
    ids: &[RunId],
    work: impl Fn(RunId) -> Result<Finished, LabError> + Sync,
) -> Result<Vec<Finished>, LabError> {
    let threads = (rayon::current_num_threads() / jobs).max(1);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Finished)>> = Mutex::new(Vec::new());
    let failed: Mutex<Option<LabError>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(ids.len()) {
            scope.spawn(|| {
                let pool = timing::pool(threads);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let stopped = failed.lock().expect(NO_PANIC).is_some();
                    let Some(&id) = ids.get(index).filter(|_| !stopped) else {
                        return;
                    };
                    match pool.install(|| work(id)) {
                        Ok(run) => done.lock().expect(NO_PANIC).push((index, run)),
                        Err(error) => *failed.lock().expect(NO_PANIC) = Some(error),
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().expect(NO_PANIC) {
        return Err(error);
    }
    let mut done = done.into_inner().expect(NO_PANIC);
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, run)| run).collect())
}

const NO_PANIC: &str = "nothing panics while it holds the lock";

struct Run<'a> {
    config: Config,
    id: RunId,
    graph: &'a Graph,
    data: &'a Dataset,
    isa: Isa,
}

impl<'a> Run<'a> {
    fn new(config: &Config, id: RunId, graph: &'a Graph, data: &'a Dataset, isa: Isa) -> Self {
        let mut config = config.with_seed(id.seed);
        config.widths.bits = id.bits.min(16);
        Self {
            config,
            id,
            graph,
            data,
            isa,
        }
    }

    /// The run, if an earlier call has finished it.
    fn finished(&self) -> Option<Finished> {
        let parent = self.config.results.out.join(format!("{}bit", self.id.bits));
        let (folder, done) = self.earlier(&parent);
        Some(Finished {
            folder,
            results: done?,
            earlier: true,
        })
    }

    fn finish(&self, events: &dyn SweepEvents) -> Result<Finished, LabError> {
        let parent = self.config.results.out.join(format!("{}bit", self.id.bits));
        let io = |path: &Path, source| LabError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(&parent).map_err(|source| io(&parent, source))?;
        let (folder, done) = self.earlier(&parent);
        let earlier = done.is_some();
        let results = match done {
            Some(results) => results,
            None => {
                std::fs::create_dir_all(&folder).map_err(|source| io(&folder, source))?;
                self.train(&folder, &*events.run(self.id))?
            }
        };
        events.finished(self.id, &results, earlier);
        Ok(Finished {
            folder,
            results,
            earlier,
        })
    }

    fn train(&self, folder: &Path, events: &dyn Events) -> Result<RunResults, LabError> {
        write_json(&folder.join("config.json"), &self.config)?;
        let checkpoint = folder.join("checkpoint.safetensors");
        let plan = Plan {
            qat: (self.id.bits < 32).then(|| self.config.qat(self.id.bits)),
            frozen_norm_epochs: self.config.qat.freeze_bn_epochs,
            checkpoint: Some(&checkpoint),
            resume: true,
            ..Plan::default()
        };
        let trained = train(&self.config, &plan, self.graph, self.data, self.isa, events)?;
        let results = self.save(folder, &trained)?;
        if let Some(metrics) = &results.compression_metrics {
            write_json(&folder.join("compression_metrics.json"), metrics)?;
        }
        // Last: its presence says that the run is whole.
        write_json(&folder.join(RESULTS), &results)?;
        Ok(results)
    }

    /// Settings, with all that do not change this run's models set to their defaults, and automatic choices made.
    fn decisive(&self, mut config: Config) -> Config {
        let default = Config::default();
        config.run.threads = default.run.threads;
        if self.id.bits < 32 {
            let chosen = config.qat(self.id.bits).chosen();
            config.qat.quantizer = chosen.quantizer;
            config.qat.act_quantizer = chosen.activation_quantizer;
        } else {
            config.widths.act_bits = default.widths.act_bits;
            config.widths.edge_bits = default.widths.edge_bits;
            config.qat = default.qat;
        }
        config
    }

    /// The folder of a run with the same settings, and its results if it is whole; else a new folder's name.
    fn earlier(&self, parent: &Path) -> (PathBuf, Option<RunResults>) {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        for entry in entries {
            let folder = entry.path();
            let same = std::fs::read(folder.join("config.json"))
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Config>(&bytes).ok())
                .is_some_and(|config| self.decisive(config) == self.decisive(self.config.clone()));
            if same {
                let results = std::fs::read(folder.join(RESULTS))
                    .ok()
                    .and_then(|bytes| serde_json::from_slice(&bytes).ok());
                return (folder, results);
            }
        }
        let name = format!("run_{}_seed{}", timestamp(), self.config.run.seed);
        (parent.join(name), None)
    }

    /// Writes the models; all results but the speed.
    fn save(&self, folder: &Path, trained: &Trained) -> Result<RunResults, LabError> {
        let weights = deployable(self.graph, &trained.weights);
        let original = format::save_float(&folder.join(FP32), self.graph, &weights)?;
        let compressed = match &trained.quantized {
            None => original,
            Some(model) => format::save_quantized(&folder.join(packed(self.id.bits)), model)?,
        };
        let last = trained.last();
        Ok(RunResults {
            bit_width: self.id.bits,
            num_rounds: trained.epochs.len(),
            fraction_train: 1.0,
            local_epochs: 1,
            batch_size: self.config.training.batch_size,
            learning_rate: self.config.training.lr,
            training_time_seconds: Some(trained.train_seconds()),
            final_test_accuracy: last.test_accuracy,
            final_test_loss: Some(last.test_loss),
            results_per_round: trained.epochs.iter().map(round).collect(),
            compression_metrics: Some(CompressionMetrics {
                bit_width: self.id.bits,
                original_size_mb: original as f64 / 1e6,
                compressed_size_mb: compressed as f64 / 1e6,
                compression_ratio: original as f64 / compressed as f64,
                size_reduction_percent: 100.0 * (1.0 - compressed as f64 / original as f64),
            }),
            timestamp: timestamp(),
            seed: self.config.run.seed,
            model: self.graph.name().into(),
            data: self.data.name.clone(),
            synthetic: self.data.synthetic,
            img_per_s: None,
            speedup: None,
            machine: Some(Machine::here(self.isa)),
            config: Some(self.config.clone()),
        })
    }
}

const RESULTS: &str = "training_results.json";
const FP32: &str = "model_fp32.safetensors";

fn packed(bits: u8) -> String {
    format!("model_{bits}bit.safetensors")
}

/// Measures the speed of a finished run's model against FP32 and adds it to the run's results.
fn time(run: &mut Finished, data: &Dataset, isa: Isa) -> Result<(), LabError> {
    let float = format::load(&run.folder.join(FP32))?;
    let StoredModel::Float { graph, weights } = float else {
        let text = format!("{}: {FP32} is quantized", run.folder.display());
        return Err(LabError::Mismatch(text));
    };
    let fp32 = FloatModel::compile(&graph, &weights, isa)?;
    let count = data.test.len().min(64);
    let images = &data.test.images()[..count * graph.input().len()];
    let bits = run.results.bit_width;
    let speed = if bits == 32 {
        timing::one_thread(&fp32, &fp32, images)
    } else {
        match format::load(&run.folder.join(packed(bits)))? {
            StoredModel::Quantized(model) => {
                let packed = IntegerModel::compile(&model, isa)?;
                timing::one_thread(&fp32, &packed as &dyn Model, images)
            }
            StoredModel::Float { .. } => {
                let text = format!(
                    "{}: {} is not quantized",
                    run.folder.display(),
                    packed(bits)
                );
                return Err(LabError::Mismatch(text));
            }
        }
    };
    // Of the speeds: a submitted sweep measures on another node than it trains on.
    run.results.machine = Some(Machine::here(isa));
    run.results.img_per_s = Some(speed.quantized_img_per_s());
    run.results.speedup = Some(speed.speedup.median);
    write_json(&run.folder.join(RESULTS), &run.results)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LabError> {
    let json = serde_json::to_string_pretty(value).expect("results are plain data");
    format::write_atomically(path, json.as_bytes())?;
    Ok(())
}

/// The graph's own tensors: without those of the quantizers.
pub(super) fn deployable(graph: &Graph, weights: &Weights) -> Weights {
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
pub(super) fn timestamp() -> String {
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
