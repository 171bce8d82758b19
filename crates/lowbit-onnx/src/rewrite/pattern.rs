//! What rewrites look for: nodes by what they compute, numbers among constants.

use crate::model::{Model, Node};
use std::collections::HashMap;

/// A model with an index of who computes and who reads what.
pub(super) struct Patterns<'a> {
    model: &'a Model,
    makers: HashMap<&'a str, usize>,
    readers: HashMap<&'a str, usize>,
}

impl<'a> Patterns<'a> {
    pub(super) fn of(model: &'a Model) -> Self {
        Self {
            model,
            makers: model.makers(),
            readers: model.readers(),
        }
    }

    /// The node of operator `op` that computes `value`.
    pub(super) fn made_by(&self, value: &str, op: &str) -> Option<&'a Node> {
        let node = &self.model.nodes[*self.makers.get(value)?];
        (node.op == op).then_some(node)
    }

    /// Whether `value` is read once.
    pub(super) fn is_read_once(&self, value: &str) -> bool {
        self.readers.get(value) == Some(&1)
    }

    /// The only element of a constant of floats.
    pub(super) fn number(&self, name: &str) -> Option<f32> {
        self.model.constants.get(name)?.scalar()
    }

    /// The two inputs of a node that has two.
    pub(super) fn pair(&self, node: &'a Node) -> Option<[&'a str; 2]> {
        match &node.inputs[..] {
            [a, b] => Some([a, b]),
            _ => None,
        }
    }

    /// `value ∘ number` for a node of two inputs: the value and the number, whichever way round where that is the same.
    pub(super) fn with_number(&self, node: &'a Node) -> Option<(&'a str, f32)> {
        let [a, b] = self.pair(node)?;
        match (self.number(a), self.number(b)) {
            (None, Some(number)) => Some((a, number)),
            (Some(number), None) if matches!(node.op.as_str(), "Add" | "Mul" | "Max" | "Min") => {
                Some((b, number))
            }
            _ => None,
        }
    }

    /// `value · number` or `value / number`, as the value and the factor.
    pub(super) fn scaled(&self, value: &str) -> Option<(&'a str, f32)> {
        let node = &self.model.nodes[*self.makers.get(value)?];
        let (inner, number) = self.with_number(node)?;
        match node.op.as_str() {
            "Mul" => Some((inner, number)),
            "Div" => Some((inner, 1.0 / number)),
            _ => None,
        }
    }

    /// `value + number`.
    pub(super) fn shifted(&self, value: &str) -> Option<(&'a str, f32)> {
        self.with_number(self.made_by(value, "Add")?)
    }

    /// For a product of two values, both with the other.
    pub(super) fn factors(&self, node: &'a Node) -> Option<[(&'a str, &'a str); 2]> {
        if node.op != "Mul" {
            return None;
        }
        let [a, b] = self.pair(node)?;
        Some([(a, b), (b, a)])
    }
}

/// Whether two numbers are equal but for the rounding of an exporter.
pub(super) fn is_near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-6 * b.abs().max(1e-3)
}

/// Replaces each node by what `find` makes of it. What is found is looked for in the model as it was: every replacement
/// computes what its node did, so that they do not get in each other's way.
pub(super) fn replace_all(
    model: &mut Model,
    find: impl for<'a> Fn(&Patterns<'a>, &'a Node) -> Option<Node>,
) {
    let patterns = Patterns::of(model);
    let found: Vec<Option<Node>> = model
        .nodes
        .iter()
        .map(|node| find(&patterns, node))
        .collect();
    for (node, found) in model.nodes.iter_mut().zip(found) {
        if let Some(found) = found {
            *node = found;
        }
    }
}

/// The node that computes the result of `node` instead of it.
pub(super) fn instead(node: &Node, op: &str, input: &str) -> Node {
    Node::new(&node.name, op, &[input], node.output())
}
