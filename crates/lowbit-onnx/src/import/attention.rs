//! Attention: heads are the outer part of the channels, tokens the pixels.

use super::axes::{Axis, extents, factors, named};
use super::factors::{Factor, Part};
use super::{Importer, Value};
use crate::error::Fault;
use crate::model::Node;
use lowbit::graph::{Attention, Op};

/// What the axes of queries, keys or values are.
struct Roles {
    /// Parts of the channels, and of rows and columns, in the leading axes.
    heads: Vec<Factor>,
    groups: Vec<Factor>,
    tokens: Vec<Factor>,
}

/// The roles of a value's axes; none where its last axis but for the tokens is no part of the channels.
fn roles(value: &Value, tokens: usize, channels: usize) -> Option<Roles> {
    let of = |axis: usize| factors(value.axes[axis], value.dims[axis]);
    let leading: Vec<Factor> = (0..value.axes.len() - 2).flat_map(of).collect();
    let (heads, groups): (Vec<Factor>, Vec<Factor>) = leading
        .into_iter()
        .partition(|factor| factor.part == Part::Channel);
    let [_, _, c] = extents(&value.axes, &value.dims);
    let inner = of(channels);
    let is_inner = match inner[..] {
        [] => value.dims[channels] == 1,
        [only] => only.part == Part::Channel && only.step == 1,
        _ => false,
    };
    let is_outer = match heads[..] {
        [] => value.dims[channels] == c,
        [only] => only.step == value.dims[channels] && only.extent * only.step == c,
        _ => false,
    };
    let tokens = of(tokens);
    let are_pixels = tokens.iter().all(|factor| factor.part != Part::Channel);
    (is_inner && is_outer && are_pixels).then_some(Roles {
        heads,
        groups,
        tokens,
    })
}

/// The patch whose places the groups are.
fn patch(groups: &[Factor]) -> Option<[usize; 2]> {
    let mut patch = [1; 2];
    for factor in groups {
        let extent = &mut patch[factor.part as usize];
        if factor.step != 1 || *extent != 1 {
            return None;
        }
        *extent = factor.extent;
    }
    Some(patch)
}

/// ONNX's own operator, from opset 23 on: queries, keys and values `[N, heads, tokens, channels]`.
pub(super) fn of_onnx(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    if node.int_or("is_causal", 0)? != 0 || node.float_or("softcap", 0.0)? != 0.0 {
        return Err(node.wrong("only is_causal=0 and softcap=0 are supported"));
    }
    if (3..node.inputs.len()).any(|index| node.input(index).is_some()) {
        return Err(node.wrong("masks and keys of the past are not supported"));
    }
    let queries = importer.value(node, 0)?.dims;
    if queries.len() != 4 {
        return Err(node.wrong(format!(
            "its queries {queries:?} have no axis of heads: only 4 axes are supported"
        )));
    }
    let scale = 1.0 / (queries[3] as f32).sqrt();
    let scale = node.float_or("scale", scale)?;
    of_values(importer, node, scale, false)
}

/// The parts of attention, their keys turned already.
pub(super) fn of_parts(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let scale = node.float_or("scale", 1.0)?;
    of_values(importer, node, scale, true)
}

/// `softmax(scale · q · kᵀ) · v`.
fn of_values(
    importer: &mut Importer<'_>,
    node: &Node,
    scale: f32,
    turned: bool,
) -> Result<(), Fault> {
    let values: Vec<Value> = (0..3)
        .map(|index| importer.value(node, index))
        .collect::<Result<_, _>>()?;
    let [q, k, v] = &values[..] else {
        return Err(node.wrong("it lacks queries, keys or values"));
    };
    let rank = q.dims.len();
    let fail = |why: &str| {
        node.wrong(format!(
            "attention of {:?}, {:?} and {:?} {why}",
            q.dims, k.dims, v.dims
        ))
    };
    let is_alike = |other: &Value| {
        other.dims.len() == rank && rank >= 2 && other.dims[..rank - 2] == q.dims[..rank - 2]
    };
    if !is_alike(k) || !is_alike(v) {
        return Err(fail("that differ in heads is not supported"));
    }
    let (last, second) = (rank - 1, rank - 2);
    let of = |value: &Value, tokens: usize, channels: usize| {
        roles(value, tokens, channels)
            .ok_or_else(|| fail("whose heads are not parts of the channels is not supported"))
    };
    let [tokens, channels] = if turned {
        [last, second]
    } else {
        [second, last]
    };
    let (roles_q, roles_k) = (of(q, second, last)?, of(k, tokens, channels)?);
    let roles_v = of(v, second, last)?;
    if roles_k.tokens != roles_v.tokens {
        return Err(fail(
            "whose keys are not in the order of its values is not supported",
        ));
    }
    let heads = |roles: &Roles| roles.heads.first().map_or(1, |factor| factor.extent);
    let groups = patch(&roles_q.groups)
        .filter(|_| roles_q.groups == roles_k.groups && roles_q.groups == roles_v.groups)
        .filter(|_| {
            let is_one = |value: &Value| {
                let leading: usize = value.dims[..second].iter().product();
                let of = |roles: &[Factor]| roles.iter().map(|f| f.extent).product::<usize>();
                leading == of(&roles_q.groups) * of(&roles_q.heads)
            };
            is_one(q)
        });
    let Some(patch) = groups else {
        return Err(fail(
            "within windows is not supported: only among all pixels, or those at one place of patches",
        ));
    };
    if heads(&roles_q) != heads(&roles_k) || heads(&roles_q) != heads(&roles_v) {
        return Err(fail("that differ in heads is not supported"));
    }
    let attention = Attention {
        heads: heads(&roles_q),
        scale,
        patch,
    };
    let [rows, columns, _] = extents(&q.axes, &q.dims);
    let width = v.dims[last];
    let whole = [rows, columns, attention.heads * width];
    let shape = importer.shape(q).with_channels(whole[2]);
    let items = [q.item, k.item, v.item];
    let item = importer
        .draft
        .op(&node.name, Op::Attention(attention), &items, shape);
    let renamed = |axis: usize| -> Option<Axis> {
        if axis == last {
            let own = Factor {
                part: Part::Channel,
                extent: width,
                step: 1,
            };
            return named(vec![own], whole);
        }
        let own = factors(q.axes[axis], q.dims[axis]);
        if own.is_empty() {
            return Some(q.axes[axis]);
        }
        let moved = own.into_iter().map(|factor| match factor.part {
            Part::Channel => Factor {
                step: width,
                ..factor
            },
            Part::Row | Part::Column => factor,
        });
        named(moved.collect(), whole)
    };
    let axes: Option<Vec<Axis>> = (0..rank).map(renamed).collect();
    let axes = axes.ok_or_else(|| fail("is not supported"))?;
    importer.set(node, item, axes);
    Ok(())
}
