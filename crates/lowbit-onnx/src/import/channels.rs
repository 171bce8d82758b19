//! Operators that take channels apart and together.

use super::axes::{Axis, matches};
use super::tokens::prefix;
use super::{Importer, Value};
use crate::error::Fault;
use crate::fold::{axis_of, sizes_of, slice_of};
use crate::model::Node;
use lowbit::Shape;
use lowbit::graph::{ChannelShuffle, Op};

/// Refuses where an axis is not that of the channels.
fn must_be_channels(node: &Node, value: &Value, axis: usize) -> Result<(), Fault> {
    match value.axes[axis] == Axis::Channel {
        true => Ok(()),
        false => Err(node.wrong(format!(
            "axis {axis} of {:?} is not that of the channels: only that is supported",
            value.dims
        ))),
    }
}

pub(super) fn concat(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let count = node.inputs.len();
    if count > 1 && (0..count - 1).all(|index| importer.constant(node, index).is_some()) {
        let rank = importer.value(node, count - 1)?.dims.len();
        return prefix(importer, node, axis_of(node, rank, 0)?);
    }
    let values: Vec<Value> = (0..count)
        .map(|index| importer.value(node, index))
        .collect::<Result<_, _>>()?;
    let first = &values[0];
    let axis = axis_of(node, first.dims.len(), 0)?;
    let mut channels = 0;
    let mut like = first.axes.clone();
    like[axis] = Axis::Channel;
    for value in &values {
        // Of one channel the axis has no name.
        if value.dims[axis] != 1 {
            must_be_channels(node, value, axis)?;
        }
        if !matches(&value.axes, &value.dims, &like) {
            return Err(node.wrong("it joins values whose axes are in different orders"));
        }
        channels += value.dims[axis];
    }
    let shape = importer.shape(first).with_channels(channels);
    // A vector and an image of one pixel are alike in memory.
    let is_mixed = values
        .iter()
        .any(|value| importer.shape(value).rank() != shape.rank());
    let shape = if is_mixed {
        Shape::vector(channels)
    } else {
        shape
    };
    let items: Vec<usize> = values
        .iter()
        .map(|value| {
            let own = importer.shape(value);
            match is_mixed && own.rank() != 1 {
                true => importer.draft.op(
                    &node.name,
                    Op::Flatten,
                    &[value.item],
                    Shape::vector(own.len()),
                ),
                false => value.item,
            }
        })
        .collect();
    let item = importer.draft.op(&node.name, Op::Concat, &items, shape);
    importer.set(node, item, like);
    Ok(())
}

pub(super) fn shuffle(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.bare_image(node)?;
    let groups = node.int_or("groups", 1)?.max(1) as usize;
    must_be_channels(node, &value, 1)?;
    let op = Op::ChannelShuffle(ChannelShuffle { groups });
    let shape = importer.shape(&value);
    let item = importer.draft.op(&node.name, op, &[value.item], shape);
    importer.set(node, item, value.axes);
    Ok(())
}

pub(super) fn split(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.value(node, 0)?;
    let (axis, sizes) = sizes_of(importer.model, node, &value.dims)?;
    let mut first = 0;
    for (index, len) in sizes.into_iter().enumerate() {
        let kept = importer.narrowed(node, &value, axis, [first, len])?;
        importer.set_output(node, index, kept.item, kept.axes);
        first += len;
    }
    Ok(())
}

pub(super) fn slice(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let mut value = importer.value(node, 0)?;
    let parts = slice_of(importer.model, node)?;
    for (axis, range) in parts.iter().enumerate() {
        let is_whole = range.start == 0 && range.step == 1 && range.len == value.dims[axis];
        if is_whole {
            continue;
        }
        if range.step != 1 || range.len == 0 {
            return Err(node.wrong(format!(
                "it takes every {}th index of axis {axis}: only neighbors are supported",
                range.step
            )));
        }
        value = importer.narrowed(node, &value, axis, [range.start, range.len])?;
    }
    importer.set(node, value.item, value.axes);
    Ok(())
}

/// Softmax over the channels, within a model.
pub(super) fn softmax(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.value(node, 0)?;
    let old = importer.model.opset < 13;
    let axis = axis_of(node, value.dims.len(), if old { 1 } else { -1 })?;
    // Before opset 13 it is over all axes from that one on.
    if old && value.dims[axis + 1..].iter().any(|&dim| dim > 1) {
        return Err(node.wrong(format!(
            "it is over all of {:?} from axis {axis} on: export with opset 13",
            value.dims
        )));
    }
    must_be_channels(node, &value, axis)?;
    importer.unary(node, Op::Softmax)
}
