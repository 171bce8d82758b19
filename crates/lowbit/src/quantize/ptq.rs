//! Post-training quantization: fold batch-norm, calibrate, round.

use super::calibrate;
use super::error::QuantError;
use super::layer_bits::LayerBits;
use super::names;
use super::passes::{self, Passes};
use crate::Weights;
use crate::bits::{ActivationBits, WeightBits, WeightGrid};
use crate::exec::FloatModel;
use crate::graph::{Graph, Program, Step, fold_batch_norm};
use crate::quant::{
    ActivationParams, ActivationQuant, Arithmetic, FloatLayer, FloatParts, Granularity, Observer,
    QuantizedLayer, QuantizedModel, quantizers,
};
#[cfg(feature = "train")]
use crate::train::{self, QatConfig};
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What post-training quantization does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PtqConfig {
    /// When activation ranges are found.
    pub method: ActivationQuant,
    /// How they are found.
    pub observer: Observer,
    /// Bits per weight.
    pub weight_bits: WeightBits,
    /// How many scales a layer's weights have.
    pub granularity: Granularity,
    /// Bits per activation; f32 with [`ActivationQuant::WeightOnly`] alone.
    pub activation_bits: ActivationBits,
    /// Which integers weights of 4 and 2 bits are; automatically those that the widths name.
    #[serde(default, skip_serializing_if = "WeightGrid::is_auto")]
    pub grid: WeightGrid,
    /// Bits per weight of the first and the last layer (at least `weight_bits`).
    pub edge_bits: WeightBits,
    /// Bits per weight of layers that have their own, the first and the last among them.
    #[serde(default, skip_serializing_if = "LayerBits::is_empty")]
    pub layer_bits: LayerBits,
    /// What repairs the rounding.
    #[serde(default)]
    pub passes: Passes,
    /// Names of layers that stay f32; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

impl Default for PtqConfig {
    fn default() -> Self {
        Self {
            method: ActivationQuant::Static,
            observer: Observer::MinMax,
            weight_bits: WeightBits::B8,
            grid: WeightGrid::Auto,
            granularity: Granularity::PerChannel,
            activation_bits: ActivationBits::B8,
            edge_bits: WeightBits::B8,
            layer_bits: LayerBits::default(),
            passes: Passes::default(),
            exclude: Vec::new(),
        }
    }
}

impl PtqConfig {
    /// Whether calibration images decide what comes out.
    #[must_use]
    pub fn needs_images(&self) -> bool {
        self.method == ActivationQuant::Static || self.passes.need_images()
    }
}

/// Makes an integer model of trained weights.
///
/// `calibration` holds images `[n, h, w, c]` for the activation ranges (unused by [`ActivationQuant::Dynamic`]).
///
/// # Errors
/// [`QuantError`] when the weights do not fit, a width does not exist, or the calibration images have another shape.
pub fn quantize(
    graph: &Graph,
    weights: &Weights,
    config: &PtqConfig,
    calibration: &[u8],
    isa: Isa,
) -> Result<QuantizedModel, QuantError> {
    weights.check(graph)?;
    let program = graph.program()?;
    check(graph, &program, config, calibration)?;
    let excluded = named(&program, config.exclude.iter().map(String::as_str))?;
    let of_own_bits = named(&program, config.layer_bits.iter().map(|(name, _)| name))?;
    if let Some(&both) = excluded.intersection(&of_own_bits).next() {
        let name = program.steps()[both].name.clone();
        return Err(QuantError::ExcludedWithBits { name });
    }
    let layers = program.steps().iter().filter(|step| step.has_weights());
    if layers.count() == excluded.len() {
        return Err(QuantError::NothingLeft);
    }
    if config.passes.reconstruct.is_some() {
        check_reconstruction(graph, weights, config, isa)?;
    }
    let float = float_parts(&program, weights, &excluded, config.method);
    let edges = program.edges();
    let layers = program
        .steps()
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let bits = match config.layer_bits.of(&step.name) {
                Some(bits) => bits,
                None if edges.contains(&index) => config.edge_bits.max(config.weight_bits),
                None => config.weight_bits,
            };
            let bits = bits.on(config.grid);
            (step.has_weights() && !excluded.contains(&index))
                .then(|| quantize_layer(step, weights, bits, config))
        })
        .collect();
    let mut provenance = std::collections::BTreeMap::new();
    provenance.insert("quantized".into(), "after training".into());
    if !excluded.is_empty() {
        let names = excluded
            .iter()
            .map(|&index| program.steps()[index].name.as_str());
        let names: Vec<&str> = names.collect();
        provenance.insert("exclude".into(), names.join(", "));
    }
    let activations = match config.method {
        ActivationQuant::Dynamic | ActivationQuant::WeightOnly => vec![None; program.values()],
        ActivationQuant::Static => {
            let model = FloatModel::compile(graph, weights, isa)?;
            let seen = calibrate(&model, config.observer, calibration)?;
            provenance.insert("observer".into(), config.observer.to_string());
            provenance.insert("calibration_images".into(), seen.images.to_string());
            let params = |value: usize| -> Option<ActivationParams> {
                let inner = value > 0 && value + 1 < program.values();
                let is_rounded = inner && !float.values.contains(&value);
                is_rounded.then(|| {
                    config
                        .observer
                        .params(&seen.seen[value], config.activation_bits.level_max())
                })
            };
            (0..program.values()).map(params).collect()
        }
    };
    let mut model = QuantizedModel {
        graph: graph.clone(),
        method: config.method,
        arithmetic: Arithmetic::RealBias,
        layers,
        activations,
        activation_bits: config.activation_bits,
        float,
        provenance,
    }
    // Passes see the arithmetic that ships: what they repair is what will run.
    .with_integer_biases_of(&program);
    if !config.layer_bits.is_empty() {
        let layers = config.layer_bits.to_string();
        model.provenance.insert("layer_bits".into(), layers);
    }
    let passes = config.passes;
    if passes != Passes::default() {
        model.provenance.insert("passes".into(), passes.to_string());
    }
    let layerwise = Passes {
        reconstruct: None,
        ..passes
    };
    if layerwise.need_images() {
        let images = passes::apply(
            weights,
            &mut model,
            (layerwise, config.granularity),
            calibration,
            isa,
        )?;
        let images = images.to_string();
        model.provenance.insert("pass_images".into(), images);
    }
    if let Some(steps) = passes.reconstruct {
        reconstructed(weights, &mut model, (config, steps), calibration, isa)?;
    }
    Ok(model)
}

