//! Train with quantization, or quantize after training? Both from the same seeds, data order, epochs and learning rate,
//! evaluated as deployed integer models.

use super::artifacts::{CHECKPOINT, COMPARISON_RESULTS, Held, same_file, write_json};
use super::inputs::{FloatFile, Input};
use super::learning::Outcome;
use super::results::DataResults;
use super::sweep::deployable;
use super::unseen::Evaluated;
use crate::decisive::Inherited;
use crate::evaluate::{Score, evaluate};
use crate::machine::Machine;
use crate::records::{EpochRecord, Watched};
use crate::statistics::mean_interval;
use crate::training::{Plan, StartWeights, Trained, best_beside, is_finished, quantized, train};
use crate::{Config, Events, LabError, plural, timing};
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit::format::{self, TrainingRecord};
use lowbit::quant::QuantizedModel;
use lowbit::{Graph, WeightBits};
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

mod verdict;

pub use verdict::{TIE_POINTS, Verdict, Winner};

use verdict::verdict;

/// Where things are written.
pub const FOLDER: &str = "qat_vs_ptq_comparison";

/// Everything that `lowbit qat-vs-ptq` found: `comparison_results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Always `qat_vs_ptq_comparison`.
    pub experiment: String,
    /// Name of the network; empty in results of older versions.
    #[serde(default)]
    pub model: String,
    /// Bits per weight.
    #[serde(with = "crate::config::number")]
    pub bits: WeightBits,
    /// Quantization-aware training.
    pub qat_results: MethodResults,
    /// Quantization after training.
    pub ptq_results: MethodResults,
    /// The FP32 models that were quantized.
    pub fp32_results: MethodResults,
    /// One against the other.
    pub comparison: Comparison,
    /// Which images were measured; none in results of older versions.
    #[serde(default)]
    pub evaluated: Option<Evaluated>,
    /// What was classified.
    pub data: DataResults,
    /// What it was measured on.
    pub machine: Machine,
    /// All settings.
    pub config: Config,
}

/// One method over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodResults {
    /// The first seed's model file.
    pub file: String,
    /// The file's size.
    pub size_bytes: u64,
    /// Mean over seeds, percent.
    #[serde(alias = "final_test_accuracy")]
    pub final_test_accuracy_percent: f64,
    /// 95 % interval of that mean over seeds (Student's t); none with one seed.
    #[serde(alias = "final_test_accuracy_interval")]
    pub final_test_accuracy_percent_interval: Option<[f64; 2]>,
    /// Mean over seeds of the best epoch, percent; none for PTQ, which has no epochs.
    #[serde(alias = "best_test_accuracy")]
    pub best_test_accuracy_percent: Option<f64>,
    /// Mean over seeds of the accuracy on training images, as deployed, percent.
    #[serde(alias = "train_accuracy")]
    pub train_accuracy_percent: f64,
    /// Train − test, points.
    #[serde(alias = "overfitting_gap")]
    pub overfitting_gap_points: f64,
    /// Mean over seeds: training, and for PTQ quantization as well.
    pub training_time_seconds: f64,
    /// Images per second at batch 64 on one thread (first seed).
    pub img_per_s: f64,
    /// Per seed.
    pub seeds: Vec<SeedResults>,
}

/// One method, one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedResults {
    /// The seed.
    pub seed: u64,
    /// Score on the test split, as deployed.
    pub test: Score,
    /// Score on all training images, as deployed.
    pub train: Score,
    /// Seconds of training (and quantization).
    pub training_time_seconds: f64,
    /// Per epoch; empty for PTQ.
    pub epochs: Vec<EpochRecord>,
    /// Which test images are right, a character each: 1 or 0.
    pub hits: String,
}

/// One against the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Mean final test accuracy of quantization-aware training, percent.
    #[serde(alias = "qat")]
    pub qat_accuracy_percent: f64,
    /// Mean final test accuracy of quantization after training, percent.
    #[serde(alias = "ptq")]
    pub ptq_accuracy_percent: f64,
    /// The verdict.
    pub comparison: Verdict,
}

/// Where the trainings come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// Quantization-aware training starts from this FP32 model, which is the FP32 side as well.
    pub from: Option<super::compare::From<'a>>,
    /// Folder of a sweep: its finished trainings with the same settings are not run again.
    pub runs: Option<&'a Path>,
    /// Go on behind finished seeds and epochs.
    pub resume: bool,
}

