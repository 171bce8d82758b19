//! Pad: what it puts around an image is left to the convolution or pool that reads it.

use super::axes::Axis;
use super::tokens::padded;
use super::{Frame, Importer, Value};
use crate::draft::Work;
use crate::error::Fault;
use crate::fold::pads_of;
use crate::model::Node;
use crate::window::Window;
use lowbit::graph::{Op, Unary};

pub(super) fn pad(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let mut value = importer.framed(node, 0)?;
    // Pixels that became one row.
    let is_mixed = value.axes.iter().any(|axis| matches!(axis, Axis::Mixed(_)));
    if is_mixed && let Some(image) = importer.unfolded(node, &value) {
        value = image;
    }
    let mode = node.text("mode")?.unwrap_or("constant");
    if mode != "constant" {
        return Err(node.wrong(format!("mode={mode}: only constant is supported")));
    }
    let filling = match node.input(2) {
        None => node.float_or("value", 0.0)?,
        Some(name) => importer
            .model
            .constants
            .get(name)
            .and_then(crate::constant::Constant::scalar)
            .ok_or_else(|| node.wrong("its value is no constant number"))?,
    };
    let around = pads_of(importer.model, node, value.dims.len())?;
    let mut pads = value.frame.map_or([0; 4], |frame| frame.pads);
    for (axis, [before, after]) in around.into_iter().enumerate() {
        let first = match value.axes[axis] {
            Axis::Row => 0,
            Axis::Column => 1,
            _ if [before, after] == [0, 0] => continue,
            _ => {
                return Err(node.wrong(format!(
                    "it pads axis {axis} of {:?}: only rows and columns are supported",
                    value.dims
                )));
            }
        };
        for (place, pad) in [(first, before), (first + 2, after)] {
            pads[place] += usize::try_from(pad).map_err(|_| {
                node.wrong("it cuts off rows or columns: only padding is supported")
            })?;
        }
    }
    if value.frame.is_some_and(|frame| frame.value != filling) {
        return Err(node.wrong("it pads what is padded with another value"));
    }
    let is_left = matches!(pads, [0, left, 0, 0] if left > 0) && importer.shape(&value).h() == 1;
    if is_left && filling == 0.0 && !is_read_by_windows(importer, node) {
        padded(
            importer,
            node,
            &Value {
                frame: None,
                ..value
            },
            pads[1],
        );
        return Ok(());
    }
    let frame = match pads {
        [0, 0, 0, 0] => None,
        pads => Some(Frame {
            pads,
            value: filling,
        }),
    };
    importer.set_framed(node, Value { frame, ..value });
    Ok(())
}

/// Whether a convolution or a pool reads a node's result, or what pads it further.
fn is_read_by_windows(importer: &Importer<'_>, node: &Node) -> bool {
    let reads = |reader: &&Node| reader.inputs.iter().any(|input| input == node.output());
    let mut readers = importer.model.nodes.iter().filter(reads);
    readers.any(|reader| matches!(&reader.op[..], "Conv" | "AveragePool" | "MaxPool" | "Pad"))
}

impl Value {
    /// Rows and columns with what is around them.
    pub(super) fn size(&self) -> [usize; 2] {
        let [top, left, bottom, right] = self.frame.map_or([0; 4], |frame| frame.pads);
        [self.dims[2] + top + bottom, self.dims[3] + left + right]
    }

    /// What is around it.
    pub(super) fn pads(&self) -> [usize; 4] {
        self.frame.map_or([0; 4], |frame| frame.pads)
    }
}

/// A window with an image's frame added to its own pads.
pub(super) fn widened(window: Window, value: &Value) -> Window {
    let pads = value.pads();
    Window {
        pads: std::array::from_fn(|side| window.pads[side] + pads[side]),
        ..window
    }
}

/// Whether the frame holds zeros, as the padding of convolutions does.
pub(super) fn must_be_zero(node: &Node, value: &Value) -> Result<(), Fault> {
    match value.frame {
        Some(frame) if frame.value != 0.0 => Err(node.wrong(format!(
            "it reads an image padded with {}: only 0 is supported",
            frame.value
        ))),
        _ => Ok(()),
    }
}

/// Whether the frame can never be the largest of a window.
pub(super) fn must_be_least(
    importer: &Importer<'_>,
    node: &Node,
    value: &Value,
) -> Result<(), Fault> {
    let Some(frame) = value.frame else {
        return Ok(());
    };
    let items = &importer.draft.items;
    let from = match items[value.item].work {
        Work::Grid(_) => items[value.item].inputs[0],
        _ => value.item,
    };
    let is_positive = match items[from].work {
        Work::Op(Op::Relu | Op::Sigmoid) => true,
        Work::Op(Op::Unary(Unary::Clip { min, .. })) => min >= 0.0,
        _ => false,
    };
    match frame.value == f32::NEG_INFINITY
        || frame.value <= f32::MIN
        || (frame.value <= 0.0 && is_positive)
    {
        true => Ok(()),
        false => Err(node.wrong(format!(
            "it reads an image padded with {}, which may be the largest",
            frame.value
        ))),
    }
}
