//! How the numbers of a model's values lie in the ranges of its integers, and in those of their channels.

use crate::exec::{FloatModel, Model, RuntimeError};
use crate::quant::QuantizedModel;
use lowbit_kernels::Isa;

/// Returns for each value of a model with fixed ranges the share of its numbers that lie beyond what its integers can stand for,
/// when images go through its weights in f32; none for the image, the logits and values without a range.
///
/// # Errors
/// [`RuntimeError`] when the model cannot be run.
pub fn clipped(
    model: &QuantizedModel,
    images: &[u8],
    isa: Isa,
) -> Result<Vec<Option<f64>>, RuntimeError> {
    model.validate()?;
    let float = FloatModel::dequantized(model, isa)?;
    let levels = f32::from(model.activation_bits.level_max());
    let mut counts = vec![(0u64, 0u64); float.values()];
    float.observe(whole(&float, images), &mut |value, numbers| {
        let Some(params) = model.activations[value].filter(|_| value > 0) else {
            return;
        };
        let zero = f32::from(params.zero_point);
        let low = (-0.5 - zero) * params.scale;
        let high = (levels + 0.5 - zero) * params.scale;
        let outside = numbers.iter().filter(|&&x| x < low || x > high).count();
        counts[value].0 += outside as u64;
        counts[value].1 += numbers.len() as u64;
    });
    let share = |(outside, all): (u64, u64)| (all > 0).then(|| outside as f64 / all as f64);
    Ok(counts.into_iter().map(share).collect())
}

/// Returns for each value of a model the smallest and the largest number of each channel when images go through it; nothing for
/// the logits.
#[must_use]
pub fn channel_extremes(model: &FloatModel, images: &[u8]) -> Vec<Vec<(f32, f32)>> {
    let program = model.program();
    let channels = |value| program.value_shape(value).c();
    let mut found: Vec<Vec<(f32, f32)>> = (0..model.values()).map(|_| Vec::new()).collect();
    model.observe(whole(model, images), &mut |value, numbers| {
        let channels = channels(value);
        let seen = &mut found[value];
        seen.resize(channels, (f32::INFINITY, f32::NEG_INFINITY));
        for pixel in numbers.chunks_exact(channels.max(1)) {
            for ((low, high), &x) in seen.iter_mut().zip(pixel) {
                *low = low.min(x);
                *high = high.max(x);
            }
        }
    });
    found
}

fn whole<'a>(model: &FloatModel, images: &'a [u8]) -> &'a [u8] {
    &images[..images.len() - images.len() % model.graph().input().len()]
}
