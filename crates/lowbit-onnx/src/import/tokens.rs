//! Values as tokens: pixels in one axis, channels in another, in the order that what reads them needs.

use super::axes::{Axis, NCHW, elements, extents, factors, is_pixels, matches, named, regroup};
use super::factors::{Factor, Part};
use super::{Importer, Value};
use crate::constant::Constant;
use crate::draft::{Item, Work};
use crate::error::Fault;
use crate::fold::axis_of;
use crate::model::Node;
use lowbit::Shape;
use lowbit::graph::{Op, Prefix, Reshape, Slice};

impl Importer<'_> {
    /// An operator over a value's elements as a vector, between reshapes.
    fn over_vector(&mut self, node: &Node, item: usize, shape: Shape, work: Work) -> usize {
        let from = self.draft.items[item].shape;
        let vector = Shape::vector(from.len());
        let flat = match from.rank() {
            1 => item,
            _ => self.draft.op(&node.name, Op::Flatten, &[item], vector),
        };
        let result = match &work {
            Work::Op(Op::Slice(slice)) => Shape::vector(slice.channels),
            _ => vector,
        };
        let item = self.draft.push(Item {
            name: node.name.clone(),
            work,
            inputs: vec![flat],
            weight: None,
            bias: None,
            codes: None,
            grid: None,
            shape: result,
        });
        match shape.rank() {
            1 => item,
            _ => self.reshaped(node, item, shape),
        }
    }

    /// Adds a step that takes an item's elements, in their order, for those of `shape`.
    pub(super) fn reshaped(&mut self, node: &Node, item: usize, shape: Shape) -> usize {
        let (h, w, c) = (shape.h(), shape.w(), shape.c());
        let reshape = Op::Reshape(Reshape { h, w, c });
        self.draft.op(&node.name, reshape, &[item], shape)
    }

    /// Adds `x · scale + shift`, a number for each element, in lowbit's order.
    fn affine_whole(
        &mut self,
        node: &Node,
        (value, name): (&Value, &str),
        scale: Vec<f64>,
        shift: Vec<f64>,
    ) {
        let shape = self.shape(value);
        // Of a constant behind a constant that nobody else reads, one is made.
        let before = self.draft.items[value.item].inputs.first().copied();
        // What moves nothing shares its item with what it reads.
        let maker = self.model.makers().get(name).copied();
        let is_own =
            maker.is_some_and(|maker| matches!(&self.model.nodes[maker].op[..], "Concat" | "Add"));
        let is_alone = is_own && self.model.readers().get(name) == Some(&1);
        if let (true, Some(before), Work::Op(Op::Reshape(_))) =
            (is_alone, before, &self.draft.items[value.item].work)
            && let Work::Affine {
                scale: first,
                shift: offset,
            } = &mut self.draft.items[before].work
            && first.len() == scale.len()
        {
            for i in 0..first.len() {
                offset[i] = offset[i] * scale[i] + shift[i];
                first[i] *= scale[i];
            }
            self.set(node, value.item, value.axes.clone());
            return;
        }
        let item = self.over_vector(node, value.item, shape, Work::Affine { scale, shift });
        self.set(node, item, value.axes.clone());
    }

    /// The value as an image of one row, where its pixels are one axis.
    fn tokens(&mut self, node: &Node, value: &Value) -> Option<Value> {
        let whole = extents(&value.axes, &value.dims);
        let [rows, columns, channels] = whole;
        let place = (0..value.axes.len())
            .find(|&i| value.dims[i] > 1 && is_pixels(value.axes[i], value.dims[i], whole))?;
        let mut result = value.clone();
        result.axes[place] = Axis::Column;
        if rows > 1 {
            let shape = Shape::new(1, rows * columns, channels);
            result.item = self.reshaped(node, value.item, shape);
        }
        Some(result)
    }

    /// The value with pixels as channels and channels as pixels, where each is one axis.
    pub(super) fn turned(&mut self, node: &Node, value: &Value) -> Option<Value> {
        let whole = extents(&value.axes, &value.dims);
        let [rows, columns, channels] = whole;
        let mut result = value.clone();
        let mut found = [false; 2];
        for (i, axis) in result.axes.iter_mut().enumerate() {
            if value.dims[i] == 1 {
                continue;
            }
            if is_pixels(*axis, value.dims[i], whole) {
                *axis = Axis::Channel;
                found[0] = true;
            } else if *axis == Axis::Channel {
                *axis = Axis::Column;
                found[1] = true;
            }
        }
        if found != [true; 2] {
            return None;
        }
        let shape = Shape::new(1, channels, rows * columns);
        result.item = self
            .draft
            .op(&node.name, Op::Transpose, &[value.item], shape);
        Some(result)
    }

    /// Two values with the same axes, one of them moved where it must be; none where that is not enough.
    pub(super) fn aligned(&mut self, node: &Node, a: &Value, b: &Value) -> Option<(Value, Value)> {
        if a.dims != b.dims {
            return None;
        }
        let (a, b) = (self.tokens(node, a)?, self.tokens(node, b)?);
        if matches(&a.axes, &a.dims, &b.axes) {
            return Some((a, b));
        }
        let b = self.turned(node, &b)?;
        matches(&a.axes, &a.dims, &b.axes).then_some((a, b))
    }

    /// An image of a value whose pixels are rows and columns again, in a shape of their own.
    pub(super) fn unfolded(&mut self, node: &Node, value: &Value) -> Option<Value> {
        let &[1, channels, rows, columns] = &value.dims[..] else {
            return None;
        };
        let whole = extents(&value.axes, &value.dims);
        let flat = [1, channels, rows * columns];
        let axes = regroup(&value.axes, &value.dims, &flat)?;
        let is_image = whole[2] == channels
            && (axes[1] == Axis::Channel || channels == 1)
            && is_pixels(axes[2], flat[2], whole);
        if !is_image || value.frame.is_some() {
            return None;
        }
        let item = self.reshaped(node, value.item, Shape::new(rows, columns, channels));
        Some(Value {
            item,
            axes: NCHW.to_vec(),
            ..value.clone()
        })
    }

    /// A vector under extents of which two or three are more than 1, as rows, columns and channels.
    pub(super) fn parted(&mut self, node: &Node, value: &Value, to: &[usize]) -> Option<Value> {
        let own = (0..value.dims.len()).filter(|&i| value.dims[i] > 1);
        let is_vector = self.shape(value).is_vector()
            && own.map(|i| value.axes[i]).eq([Axis::Channel])
            && value.frame.is_none();
        let parts: Vec<usize> = to.iter().copied().filter(|&dim| dim > 1).collect();
        let (shape, mut names) = match parts[..] {
            [w, c] => (Shape::new(1, w, c), vec![Axis::Column, Axis::Channel]),
            [h, w, c] => {
                let names = vec![Axis::Row, Axis::Column, Axis::Channel];
                (Shape::new(h, w, c), names)
            }
            _ => return None,
        };
        if !is_vector || shape.len() != self.shape(value).len() {
            return None;
        }
        names.reverse();
        let named = |&dim: &usize| {
            if dim > 1 {
                names.pop()
            } else {
                Some(Axis::One)
            }
        };
        let mut axes: Vec<Axis> = to.iter().map(named).collect::<Option<_>>()?;
        if to[0] == 1 {
            axes[0] = Axis::Batch;
        }
        let item = self.reshaped(node, value.item, shape);
        Some(Value {
            item,
            axes,
            dims: to.to_vec(),
            frame: None,
        })
    }

    /// Some of the indices of an axis, neighbors: the axis is that of the channels, of an outer part of them, or of the pixels.
    pub(super) fn narrowed(
        &mut self,
        node: &Node,
        value: &Value,
        axis: usize,
        [first, len]: [usize; 2],
    ) -> Result<Value, Fault> {
        let dims = &value.dims;
        let whole = extents(&value.axes, dims);
        let [_, _, channels] = whole;
        let mut result = value.clone();
        result.dims[axis] = len;
        if first == 0 && len == dims[axis] {
            return Ok(result);
        }
        let own = factors(value.axes[axis], dims[axis]);
        let outer = match own[..] {
            [factor] if factor.extent * factor.step == channels => Some(factor),
            _ => None,
        };
        if let Some(factor) = outer.filter(|factor| factor.part == Part::Channel) {
            let slice = Slice {
                first: first * factor.step,
                channels: len * factor.step,
            };
            let shape = self.shape(value).with_channels(slice.channels);
            result.item = self
                .draft
                .op(&node.name, Op::Slice(slice), &[value.item], shape);
            let extents = [whole[0], whole[1], slice.channels];
            for (i, name) in result.axes.iter_mut().enumerate() {
                let kept = match i == axis {
                    true => vec![Factor {
                        extent: len,
                        ..factor
                    }],
                    false => factors(*name, dims[i]),
                };
                // The batch and extents of 1 have no factors.
                if !kept.is_empty() {
                    *name = named(kept, extents).unwrap_or(*name);
                }
            }
            return Ok(result);
        }
        if dims[axis] > 1 && is_pixels(value.axes[axis], dims[axis], whole) {
            let slice = Slice {
                first: first * channels,
                channels: len * channels,
            };
            let shape = match len {
                1 => Shape::vector(channels),
                len => Shape::new(1, len, channels),
            };
            result.item = self.over_vector(node, value.item, shape, Work::Op(Op::Slice(slice)));
            result.axes[axis] = if len == 1 { Axis::One } else { Axis::Column };
            return Ok(result);
        }
        Err(node.wrong(format!(
            "axis {axis} of {dims:?} is not that of the channels or of all pixels: only those are supported"
        )))
    }
}

