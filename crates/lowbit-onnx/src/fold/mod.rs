//! Shapes of all values, and everything that is constant for a batch of one: computed, and gone from the graph.
//!
//! lowbit runs images one by one, so that the batch is 1 here. What a model makes of the batch's size (`Shape`, `Gather`,
//! `Concat`, `Reshape` for a flatten) is constant then.

mod arithmetic;
mod evaluate;
mod movement;
mod shapes;
#[cfg(test)]
mod tests;

pub(crate) use evaluate::is_float;
pub(crate) use shapes::{axes_of, axis_of, order_of, pads_of, sizes_of, slice_of};

use crate::codes;
use crate::constant::{Constant, MAX_ELEMENTS};
use crate::error::Fault;
use crate::model::Model;

/// Infers shapes and computes constants.
pub(crate) fn fold(model: &mut Model) -> Result<(), Fault> {
    // A graph that folds to more than models weigh does not come from an exporter.
    fold_within(model, 4 * MAX_ELEMENTS)
}

/// The same where constants of at most so many elements may come of it.
fn fold_within(model: &mut Model, limit: usize) -> Result<(), Fault> {
    for (name, constant) in &model.constants {
        model.shapes.insert(name.clone(), constant.dims.clone());
    }
    let nodes = std::mem::take(&mut model.nodes);
    let mut left = limit;
    for node in nodes {
        let fail = |reason: String| node.wrong(reason);
        let mut keep = |constant: &Constant| -> Result<(), Fault> {
            left = left.checked_sub(constant.len()).ok_or_else(|| {
                node.wrong(format!(
                    "constants of more than {limit} elements come of the graph"
                ))
            })?;
            Ok(())
        };
        if let Some((constant, codes)) = codes::of_constant(model, &node)? {
            keep(&constant)?;
            let output = node.output().to_owned();
            model.shapes.insert(output.clone(), constant.dims.clone());
            if let Some(codes) = codes {
                model.codes.insert(output.clone(), codes);
            }
            model.constants.insert(output, constant);
            continue;
        }
        if let Some(constants) = evaluate::evaluate(model, &node)? {
            if let Some(codes) = codes::moved(model, &node, evaluate::evaluate)? {
                model.codes.insert(node.output().to_owned(), codes);
            }
            for (output, constant) in node.outputs.iter().zip(constants) {
                keep(&constant)?;
                model.shapes.insert(output.clone(), constant.dims.clone());
                model.constants.insert(output.clone(), constant);
            }
            continue;
        }
        let shapes = shapes::infer(model, &node)?;
        for (output, shape) in node.outputs.iter().zip(shapes) {
            crate::constant::count(&shape).map_err(fail)?;
            model.shapes.insert(output.clone(), shape);
        }
        model.nodes.push(node);
    }
    model.prune();
    Ok(())
}
