//! Why a model cannot be quantized.

use super::passes::{Passes, PassesError};
use crate::WeightsError;
use crate::bits::ActivationBits;
use crate::exec::RuntimeError;
use crate::graph::GraphError;
use crate::quant::ActivationQuant;

/// Why a model cannot be quantized.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
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
    /// `LOWBIT_ISA` names no instruction set of this machine.
    #[error(transparent)]
    Isa(#[from] lowbit_kernels::IsaError),
    /// Nothing to quantize.
    #[error("model {model} has no convolution or linear layer: there is nothing to quantize")]
    NoLayers {
        /// The graph's name.
        model: String,
    },
    /// A layer that is to stay f32, or to have bits of its own, and is none.
    #[error("{pattern}: no convolution or linear layer has that name; near it are {near}")]
    UnknownLayer {
        /// The name asked for.
        pattern: String,
        /// Names that the model has.
        near: String,
    },
    /// All layers are to stay f32.
    #[error("every convolution and linear layer is excluded: there is nothing to quantize")]
    NothingLeft,
    /// A layer that is to stay f32 and to have bits of its own.
    #[error("layer {name} is excluded and has bits of its own: leave one out")]
    ExcludedWithBits {
        /// Its name.
        name: String,
    },
    /// f32 activations with a method that rounds them.
    #[error("f32 activations go with the weight-only method: give 8, 4, 2 or 1 bit with {method}")]
    FloatActivations {
        /// The method asked for.
        method: ActivationQuant,
    },
    /// Activations of few bits, with a method whose activations have eight.
    #[error("dynamic ranges have 8-bit activations, not {bits}: use the static method, or 8 bits")]
    DynamicBits {
        /// The bits asked for.
        bits: ActivationBits,
    },
    /// Passes that look at images, with a method that finds its ranges at run time.
    #[error(
        "the passes {passes} need fixed activation ranges: use the static method, or drop them"
    )]
    PassesOfDynamic {
        /// The passes asked for.
        passes: Passes,
    },
    /// Passes that do not go together.
    #[error(transparent)]
    Passes(#[from] PassesError),
    /// Reconstruction with something that it does not know.
    #[error(
        "reconstruct cannot take {0}: it learns every layer, all in one width, with a scale for each channel"
    )]
    Reconstruction(&'static str),
    /// Reconstruction without training.
    #[error("reconstruct trains: use the crate with its feature `train`")]
    NoTraining,
    /// Reconstruction of a model that cannot be trained.
    #[cfg(feature = "train")]
    #[error("reconstruct: {0}")]
    Training(#[from] crate::train::TrainError),
    /// Static quantization, or a pass that looks at images, without any.
    #[error(
        "static quantization and its passes need calibration images: give at least one, or use the dynamic method"
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
