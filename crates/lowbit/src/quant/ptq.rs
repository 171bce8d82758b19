//! Post-training quantization: fold batch-norm, calibrate, round.

use super::{
    ActivationParams, FLOAT_ACTIVATIONS, Granularity, Method, Observer, QuantScheme,
    QuantizedLayer, QuantizedModel, calibrate, quantizers,
};
use crate::graph::{Block, Blocks, Graph, GraphError};
use crate::runtime::{FloatModel, RuntimeError};
use crate::{Weights, WeightsError};
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};

/// What post-training quantization does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PtqConfig {
    /// When activation ranges are found.
    pub method: Method,
    /// How they are found.
    pub observer: Observer,
    /// Width and granularity of the weights.
    pub weights: QuantScheme,
    /// Bits per activation.
    pub activation_bits: u8,
    /// Bits per weight of the first and the last layer.
    pub edge_bits: u8,
}

impl Default for PtqConfig {
    fn default() -> Self {
        Self {
            method: Method::Static,
            observer: Observer::MinMax,
            weights: QuantScheme::weights(8),
            activation_bits: 8,
            edge_bits: 8,
        }
    }
}

/// Why a model cannot be quantized.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// The graph itself is unusable.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The weights do not fit the graph.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The float model that calibrates cannot be made.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Nothing to quantize.
    #[error("model {model} has no convolution or linear layer: there is nothing to quantize")]
    NoLayers {
        /// The graph's name.
        model: String,
    },
    /// A width that does not exist.
    #[error("{bits}-bit {what}: use {allowed}")]
    Bits {
        /// The width asked for.
        bits: u8,
        /// Weights or activations.
        what: &'static str,
        /// What there is.
        allowed: &'static str,
    },
    /// A granularity that this quantizer does not have.
    #[error("weights must be symmetric")]
    Asymmetric,
    /// Static quantization without images.
    #[error(
        "static quantization needs calibration images: give at least one, or use the dynamic method"
    )]
    NoImages,
    /// Calibration data of another shape.
    #[error(
        "calibration images hold {found} bytes, expected a multiple of {expected} ({shape} each)"
    )]
    Images {
        /// Bytes of one image.
        expected: usize,
        /// Shape of one image.
        shape: String,
        /// Bytes given.
        found: usize,
    },
}

/// Makes an integer model of trained weights.
///
/// `calibration` holds images `[n, h, w, c]` for the activation ranges (unused by [`Method::Dynamic`]).
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
    let blocks = graph.blocks()?;
    check(graph, &blocks, config, calibration)?;
    let edges = edges(&blocks);
    let layers = blocks
        .list()
        .iter()
        .enumerate()
        .map(|(index, block)| {
            let bits = if edges.contains(&index) {
                config.edge_bits.max(config.weights.bits)
            } else {
                config.weights.bits
            };
            let scheme = QuantScheme {
                bits,
                ..config.weights
            };
            block
                .has_weights()
                .then(|| quantize_layer(block, weights, scheme))
        })
        .collect();
    let mut provenance = std::collections::BTreeMap::new();
    provenance.insert("quantized".into(), "after training".into());
    let activations = match config.method {
        Method::Dynamic | Method::WeightOnly => vec![None; blocks.values()],
        Method::Static => {
            let model = FloatModel::compile(graph, weights, isa)?;
            let seen = calibrate(&model, config.observer, calibration);
            provenance.insert("observer".into(), config.observer.to_string());
            provenance.insert("calibration_images".into(), seen.images.to_string());
            let params = |value: usize| -> Option<ActivationParams> {
                let inner = value > 0 && value + 1 < blocks.values();
                inner.then(|| {
                    config
                        .observer
                        .params(&seen.seen[value], config.activation_bits)
                })
            };
            (0..blocks.values()).map(params).collect()
        }
    };
    Ok(QuantizedModel {
        graph: graph.clone(),
        method: config.method,
        layers,
        activations,
        activation_bits: config.activation_bits,
        provenance,
    })
}

