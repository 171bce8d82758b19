//! Products of a quantized model that tract and rten run in f32, and files that they do not read.
//!
//! Both take a QuantizeLinear and DequantizeLinear for what they are, a conversion there and back, and multiply floats in
//! between; their integer products are operators of their own. Checked against what they really run of 50 files
//! (`bench/onnx/runtimes`).

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::grids::{DEQUANTIZE, QUANTIZE, grid_of, is, plain};
use super::products::is_product;
use crate::{LabError, plural};
use lowbit_onnx::{Contents, StoredNode};

pub(in super::super) const RULE: Rule = Rule {
    name: "tract-rten",
    looks_at: LooksAt::OnnxFile,
    finds: "products of a quantized model that tract and rten run in f32, and files that they do not read",
    source: "tract 0.23.9 and rten 0.27.0: the types of the products that they run (`bench/onnx/runtimes`, `bench/onnx/fusion.py`)",
    look,
};

/// A runtime written in Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RustRuntime {
    /// tract, by Sonos.
    Tract,
    /// rten, by Robert Knight.
    Rten,
}

impl RustRuntime {
    const ALL: [Self; 2] = [Self::Tract, Self::Rten];

    fn name(self) -> &'static str {
        match self {
            Self::Tract => "tract",
            Self::Rten => "rten",
        }
    }

    /// The operators on integers that it has.
    fn of_integers(self) -> &'static [&'static str] {
        match self {
            Self::Tract => &[
                "ConvInteger",
                "MatMulInteger",
                "QLinearConv",
                "QLinearMatMul",
            ],
            Self::Rten => &["ConvInteger", "MatMulInteger"],
        }
    }

    /// Says why it does not read a quantized file, as far as that is because it is quantized.
    #[must_use]
    pub fn refuses(self, contents: &Contents) -> Option<String> {
        let lacks = |node: &StoredNode| {
            let op = plain(&node.op);
            let of_integers = op.starts_with("QLinear") || op == "QGemm";
            if of_integers && !self.of_integers().contains(&op) {
                return Some(op.to_owned());
            }
            let pair = is(node, QUANTIZE) || is(node, DEQUANTIZE);
            match grid_of(contents, node).filter(|_| pair)?.element.bits()? {
                8 | 32 => None,
                bits => Some(format!("integers of {bits} bits")),
            }
        };
        let mut lacking = contents.nodes.iter();
        lacking.find_map(|node| Some(format!("it has no {} ({})", lacks(node)?, node.name)))
    }

    /// Says whether it runs a node in integers; nothing of one that is no product.
    #[must_use]
    pub fn in_integers(self, node: &StoredNode) -> Option<bool> {
        let op = plain(&node.op);
        let is_product = is_product(node) || matches!(op, "ConvInteger" | "MatMulInteger");
        is_product.then(|| self.of_integers().contains(&op))
    }
}

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let is_quantized = |contents: &&Contents| {
        let mut nodes = contents.nodes.iter();
        nodes.any(|node| is(node, DEQUANTIZE) || plain(&node.op).starts_with("QLinear"))
    };
    let Some(contents) = patient.onnx.as_ref().filter(is_quantized) else {
        return Ok(vec![]);
    };
    let (mut said, mut names) = (Vec::<(String, Vec<&str>)>::new(), Vec::new());
    for runtime in RustRuntime::ALL {
        let name = runtime.name();
        let evidence = match runtime.refuses(contents) {
            Some(why) => format!("not read: {why}"),
            None => {
                let products = contents
                    .nodes
                    .iter()
                    .filter_map(|node| Some((node.name.as_str(), runtime.in_integers(node)?)));
                let (integer, float): (Vec<_>, Vec<_>) = products.partition(|(_, it)| *it);
                if float.is_empty() {
                    continue;
                }
                let float: Vec<&str> = float.into_iter().map(|(name, _)| name).collect();
                let all = plural::of(integer.len() + float.len(), "product");
                let evidence = format!("{} of {all} in f32, {}", float.len(), some_of(&float));
                names.extend(float);
                evidence
            }
        };
        match said.iter_mut().find(|(other, _)| *other == evidence) {
            Some((_, runtimes)) => runtimes.push(name),
            None => said.push((evidence, vec![name])),
        }
    }
    if said.is_empty() {
        return Ok(vec![]);
    }
    let said = said
        .iter()
        .map(|(evidence, runtimes)| format!("{}: {evidence}", runtimes.join(" and ")));
    names.sort_unstable();
    names.dedup();
    Ok(vec![Finding {
        level: Level::Note,
        rule: RULE.name.into(),
        evidence: said.collect::<Vec<String>>().join("; "),
        places: places(&names),
        cost: "f32's time there, and a conversion around each product, or no answer at all".into(),
        remedy: "where it is to run in one of them: the FP32 model, or one of ConvInteger and MatMulInteger (quantize_dynamic in onnxruntime.quantization)".into(),
    }])
}
