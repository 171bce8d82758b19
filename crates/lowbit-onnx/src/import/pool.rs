//! Pools and means over space.

use super::Importer;
use super::axes::{Axis, NCHW, extents, is_pixels};
use super::pad::{must_be_least, must_be_zero, widened};
use crate::error::Fault;
use crate::fold::axes_of;
use crate::model::Node;
use crate::window::Window;
use lowbit::Shape;
use lowbit::graph::{AvgPool, MaxPool, Op};

pub(super) fn max_pool(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.image(node, 0)?;
    must_be_least(importer, node, &value)?;
    let size = value.size();
    let window = Window::of(node, size, None)?;
    if window.dilation != [1, 1] {
        return Err(node.wrong(format!(
            "dilations {:?}: only 1 is supported",
            window.dilation
        )));
    }
    let window = window
        .with_ceil(size)
        .map_err(|reason| node.wrong(reason))?;
    let window = widened(window, &value);
    let pool = MaxPool {
        kernel: window.kernel,
        stride: window.stride,
        padding: window.pads,
    };
    place(importer, node, Op::MaxPool(pool), value.item)
}

pub(super) fn global_max_pool(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.bare_image(node)?;
    let size = [value.dims[2], value.dims[3]];
    let pool = MaxPool {
        kernel: size,
        stride: size,
        padding: [0; 4],
    };
    place(importer, node, Op::MaxPool(pool), value.item)
}

pub(super) fn average_pool(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.image(node, 0)?;
    must_be_zero(node, &value)?;
    let size = value.size();
    let window = Window::of(node, size, None)?;
    if window.dilation != [1, 1] {
        return Err(node.wrong(format!(
            "dilations {:?}: only 1 is supported",
            window.dilation
        )));
    }
    let explicit = window
        .with_ceil(size)
        .map_err(|reason| node.wrong(reason))?;
    let counts_pads = node.int_or("count_include_pad", 0)? != 0;
    let own = if counts_pads { window.pads } else { [0; 4] };
    // What a Pad put there counts always.
    let around = value.pads();
    let outside = (0..4).any(|side| around[side] > 0 && own[side] < window.pads[side]);
    if outside {
        return Err(
            node.wrong("it reads an image with padding that counts, and adds some that does not")
        );
    }
    let pool = AvgPool {
        kernel: explicit.kernel,
        stride: explicit.stride,
        padding: widened(explicit, &value).pads,
        counted_padding: std::array::from_fn(|side| own[side] + around[side]),
    };
    place(importer, node, Op::AvgPool(pool), value.item)
}

pub(super) fn global_average_pool(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.bare_image(node)?;
    place(importer, node, Op::GlobalAvgPool, value.item)
}

/// A mean over rows and columns, wherever they stand.
pub(super) fn reduce_mean(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.value(node, 0)?;
    let rank = value.axes.len();
    if node.int_or("noop_with_empty_axes", 0)? != 0 {
        return Err(node.wrong("noop_with_empty_axes=1 is not supported"));
    }
    let axes = axes_of(importer.model, node, rank)?.unwrap_or_else(|| (0..rank).collect());
    let whole = extents(&value.axes, &value.dims);
    let is_space = |axis: usize| {
        matches!(value.axes[axis], Axis::Row | Axis::Column)
            || is_pixels(value.axes[axis], value.dims[axis], whole)
    };
    let counts = |axis: usize| value.dims[axis] > 1;
    let is_global = (0..rank).all(|axis| !counts(axis) || is_space(axis) == axes.contains(&axis));
    if !is_global {
        return Err(node.wrong(format!(
            "it takes the mean of {:?} over axes {axes:?}: only that over all rows and columns is supported",
            value.dims
        )));
    }
    let keeps = node.int_or("keepdims", 1)? != 0;
    let renamed = (0..rank).filter_map(|axis| match axes.contains(&axis) {
        true => keeps.then_some(Axis::One),
        false => Some(value.axes[axis]),
    });
    let renamed = renamed.collect();
    let shape = Shape::new(1, 1, importer.shape(&value).c());
    let item = importer
        .draft
        .op(&node.name, Op::GlobalAvgPool, &[value.item], shape);
    importer.set(node, item, renamed);
    Ok(())
}

/// lowbit's shape of a node's result, an image.
fn result(importer: &Importer<'_>, node: &Node) -> Shape {
    let dims = importer.model.shape(node.output());
    Shape::new(dims[2], dims[3], dims[1])
}

fn place(importer: &mut Importer<'_>, node: &Node, op: Op, from: usize) -> Result<(), Fault> {
    let shape = result(importer, node);
    let item = importer.draft.op(&node.name, op, &[from], shape);
    importer.set(node, item, NCHW.to_vec());
    Ok(())
}
