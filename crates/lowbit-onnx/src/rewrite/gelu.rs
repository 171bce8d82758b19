//! GELU from its parts: `x · ½ · (1 + erf(x / √2))`, in the orders that exporters write.

use super::pattern::{Patterns, instead, is_near, replace_all};
use crate::error::Fault;
use crate::model::Model;
use std::f32::consts::FRAC_1_SQRT_2;

pub(super) fn rewrite(model: &mut Model) -> Result<(), Fault> {
    replace_all(model, |patterns, node| {
        // The product of everything that is multiplied here, however it is bracketed: x, ½ and 1 + erf.
        let mut rest = vec![node.output()];
        let mut leaves = Vec::new();
        let mut factor = 1.0;
        for depth in 0.. {
            let Some(value) = rest.pop() else {
                break;
            };
            if depth > 4 {
                return None;
            }
            match patterns
                .made_by(value, "Mul")
                .and_then(|mul| patterns.pair(mul))
            {
                Some(pair) if value == node.output() || patterns.is_read_once(value) => {
                    for input in pair {
                        match patterns.number(input) {
                            Some(number) => factor *= number,
                            None => rest.push(input),
                        }
                    }
                }
                _ => leaves.push(value),
            }
        }
        let &[a, b] = &leaves[..] else {
            return None;
        };
        let value = [(a, b), (b, a)]
            .into_iter()
            .find(|&(value, gate)| is_gate(patterns, value, gate))?
            .0;
        is_near(factor, 0.5).then(|| instead(node, "Gelu", value))
    });
    Ok(())
}

/// Whether `gate` is `1 + erf(value / √2)`.
fn is_gate(patterns: &Patterns<'_>, value: &str, gate: &str) -> bool {
    let inner = || {
        let (erf, one) = patterns.shifted(gate)?;
        let (inner, scale) = patterns.scaled(patterns.made_by(erf, "Erf")?.input(0)?)?;
        Some(inner == value && one == 1.0 && is_near(scale, FRAC_1_SQRT_2))
    };
    inner().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::super::hard_swish::ops;
    use super::*;
    use crate::constant::Constant;
    use crate::model::Node;

    fn rewritten(tail: &[(&str, &str, &str)]) -> Vec<Node> {
        let number =
            |name: &str, value: f32| (name.to_owned(), Constant::float(vec![], vec![value]));
        let mut nodes = vec![
            Node::new("div", "Div", &["x", "r"], "a"),
            Node::new("erf", "Erf", &["a"], "b"),
            Node::new("add", "Add", &["b", "1"], "c"),
        ];
        nodes.extend(tail.iter().map(|(a, b, y)| Node::new(y, "Mul", &[a, b], y)));
        let mut model = Model {
            input: "x".into(),
            output: "y".into(),
            nodes,
            constants: [
                number("r", 2f32.sqrt()),
                number("1", 1.0),
                number("h", 0.5),
                number("q", 0.25),
            ]
            .into(),
            ..Model::default()
        };
        rewrite(&mut model).unwrap();
        model.prune();
        model.nodes
    }

    #[test]
    fn the_parts_of_gelu_are_found_in_every_order() {
        for tail in [
            [("x", "c", "d"), ("d", "h", "y")],
            [("x", "h", "d"), ("d", "c", "y")],
            [("h", "c", "d"), ("x", "d", "y")],
        ] {
            let nodes = rewritten(&tail);
            assert_eq!(ops(&nodes), ["Gelu"], "{tail:?}");
            assert_eq!(nodes[0].inputs, ["x"]);
        }
        assert!(!ops(&rewritten(&[("x", "c", "d"), ("d", "q", "y")])).contains(&"Gelu"));
    }
}
