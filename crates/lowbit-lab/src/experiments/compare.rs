//! Trains in FP32, makes a real INT8 model of it, and measures both.

use crate::evaluate::{Evaluation, evaluate};
use crate::machine::Machine;
use crate::statistics::{Difference, paired_difference};
use crate::timing::{self, LayerSpeed, SpeedCell};
use crate::training::{EpochRecord, Plan, Trained, train};
use crate::{Config, Events, LabError};
use lowbit::format;
use lowbit::graph::zoo;
use lowbit::quant::{QuantizedModel, quantize};
use lowbit::runtime::{FloatModel, IntegerModel};
use lowbit::{Graph, Shape, Weights};
use lowbit_data::Dataset;
use lowbit_kernels::{Isa, random};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything that `lowbit compare` found: `comparison_results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompareResults {
    /// Always `real_quantization_comparison`.
    pub experiment: String,
    /// How the FP32 model came about.
    pub training: TrainingResults,
    /// Both models, and one against the other.
    pub comparison: Comparison,
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

/// How a model was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingResults {
    /// Name of the model.
    pub model: String,
    /// Trained numbers.
    pub parameters: usize,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Seconds of training, evaluation not counted; none if the weights came from a file.
    pub training_time_seconds: Option<f64>,
    /// One record per epoch.
    pub epochs: Vec<EpochRecord>,
}

/// The data set in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataResults {
    /// Its name.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// Whether it was generated.
    pub synthetic: bool,
    /// How train and test were told apart.
    pub split: String,
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// Height, width and channels.
    pub image_shape: [usize; 3],
    /// Training images.
    pub train_images: usize,
    /// Test images.
    pub test_images: usize,
    /// What was left out of it and why, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
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

/// What `compare` starts from.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Go on from a checkpoint if there is one.
    pub resume: bool,
    /// Take trained weights from this file instead of training.
    pub from: Option<PathBuf>,
}

/// Runs the experiment and writes `comparison_results.json`, `model_fp32.safetensors` and `model_int8.safetensors` into
/// the folder `real_quantization_comparison` of `config.results.out`.
///
/// # Errors
/// [`LabError`] saying what stopped it.
pub fn compare(
    config: &Config,
    data: &Dataset,
    start: &Start,
    isa: Isa,
    events: &dyn Events,
) -> Result<CompareResults, LabError> {
    let folder = config.results.out.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(|source| LabError::Io {
        path: folder.clone(),
        source,
    })?;
    let (graph, trained) = float_model(config, data, start, &folder, isa, events)?;
    let weights = &trained.weights;
    events.stage("quantizing");
    let calibration = calibration_images(config, data);
    let quantized = quantize(&graph, weights, &config.ptq(8), &calibration, isa)?;
    let measured = measure(
        config, data, &graph, weights, &quantized, &folder, isa, events,
    )?;
    let results = CompareResults {
        experiment: FOLDER.into(),
        training: TrainingResults {
            model: graph.name().into(),
            parameters: graph.parameter_count(),
            macs: graph.macs(),
            training_time_seconds: start.from.is_none().then(|| trained.train_seconds()),
            epochs: trained.epochs,
        },
        comparison: measured.comparison,
        speed: measured.speed,
        layers: measured.layers,
        data: data_results(data),
        machine: Machine::here(isa),
        config: config.clone(),
    };
    let json = serde_json::to_string_pretty(&results).expect("results are plain data");
    format::write_atomically(&folder.join("comparison_results.json"), json.as_bytes())?;
    Ok(results)
}

/// The zoo's model for the data's shape and classes.
///
/// # Errors
/// [`LabError`] when the model is unknown or the images are too small for it.
pub fn graph_for(model: &str, data: &Dataset) -> Result<Graph, LabError> {
    let shape = Shape::new(data.height, data.width, data.channels);
    Ok(zoo::build(model, shape, &data.class_names)?)
}

/// Whether a stored model can classify the data.
///
/// # Errors
/// [`LabError::Mismatch`] saying what differs.
pub fn check_fits(graph: &Graph, data: &Dataset, file: &Path) -> Result<(), LabError> {
    let shape = Shape::new(data.height, data.width, data.channels);
    if graph.input() != shape {
        return Err(LabError::Mismatch(format!(
            "{}: takes {} images, the data have {shape}: use --image-size or other data",
            file.display(),
            graph.input()
        )));
    }
    if graph.class_names() != data.class_names {
        return Err(LabError::Mismatch(format!(
            "{}: has the classes {}, the data have {}",
            file.display(),
            graph.class_names().join(", "),
            data.class_names.join(", ")
        )));
    }
    Ok(())
}

fn float_model(
    config: &Config,
    data: &Dataset,
    start: &Start,
    folder: &Path,
    isa: Isa,
    events: &dyn Events,
) -> Result<(Graph, Trained), LabError> {
    if let Some(file) = &start.from {
        return match format::load(file)? {
            format::StoredModel::Float { graph, weights } => {
                check_fits(&graph, data, file)?;
                Ok((
                    graph,
                    Trained {
                        weights,
                        epochs: vec![],
                        quantized: None,
                    },
                ))
            }
            format::StoredModel::Quantized(_) => Err(LabError::Mismatch(format!(
                "{}: is quantized already; give an FP32 model",
                file.display()
            ))),
        };
    }
    let graph = graph_for(&config.network.model, data)?;
    events.stage("training");
    let checkpoint = folder.join("checkpoint.safetensors");
    let plan = Plan {
        checkpoint: Some(&checkpoint),
        resume: start.resume,
        ..Plan::default()
    };
    let trained = train(config, &plan, &graph, data, isa, events)?;
    Ok((graph, trained))
}

/// Training images, drawn by the seed, that set the activation ranges.
#[must_use]
pub fn calibration_images(config: &Config, data: &Dataset) -> Vec<u8> {
    let mut order: Vec<usize> = (0..data.train.len()).collect();
    random::shuffle(
        &mut random::stream(config.run.seed, "calibration", 0),
        &mut order,
    );
    order
        .iter()
        .take(config.calibration.calibration_images)
        .flat_map(|&index| data.train.image(index))
        .copied()
        .collect()
}

struct Measured {
    comparison: Comparison,
    speed: Vec<SpeedCell>,
    layers: Vec<LayerSpeed>,
}

#[allow(clippy::too_many_arguments)]
fn measure(
    config: &Config,
    data: &Dataset,
    graph: &Graph,
    weights: &Weights,
    quantized: &QuantizedModel,
    folder: &Path,
    isa: Isa,
    events: &dyn Events,
) -> Result<Measured, LabError> {
    const FP32: &str = "model_fp32.safetensors";
    const INT8: &str = "model_int8.safetensors";
    let fp32_bytes = format::save_float(&folder.join(FP32), graph, weights)?;
    let int8_bytes = format::save_quantized(&folder.join(INT8), quantized)?;
    let fp32 = FloatModel::compile(graph, weights, isa)?;
    let int8 = IntegerModel::compile(quantized, isa)?;
    events.stage("evaluating");
    let (float, integer) = (evaluate(&fp32, &data.test), evaluate(&int8, &data.test));
    events.stage("timing");
    let threads = if config.run.threads == 0 {
        rayon::current_num_threads()
    } else {
        config.run.threads
    };
    let images = &data.test.images()[..data.test.len().min(64) * graph.input().len()];
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
    let drop = paired_difference(&float.correct, &integer.correct);
    let points = Difference {
        value: 100.0 * drop.value,
        low: 100.0 * drop.low,
        high: 100.0 * drop.high,
    };
    Ok(Measured {
        comparison: Comparison {
            fp32: model(FP32, fp32_bytes, &float, speed[0].fp32_ms.median),
            int8: model(INT8, int8_bytes, &integer, speed[0].quantized_ms.median),
            comparison: Ratios {
                compression_ratio: fp32_bytes as f64 / int8_bytes as f64,
                size_reduction_percent: 100.0 * (1.0 - int8_bytes as f64 / fp32_bytes as f64),
                accuracy_drop_percent: points.value,
                accuracy_drop_points: points,
                predictions_changed: float.changed(&integer),
                speedup: speed[0].speedup.median,
            },
        },
        speed,
        layers,
    })
}

/// The data set in numbers.
#[must_use]
pub fn data_results(data: &Dataset) -> DataResults {
    DataResults {
        name: data.name.clone(),
        source: data.source.clone(),
        synthetic: data.synthetic,
        split: data.split.clone(),
        class_names: data.class_names.clone(),
        image_shape: [data.height, data.width, data.channels],
        train_images: data.train.len(),
        test_images: data.test.len(),
        notes: data.notes.clone(),
    }
}
