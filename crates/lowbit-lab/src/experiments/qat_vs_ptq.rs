//! Train with quantization, or quantize after training? Both from the same seeds, data order, epochs and learning rate,
//! evaluated as deployed integer models.

use super::compare::{DataResults, calibration_images, data_results, graph_for};
use crate::evaluate::{Score, evaluate};
use crate::machine::Machine;
use crate::statistics::{Difference, bootstrap_difference, mean_interval};
use crate::training::{EpochRecord, Plan, Trained, is_finished, train};
use crate::{Config, Events, LabError, plural, timing};
use lowbit::format;
use lowbit::quant::{QuantizedModel, quantize};
use lowbit::runtime::{FloatModel, IntegerModel};
use lowbit::{Graph, Weights};
use lowbit_data::Dataset;
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Where things are written.
pub const FOLDER: &str = "qat_vs_ptq_comparison";

/// Differences within this many points count as none.
pub const TIE_POINTS: f64 = 0.5;

/// Everything that `lowbit qat-vs-ptq` found: `comparison_results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Always `qat_vs_ptq_comparison`.
    pub experiment: String,
    /// Bits per weight.
    pub bits: u8,
    /// Quantization-aware training.
    pub qat_results: MethodResults,
    /// Quantization after training.
    pub ptq_results: MethodResults,
    /// The FP32 models that were quantized.
    pub fp32_results: MethodResults,
    /// One against the other.
    pub comparison: Comparison,
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
    /// On the test split, as deployed.
    pub test: Score,
    /// On all training images, as deployed.
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

/// The verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredVerdict")]
pub struct Verdict {
    /// PTQ − QAT in points.
    pub accuracy_ptq_minus_qat_points: f64,
    /// Its 95 % interval: paired bootstrap over seeds and test images.
    pub accuracy_ptq_minus_qat_points_interval: [f64; 2],
    /// PTQ − QAT in seconds of training, quantization counted.
    pub time_ptq_minus_qat_seconds: f64,
    /// `QAT wins`, `PTQ wins` or `tie`.
    pub winner: String,
    /// Why it is a tie, or by how much one wins.
    pub reason: String,
    /// For a person who must decide.
    pub advice: String,
}

/// A verdict as files hold it: version 0.1 called the accuracies otherwise, and had the time as QAT − PTQ.
#[derive(Deserialize)]
struct StoredVerdict {
    #[serde(alias = "accuracy_difference")]
    accuracy_ptq_minus_qat_points: f64,
    #[serde(alias = "accuracy_difference_interval")]
    accuracy_ptq_minus_qat_points_interval: [f64; 2],
    time_ptq_minus_qat_seconds: Option<f64>,
    time_difference: Option<f64>,
    winner: String,
    reason: String,
    advice: String,
}

impl From<StoredVerdict> for Verdict {
    fn from(stored: StoredVerdict) -> Self {
        let time = stored.time_ptq_minus_qat_seconds;
        let time = time.or(stored.time_difference.map(|time| -time));
        Self {
            accuracy_ptq_minus_qat_points: stored.accuracy_ptq_minus_qat_points,
            accuracy_ptq_minus_qat_points_interval: stored.accuracy_ptq_minus_qat_points_interval,
            time_ptq_minus_qat_seconds: time.unwrap_or(f64::NAN),
            winner: stored.winner,
            reason: stored.reason,
            advice: stored.advice,
        }
    }
}

/// Where the trainings come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// Quantization-aware training starts from this FP32 model, which is the FP32 side as well.
    pub from: Option<&'a Path>,
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
    data: &Dataset,
    start: &Start<'_>,
    isa: Isa,
    events: &dyn Events,
) -> Result<Results, LabError> {
    let folder = config.results.out.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(|source| LabError::Io {
        path: folder.clone(),
        source,
    })?;
    let model = match start.from {
        None => None,
        Some(file) => match format::load(file)? {
            format::StoredModel::Float { graph, weights } => {
                super::compare::check_fits(&graph, data, file)?;
                Some((graph, weights))
            }
            format::StoredModel::Quantized(_) => {
                let text = format!(
                    "{}: is quantized already; give an FP32 model",
                    file.display()
                );
                return Err(LabError::Mismatch(text));
            }
        },
    };
    let graph = match &model {
        Some((graph, _)) => graph.clone(),
        None => graph_for(&config.network.model, data)?,
    };
    let mut run = Run {
        config,
        data,
        graph,
        folder: &folder,
        start,
        isa,
        events,
        models: None,
    };
    let mut seeds = Vec::new();
    for index in 0..config.repeats.seeds as u64 {
        let weights = model.as_ref().map(|(_, weights)| weights);
        seeds.push(run.seed(config.run.seed + index, weights)?);
    }
    let results = run.results(&seeds)?;
    let json = serde_json::to_string_pretty(&results).expect("results are plain data");
    format::write_atomically(&folder.join("comparison_results.json"), json.as_bytes())?;
    Ok(results)
}

