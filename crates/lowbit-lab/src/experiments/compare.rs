//! Trains in FP32, makes a real INT8 model of it, and measures both.

use super::artifacts::{
    CHECKPOINT, COMPARISON_RESULTS, FP32, Held, same_file, say_if_new, write_json,
};
use super::inputs::{FloatFile, Input};
use super::learning::Outcome;
use super::results::{DataResults, TrainingResults};
use super::unseen::Evaluated;
use crate::evaluate::{Evaluation, evaluate};
use crate::machine::Machine;
use crate::statistics::{Difference, paired_difference};
use crate::timing::{self, LayerSpeed, SpeedCell};
use crate::training::{Plan, Trained, quantized, start_weights, train};
use crate::{Config, Events, LabError};
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit::format;
use lowbit::quant::QuantizedModel;
use lowbit::{Graph, WeightBits};
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Everything that `lowbit compare` found: `comparison_results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompareResults {
    /// Always `real_quantization_comparison`.
    pub experiment: String,
    /// How the FP32 model came about.
    pub training: TrainingResults,
    /// Both models, and one against the other.
    pub comparison: Comparison,
    /// Which images were measured; none in results of older versions.
    #[serde(default)]
    pub evaluated: Option<Evaluated>,
    /// Why the models say nothing about quantization, and what to try; none if training learned something.
    #[serde(default)]
    pub no_verdict: Option<String>,
    /// Speed at every batch size and number of threads.
    pub speed: Vec<SpeedCell>,
    /// Where the time goes, at batch 64 (or as many test images as there are) on one thread.
    pub layers: Vec<LayerSpeed>,
    /// What was classified.
    pub data: DataResults,
    /// What it was measured on.
    pub machine: Machine,
    /// All settings.
    pub config: Config,
}

/// Both models, and one against the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The float model.
    pub fp32: ModelResults,
    /// The integer model.
    pub int8: ModelResults,
    /// FP32 against INT8.
    pub comparison: Ratios,
}

/// One model, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelResults {
    /// The file's name in the results folder.
    pub file: String,
    /// The file's size.
    pub size_bytes: u64,
    /// The file's size in 10⁶ bytes.
    pub size_mb: f64,
    /// Right ones among the test images, percent.
    #[serde(alias = "accuracy")]
    pub accuracy_percent: f64,
    /// Mean cross-entropy on the test split.
    pub loss: f64,
    /// Median milliseconds per image at batch 1 on one thread.
    pub inference_time_ms: f64,
    /// Test images per true class (row) and predicted class (column).
    pub confusion: Vec<Vec<usize>>,
}

/// FP32 against INT8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// FP32 bytes over INT8 bytes.
    pub compression_ratio: f64,
    /// Bytes saved, in percent.
    pub size_reduction_percent: f64,
    /// FP32 accuracy − INT8 accuracy, in points.
    pub accuracy_drop_percent: f64,
    /// The same with its 95 % interval over the test images, paired.
    pub accuracy_drop_points: Difference,
    /// Test images whose predicted class changed.
    pub predictions_changed: usize,
    /// Median FP32 time over INT8 time at batch 1 on one thread, paired.
    pub speedup: f64,
}

/// Where things are written.
pub const FOLDER: &str = "real_quantization_comparison";

/// A trained model that is compared, in place of one that is trained now.
#[derive(Clone, Copy, Debug)]
pub struct From<'a> {
    /// Its file.
    pub file: &'a Path,
    /// What the file holds.
    pub model: &'a FloatFile,
    /// Which images it is measured on.
    pub evaluated: &'a Evaluated,
}

/// What `compare` starts from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// Go on from a checkpoint if there is one.
    pub resume: bool,
    /// Take trained weights instead of training.
    pub from: Option<From<'a>>,
}

/// Runs the experiment and writes `comparison_results.json`, `model_fp32.safetensors` and `model_int8.safetensors` into
/// the folder `real_quantization_comparison` of the results.
///
/// # Errors
/// [`LabError`] saying what stopped it.
pub fn compare(
    config: &Config,
    input: &Input,
    start: &Start<'_>,
    isa: Isa,
    events: &dyn Events,
) -> Result<CompareResults, LabError> {
    let folder = Held::take(config.results.out.join(FOLDER))?;
    let (graph, trained) = float_model(config, input, start, &folder, isa, events)?;
    events.stage("quantizing");
    let calibration = input.calibration(config)?;
    let packed = quantized(
        &graph,
        &trained,
        &config.ptq(WeightBits::B8),
        &calibration,
        isa,
    )?;
    let pair = Pair {
        graph: &graph,
        trained: &trained,
        packed: &packed,
    };
    let sizes = pair.save(&folder, start)?;
    let measured = pair.measure(config, input, sizes, isa, events)?;
    let outcome = Outcome::of(
        measured.comparison.fp32.accuracy_percent / 100.0,
        &input.data.test,
        graph.classes(),
        trained.epochs.last().map(|last| last.train_loss),
        &config.recipe,
    );
    let own_test = || Evaluated::own_test(input.data.test.len());
    let results = CompareResults {
        experiment: FOLDER.into(),
        training: TrainingResults::of(&graph, &trained),
        comparison: measured.comparison,
        evaluated: Some(
            start
                .from
                .map_or_else(own_test, |from| from.evaluated.clone()),
        ),
        no_verdict: outcome.no_verdict(config.training.lr),
        speed: measured.speed,
        layers: measured.layers,
        data: DataResults::of(input),
        machine: Machine::here(isa),
        config: config.clone(),
    };
    write_json(&folder.join(COMPARISON_RESULTS), &results)?;
    Ok(results)
}

fn float_model(
    config: &Config,
    input: &Input,
    start: &Start<'_>,
    folder: &Held,
    isa: Isa,
    events: &dyn Events,
) -> Result<(Graph, Trained), LabError> {
    if let Some(from) = start.from {
        let trained = Trained {
            weights: from.model.weights.clone(),
            epochs: vec![],
            chosen_epoch: 0,
            test: None,
            quantized: None,
            record: from.model.record.clone(),
        };
        return Ok((from.model.graph.clone(), trained));
    }
    let graph = input.graph(&config.network.model)?;
    events.stage("training");
    let checkpoint = folder.join(CHECKPOINT);
    say_if_new(start.resume, &checkpoint, events);
    let plan = Plan {
        start: start_weights(config, &graph)?,
        checkpoint: Some(&checkpoint),
        resume: start.resume,
        ..Plan::default()
    };
    let trained = train(config, &plan, &graph, input, isa, events)?;
    Ok((graph, trained))
}

const INT8: &str = "model_int8.safetensors";

/// A model before and after.
struct Pair<'a> {
    graph: &'a Graph,
    trained: &'a Trained,
    packed: &'a QuantizedModel,
}

struct Measured {
    comparison: Comparison,
    speed: Vec<SpeedCell>,
    layers: Vec<LayerSpeed>,
}

impl Pair<'_> {
    /// Writes both files; their sizes in bytes.
    fn save(&self, folder: &Held, start: &Start<'_>) -> Result<[u64; 2], LabError> {
        let record = self.trained.record.as_ref();
        let fp32 = folder.join(FP32);
        let fp32_bytes = match start.from {
            // The model that it was begun with stays as it is.
            Some(from) if same_file(from.file, &fp32) => {
                std::fs::metadata(&fp32).map_or(0, |file| file.len())
            }
            _ => format::save_float(&fp32, self.graph, &self.trained.weights, record)?,
        };
        let int8_bytes = format::save_quantized(&folder.join(INT8), self.packed, record)?;
        Ok([fp32_bytes, int8_bytes])
    }

    fn measure(
        &self,
        config: &Config,
        input: &Input,
        [fp32_bytes, int8_bytes]: [u64; 2],
        isa: Isa,
        events: &dyn Events,
    ) -> Result<Measured, LabError> {
        let test = &input.data.test;
        let fp32 = FloatModel::compile(self.graph, &self.trained.weights, isa)?;
        let int8 = IntegerModel::compile(self.packed, isa)?;
        events.stage("evaluating");
        let (float, integer) = (evaluate(&fp32, test)?, evaluate(&int8, test)?);
        events.stage("timing");
        let threads = match config.run.threads {
            0 => rayon::current_num_threads(),
            threads => threads,
        };
        let images = &test.first(64)?;
        let speed = timing::measure(&fp32, &int8, images, threads);
        let layers = timing::layers(&fp32, &int8, images);
        let model = |file: &str, bytes: u64, evaluation: &Evaluation, ms: f64| ModelResults {
            file: file.into(),
            size_bytes: bytes,
            size_mb: bytes as f64 / 1e6,
            accuracy_percent: 100.0 * evaluation.accuracy(),
            loss: evaluation.loss,
            inference_time_ms: ms,
            confusion: evaluation.confusion.clone(),
        };
        Ok(Measured {
            comparison: Comparison {
                fp32: model(FP32, fp32_bytes, &float, speed[0].fp32_ms.median),
                int8: model(INT8, int8_bytes, &integer, speed[0].quantized_ms.median),
                comparison: ratios(
                    [fp32_bytes, int8_bytes],
                    [&float, &integer],
                    speed[0].speedup.median,
                ),
            },
            speed,
            layers,
        })
    }
}

fn ratios(
    [fp32_bytes, int8_bytes]: [u64; 2],
    [float, integer]: [&Evaluation; 2],
    speedup: f64,
) -> Ratios {
    let drop = paired_difference(&float.correct, &integer.correct).in_percent();
    Ratios {
        compression_ratio: fp32_bytes as f64 / int8_bytes as f64,
        size_reduction_percent: 100.0 * (1.0 - int8_bytes as f64 / fp32_bytes as f64),
        accuracy_drop_percent: drop.value,
        accuracy_drop_points: drop,
        predictions_changed: float.changed(integer),
        speedup,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;
    use crate::experiments::inputs::tests::input;
    use crate::experiments::train;

    fn evaluation(predictions: &[u32], labels: &[u32]) -> Evaluation {
        let pairs = predictions.iter().zip(labels);
        Evaluation {
            predictions: predictions.to_vec(),
            correct: pairs.map(|(a, b)| a == b).collect(),
            loss: 0.5,
            confusion: vec![],
            logits_digest: 0,
        }
    }

    #[test]
    fn the_whole_experiment_on_ten_images_leaves_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.results.out = folder.path().to_owned();
        config.network.model = "mlp".into();
        config.training.epochs = 2;
        config.run.threads = 1;
        let isa = Isa::current().unwrap();
        let go = |resume| {
            let start = Start { resume, from: None };
            compare(&config, &input(), &start, isa, &Silent).unwrap()
        };
        let found = go(false);
        let both = [&found.comparison.fp32, &found.comparison.int8];
        for model in both {
            let file = folder.path().join(FOLDER).join(&model.file);
            assert_eq!(std::fs::metadata(&file).unwrap().len(), model.size_bytes);
            assert_eq!(model.size_mb, model.size_bytes as f64 / 1e6);
            // Of two test images.
            assert!([0.0, 50.0, 100.0].contains(&model.accuracy_percent));
            let counted: usize = model.confusion.iter().flatten().sum();
            assert_eq!(counted, 2);
            let (_, record) = format::load_with_record(&file).unwrap();
            assert_eq!(record, Some(input().record(1)));
        }
        let last = found.training.epochs.last().unwrap();
        assert_eq!(
            both[0].accuracy_percent,
            100.0 * last.watched.score().accuracy
        );
        assert!(found.speed.iter().all(|cell| cell.batch <= 2));
        assert_eq!(both[0].inference_time_ms, found.speed[0].fp32_ms.median);
        assert_eq!(
            both[1].inference_time_ms,
            found.speed[0].quantized_ms.median
        );
        let ratio = both[0].size_bytes as f64 / both[1].size_bytes as f64;
        assert_eq!(found.comparison.comparison.compression_ratio, ratio);
        assert_eq!(found.evaluated, Some(Evaluated::own_test(2)));
        // Two test images never tell more than a guess.
        assert!(found.no_verdict.as_ref().unwrap().contains("No verdict"));
        let file = folder.path().join(FOLDER).join(COMPARISON_RESULTS);
        let written = std::fs::read_to_string(file).unwrap();
        assert_eq!(written, serde_json::to_string_pretty(&found).unwrap());
        // The checkpoint is there, and the same training ends at once.
        let again = go(true);
        // Times in a checkpoint are text: their last digit may differ.
        let digests = |found: &CompareResults| -> Vec<Option<u32>> {
            let epochs = found.training.epochs.iter();
            epochs.map(|epoch| epoch.logits_digest).collect()
        };
        assert_eq!(digests(&again), digests(&found));
        let seconds = |found: &CompareResults| found.training.training_time_seconds.unwrap();
        assert!((seconds(&again) - seconds(&found)).abs() < 1e-9);
        assert!(found.training.training_time_seconds.is_some());
        // A model that was trained before is measured, and its file stays as it is.
        let file = folder.path().join(FOLDER).join(FP32);
        let before = std::fs::read(&file).unwrap();
        let model = crate::experiments::inputs::float_model(&file, &Config::default()).unwrap();
        let evaluated = Evaluated::own_test(2);
        let start = Start {
            resume: false,
            from: Some(From {
                file: &file,
                model: &model,
                evaluated: &evaluated,
            }),
        };
        let measured = compare(&config, &input(), &start, isa, &Silent).unwrap();
        assert_eq!(measured.training.training_time_seconds, None);
        assert_eq!(measured.comparison.fp32.confusion, both[0].confusion);
        assert_eq!(measured.comparison.fp32.size_bytes, before.len() as u64);
        assert_eq!(std::fs::read(&file).unwrap(), before);
        // Training alone comes to the same.
        let trained = train::train(&config, &input(), None, false, isa, &Silent).unwrap();
        assert_eq!(trained.final_test_accuracy, last.watched.score().accuracy);
        assert_eq!(trained.epochs.len(), 2);
        assert!(trained.no_verdict.is_some());
        let one = folder.path().join(train::FOLDER).join(FP32);
        let two = folder.path().join(FOLDER).join(FP32);
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(&two).unwrap());
        assert!(trained.from.is_none());
        // From there training goes on: with a rate of zero it stays where it was.
        config.training.lr = 0.0;
        let from = From {
            file: &two,
            model: &model,
            evaluated: &evaluated,
        };
        let tuned = train::train(&config, &input(), Some(from), false, isa, &Silent).unwrap();
        let begun = tuned.from.unwrap();
        assert_eq!(begun.test_accuracy, last.watched.score().accuracy);
        assert_eq!(tuned.final_test_accuracy, last.watched.score().accuracy);
    }

    #[test]
    fn ratios_are_those_of_fp32_over_int8() {
        let labels = [0, 1, 2, 0];
        let float = evaluation(&[0, 1, 2, 1], &labels);
        let integer = evaluation(&[0, 2, 1, 1], &labels);
        let found = ratios([400, 100], [&float, &integer], 3.0);
        assert_eq!(found.compression_ratio, 4.0);
        assert_eq!(found.size_reduction_percent, 75.0);
        // Three of four right against one of four.
        assert_eq!(found.accuracy_drop_percent, 50.0);
        assert_eq!(found.accuracy_drop_points.value, 50.0);
        assert!(found.accuracy_drop_points.low < 50.0 && found.accuracy_drop_points.high > 50.0);
        assert_eq!(found.predictions_changed, 2);
        assert_eq!(found.speedup, 3.0);
    }
}
