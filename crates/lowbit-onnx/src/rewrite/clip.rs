//! Clip, Max and Min with numbers, one behind the other: one Clip with attributes, or a Relu.

use super::pattern::{Patterns, instead, replace_all};
use crate::constant::Constant;
use crate::error::Fault;
use crate::model::{Attribute, Model, Node};

pub(super) fn rewrite(model: &mut Model) -> Result<(), Fault> {
    for node in &model.nodes {
        // Limits that are computed from the image are not supported.
        let limit = |index: usize| {
            let one = |constant: &Constant| constant.scalar().is_some();
            node.op != "Clip"
                || node
                    .input(index)
                    .is_none_or(|_| model.constant(node, index).is_some_and(one))
        };
        if !limit(1) || !limit(2) {
            return Err(node.wrong("only limits that are constants of one float are supported"));
        }
    }
    replace_all(model, |patterns, node| {
        let (mut value, mut limits) = clips(patterns, node)?;
        // What is read elsewhere too stays.
        while patterns.is_read_once(value)
            && let Some((inner, first)) = maker(patterns, value)
        {
            limits = [
                first[0].max(limits[0]).min(limits[1]),
                first[1].min(limits[1]).max(limits[0]),
            ];
            value = inner;
        }
        let [min, max] = limits;
        if min == 0.0 && max == f32::INFINITY {
            return (node.op != "Relu").then(|| instead(node, "Relu", value));
        }
        let clip = instead(node, "Clip", value);
        Some(
            clip.with("min", Attribute::Float(min))
                .with("max", Attribute::Float(max)),
        )
    });
    Ok(())
}

fn maker<'a>(patterns: &Patterns<'a>, value: &str) -> Option<(&'a str, [f32; 2])> {
    ["Clip", "Relu", "Max", "Min"]
        .iter()
        .find_map(|op| clips(patterns, patterns.made_by(value, op)?))
}

/// What a node clips, and to which limits.
fn clips<'a>(patterns: &Patterns<'a>, node: &'a Node) -> Option<(&'a str, [f32; 2])> {
    let value = node.input(0)?;
    match node.op.as_str() {
        "Relu" => Some((value, [0.0, f32::INFINITY])),
        "Max" | "Min" => {
            let (value, number) = patterns.with_number(node)?;
            let limits = if node.op == "Max" {
                [number, f32::INFINITY]
            } else {
                [f32::NEG_INFINITY, number]
            };
            Some((value, limits))
        }
        "Clip" => {
            let limit = |key: &str, index: usize, open: f32| match node.input(index) {
                Some(name) => patterns.number(name),
                None => node.float_or(key, open).ok(),
            };
            let largest = |x: f32| {
                if x.abs() >= f32::MAX {
                    x.signum() * f32::INFINITY
                } else {
                    x
                }
            };
            let min = limit("min", 1, f32::NEG_INFINITY)?;
            let max = limit("max", 2, f32::INFINITY)?;
            Some((value, [largest(min), largest(max)]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constant::Constant;

    fn model(nodes: Vec<Node>) -> Model {
        let number =
            |name: &str, value: f32| (name.to_owned(), Constant::float(vec![], vec![value]));
        Model {
            input: "x".into(),
            output: "y".into(),
            nodes,
            constants: [number("zero", 0.0), number("six", 6.0), number("two", 2.0)].into(),
            ..Model::default()
        }
    }

    fn rewritten(nodes: Vec<Node>) -> Node {
        let mut model = model(nodes);
        rewrite(&mut model).unwrap();
        model.prune();
        assert_eq!(model.nodes.len(), 1);
        model.nodes[0].clone()
    }

    #[test]
    fn limits_that_follow_each_other_become_one_clip() {
        let clip = rewritten(vec![
            Node::new("relu", "Relu", &["x"], "a"),
            Node::new("min", "Min", &["six", "a"], "y"),
        ]);
        assert_eq!((clip.op.as_str(), clip.input(0)), ("Clip", Some("x")));
        assert_eq!(
            [
                clip.float_or("min", 9.0).unwrap(),
                clip.float_or("max", 9.0).unwrap()
            ],
            [0.0, 6.0]
        );
        let relu = rewritten(vec![Node::new("clip", "Clip", &["x", "zero", ""], "y")]);
        assert_eq!((relu.op.as_str(), relu.inputs.len()), ("Relu", 1));
        let old = Node::new("clip", "Clip", &["x"], "y").with("min", Attribute::Float(0.0));
        assert_eq!(
            rewritten(vec![old.with("max", Attribute::Float(f32::MAX))]).op,
            "Relu"
        );
        // Above 2 first, then below 0 … : everything is 2 then 0.
        let empty = rewritten(vec![
            Node::new("max", "Max", &["x", "two"], "a"),
            Node::new("clip", "Clip", &["a", "", "zero"], "y"),
        ]);
        assert_eq!(
            [
                empty.float_or("min", 9.0).unwrap(),
                empty.float_or("max", 9.0).unwrap()
            ],
            [0.0, 0.0]
        );
    }

    #[test]
    fn a_clip_that_is_read_twice_stays() {
        let mut whole = model(vec![
            Node::new("relu", "Relu", &["x"], "a"),
            Node::new("min", "Min", &["six", "a"], "b"),
            Node::new("add", "Add", &["a", "b"], "y"),
        ]);
        rewrite(&mut whole).unwrap();
        assert_eq!(whole.nodes[1].inputs, ["a"]);
        assert_eq!(whole.nodes[0].op, "Relu");
    }
}