/// Whether reconstruction knows all that is asked for, and every layer, before other passes take their time.
#[cfg(feature = "train")]
fn check_reconstruction(
    graph: &Graph,
    weights: &Weights,
    config: &PtqConfig,
    isa: Isa,
) -> Result<(), QuantError> {
    let unknown = [
        (!config.exclude.is_empty(), "excluded layers"),
        (!config.layer_bits.is_empty(), "bits of a layer's own"),
        (
            config.granularity != Granularity::PerChannel,
            "scales per tensor",
        ),
    ];
    match unknown.into_iter().find(|(is_given, _)| *is_given) {
        Some((_, what)) => Err(QuantError::Reconstruction(what)),
        None => Ok(train::can_reconstruct(graph, weights, qat_of(config), isa)?),
    }
}

#[cfg(not(feature = "train"))]
fn check_reconstruction(_: &Graph, _: &Weights, _: &PtqConfig, _: Isa) -> Result<(), QuantError> {
    Err(QuantError::NoTraining)
}

/// The training that reconstruction is.
#[cfg(feature = "train")]
fn qat_of(config: &PtqConfig) -> QatConfig {
    QatConfig {
        activation_bits: match config.method {
            ActivationQuant::WeightOnly => ActivationBits::Float,
            _ => config.activation_bits,
        },
        edge_bits: config.edge_bits.on(config.grid),
        ..QatConfig::of(config.weight_bits.on(config.grid))
    }
}

/// Lets the blocks learn to give what they give in f32, and says in the model what came of it.
#[cfg(feature = "train")]
fn reconstructed(
    weights: &Weights,
    model: &mut QuantizedModel,
    (config, steps): (&PtqConfig, u32),
    calibration: &[u8],
    isa: Isa,
) -> Result<(), QuantError> {
    let learned = train::reconstruct(weights, model, qat_of(config), steps, calibration, isa)?;
    let outcome = match learned.is_kept {
        true => "kept",
        false => "no better on images held out, left as it was",
    };
    let said = [
        ("reconstruction", outcome.to_owned()),
        ("reconstruction_images", learned.images.to_string()),
    ];
    let said = said.map(|(key, value)| (key.to_owned(), value));
    model.provenance.extend(said);
    Ok(())
}

#[cfg(not(feature = "train"))]
fn reconstructed(
    _: &Weights,
    _: &mut QuantizedModel,
    _: (&PtqConfig, u32),
    _: &[u8],
    _: Isa,
) -> Result<(), QuantError> {
    Err(QuantError::NoTraining)
}