/// Runs the experiment on rayon's current pool.
///
/// # Errors
/// [`LabError`] saying what stopped it; finished seeds are kept and `resume` goes on behind them.
pub fn qat_vs_ptq(
    config: &Config,
    input: &Input,
    start: &Start<'_>,
    isa: Isa,
    events: &dyn Events,
) -> Result<Results, LabError> {
    let folder = Held::take(config.results.out.join(FOLDER))?;
    let graph = match start.from {
        Some(from) => from.model.graph.clone(),
        None => input.graph(&config.network.model)?,
    };
    let mut run = Run {
        config,
        input,
        graph,
        folder: &folder,
        start,
        isa,
        events,
        models: None,
    };
    let mut seeds = Vec::new();
    for index in 0..config.repeats.seeds as u64 {
        let model = start.from.map(|from| from.model);
        seeds.push(run.seed(config.run.seed + index, model)?);
    }
    let results = run.results(&seeds)?;
    write_json(&folder.join(COMPARISON_RESULTS), &results)?;
    Ok(results)
}

/// FP32, PTQ and QAT of one seed.
type Seed = [SeedResults; 3];

/// The first seed's models.
struct Models {
    fp32: Trained,
    ptq: QuantizedModel,
    qat: QuantizedModel,
    qat_record: Option<TrainingRecord>,
}

struct Run<'a> {
    config: &'a Config,
    input: &'a Input,
    graph: Graph,
    folder: &'a Held,
    start: &'a Start<'a>,
    isa: Isa,
    events: &'a dyn Events,
    models: Option<Models>,
}

