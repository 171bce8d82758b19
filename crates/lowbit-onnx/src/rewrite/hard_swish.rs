//! Hard-sigmoid and hard-swish from their parts: `clip(x + 3, 0, 6) / 6`, and that times `x`, in the orders that exporters
//! write.

use super::pattern::{Patterns, instead, is_near, replace_all};
use crate::error::Fault;
#[cfg(test)]
use crate::model::Node;
use crate::model::{Attribute, Model};

pub(super) fn rewrite(model: &mut Model) -> Result<(), Fault> {
    replace_all(model, |patterns, node| {
        let (clip, factor) = patterns.scaled(node.output())?;
        let (value, shift, limit) = clipped(patterns, clip)?;
        if !is_near(limit * factor, 1.0) {
            return None;
        }
        let sigmoid = instead(node, "HardSigmoid", value);
        Some(
            sigmoid
                .with("alpha", Attribute::Float(factor))
                .with("beta", Attribute::Float(shift * factor)),
        )
    });
    replace_all(model, |patterns, node| {
        let whole = patterns.factors(node).and_then(|factors| {
            factors
                .into_iter()
                .find(|&(value, gate)| is_gate_of(patterns, value, gate))
        });
        if let Some((value, _)) = whole {
            return Some(instead(node, "HardSwish", value));
        }
        // (x · clip(x + 3, 0, 6)) / 6
        let (product, factor) = patterns.scaled(node.output())?;
        let factors = patterns.factors(patterns.made_by(product, "Mul")?)?;
        let is_swish = |&(value, clip): &(&str, &str)| {
            clipped(patterns, clip)
                .is_some_and(|(inner, shift, limit)| inner == value && shift == 3.0 && limit == 6.0)
        };
        let (value, _) = factors.into_iter().find(is_swish)?;
        is_near(factor, 1.0 / 6.0).then(|| instead(node, "HardSwish", value))
    });
    Ok(())
}

/// `clip(value + shift, 0, limit)`.
fn clipped<'a>(patterns: &Patterns<'a>, clip: &str) -> Option<(&'a str, f32, f32)> {
    let node = patterns.made_by(clip, "Clip")?;
    let (value, shift) = patterns.shifted(node.input(0)?)?;
    let limit = node.float_or("max", 0.0).ok()?;
    (node.float_or("min", 1.0).ok()? == 0.0).then_some((value, shift, limit))
}

/// Whether `gate` is the hard-sigmoid of hard-swish, of `value`.
fn is_gate_of(patterns: &Patterns<'_>, value: &str, gate: &str) -> bool {
    let Some(node) = patterns.made_by(gate, "HardSigmoid") else {
        return false;
    };
    let is = |key: &str, otherwise: f32, wanted: f32| {
        node.float_or(key, otherwise)
            .is_ok_and(|found| is_near(found, wanted))
    };
    node.input(0) == Some(value) && is("alpha", 0.2, 1.0 / 6.0) && is("beta", 0.5, 0.5)
}

/// For tests of other rewrites: whether a node is one of these.
#[cfg(test)]
pub(super) fn ops(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().map(|node| node.op.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constant::Constant;
    use crate::rewrite::clip;

    fn rewritten(nodes: Vec<Node>) -> Vec<Node> {
        let number =
            |name: &str, value: f32| (name.to_owned(), Constant::float(vec![], vec![value]));
        let mut model = Model {
            input: "x".into(),
            output: "y".into(),
            nodes,
            constants: [
                number("0", 0.0),
                number("3", 3.0),
                number("6", 6.0),
                number("5", 5.0),
                number("1/6", 1.0 / 6.0),
            ]
            .into(),
            ..Model::default()
        };
        clip::rewrite(&mut model).unwrap();
        rewrite(&mut model).unwrap();
        model.prune();
        model.nodes
    }

    fn gate() -> Vec<Node> {
        vec![
            Node::new("add", "Add", &["x", "3"], "a"),
            Node::new("clip", "Clip", &["a", "0", "6"], "b"),
        ]
    }

    #[test]
    fn the_parts_of_hard_swish_are_found_in_every_order() {
        for tail in [
            [
                Node::new("div", "Div", &["b", "6"], "c"),
                Node::new("mul", "Mul", &["x", "c"], "y"),
            ],
            [
                Node::new("mul", "Mul", &["b", "1/6"], "c"),
                Node::new("mul2", "Mul", &["c", "x"], "y"),
            ],
            [
                Node::new("mul", "Mul", &["x", "b"], "c"),
                Node::new("div", "Div", &["c", "6"], "y"),
            ],
        ] {
            let nodes = rewritten([gate(), tail.to_vec()].concat());
            assert_eq!(ops(&nodes), ["HardSwish"]);
            assert_eq!(nodes[0].inputs, ["x"]);
        }
    }

    #[test]
    fn other_slopes_and_other_limits_are_not_hard_swish() {
        // Paddle's slope is 0.2.
        let gate_of_paddle =
            Node::new("gate", "HardSigmoid", &["x"], "a").with("alpha", Attribute::Float(0.2));
        let nodes = rewritten(vec![
            gate_of_paddle,
            Node::new("mul", "Mul", &["x", "a"], "y"),
        ]);
        assert_eq!(ops(&nodes), ["HardSigmoid", "Mul"]);
        let nodes = rewritten([gate(), vec![Node::new("div", "Div", &["b", "5"], "y")]].concat());
        assert_eq!(ops(&nodes), ["Add", "Clip", "Div"]);
        let nodes = rewritten([gate(), vec![Node::new("div", "Div", &["b", "6"], "y")]].concat());
        assert_eq!(ops(&nodes), ["HardSigmoid"]);
        assert!(is_near(nodes[0].float_or("beta", 0.0).unwrap(), 0.5));
    }
}
