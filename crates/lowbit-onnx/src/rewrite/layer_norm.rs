//! Layer norm from its parts, as TorchScript writes it before opset 17: `d / sqrt(mean(d²) + eps)`, where d is `x − mean(x)` and
//! the means are over the last axis. The factor and the summand behind it stay.

use super::pattern::{Patterns, instead, replace_all};
use crate::error::Fault;
use crate::fold::axes_of;
use crate::model::{Attribute, Model, Node};

pub(super) fn rewrite(model: &mut Model) -> Result<(), Fault> {
    let copy = model.clone();
    let over_last = |node: &Node| {
        let rank = node.input(0).map_or(0, |input| copy.shape(input).len());
        let axes = axes_of(&copy, node, rank).ok().flatten();
        rank > 0
            && axes == Some(vec![rank - 1])
            && node.int_or("keepdims", 1).is_ok_and(|keeps| keeps == 1)
    };
    replace_all(model, |patterns, node| {
        let (value, eps) = normalized(patterns, node, over_last)?;
        Some(
            instead(node, "LayerNormalization", value)
                .with("epsilon", Attribute::Float(eps))
                .with("axis", Attribute::Int(-1)),
        )
    });
    Ok(())
}

fn normalized<'a>(
    patterns: &Patterns<'a>,
    node: &'a Node,
    over_last: impl Fn(&Node) -> bool,
) -> Option<(&'a str, f32)> {
    if node.op != "Div" {
        return None;
    }
    let [difference, deviation] = patterns.pair(node)?;
    let subtract = patterns.made_by(difference, "Sub")?;
    let [value, mean] = patterns.pair(subtract)?;
    let mean = patterns
        .made_by(mean, "ReduceMean")
        .filter(|node| over_last(node))?;
    let root = patterns.made_by(deviation, "Sqrt")?;
    let (variance, eps) = patterns.shifted(root.input(0)?)?;
    let variance = patterns
        .made_by(variance, "ReduceMean")
        .filter(|node| over_last(node))?;
    let square = variance.input(0)?;
    let is_square = match patterns.made_by(square, "Pow") {
        Some(pow) => patterns.with_number(pow) == Some((difference, 2.0)),
        None => {
            patterns
                .made_by(square, "Mul")
                .and_then(|mul| patterns.pair(mul))
                == Some([difference; 2])
        }
    };
    (is_square && mean.input(0) == Some(value)).then_some((value, eps))
}

#[cfg(test)]
mod tests {
    use super::super::hard_swish::ops;
    use super::*;
    use crate::constant::Constant;
    use std::collections::HashMap;

    fn rewritten(power: f32, axis: i64) -> Vec<Node> {
        let number =
            |name: &str, value: f32| (name.to_owned(), Constant::float(vec![], vec![value]));
        let mean = |input: &str, output: &str| {
            Node::new(output, "ReduceMean", &[input], output)
                .with("axes", Attribute::Ints(vec![axis]))
        };
        let mut model = Model {
            input: "x".into(),
            output: "y".into(),
            nodes: vec![
                mean("x", "m"),
                Node::new("sub", "Sub", &["x", "m"], "d"),
                Node::new("pow", "Pow", &["d", "two"], "s"),
                mean("s", "v"),
                Node::new("add", "Add", &["v", "eps"], "e"),
                Node::new("sqrt", "Sqrt", &["e"], "r"),
                Node::new("div", "Div", &["d", "r"], "y"),
            ],
            constants: [number("two", power), number("eps", 1e-6)].into(),
            shapes: HashMap::from([("x".into(), vec![1, 4, 8]), ("s".into(), vec![1, 4, 8])]),
            ..Model::default()
        };
        rewrite(&mut model).unwrap();
        model.prune();
        model.nodes
    }

    #[test]
    fn the_parts_of_layer_norm_are_one_if_they_are_over_the_last_axis_and_of_squares() {
        for axis in [-1, 2] {
            let nodes = rewritten(2.0, axis);
            assert_eq!(ops(&nodes), ["LayerNormalization"]);
            assert_eq!(
                (
                    nodes[0].input(0),
                    nodes[0].float_or("epsilon", 0.0).unwrap()
                ),
                (Some("x"), 1e-6)
            );
        }
        assert_eq!(rewritten(3.0, -1).len(), 7);
        assert_eq!(rewritten(2.0, 1).len(), 7);
    }
}
