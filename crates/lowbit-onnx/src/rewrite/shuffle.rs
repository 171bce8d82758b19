//! Channel shuffle (ShuffleNet): a Reshape into groups, a Transpose of groups and their channels, a Reshape back.

use super::pattern::{Patterns, instead, replace_all};
use crate::error::Fault;
use crate::model::{Attribute, Model, Node};

pub(super) fn rewrite(model: &mut Model) -> Result<(), Fault> {
    let shapes = model.shapes.clone();
    let dims = |name: &str| shapes.get(name).map_or(&[][..], Vec::as_slice);
    replace_all(model, |patterns, node| {
        let (value, groups) = shuffled(patterns, node, dims)?;
        Some(instead(node, "ChannelShuffle", value).with("groups", Attribute::Int(groups as i64)))
    });
    Ok(())
}

fn shuffled<'a, 's>(
    patterns: &Patterns<'a>,
    node: &'a Node,
    dims: impl Fn(&str) -> &'s [usize],
) -> Option<(&'a str, usize)> {
    if node.op != "Reshape" {
        return None;
    }
    let transpose = patterns.made_by(node.input(0)?, "Transpose")?;
    let first = patterns.made_by(transpose.input(0)?, "Reshape")?;
    let value = first.input(0)?;
    if transpose.ints("perm").ok()? != Some(&[0, 2, 1, 3, 4]) {
        return None;
    }
    let (before, apart, after) = (dims(value), dims(first.output()), dims(node.output()));
    let &[1, groups, each, h, w] = apart else {
        return None;
    };
    let whole = [1, groups * each, h, w];
    (before == whole && after == whole).then_some((value, groups))
}

#[cfg(test)]
mod tests {
    use super::super::hard_swish::ops;
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn three_moves_become_one_shuffle_if_they_are_of_channels() {
        let model = |perm: &[i64]| {
            let shape = |name: &str, dims: &[usize]| (name.to_owned(), dims.to_vec());
            Model {
                input: "x".into(),
                output: "y".into(),
                nodes: vec![
                    Node::new("r", "Reshape", &["x", "s"], "a"),
                    Node::new("t", "Transpose", &["a"], "b")
                        .with("perm", Attribute::Ints(perm.to_vec())),
                    Node::new("q", "Reshape", &["b", "s"], "y"),
                ],
                shapes: HashMap::from([
                    shape("x", &[1, 6, 4, 4]),
                    shape("a", &[1, 2, 3, 4, 4]),
                    shape("y", &[1, 6, 4, 4]),
                ]),
                ..Model::default()
            }
        };
        let mut shuffle = model(&[0, 2, 1, 3, 4]);
        rewrite(&mut shuffle).unwrap();
        shuffle.prune();
        assert_eq!(ops(&shuffle.nodes), ["ChannelShuffle"]);
        assert_eq!(shuffle.nodes[0].int("groups").unwrap(), Some(2));
        let mut other = model(&[0, 1, 2, 4, 3]);
        rewrite(&mut other).unwrap();
        assert_eq!(other.nodes.len(), 3);
    }
}