impl Run<'_> {
    /// The settings of a training; `teacher` is the file of the seed's own FP32 model.
    fn settings(&self, seed: u64, teacher: Option<&Path>) -> Config {
        let mut config = self.config.with_seed(seed);
        if config.recipe.own_teacher() {
            config.recipe.teacher = teacher.map(Path::to_owned).unwrap_or_default();
        }
        config
    }

    fn train(&self, config: &Config, name: &str, plan: &Plan<'_>) -> Result<Trained, LabError> {
        let seed = config.run.seed;
        let checkpoint = self
            .folder
            .join(format!("checkpoint_{name}_seed{seed}.safetensors"));
        let taken = self.take(&checkpoint, config, plan)?;
        let plan = Plan {
            checkpoint: Some(&checkpoint),
            resume: self.start.resume || taken,
            ..plan.clone()
        };
        train(
            config,
            &plan,
            &self.graph,
            self.input,
            self.isa,
            self.events,
        )
    }

    /// Takes a sweep's finished training of the same settings, if there is one.
    fn take(&self, to: &Path, config: &Config, plan: &Plan<'_>) -> Result<bool, LabError> {
        let Some(runs) = self.start.runs else {
            return Ok(false);
        };
        let bits = plan.qat.map_or(32, |qat| qat.weight_bits.get());
        let decisive = plan.decisive(config, self.input, &self.graph);
        let folder = runs.join(format!("{bits}bit")).join(decisive.folder());
        let checkpoint = folder.join(CHECKPOINT);
        if !is_finished(&checkpoint, &decisive, config.training.epochs) {
            return Ok(false);
        }
        let mut files = vec![(checkpoint.clone(), to.to_owned())];
        if self.input.identity.validation.is_some() {
            files.insert(0, (best_beside(&checkpoint), best_beside(to)));
        }
        for (path, to) in files {
            let bytes = std::fs::read(&path).map_err(|source| LabError::Io { path, source })?;
            format::write_atomically(&to, &bytes)?;
        }
        self.events
            .note(&format!("taken from {}", folder.display()));
        Ok(true)
    }

    fn seed(&mut self, seed: u64, start: Option<&FloatFile>) -> Result<Seed, LabError> {
        let bits = self.config.widths.bits;
        self.events.stage(&format!("FP32, seed {seed}"));
        let fp32 = match start {
            // The given model is the FP32 side; fine-tuning alone is trained.
            Some(model) => Trained {
                weights: model.weights.clone(),
                epochs: vec![],
                chosen_epoch: 0,
                test: None,
                quantized: None,
                record: model.record.clone(),
            },
            None => self.train(&self.settings(seed, None), "fp32", &Plan::default())?,
        };
        let teacher = self.teacher(seed, &fp32)?;
        self.events
            .stage(&format!("QAT, {}, seed {seed}", plural::bits(bits)));
        let plan = Plan {
            qat: Some(self.config.qat(bits)),
            start: start.map(|model| StartWeights {
                weights: model.weights.clone(),
                record: model.record.clone(),
            }),
            frozen_norm_epochs: self.config.qat.freeze_bn_epochs,
            inherited: Inherited {
                taught: teacher.is_some(),
                ..Inherited::default()
            },
            ..Plan::default()
        };
        let settings = self.settings(seed, teacher.as_deref());
        let qat = self.train(&settings, &format!("qat{bits}"), &plan)?;
        let qat_model = qat
            .quantized
            .clone()
            .expect("quantization-aware training makes one");
        let begun = std::time::Instant::now();
        let calibration = self.input.calibration(&self.config.with_seed(seed))?;
        let how = self.config.ptq(bits);
        let ptq_model = quantized(&self.graph, &fp32, &how, &calibration, self.isa)?;
        let ptq_seconds = begun.elapsed().as_secs_f64();
        let float = FloatModel::compile(&self.graph, &fp32.weights, self.isa)?;
        let ptq = IntegerModel::compile(&ptq_model, self.isa)?;
        let integer = IntegerModel::compile(&qat_model, self.isa)?;
        let (fp32_seconds, qat_seconds) = (fp32.train_seconds(), qat.train_seconds());
        let results = [
            self.score(seed, &float, fp32.epochs.clone(), fp32_seconds)?,
            self.score(seed, &ptq, vec![], fp32_seconds + ptq_seconds)?,
            self.score(seed, &integer, qat.epochs, qat_seconds)?,
        ];
        if self.models.is_none() {
            self.models = Some(Models {
                fp32,
                ptq: ptq_model,
                qat: qat_model,
                qat_record: qat.record,
            });
        }
        Ok(results)
    }

    /// Writes the FP32 model that the settings make the teacher.
    fn teacher(&self, seed: u64, fp32: &Trained) -> Result<Option<PathBuf>, LabError> {
        if !self.config.recipe.own_teacher() {
            return Ok(None);
        }
        let path = self.folder.join(format!("teacher_seed{seed}.safetensors"));
        // As a sweep writes it: its trainings are taken where the teacher is the same.
        let weights = deployable(&self.graph, &fp32.weights);
        format::save_float(&path, &self.graph, &weights, fp32.record.as_ref())?;
        Ok(Some(path))
    }

    fn score(
        &self,
        seed: u64,
        model: &dyn lowbit::exec::Model,
        epochs: Vec<EpochRecord>,
        seconds: f64,
    ) -> Result<SeedResults, LabError> {
        // All of them: the first ones are of one class where folders are read in order.
        let train = evaluate(model, &self.input.data.train)?;
        let test = evaluate(model, &self.input.data.test)?;
        Ok(SeedResults {
            seed,
            test: test.score(),
            train: train.score(),
            training_time_seconds: seconds,
            epochs,
            hits: test
                .correct
                .iter()
                .map(|&hit| if hit { '1' } else { '0' })
                .collect(),
        })
    }

    fn results(&self, seeds: &[Seed]) -> Result<Results, LabError> {
        self.events.stage("timing");
        let bits = self.config.widths.bits;
        let models = self.models.as_ref().expect("there is at least one seed");
        let names = [
            "model_baseline_fp32.safetensors".to_owned(),
            format!("model_ptq_int{bits}.safetensors"),
            format!("model_qat_{bits}bit.safetensors"),
        ];
        let sizes = self.save(models, &names)?;
        let float = FloatModel::compile(&self.graph, &models.fp32.weights, self.isa)?;
        let ptq = IntegerModel::compile(&models.ptq, self.isa)?;
        let qat = IntegerModel::compile(&models.qat, self.isa)?;
        let test = &self.input.data.test;
        let images = &test.first(64)?;
        let speed = |model| timing::one_thread(&float, model, images);
        let (with_ptq, with_qat) = (speed(&ptq), speed(&qat));
        let speeds = [
            with_ptq.fp32_img_per_s(),
            with_ptq.quantized_img_per_s(),
            with_qat.quantized_img_per_s(),
        ];
        let method = |index: usize| {
            let runs: Vec<SeedResults> = seeds.iter().map(|seed| seed[index].clone()).collect();
            method_results(&names[index], sizes[index], speeds[index], runs)
        };
        let [fp32, ptq, qat] = [method(0), method(1), method(2)];
        let verdict = match self.no_verdict(seeds) {
            Some(advice) => Verdict::none(&ptq, &qat, advice),
            None => verdict(self.config, seeds, &ptq, &qat),
        };
        let from = self.start.from.map(|from| from.evaluated.clone());
        Ok(Results {
            experiment: FOLDER.into(),
            model: self.graph.name().to_owned(),
            bits,
            comparison: Comparison {
                qat_accuracy_percent: qat.final_test_accuracy_percent,
                ptq_accuracy_percent: ptq.final_test_accuracy_percent,
                comparison: verdict,
            },
            qat_results: qat,
            ptq_results: ptq,
            fp32_results: fp32,
            evaluated: Some(from.unwrap_or_else(|| Evaluated::own_test(test.len()))),
            data: DataResults::of(self.input),
            machine: Machine::here(self.isa),
            config: self.config.clone(),
        })
    }

    /// Writes the three models; their sizes in bytes.
    fn save(&self, models: &Models, names: &[String; 3]) -> Result<[u64; 3], LabError> {
        let record = models.fp32.record.as_ref();
        let path = |index: usize| self.folder.join(&names[index]);
        let fp32_bytes = match self.start.from {
            // The model that it was begun with stays as it is.
            Some(from) if same_file(from.file, &path(0)) => {
                std::fs::metadata(path(0)).map_or(0, |file| file.len())
            }
            _ => format::save_float(&path(0), &self.graph, &models.fp32.weights, record)?,
        };
        Ok([
            fp32_bytes,
            format::save_quantized(&path(1), &models.ptq, record)?,
            format::save_quantized(&path(2), &models.qat, models.qat_record.as_ref())?,
        ])
    }

    /// Why nothing can be said, and what to try: the f32 model of a seed did not learn.
    fn no_verdict(&self, seeds: &[Seed]) -> Option<String> {
        let classes = self.graph.classes();
        seeds.iter().find_map(|[fp32, _, _]| {
            let loss = fp32.epochs.last().map(|last| last.train_loss);
            let test = &self.input.data.test;
            let accuracy = fp32.test.accuracy;
            let recipe = self.settings(fp32.seed, None).recipe;
            let outcome = Outcome::of(accuracy, test, classes, loss, &recipe);
            outcome.no_verdict(self.config.training.lr)
        })
    }
}

