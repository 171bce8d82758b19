//! Functions of one element.

use super::Importer;
use crate::error::Fault;
use crate::model::Node;
use lowbit::graph::Op;

pub(super) fn relu(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    importer.unary(node, Op::Relu)
}

pub(super) fn sigmoid(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    importer.unary(node, Op::Sigmoid)
}
