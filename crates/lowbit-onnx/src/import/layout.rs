//! Operators that move no data here: they rename axes, take some together or apart.

use super::axes::{Axis, extents, regroup};
use super::{Importer, Value};
use crate::error::Fault;
use crate::fold::order_of;
use crate::model::Node;
use lowbit::Shape;
use lowbit::graph::Op;

pub(super) fn transpose(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.framed(node, 0)?;
    let order = order_of(node, value.axes.len())?;
    let turned = Value {
        axes: order.iter().map(|&axis| value.axes[axis]).collect(),
        dims: order.iter().map(|&axis| value.dims[axis]).collect(),
        ..value
    };
    importer.set_framed(node, turned);
    Ok(())
}

/// Reshape, Flatten, Squeeze and Unsqueeze: the elements keep their order.
pub(super) fn reshape(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.value(node, 0)?;
    let to = importer.model.shape(node.output()).to_vec();
    if let Some(image) = importer.parted(node, &value, &to) {
        importer.set(node, image.item, image.axes);
        return Ok(());
    }
    let Some(axes) = regroup(&value.axes, &value.dims, &to) else {
        return Err(node.wrong(format!(
            "it makes {to:?} of {:?}: only images that become vectors, tokens, heads or patches of them, and back, are supported",
            value.dims
        )));
    };
    let [rows, columns, channels] = extents(&axes, &to);
    if importer.shape(&value).is_vector() && rows * columns > 1 {
        // A flattened image becomes one again: its elements lie as they lay.
        let image = Shape::new(rows, columns, channels);
        if image.len() != importer.shape(&value).len() {
            return Err(node.wrong(format!("it makes the image {to:?} of a part of a vector")));
        }
        let item = importer.reshaped(node, value.item, image);
        importer.set(node, item, axes);
        return Ok(());
    }
    let flattens = !importer.shape(&value).is_vector()
        && !axes
            .iter()
            .any(|axis| matches!(axis, Axis::Row | Axis::Column | Axis::Mixed(_)));
    if !flattens {
        importer.set(node, value.item, axes);
        return Ok(());
    }
    let len = importer.shape(&value).len();
    let item = importer
        .draft
        .op(&node.name, Op::Flatten, &[value.item], Shape::vector(len));
    importer.set(node, item, axes);
    Ok(())
}
