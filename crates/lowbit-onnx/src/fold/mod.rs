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
use crate::constant::MAX_ELEMENTS;
use crate::error::Fault;
use crate::model::Model;

/// Infers shapes and computes constants.
pub(crate) fn fold(model: &mut Model) -> Result<(), Fault> {
    for (name, constant) in &model.constants {
        model.shapes.insert(name.clone(), constant.dims.clone());
    }
    let nodes = std::mem::take(&mut model.nodes);
    let mut made = 0usize;
    for node in nodes {
        let fail = |reason: String| node.wrong(reason);
        if let Some((constant, codes)) = codes::of_constant(model, &node)? {
            let output = node.output().to_owned();
            model.shapes.insert(output.clone(), constant.dims.clone());
            if let Some(codes) = codes {
                model.codes.insert(output.clone(), codes);
            }
            made = made.saturating_add(constant.len());
            model.constants.insert(output, constant);
            continue;
        }
        if let Some(constants) = evaluate::evaluate(model, &node)? {
            if let Some(codes) = codes::moved(model, &node, evaluate::evaluate)? {
                model.codes.insert(node.output().to_owned(), codes);
            }
            for (output, constant) in node.outputs.iter().zip(constants) {
                // A graph that folds to more than models weigh does not come from an exporter.
                made = made.saturating_add(constant.len());
                if made > 4 * MAX_ELEMENTS {
                    return Err(fail("constants of more than 4 GB come of it".into()));
                }
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