/// One index of an axis.
pub(super) fn gather(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.value(node, 0)?;
    let axis = axis_of(node, value.dims.len(), 0)?;
    let index = importer.constant(node, 1).and_then(Constant::ints);
    let Some(&[index]) = index else {
        return Err(node.wrong("only one constant index is supported"));
    };
    let extent = value.dims[axis] as i64;
    let place = if index < 0 { index + extent } else { index };
    if !(0..extent).contains(&place) {
        return Err(node.wrong(format!("its index {index} is none of {extent}")));
    }
    let mut kept = importer.narrowed(node, &value, axis, [place as usize, 1])?;
    let rank = importer.model.shape(node.need(1)?).len();
    if rank == 0 {
        kept.axes.remove(axis);
    }
    let places = vec![Axis::One; rank.saturating_sub(1)];
    kept.axes.splice(axis..axis, places);
    importer.set(node, kept.item, kept.axes);
    Ok(())
}

/// Constant tokens in front of a value's.
pub(super) fn prefix(importer: &mut Importer<'_>, node: &Node, axis: usize) -> Result<(), Fault> {
    let last = node.inputs.len() - 1;
    let value = importer.value(node, last)?;
    let whole = extents(&value.axes, &value.dims);
    let [rows, columns, channels] = whole;
    let is_tokens = channels > 0
        && is_pixels(value.axes[axis], value.dims[axis], whole)
        && (0..value.dims.len())
            .all(|i| i == axis || value.dims[i] == 1 || value.axes[i] == Axis::Channel);
    if !is_tokens {
        return Err(node.wrong(format!(
            "it puts constants before axis {axis} of {:?}: only tokens are supported, behind constant ones",
            value.dims
        )));
    }
    // Behind the axis of tokens the constants' channels are last; before it they are not.
    let turns = (axis + 1..value.dims.len()).all(|i| value.dims[i] == 1) && channels > 1;
    let mut constants = Vec::new();
    for index in 0..last {
        let constant = importer.constant(node, index).and_then(Constant::floats);
        constants.push(
            constant
                .ok_or_else(|| node.wrong(format!("its input {} is no constant", index + 1)))?
                .to_vec(),
        );
    }
    let mut shift = Vec::new();
    for constant in constants {
        let tokens = constant.len() / channels;
        for token in 0..tokens {
            shift.extend((0..channels).map(|channel| {
                let place = match turns {
                    true => channel * tokens + token,
                    false => token * channels + channel,
                };
                f64::from(constant[place])
            }));
        }
    }
    let tokens = shift.len() / channels;
    let count = tokens + rows * columns;
    shift.resize(count * channels, 0.0);
    let shape = Shape::new(1, count, channels);
    let prefix = Op::Prefix(Prefix { tokens });
    let item = importer.draft.op(&node.name, prefix, &[value.item], shape);
    let scale = vec![1.0; shift.len()];
    let item = importer.over_vector(node, item, shape, Work::Affine { scale, shift });
    let mut axes = value.axes;
    axes[axis] = Axis::Column;
    importer.set(node, item, axes);
    Ok(())
}

