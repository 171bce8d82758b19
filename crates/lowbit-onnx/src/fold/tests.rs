//! What exporters write to compute shapes, folded for one image.

use super::{fold, fold_within};
use crate::constant::Constant;
use crate::model::{Attribute, Model, Node};
use std::collections::HashMap;

fn ints(values: &[i64]) -> Constant {
    Constant::int(vec![values.len()], values.to_vec())
}

fn model(nodes: Vec<Node>, constants: &[(&str, Constant)]) -> Model {
    Model {
        input: "x".into(),
        output: "y".into(),
        opset: 13,
        nodes,
        constants: constants
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        shapes: HashMap::from([("x".into(), vec![1, 8, 4, 4])]),
        ..Model::default()
    }
}

fn int(key: &str, value: i64) -> (&str, Attribute) {
    (key, Attribute::Int(value))
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) -> Node {
    attributes
        .iter()
        .fold(Node::new(op, op, inputs, output), |node, (key, value)| {
            node.with(key, value.clone())
        })
}

#[test]
fn the_shape_of_a_flatten_is_folded_to_one_reshape() {
    let nodes = vec![
        node("Shape", &["x"], "s", &[]),
        node("Gather", &["s", "zero"], "n", &[int("axis", 0)]),
        node("Unsqueeze", &["n", "axes"], "u", &[]),
        node("Concat", &["u", "rest"], "t", &[int("axis", 0)]),
        node("Reshape", &["x", "t"], "y", &[]),
    ];
    let scalar = Constant::int(vec![], vec![0]);
    let mut model = model(
        nodes,
        &[
            ("zero", scalar),
            ("axes", ints(&[0])),
            ("rest", ints(&[-1])),
        ],
    );
    fold(&mut model).unwrap();
    assert_eq!(model.nodes.len(), 1);
    assert_eq!(model.shape("y"), [1, 128]);
    assert_eq!(model.constants["t"], ints(&[1, -1]));
}

#[test]
fn pads_that_are_turned_around_are_folded() {
    // TorchScript writes pads of the last axis first, and turns them.
    let nodes = vec![
        node("Reshape", &["pads", "pairs"], "p", &[]),
        node("Slice", &["p", "starts", "ends", "axes", "steps"], "q", &[]),
        node(
            "Transpose",
            &["q"],
            "t",
            &[("perm", Attribute::Ints(vec![1, 0]))],
        ),
        node("Reshape", &["t", "flat"], "r", &[]),
        node("Cast", &["r"], "c", &[int("to", 7)]),
        node(
            "Pad",
            &["x", "c"],
            "y",
            &[("mode", Attribute::Text("constant".into()))],
        ),
    ];
    let constants = [
        ("pads", ints(&[1, 2, 3, 4, 0, 0, 0, 0])),
        ("pairs", ints(&[-1, 2])),
        ("starts", ints(&[-1])),
        ("ends", ints(&[-9_223_372_036_854_775_807])),
        ("axes", ints(&[0])),
        ("steps", ints(&[-1])),
        ("flat", ints(&[-1])),
    ];
    let mut model = model(nodes, &constants);
    fold(&mut model).unwrap();
    assert_eq!(model.constants["c"], ints(&[0, 0, 3, 1, 0, 0, 4, 2]));
    assert_eq!(model.shape("y"), [1, 8, 4 + 3 + 4, 4 + 1 + 2]);
}

#[test]
fn arithmetic_on_sizes_is_that_of_onnx() {
    let number = |value: f32| Constant::float(vec![], vec![value]);
    let nodes = vec![
        node("Div", &["a", "b"], "d", &[]),
        node("Mod", &["a", "b"], "m", &[]),
        node("Clip", &["f", "zero", ""], "c", &[]),
        node("Cast", &["c"], "i", &[int("to", 7)]),
        node("Sum", &["d", "m", "i"], "s", &[]),
        node("Reshape", &["x", "s"], "y", &[]),
    ];
    let one = |value: i64| ints(&[value]);
    let mut model = model(
        nodes,
        &[
            ("a", one(-383)),
            ("b", one(3)),
            ("f", number(-0.5)),
            ("zero", number(0.0)),
        ],
    );
    // −127 + 1 + 0: ONNX divides towards zero, and its remainder has the divisor's sign.
    let error = fold(&mut model).unwrap_err().to_string();
    assert!(error.contains("[-126]"), "{error}");
}

#[test]
fn what_integers_stand_for_counts_among_the_constants_that_are_made() {
    let nodes = |op: &str| {
        vec![
            node(op, &["w", "s"], "r", &[]),
            node("Add", &["x", "r"], "y", &[]),
        ]
    };
    for (op, w) in [
        ("DequantizeLinear", ints(&[1; 8])),
        ("QuantizeLinear", Constant::float(vec![8], vec![1.0; 8])),
    ] {
        let scale = Constant::float(vec![], vec![0.5]);
        let mut model = model(nodes(op), &[("w", w), ("s", scale)]);
        let shape = vec![1, 8, 4, 8];
        model.shapes.insert("x".into(), shape);
        let error = fold_within(&mut model.clone(), 7).unwrap_err().to_string();
        assert!(
            error.contains(op) && error.contains("more than 7 elements"),
            "{error}"
        );
        fold_within(&mut model, 8).unwrap();
    }
}