fn method_results(file: &str, size: u64, img_per_s: f64, seeds: Vec<SeedResults>) -> MethodResults {
    let mean =
        |of: &dyn Fn(&SeedResults) -> f64| seeds.iter().map(of).sum::<f64>() / seeds.len() as f64;
    let finals: Vec<f64> = seeds
        .iter()
        .map(|seed| 100.0 * seed.test.accuracy)
        .collect();
    let interval = mean_interval(&finals);
    let train = 100.0 * mean(&|seed| seed.train.accuracy);
    let best = |seed: &SeedResults| {
        let scores = seed.epochs.iter().map(|epoch| epoch.watched.score());
        scores.map(|score| score.accuracy).fold(0.0, f64::max)
    };
    let watched_tests = |seed: &SeedResults| {
        let last = seed.epochs.last();
        last.is_some_and(|epoch| matches!(epoch.watched, Watched::Test { .. }))
    };
    MethodResults {
        file: file.into(),
        size_bytes: size,
        final_test_accuracy_percent: interval.value,
        final_test_accuracy_percent_interval: (seeds.len() > 1)
            .then_some([interval.low, interval.high]),
        best_test_accuracy_percent: watched_tests(&seeds[0]).then(|| 100.0 * mean(&best)),
        train_accuracy_percent: train,
        overfitting_gap_points: train - interval.value,
        training_time_seconds: mean(&|seed| seed.training_time_seconds),
        img_per_s,
        seeds,
    }
}

#[cfg(test)]
mod tests;