fn check(
    graph: &Graph,
    blocks: &Blocks,
    config: &PtqConfig,
    calibration: &[u8],
) -> Result<(), QuantError> {
    if !blocks.list().iter().any(Block::has_weights) {
        return Err(QuantError::NoLayers {
            model: graph.name().to_owned(),
        });
    }
    for bits in [config.weights.bits, config.edge_bits] {
        if ![16, 8, 4, 2, 1].contains(&bits) {
            return Err(QuantError::Bits {
                bits,
                what: "weights",
                allowed: "16, 8, 4, 2 or 1",
            });
        }
    }
    let bits = config.activation_bits;
    let is_float = config.method == Method::WeightOnly && bits == FLOAT_ACTIVATIONS;
    if !is_float && ![8, 4, 2, 1].contains(&bits) {
        return Err(QuantError::Bits {
            bits,
            what: "activations",
            allowed: "8, 4, 2 or 1, or float with the weight-only method",
        });
    }
    if !config.weights.symmetric {
        return Err(QuantError::Asymmetric);
    }
    if config.method == Method::Static {
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

/// Indices of the first and the last block with weights.
pub(crate) fn edges(blocks: &Blocks) -> [usize; 2] {
    let with_weights = |(index, block): (usize, &Block)| block.has_weights().then_some(index);
    let mut indices = blocks.list().iter().enumerate().filter_map(with_weights);
    let first = indices.next().unwrap_or(0);
    [first, indices.next_back().unwrap_or(first)]
}

/// A block's weights and bias with its batch-norm (running statistics) folded in: `w·γ/σ` and `(b − μ)·γ/σ + β`.
///
/// # Panics
/// If the block has no weights, or they were not checked against the graph.
#[must_use]
pub fn fold_batch_norm(block: &Block, weights: &Weights) -> (Vec<f32>, Vec<f32>) {
    let shape = block
        .weight_shape()
        .expect("only blocks with weights are folded");
    let channels = shape.out_channels;
    let mut kernel = weights.slice(&format!("{}.weight", block.name)).to_vec();
    let mut bias = if block.bias {
        weights.slice(&format!("{}.bias", block.name)).to_vec()
    } else {
        vec![0.0; channels]
    };
    if let Some(norm) = &block.batch_norm {
        let of = |suffix: &str| weights.slice(&format!("{}.{suffix}", norm.name));
        let (gamma, beta) = (of("weight"), of("bias"));
        let (mean, var) = (of("running_mean"), of("running_var"));
        for c in 0..channels {
            let factor = f64::from(gamma[c]) / (f64::from(var[c]) + f64::from(norm.eps)).sqrt();
            for w in &mut kernel[c * shape.fan_in()..][..shape.fan_in()] {
                *w = (f64::from(*w) * factor) as f32;
            }
            let shifted = (f64::from(bias[c]) - f64::from(mean[c])) * factor;
            bias[c] = (shifted + f64::from(beta[c])) as f32;
        }
    }
    (kernel, bias)
}

fn quantize_layer(block: &Block, weights: &Weights, scheme: QuantScheme) -> QuantizedLayer {
    let (kernel, bias) = fold_batch_norm(block, weights);
    let channels = bias.len();
    let mut integers = vec![0i16; kernel.len()];
    let scale = match scheme.granularity {
        Granularity::PerChannel => {
            let fan_in = kernel.len() / channels;
            kernel
                .chunks_exact(fan_in)
                .zip(integers.chunks_exact_mut(fan_in))
                .map(|(w, q)| quantizers::quantize_channel(w, scheme.bits, q))
                .collect()
        }
        Granularity::PerTensor => {
            vec![quantizers::quantize_channel(&kernel, scheme.bits, &mut integers); channels]
        }
    };
    QuantizedLayer {
        bits: scheme.bits,
        weights: integers,
        scale,
        bias,
    }
}
