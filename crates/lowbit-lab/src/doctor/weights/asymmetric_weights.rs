//! Weights with a zero point of their own.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::products::Product;
use super::super::rule::Rule;
use crate::{LabError, plural};

pub(in super::super) const RULE: Rule = Rule {
    name: "asymmetric-weights",
    looks_at: LooksAt::Weights,
    finds: "weights whose zero point is not the middle of their type",
    source: "the integer product of asymmetric weights has a term more (Jacob et al. 2018, equation 7); OpenVINO and TensorRT take symmetric weights alone",
    look,
};

/// Whether 0 is the middle of the type: 0 of signed, 128 of unsigned bytes.
fn is_middle(product: &Product) -> bool {
    let [low, high] = product.limits;
    let middle = (low + high + 1).div_euclid(2);
    product.zero_points.iter().all(|&zero| zero == middle)
}

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let found: Vec<&Product> = patient
        .products
        .iter()
        .filter(|product| !is_middle(product))
        .collect();
    if found.is_empty() {
        return Ok(vec![]);
    }
    let names: Vec<&str> = found.iter().map(|product| product.name.as_str()).collect();
    let example = found[0].zero_points.iter().find(|zero| **zero != 0);
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "{} of {} with asymmetric weights (zero point {}, say): {}",
            found.len(),
            plural::of(patient.products.len(), "product"),
            example.copied().unwrap_or(0),
            some_of(&names)
        ),
        places: places(&names),
        cost: "a sum over each input more in every product; OpenVINO and TensorRT run such products in f32 or refuse them, lowbit does not read them".into(),
        remedy: "signed weights with zero point 0 (weight_type=QInt8 in onnxruntime.quantization, WeightSymmetric left on)".into(),
    }])
}
