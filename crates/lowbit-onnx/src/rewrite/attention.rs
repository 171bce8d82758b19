//! Attention from its parts: a MatMul of queries and turned keys, a factor, a Softmax, a MatMul with the values. Reshapes and
//! Transposes around them stay: [`crate::import`] knows which axis is which.

use super::pattern::{Patterns, replace_all};
use crate::error::Fault;
use crate::fold::axis_of;
use crate::model::{Attribute, Model, Node};

pub(super) fn rewrite(model: &mut Model) -> Result<(), Fault> {
    let copy = model.clone();
    let is_constant = |name: &str| copy.constants.contains_key(name);
    let is_over_last = |node: &Node| {
        let rank = node.input(0).map_or(0, |input| copy.shape(input).len());
        let otherwise = if copy.opset < 13 { 1 } else { -1 };
        rank > 0 && axis_of(node, rank, otherwise).is_ok_and(|axis| axis + 1 == rank)
    };
    replace_all(model, |patterns, node| {
        let (inputs, scale) = attention(patterns, node, is_over_last)?;
        if inputs.iter().any(|input| is_constant(input)) {
            return None;
        }
        let attention = Node::new(&node.name, "MultiHeadAttention", &inputs, node.output());
        Some(attention.with("scale", Attribute::Float(scale as f32)))
    });
    Ok(())
}

/// A value without the factors behind it, and their product.
fn unscaled<'a>(patterns: &Patterns<'a>, value: &'a str) -> (&'a str, f64) {
    let (mut value, mut product) = (value, 1.0);
    while let Some((inner, factor)) = patterns.scaled(value) {
        (value, product) = (inner, product * f64::from(factor));
    }
    (value, product)
}

/// Queries, turned keys and values, and the factor of the products.
fn attention<'a>(
    patterns: &Patterns<'a>,
    node: &'a Node,
    is_over_last: impl Fn(&Node) -> bool,
) -> Option<([&'a str; 3], f64)> {
    if node.op != "MatMul" {
        return None;
    }
    let [weights, values] = patterns.pair(node)?;
    let softmax = patterns.made_by(weights, "Softmax")?;
    if !is_over_last(softmax) {
        return None;
    }
    let (scores, scale) = unscaled(patterns, softmax.inputs.first()?);
    let [queries, keys] = patterns.pair(patterns.made_by(scores, "MatMul")?)?;
    let (queries, of_queries) = unscaled(patterns, queries);
    let (keys, of_keys) = unscaled(patterns, keys);
    let scale = scale * of_queries * of_keys;
    Some(([queries, keys, values], scale))
}

#[cfg(test)]
mod tests {
    use super::super::hard_swish::ops;
    use super::*;
    use crate::constant::Constant;
    use std::collections::HashMap;

    fn rewritten(opset: i64, axis: Option<i64>, queries: &str) -> Vec<Node> {
        let number =
            |name: &str, value: f32| (name.to_owned(), Constant::float(vec![], vec![value]));
        let softmax = Node::new("softmax", "Softmax", &["scaled"], "p");
        let softmax = match axis {
            Some(axis) => softmax.with("axis", Attribute::Int(axis)),
            None => softmax,
        };
        let mut model = Model {
            input: "q".into(),
            output: "y".into(),
            opset,
            nodes: vec![
                Node::new("half", "Mul", &["k", "root"], "k2"),
                Node::new("scores", "MatMul", &[queries, "k2"], "s"),
                Node::new("scale", "Div", &["s", "eight"], "scaled"),
                softmax,
                Node::new("values", "MatMul", &["p", "v"], "y"),
            ],
            constants: [
                number("root", 0.5),
                number("eight", 8.0),
                ("w".into(), Constant::float(vec![1, 1], vec![1.0])),
            ]
            .into(),
            shapes: HashMap::from([("scaled".into(), vec![1, 3, 5, 5])]),
            ..Model::default()
        };
        rewrite(&mut model).unwrap();
        model.prune();
        model.nodes
    }

    #[test]
    fn two_products_with_a_softmax_over_keys_between_are_attention() {
        for (opset, axis) in [(13, None), (13, Some(-1)), (11, Some(3))] {
            let nodes = rewritten(opset, axis, "q");
            assert_eq!(ops(&nodes), ["MultiHeadAttention"]);
            assert_eq!(nodes[0].inputs, ["q", "k", "v"]);
            assert_eq!(nodes[0].float_or("scale", 0.0).unwrap(), 0.5 / 8.0);
        }
        // Over other axes than the keys, or with constant queries, it is not.
        assert_eq!(rewritten(11, None, "q").len(), 5);
        assert_eq!(rewritten(13, Some(2), "q").len(), 5);
        assert_eq!(rewritten(13, Some(-1), "w").len(), 5);
    }
}