/// FP32, PTQ and QAT of one seed.
type Seed = [SeedResults; 3];

/// The first seed's models.
struct Models {
    fp32: Weights,
    ptq: QuantizedModel,
    qat: QuantizedModel,
}

struct Run<'a> {
    config: &'a Config,
    data: &'a Dataset,
    graph: Graph,
    folder: &'a Path,
    start: &'a Start<'a>,
    isa: Isa,
    events: &'a dyn Events,
    models: Option<Models>,
}

impl Run<'_> {
    fn train(&self, seed: u64, name: &str, plan: &Plan<'_>) -> Result<Trained, LabError> {
        let config = self.config.with_seed(seed);
        let checkpoint = self
            .folder
            .join(format!("checkpoint_{name}_seed{seed}.safetensors"));
        let taken = self.take(&checkpoint, &config, plan)?;
        let plan = Plan {
            checkpoint: Some(&checkpoint),
            resume: self.start.resume || taken,
            ..plan.clone()
        };
        train(
            &config,
            &plan,
            &self.graph,
            self.data,
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
        let folder = runs.join(format!("{bits}bit"));
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            let checkpoint = entry.path().join("checkpoint.safetensors");
            if !is_finished(&checkpoint, config, plan, &self.graph, self.data) {
                continue;
            }
            let bytes = std::fs::read(&checkpoint).map_err(|source| LabError::Io {
                path: checkpoint.clone(),
                source,
            })?;
            format::write_atomically(to, &bytes)?;
            let line = format!("taken from {}", entry.path().display());
            self.events.note(&line);
            return Ok(true);
        }
        Ok(false)
    }

    fn seed(&mut self, seed: u64, start: Option<&Weights>) -> Result<Seed, LabError> {
        let bits = self.config.widths.bits;
        self.events.stage(&format!("FP32, seed {seed}"));
        let fp32 = match start {
            // The given model is the FP32 side; fine-tuning alone is trained.
            Some(weights) => Trained {
                weights: weights.clone(),
                epochs: vec![],
                quantized: None,
            },
            None => self.train(seed, "fp32", &Plan::default())?,
        };
        self.events
            .stage(&format!("QAT, {}, seed {seed}", plural::bits(bits)));
        let plan = Plan {
            qat: Some(self.config.qat(bits)),
            start: start.cloned(),
            frozen_norm_epochs: self.config.qat.freeze_bn_epochs,
            ..Plan::default()
        };
        let qat = self.train(seed, &format!("qat{bits}"), &plan)?;
        let qat_model = qat
            .quantized
            .clone()
            .expect("quantization-aware training makes one");
        let config = self.config.with_seed(seed);
        let begun = std::time::Instant::now();
        let calibration = calibration_images(&config, self.data);
        let ptq_model = quantize(
            &self.graph,
            &fp32.weights,
            &self.config.ptq(bits),
            &calibration,
            self.isa,
        )?;
        let ptq_seconds = begun.elapsed().as_secs_f64();
        let float = FloatModel::compile(&self.graph, &fp32.weights, self.isa)?;
        let ptq = IntegerModel::compile(&ptq_model, self.isa)?;
        let integer = IntegerModel::compile(&qat_model, self.isa)?;
        let (fp32_seconds, qat_seconds) = (fp32.train_seconds(), qat.train_seconds());
        let results = [
            self.score(seed, &float, fp32.epochs, fp32_seconds),
            self.score(seed, &ptq, vec![], fp32_seconds + ptq_seconds),
            self.score(seed, &integer, qat.epochs, qat_seconds),
        ];
        if self.models.is_none() {
            self.models = Some(Models {
                fp32: fp32.weights,
                ptq: ptq_model,
                qat: qat_model,
            });
        }
        Ok(results)
    }

    fn score(
        &self,
        seed: u64,
        model: &dyn lowbit::runtime::Model,
        epochs: Vec<EpochRecord>,
        seconds: f64,
    ) -> SeedResults {
        // All of them: the first ones are of one class where folders are read in order.
        let train = evaluate(model, &self.data.train);
        let test = evaluate(model, &self.data.test);
        SeedResults {
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
        }
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
        let sizes = [
            format::save_float(&self.folder.join(&names[0]), &self.graph, &models.fp32)?,
            format::save_quantized(&self.folder.join(&names[1]), &models.ptq)?,
            format::save_quantized(&self.folder.join(&names[2]), &models.qat)?,
        ];
        let float = FloatModel::compile(&self.graph, &models.fp32, self.isa)?;
        let ptq = IntegerModel::compile(&models.ptq, self.isa)?;
        let qat = IntegerModel::compile(&models.qat, self.isa)?;
        let count = self.data.test.len().min(64);
        let images = &self.data.test.images()[..count * self.graph.input().len()];
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
        let verdict = verdict(self.config, seeds, &ptq, &qat);
        Ok(Results {
            experiment: FOLDER.into(),
            bits,
            comparison: Comparison {
                qat_accuracy_percent: qat.final_test_accuracy_percent,
                ptq_accuracy_percent: ptq.final_test_accuracy_percent,
                comparison: verdict,
            },
            qat_results: qat,
            ptq_results: ptq,
            fp32_results: fp32,
            data: data_results(self.data),
            machine: Machine::here(self.isa),
            config: self.config.clone(),
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
        seed.epochs
            .iter()
            .map(|epoch| epoch.test_accuracy)
            .fold(0.0, f64::max)
    };
    MethodResults {
        file: file.into(),
        size_bytes: size,
        final_test_accuracy_percent: interval.value,
        final_test_accuracy_percent_interval: (seeds.len() > 1)
            .then_some([interval.low, interval.high]),
        best_test_accuracy_percent: (!seeds[0].epochs.is_empty()).then(|| 100.0 * mean(&best)),
        train_accuracy_percent: train,
        overfitting_gap_points: train - interval.value,
        training_time_seconds: mean(&|seed| seed.training_time_seconds),
        img_per_s,
        seeds,
    }
}

fn verdict(config: &Config, seeds: &[Seed], ptq: &MethodResults, qat: &MethodResults) -> Verdict {
    let hits = |text: &str| text.bytes().map(|byte| byte == b'1').collect::<Vec<_>>();
    let pairs: Vec<_> = seeds
        .iter()
        .map(|seed| (hits(&seed[1].hits), hits(&seed[2].hits)))
        .collect();
    let raw = bootstrap_difference(&pairs, config.run.seed);
    let points = Difference {
        value: 100.0 * raw.value,
        low: 100.0 * raw.low,
        high: 100.0 * raw.high,
    };
    let (winner, mut reason) = decide(points);
    if seeds.len() == 1 {
        reason += "; one seed: the noise of training is not covered";
    }
    let minutes = (qat.training_time_seconds - ptq.training_time_seconds) / 60.0;
    let advice = match winner {
        "QAT wins" => format!(
            "Train with quantization: {:.2} points more than quantizing after, for {minutes:+.1} minutes of training.",
            -points.value
        ),
        "PTQ wins" => format!(
            "Quantize after training: {:.2} points more than training with quantization, and no second training.",
            points.value
        ),
        _ if reason.contains("inside") => format!(
            "Quantize after training: it is as good at {}, and needs no second training.",
            plural::bits(config.widths.bits)
        ),
        _ => "Not decided: more --seeds narrow the interval. Quantizing after training is the cheaper of the two.".into(),
    };
    Verdict {
        accuracy_ptq_minus_qat_points: points.value,
        accuracy_ptq_minus_qat_points_interval: [points.low, points.high],
        time_ptq_minus_qat_seconds: ptq.training_time_seconds - qat.training_time_seconds,
        winner: winner.into(),
        reason,
        advice,
    }
}

/// The verdict on PTQ − QAT in points.
fn decide(points: Difference) -> (&'static str, String) {
    let Difference { low, high, .. } = points;
    if low > -TIE_POINTS && high < TIE_POINTS {
        (
            "tie",
            format!("the interval lies inside ±{TIE_POINTS} points"),
        )
    } else if low <= 0.0 && high >= 0.0 {
        ("tie", "the interval contains zero".into())
    } else if low > 0.0 {
        ("PTQ wins", format!("by {low:.2} points at least"))
    } else {
        ("QAT wins", format!("by {:.2} points at least", -high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(low: f64, high: f64) -> Difference {
        Difference {
            value: (low + high) / 2.0,
            low,
            high,
        }
    }

    #[test]
    fn the_verdict_follows_the_interval() {
        assert_eq!(decide(points(-0.4, 0.4)).0, "tie");
        assert!(decide(points(-0.4, 0.4)).1.contains("inside"));
        assert!(decide(points(-0.4, 0.9)).1.contains("contains zero"));
        assert_eq!(decide(points(0.6, 1.2)).0, "PTQ wins");
        assert_eq!(decide(points(-9.0, -4.0)).0, "QAT wins");
        assert!(decide(points(-9.0, -4.0)).1.contains("4.00"));
    }

    #[test]
    fn both_differences_of_a_verdict_have_one_sign_and_version_0_1_is_turned_round() {
        let old = serde_json::json!({
            "accuracy_difference": -2.0, "accuracy_difference_interval": [-3.0, -1.0], "time_difference": 40.0,
            "winner": "QAT wins", "reason": "", "advice": "",
        });
        let verdict: Verdict = serde_json::from_value(old).unwrap();
        assert_eq!(verdict.accuracy_ptq_minus_qat_points, -2.0);
        assert_eq!(verdict.time_ptq_minus_qat_seconds, -40.0);
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!(json["time_ptq_minus_qat_seconds"], -40.0);
        assert_eq!(serde_json::from_value::<Verdict>(json).unwrap(), verdict);
    }
}
