//! Integer layers that take longer than their FP32 twins on this machine, measured.

use super::super::finding::{Finding, Level, places};
use super::super::looks_at::LooksAt;
use super::super::patient::{Patient, spread};
use super::super::rule::Rule;
use crate::{LabError, plural, timing};
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit::format::StoredModel;
use lowbit::quant::ActivationQuant;

pub(in super::super) const RULE: Rule = Rule {
    name: "slower-layers",
    looks_at: LooksAt::Timing,
    finds: "integer layers that take longer than the same layers in f32, on this machine",
    source: "onnxruntime#20052, #17389, #12854 (INT8 slower than FP32); measured here, layer by layer",
    look,
};

/// Images of a timed call.
const IMAGES: usize = 16;

/// A layer is slower if it takes so much longer, and so much of the model's time that it matters; the whole, if it takes so much
/// longer.
const LONGER: f64 = 1.1;
const MATTERS: f64 = 0.02;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(images), Ok(StoredModel::Quantized(model))) = (patient.seen(), &patient.model) else {
        return Ok(vec![]);
    };
    if model.method == ActivationQuant::WeightOnly {
        return Ok(vec![]);
    }
    let fp32 = FloatModel::dequantized(model, patient.isa)?;
    let integer = IntegerModel::compile(model, patient.isa)?;
    let some = spread(&images.test, IMAGES);
    let layers = timing::layers(&fp32, &integer, &some.images()?);
    let total = |of: fn(&timing::LayerSpeed) -> f64| layers.iter().map(of).sum::<f64>();
    let (float_ms, integer_ms) = (total(|l| l.fp32_ms), total(|l| l.quantized_ms));
    let longer = |layer: &timing::LayerSpeed| layer.quantized_ms - layer.fp32_ms;
    let mut slower: Vec<_> = layers
        .iter()
        .filter(|layer| {
            layer.quantized_ms > LONGER * layer.fp32_ms && longer(layer) > MATTERS * integer_ms
        })
        .collect();
    slower.sort_by(|a, b| longer(b).total_cmp(&longer(a)));
    let whole = integer_ms > LONGER * float_ms;
    if slower.is_empty() && !whole {
        return Ok(vec![]);
    }
    let each = slower.iter().take(4).map(|layer| {
        format!(
            "{} {:.3} ms for {:.3}",
            layer.name, layer.quantized_ms, layer.fp32_ms
        )
    });
    let names: Vec<&str> = slower.iter().map(|layer| layer.name.as_str()).collect();
    let lost = match whole {
        true => integer_ms - float_ms,
        false => slower.iter().map(|layer| longer(layer)).sum(),
    };
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "{} images on one thread take {integer_ms:.3} ms in integers, {float_ms:.3} in f32{}",
            some.len(),
            match slower.len() {
                0 => String::new(),
                layers => format!(
                    "; {} slower: {}",
                    plural::of(layers, "layer"),
                    each.collect::<Vec<_>>().join(", ")
                ),
            }
        ),
        places: places(&names),
        cost: format!("{lost:.3} ms of {integer_ms:.3}"),
        remedy: match whole {
            true => "ship FP32 on this machine, or integers for their size alone (lowbit recommend says which)".into(),
            false => "nothing, where the whole is faster; lowbit bench shows every layer".into(),
        },
    }])
}