/// The layers that stay f32, and of a static model the values between: what a product gives and such layers alone read.
fn float_parts(
    program: &Program,
    weights: &Weights,
    excluded: &BTreeSet<usize>,
    method: ActivationQuant,
) -> FloatParts {
    let layer = |&index: &usize| {
        let (weights, bias) = fold_batch_norm(&program.steps()[index], weights);
        (index, FloatLayer { weights, bias })
    };
    let steps = program.steps();
    let is_between = |&value: &usize| {
        let mut readers = steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.inputs.contains(&value));
        steps[value - 1].has_weights() && readers.all(|(index, _)| excluded.contains(&index))
    };
    // The logits have no readers and no grid in any case.
    let inner = 1..steps.len();
    FloatParts {
        layers: excluded.iter().map(layer).collect(),
        values: match method {
            ActivationQuant::Static if !excluded.is_empty() => inner.filter(is_between).collect(),
            _ => BTreeSet::new(),
        },
    }
}

fn check(
    graph: &Graph,
    program: &Program,
    config: &PtqConfig,
    calibration: &[u8],
) -> Result<(), QuantError> {
    if !program.steps().iter().any(Step::has_weights) {
        return Err(QuantError::NoLayers {
            model: graph.name().to_owned(),
        });
    }
    if config.activation_bits == ActivationBits::Float
        && config.method != ActivationQuant::WeightOnly
    {
        return Err(QuantError::FloatActivations {
            method: config.method,
        });
    }
    if config.method == ActivationQuant::Dynamic && config.activation_bits != ActivationBits::B8 {
        return Err(QuantError::DynamicBits {
            bits: config.activation_bits,
        });
    }
    let passes = config.passes;
    passes.check()?;
    if config.method == ActivationQuant::Dynamic && passes.need_images() {
        return Err(QuantError::PassesOfDynamic { passes });
    }
    if config.needs_images() {
        let image_len = graph.input().len();
        if calibration.is_empty() {
            return Err(QuantError::NoImages);
        }
        if !calibration.len().is_multiple_of(image_len) {
            return Err(QuantError::Images {
                expected: image_len,
                shape: graph.input().to_string(),
                found: calibration.len(),
            });
        }
    }
    Ok(())
}

/// The layers that patterns name.
fn named<'a>(
    program: &Program,
    patterns: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeSet<usize>, QuantError> {
    let unknown = |unknown: names::Unknown| QuantError::UnknownLayer {
        pattern: unknown.pattern,
        near: unknown.near,
    };
    names::named(program, patterns).map_err(unknown)
}

/// Makes each layer of a static or weight-only model at other widths, its ranges by their squared error below 8 bits and its bias
/// corrected on `calibration` (at most 256 images of it), while all layers before it stay as they are in `model`: for every
/// step of the program a layer per width, none where it has no weights.
///
/// # Errors
/// [`QuantError`] where weights or images do not fit the model.
pub fn at_widths(
    weights: &Weights,
    model: &QuantizedModel,
    widths: &[WeightBits],
    calibration: &[u8],
    isa: Isa,
) -> Result<Vec<Vec<QuantizedLayer>>, QuantError> {
    let graph = &model.graph;
    weights.check(graph)?;
    let program = graph.program()?;
    let passes = Passes {
        mse_weights: true,
        bias_correction: true,
        ..Passes::default()
    };
    let config = PtqConfig {
        method: model.method,
        activation_bits: model.activation_bits,
        passes,
        ..PtqConfig::default()
    };
    check(graph, &program, &config, calibration)?;
    let make = |step: &Step, bits| quantize_layer(step, weights, bits, &config);
    Ok(passes::each_alone(
        weights,
        model,
        widths,
        calibration,
        isa,
        make,
    )?)
}

fn quantize_layer(
    step: &Step,
    weights: &Weights,
    bits: WeightBits,
    config: &PtqConfig,
) -> QuantizedLayer {
    let (kernel, bias) = fold_batch_norm(step, weights);
    let channels = bias.len();
    let mut integers = vec![0i16; kernel.len()];
    // Signs have their best scale in any case, and eight bits are fine enough for the largest weight.
    let mse = config.passes.mse_weights && bits < WeightBits::B8 && bits > WeightBits::B1;
    let quantize = |w: &[f32], q: &mut [i16]| match mse {
        true => quantizers::mse(w, bits, q),
        false => quantizers::quantize_channel(w, bits, q),
    };
    // A filter of one weight is nothing but its scale.
    let per_filter = config.granularity == Granularity::PerChannel || kernel.len() == channels;
    let scale = match per_filter {
        true => {
            let fan_in = kernel.len() / channels;
            let filters = kernel.chunks_exact(fan_in);
            let filters = filters.zip(integers.chunks_exact_mut(fan_in));
            filters.map(|(w, q)| quantize(w, q)).collect()
        }
        false => vec![quantize(&kernel, &mut integers); channels],
    };
    QuantizedLayer {
        bits,
        weights: integers,
        scale,
        bias,
    }
}
