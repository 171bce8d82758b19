//! Pairs of u8 × s8 products whose sum does not fit 16 bits: instructions of AVX2 without VNNI cut it off.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::products::Product;
use super::super::rule::Rule;
use crate::{LabError, plural};

pub(in super::super) const RULE: Rule = Rule {
    name: "saturating-sums",
    looks_at: LooksAt::Weights,
    finds: "neighboring 8-bit weights whose products with bright inputs pass 16 bits, where AVX2 without VNNI cuts them off",
    source: "onnxruntime#5849, #6004, #12072, nncf#1027; measured in docs/onnx.md (41.76 % for 45.39 % in ONNX Runtime, 43.19 % in OpenVINO)",
    look,
};

/// The largest sum of two weights that times 255 fits 16 bits.
const LARGEST_SUM: i64 = i16::MAX as i64 / 255;

fn saturates(product: &Product) -> bool {
    // Those of one channel are multiplied one by one; unsigned weights take another way.
    let is_signed = product.limits[0] < 0;
    if product.bits != 8 || !is_signed || product.is_depthwise || !product.takes_bytes {
        return false;
    }
    let mut pairs = product
        .each_filter()
        .flat_map(|filter| filter.chunks_exact(2));
    pairs.any(|pair| (pair[0] + pair[1]).abs() > LARGEST_SUM)
}

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let found = patient.products.iter().filter(|product| saturates(product));
    let names: Vec<&str> = found.map(|product| product.name.as_str()).collect();
    if names.is_empty() {
        return Ok(vec![]);
    }
    let remedy = match &patient.onnx {
        Some(_) => {
            "where such a CPU runs it: session.x64quantprecision=1, or quantize with 7 bits (reduce_range=True; lowbit export --reduce-range for these layers alone)"
        }
        None => {
            "lowbit export --reduce-range gives these layers weights of 7 bits, where such a CPU runs them in another engine"
        }
    };
    Ok(vec![Finding {
        level: Level::Note,
        rule: RULE.name.into(),
        evidence: format!(
            "{} of {} have neighboring weights that pass 128 together: {}",
            names.len(),
            plural::of(patient.products.len(), "product"),
            some_of(&names)
        ),
        places: places(&names),
        cost: "none in lowbit or with VNNI; ONNX Runtime and OpenVINO give other answers on CPUs with AVX2 and without VNNI".into(),
        remedy: remedy.into(),
    }])
}
