//! One scale for all filters of a depthwise layer, whose ranges differ: most of them are left with a few levels.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::products::Product;
use super::super::rule::Rule;
use crate::LabError;

pub(in super::super) const RULE: Rule = Rule {
    name: "per-tensor-depthwise",
    looks_at: LooksAt::Weights,
    finds: "one scale for all filters of depthwise layers whose ranges differ",
    source: "onnxruntime#11415, neural-compressor#84, opencv_zoo#46; a MobileNetV2 on EuroSAT: 90.5 % in FP32, 10.1 % with W8A8 per tensor, 82.1 % per channel (measured)",
    look,
};

/// A filter that uses at most this share of the levels has lost three bits.
const LOST: i64 = 8;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (mut layers, mut filters, mut coarse) = (Vec::new(), 0, 0);
    for product in &patient.products {
        if !product.is_depthwise || !product.is_per_tensor() || product.bits == 1 {
            continue;
        }
        let lost = coarse_filters(product);
        if lost > 0 {
            layers.push((lost, product.name.as_str()));
            filters += product.filters;
            coarse += lost;
        }
    }
    if layers.is_empty() {
        return Ok(vec![]);
    }
    layers.sort_by_key(|(lost, _)| std::cmp::Reverse(*lost));
    let names: Vec<&str> = layers.iter().map(|(_, name)| *name).collect();
    Ok(vec![Finding {
        level: match 4 * coarse >= filters {
            true => Level::Error,
            false => Level::Warning,
        },
        rule: RULE.name.into(),
        evidence: format!(
            "one scale for all filters in {}: {coarse} of {filters} filters use an eighth of the levels or less",
            some_of(&names)
        ),
        places: places(&names),
        cost: "three bits of those filters or more; MobileNets fall to chance by it".into(),
        remedy: "quantize with a scale per channel: lowbit quantize does; per_channel=True in onnxruntime.quantization".into(),
    }])
}

/// Filters with weights, all of them within an eighth of the levels.
fn coarse_filters(product: &Product) -> usize {
    let each = product.each_filter().enumerate();
    let lost = each.filter(|(filter, codes)| {
        let largest = product.largest(*filter, codes);
        largest > 0 && largest <= product.reach() / LOST
    });
    lost.count()
}
