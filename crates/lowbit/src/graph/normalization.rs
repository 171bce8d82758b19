//! How u8 pixels become the network's real input, and which integers stand for them.

use super::{Graph, Normalization};
use crate::quant::{ActivationParams, InputParams};

/// `x ↦ x·scale + shift`: the normalization of the pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PixelMap {
    pub(crate) scale: f32,
    pub(crate) shift: f32,
}

impl PixelMap {
    pub(crate) fn of(normalization: Normalization) -> Self {
        Self {
            scale: 1.0 / (255.0 * normalization.std),
            shift: -normalization.mean / normalization.std,
        }
    }
}

/// What the image's integers stand for. The real zero of a pixel may lie between two of them.
pub(crate) fn pixel_params(graph: &Graph) -> InputParams {
    let pixel = PixelMap::of(graph.normalization());
    let zero = -f64::from(pixel.shift) / f64::from(pixel.scale);
    let zero_point = zero.round_ties_even().clamp(0.0, 255.0) as u8;
    InputParams {
        params: ActivationParams {
            scale: pixel.scale,
            zero_point,
        },
        residual: f64::from(zero_point) - zero,
    }
}
