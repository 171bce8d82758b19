//! Biases as integers: whether their steps are those of input times weight, and whether they fit.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use super::grids::{DEQUANTIZE, Grid, dequantized_by, grid_of, is};
use super::products::weights_of;
use crate::{LabError, plural};
use lowbit_onnx::{Contents, StoredNode};

pub(in super::super) const RULE: Rule = Rule {
    name: "bias",
    looks_at: LooksAt::OnnxFile,
    finds: "biases whose scale is not that of input times weight, or that do not fit 32 bits in it",
    source: "ONNX, QLinearConv (bias scale = x_scale · w_scale); onnxruntime#21000, PR#22020, PR#21645; nncf PR#109",
    look,
};

/// Difference of a scale from the product of the others that rounding explains.
const SLACK: f64 = 1e-4;

/// Whether a bias has the steps of input times weight.
pub(super) fn fits(bias: &[f32], x: &Grid, w: &Grid) -> bool {
    let [x] = x.scale[..] else { return false };
    let same = |bias: f32, w: f32| {
        let expected = f64::from(x) * f64::from(w);
        (f64::from(bias) - expected).abs() <= SLACK * expected.abs()
    };
    match (bias, &w.scale[..]) {
        (&[bias], &[w]) => same(bias, w),
        (biases, &[w]) => biases.iter().all(|&bias| same(bias, w)),
        (&[bias], weights) => weights.iter().all(|&w| same(bias, w)),
        (biases, weights) => {
            biases.len() == weights.len() && biases.iter().zip(weights).all(|(&b, &w)| same(b, w))
        }
    }
}

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let Some(contents) = &patient.onnx else {
        return Ok(vec![]);
    };
    let (mut unlike, mut overflown) = (Vec::new(), Vec::new());
    for node in contents
        .nodes
        .iter()
        .filter(|node| matches!(node.op.as_str(), "Conv" | "Gemm"))
    {
        let grids = grids(contents, node);
        let Some((x, w)) = grids else { continue };
        let Some(bias) = node.input(2) else { continue };
        match contents.maker(bias).filter(|maker| is(maker, DEQUANTIZE)) {
            Some(dequantize) => {
                let grid = grid_of(contents, dequantize);
                if grid.is_some_and(|grid| !fits(&grid.scale, &x, &w)) {
                    unlike.push(node.name.as_str());
                }
                let codes = contents
                    .constant(dequantize, 0)
                    .and_then(|tensor| tensor.ints());
                let at_end = |code: &&i64| code.abs() >= i64::from(i32::MAX);
                let count = codes.map_or(0, |codes| codes.iter().filter(at_end).count());
                overflown.extend((count > 0).then_some((node.name.as_str(), count)));
            }
            None => {
                let real = contents
                    .constant(node, 2)
                    .and_then(|tensor| tensor.floats());
                let count = real.map_or(0, |real| beyond(real, &x, &w));
                overflown.extend((count > 0).then_some((node.name.as_str(), count)));
            }
        }
    }
    let mut found = Vec::new();
    if !overflown.is_empty() {
        let names: Vec<&str> = overflown.iter().map(|(name, _)| *name).collect();
        let channels = overflown.iter().map(|(_, count)| count).sum::<usize>();
        found.push(Finding {
            level: Level::Error,
            rule: RULE.name.into(),
            evidence: format!(
                "{} whose bias does not fit 32 bits in steps of input times weight: {}",
                plural::of(channels, "channel"),
                some_of(&names)
            ),
            places: places(&names),
            cost: "these channels give a wrong constant; their weights are nearly all zero, and their scale is too small for the bias".into(),
            remedy: "raise the weights' scale of these channels until the bias fits (lowbit export does), or prune them".into(),
        });
    }
    if !unlike.is_empty() {
        found.push(Finding {
            level: Level::Warning,
            rule: RULE.name.into(),
            evidence: format!(
                "{} whose bias has other steps than input times weight: {}",
                plural::of(unlike.len(), "product"),
                some_of(&unlike)
            ),
            places: places(&unlike),
            cost: "no sum of integers can take such a bias in: ONNX Runtime runs the product in f32".into(),
            remedy: "bias = round(b / (x_scale · w_scale)) with that scale and zero point 0; quantize again after ranges were changed".into(),
        });
    }
    Ok(found)
}

fn grids(contents: &Contents, node: &StoredNode) -> Option<(Grid, Grid)> {
    let x = grid_of(contents, dequantized_by(contents, node.input(0)?)?)?;
    Some((x, weights_of(contents, node)?.grid))
}

/// How many real biases do not fit 32 bits.
fn beyond(real: &[f32], x: &Grid, w: &Grid) -> usize {
    let [x] = x.scale[..] else { return 0 };
    let steps = |(channel, &b): (usize, &f32)| {
        let scale = w
            .scale
            .get(channel)
            .or(w.scale.first())
            .copied()
            .unwrap_or(1.0);
        f64::from(b) / (f64::from(x) * f64::from(scale))
    };
    let steps = real.iter().enumerate().map(steps);
    steps
        .filter(|steps| steps.abs() >= f64::from(i32::MAX))
        .count()
}
