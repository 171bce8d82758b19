//! SiLU from its parts: `x · sigmoid(x)`.

use super::pattern::{instead, replace_all};
use crate::error::Fault;
use crate::model::Model;

pub(super) fn rewrite(model: &mut Model) -> Result<(), Fault> {
    replace_all(model, |patterns, node| {
        let is_gate = |&(value, gate): &(&str, &str)| {
            patterns
                .made_by(gate, "Sigmoid")
                .is_some_and(|sigmoid| sigmoid.input(0) == Some(value))
        };
        let (value, _) = patterns.factors(node)?.into_iter().find(is_gate)?;
        Some(instead(node, "Swish", value))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::hard_swish::ops;
    use super::*;
    use crate::model::Node;

    #[test]
    fn only_a_product_with_its_own_sigmoid_is_silu() {
        let model = |inputs: &[&str]| Model {
            input: "x".into(),
            output: "y".into(),
            nodes: vec![
                Node::new("s", "Sigmoid", &["x"], "a"),
                Node::new("m", "Mul", inputs, "y"),
            ],
            ..Model::default()
        };
        for inputs in [["x", "a"], ["a", "x"]] {
            let mut model = model(&inputs);
            rewrite(&mut model).unwrap();
            model.prune();
            assert_eq!(ops(&model.nodes), ["Swish"]);
        }
        let mut other = model(&["a", "z"]);
        rewrite(&mut other).unwrap();
        assert_eq!(ops(&other.nodes), ["Sigmoid", "Mul"]);
    }
}
