//! What stands behind the logits and keeps their order: Softmax, LogSoftmax, ArgMax.

use crate::error::Fault;
use crate::model::Model;

pub(super) fn rewrite(model: &mut Model) -> Result<(), Fault> {
    loop {
        let makers = model.makers();
        let Some(&index) = makers.get(model.output.as_str()) else {
            return Ok(());
        };
        let node = &model.nodes[index];
        let is_head = match node.op.as_str() {
            "Softmax" | "LogSoftmax" | "ArgMax" => is_over_classes(model, index)?,
            // Of what is left out anyway.
            "QuantizeLinear" => makers.get(node.need(0)?).is_some_and(|&from| {
                matches!(model.nodes[from].op.as_str(), "Softmax" | "LogSoftmax")
            }),
            // Only extents of 1 come or go.
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                let behind = node.need(0)?;
                let is_vector = |name: &str| {
                    let dims = model.shape(name);
                    dims.iter().filter(|&&dim| dim > 1).count() == 1
                };
                is_vector(behind) && is_vector(node.output())
            }
            _ => false,
        };
        if !is_head {
            return Ok(());
        }
        let node = &model.nodes[index];
        let from = node.need(0)?.to_owned();
        if !matches!(
            node.op.as_str(),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "QuantizeLinear"
        ) {
            let note = format!(
                "its {} at the end is left out: classes keep their order",
                node.op
            );
            model.notes.push(note);
        }
        model.output = from;
        model.nodes.remove(index);
        model.prune();
    }
}

/// Whether the only axis of more than one element is what it is over.
fn is_over_classes(model: &Model, index: usize) -> Result<bool, Fault> {
    let node = &model.nodes[index];
    let dims = model.shape(node.need(0)?);
    let otherwise = match node.op.as_str() {
        "ArgMax" => 0,
        // Before, all axes from the first on were one.
        _ if model.opset < 13 => 1,
        _ => -1,
    };
    let axis = node.int_or("axis", otherwise)?;
    let axis = if axis < 0 {
        axis + dims.len() as i64
    } else {
        axis
    };
    let Ok(axis) = usize::try_from(axis) else {
        return Ok(false);
    };
    let flattens = model.opset < 13 && node.op != "ArgMax";
    let many: Vec<usize> = (0..dims.len()).filter(|&i| dims[i] > 1).collect();
    Ok(matches!(many[..], [only] if only == axis || (flattens && only > axis)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attribute, Node};
    use std::collections::HashMap;

    fn model(nodes: Vec<Node>, opset: i64, output: &str) -> Model {
        let shape = |name: &str, dims: &[usize]| (name.to_owned(), dims.to_vec());
        Model {
            input: "x".into(),
            output: output.into(),
            opset,
            nodes,
            shapes: HashMap::from([
                shape("l", &[1, 5, 1, 1]),
                shape("f", &[1, 5]),
                shape("s", &[1, 5]),
                shape("m", &[1, 5, 1, 1]),
            ]),
            ..Model::default()
        }
    }

    #[test]
    fn softmax_over_the_classes_is_stripped_and_over_another_axis_kept() {
        let conv = Node::new("conv", "Conv", &["x"], "l");
        let flatten = Node::new("flatten", "Flatten", &["l"], "f");
        let softmax = Node::new("softmax", "Softmax", &["f"], "s");
        let mut whole = model(vec![conv.clone(), flatten.clone(), softmax], 13, "s");
        rewrite(&mut whole).unwrap();
        assert_eq!((whole.output.as_str(), whole.nodes.len()), ("l", 1));
        assert!(whole.notes[0].contains("Softmax"));
        // Over the last axis of [1, 5, 1, 1] every result is 1; before opset 13 it was over all behind the first.
        let softmax = Node::new("softmax", "Softmax", &["l"], "m");
        let mut new = model(vec![conv.clone(), softmax.clone()], 13, "m");
        rewrite(&mut new).unwrap();
        assert_eq!(new.output, "m");
        let mut old = model(vec![conv, softmax.with("axis", Attribute::Int(1))], 11, "m");
        rewrite(&mut old).unwrap();
        assert_eq!(old.output, "l");
    }
}
