//! Integer layers that take longer than their FP32 twins on this machine, measured.

use super::{Finding, Level, Patient};
use crate::{LabError, timing};
use lowbit::ActivationBits;
use lowbit::exec::IntegerModel;
use lowbit::quant::{ActivationQuant, QuantizedModel};

/// Images of a timed call.
const IMAGES: usize = 16;

/// A layer is slower if it takes so much longer, and so much of the model's time that it matters.
const LONGER: f64 = 1.1;
const MATTERS: f64 = 0.02;

pub(super) fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(model), Some(images)) = (patient.quantized(), patient.test.or(patient.calibration))
    else {
        return Ok(vec![]);
    };
    if model.method == ActivationQuant::WeightOnly {
        return Ok(vec![]);
    }
    // The same weights in f32.
    let twin = QuantizedModel {
        method: ActivationQuant::WeightOnly,
        activation_bits: ActivationBits::Float,
        activations: vec![None; model.activations.len()],
        ..model.clone()
    };
    let fp32 = IntegerModel::compile(&twin, patient.isa)?;
    let integer = IntegerModel::compile(model, patient.isa)?;
    let count = images.len().min(IMAGES);
    let images = &images.images()[..count * model.graph.input().len()];
    let layers = timing::layers(&fp32, &integer, images);
    let total = |of: fn(&timing::LayerSpeed) -> f64| layers.iter().map(of).sum::<f64>();
    let (float_ms, integer_ms) = (total(|l| l.fp32_ms), total(|l| l.quantized_ms));
    let mut slower: Vec<_> = layers
        .iter()
        .filter(|layer| {
            layer.quantized_ms > LONGER * layer.fp32_ms
                && layer.quantized_ms - layer.fp32_ms > MATTERS * integer_ms
        })
        .collect();
    slower.sort_by(|a, b| (b.quantized_ms - b.fp32_ms).total_cmp(&(a.quantized_ms - a.fp32_ms)));
    let whole = integer_ms > float_ms;
    if slower.is_empty() && !whole {
        return Ok(vec![]);
    }
    let each = slower.iter().take(4).map(|layer| {
        format!("{} {:.2} ms for {:.2}", layer.name, layer.quantized_ms, layer.fp32_ms)
    });
    let lost: f64 = slower.iter().map(|layer| layer.quantized_ms - layer.fp32_ms).sum();
    Ok(vec![Finding {
        level: match whole {
            true => Level::Error,
            false => Level::Warning,
        },
        rule: "slower-layers".into(),
        evidence: format!(
            "{count} images on one thread take {integer_ms:.2} ms in integers, {float_ms:.2} in f32; {} layers are slower: {}",
            slower.len(),
            each.collect::<Vec<_>>().join(", ")
        ),
        cost: format!("{lost:.2} ms of {integer_ms:.2}"),
        remedy: match whole {
            true => "ship FP32 on this machine, or integers for their size alone (lowbit recommend)".into(),
            false => "nothing, where the whole is faster; lowbit bench shows every layer".into(),
        },
    }])
}