/// Zeros to the left of one row of pixels.
pub(super) fn padded(importer: &mut Importer<'_>, node: &Node, value: &Value, left: usize) {
    let shape = importer.shape(value);
    let longer = Shape::new(1, left + shape.w(), shape.c());
    let prefix = Op::Prefix(Prefix { tokens: left });
    let item = importer.draft.op(&node.name, prefix, &[value.item], longer);
    importer.set(node, item, value.axes.clone());
}

/// `x + constant`, where the constant has a number for each element: a position embedding.
pub(super) fn add_whole(
    importer: &mut Importer<'_>,
    node: &Node,
    (value, name): (&Value, &str),
    constant: &Constant,
    sign: f64,
) -> bool {
    let Some(data) = constant.floats() else {
        return false;
    };
    let first = constant.dims.iter().position(|&dim| dim != 1);
    let own = value.dims.iter().position(|&dim| dim != 1);
    let is_same = match (first, own) {
        (Some(first), Some(own)) => constant.dims[first..] == value.dims[own..],
        _ => false,
    };
    let has_more = constant.dims.len() > value.dims.len();
    if !is_same || has_more || value.axes.iter().any(|axis| matches!(axis, Axis::Flat(_))) {
        return false;
    }
    let places = elements(&value.axes, &value.dims);
    let shift = places.iter().map(|&place| sign * f64::from(data[place]));
    let (scale, shift) = (vec![1.0; places.len()], shift.collect());
    importer.affine_whole(node, (value, name), scale, shift);
    true
}
