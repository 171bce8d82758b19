//! Functions of one element.

use super::Importer;
use crate::error::Fault;
use crate::model::Node;
use lowbit::graph::{Op, Unary};

pub(super) fn relu(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    importer.unary(node, Op::Relu)
}

pub(super) fn sigmoid(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    importer.unary(node, Op::Sigmoid)
}

/// Clip as the rewrite leaves it: limits as attributes.
pub(super) fn clip(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let finite = |key: &str, open: f32| -> Result<f32, Fault> {
        Ok(node.float_or(key, open)?.clamp(f32::MIN, f32::MAX))
    };
    let (min, max) = (finite("min", f32::MIN)?, finite("max", f32::MAX)?);
    importer.unary(node, Op::Unary(Unary::Clip { min, max }))
}

pub(super) fn hard_sigmoid(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let (alpha, beta) = (node.float_or("alpha", 0.2)?, node.float_or("beta", 0.5)?);
    importer.unary(node, Op::Unary(Unary::HardSigmoid { alpha, beta }))
}

pub(super) fn hard_swish(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    importer.unary(node, Op::Unary(Unary::HardSwish))
}

pub(super) fn swish(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    match node.float_or("alpha", 1.0)? {
        1.0 => importer.unary(node, Op::Unary(Unary::Silu)),
        alpha => Err(node.wrong(format!("alpha={alpha}: only 1 is supported"))),
    }
}

pub(super) fn tanh(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    importer.unary(node, Op::Unary(Unary::Tanh))
}

pub(super) fn leaky_relu(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let slope = node.float_or("alpha", 0.01)?;
    importer.unary(node, Op::Unary(Unary::LeakyRelu { slope }))
}

pub(super) fn elu(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let alpha = node.float_or("alpha", 1.0)?;
    importer.unary(node, Op::Unary(Unary::Elu { alpha }))
}

pub(super) fn gelu(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    match node.text("approximate")?.unwrap_or("none") {
        "none" => importer.unary(node, Op::Unary(Unary::Gelu { tanh: false })),
        "tanh" => importer.unary(node, Op::Unary(Unary::Gelu { tanh: true })),
        other => Err(node.wrong(format!(
            "approximate={other}: only none and tanh are supported"
        ))),
    }
}
