//! Sums and products of two values, or of a value and a constant.

use super::axes::{Axis, extents, matches};
use super::tokens::add_whole;
use super::{Importer, Value};
use crate::constant::Constant;
use crate::error::Fault;
use crate::model::Node;
use lowbit::graph::{LayerNorm, Op};

/// Add, Sub, Mul, Div and Sum.
pub(super) fn binary(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    if node.inputs.len() == 1 {
        let value = importer.value(node, 0)?;
        importer.set(node, value.item, value.axes);
        return Ok(());
    }
    match (importer.is_value(node, 0), importer.is_value(node, 1)) {
        (true, true) => of_values(importer, node),
        (true, false) if node.inputs.len() == 2 => with_constant(importer, node, 0),
        (false, true) if node.inputs.len() == 2 => with_constant(importer, node, 1),
        _ => {
            Err(node
                .wrong("it adds several constants and values: only two inputs are supported then"))
        }
    }
}

fn of_values(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let first = importer.value(node, 0)?;
    match node.op.as_str() {
        "Add" | "Sum" => {
            let mut sum = first;
            for index in 1..node.inputs.len() {
                let other = importer.value(node, index)?;
                sum = add(importer, node, &sum, &other)?;
            }
            importer.set(node, sum.item, sum.axes);
            Ok(())
        }
        "Mul" => {
            let other = importer.value(node, 1)?;
            let (x, factor) = if is_per_channel(&first, &other) {
                (other, first)
            } else {
                (first, other)
            };
            if !is_same(&x, &factor) && !is_per_channel(&factor, &x) {
                return Err(node.wrong(format!(
                    "it multiplies {:?} with {:?}: only the same shape, or one factor per channel, is supported",
                    x.dims, factor.dims
                )));
            }
            let shape = importer.shape(&x);
            let item = importer
                .draft
                .op(&node.name, Op::Mul, &[x.item, factor.item], shape);
            importer.set(node, item, x.axes);
            Ok(())
        }
        op => Err(node.wrong(format!("lowbit knows {op} of a value and a constant only"))),
    }
}

fn add(importer: &mut Importer<'_>, node: &Node, a: &Value, b: &Value) -> Result<Value, Fault> {
    if is_per_channel(a, b) || is_per_channel(b, a) {
        let (x, term) = if is_per_channel(a, b) { (b, a) } else { (a, b) };
        let shape = importer.shape(x);
        let item = importer
            .draft
            .op(&node.name, Op::Add, &[x.item, term.item], shape);
        return Ok(Value { item, ..x.clone() });
    }
    if !is_same(a, b)
        && let Some((a, b)) = importer.aligned(node, a, b)
    {
        return add(importer, node, &a, &b);
    }
    if !is_same(a, b) {
        return Err(node.wrong(format!(
            "it adds {:?} and {:?}: only the same shape is supported",
            a.dims, b.dims
        )));
    }
    let shape = importer.shape(a);
    // A vector and an image of one pixel are alike in memory.
    let mut inputs = [a.item, b.item];
    let mut result = shape;
    if importer.shape(b) != shape {
        result = lowbit::Shape::vector(shape.c());
        for input in &mut inputs {
            *input = importer
                .draft
                .op(&node.name, Op::Flatten, &[*input], result);
        }
    }
    let item = importer.draft.op(&node.name, Op::Add, &inputs, result);
    Ok(Value { item, ..a.clone() })
}

/// Whether two values have the same extents and axes.
fn is_same(a: &Value, b: &Value) -> bool {
    a.dims == b.dims && matches(&a.axes, &a.dims, &b.axes)
}

/// Whether `factor` is one number for each channel of `x`, or one per channel as broadcasting sees it.
fn is_per_channel(factor: &Value, x: &Value) -> bool {
    let lead = match x.dims.len().checked_sub(factor.dims.len()) {
        Some(lead) => lead,
        None => return false,
    };
    let mut has_channels = false;
    for (i, &dim) in factor.dims.iter().enumerate() {
        let is_channel = x.axes[lead + i] == Axis::Channel;
        has_channels |= is_channel && dim == x.dims[lead + i];
        if dim != 1 && !(is_channel && factor.axes[i] == Axis::Channel) {
            return false;
        }
    }
    has_channels && !is_same(factor, x)
}

/// `x ∘ constant`, or `constant ∘ x` where the value is the second input.
fn with_constant(importer: &mut Importer<'_>, node: &Node, which: usize) -> Result<(), Fault> {
    let value = importer.value(node, which)?;
    let constant = importer
        .model
        .constant(node, 1 - which)
        .ok_or_else(|| node.wrong("one of its inputs is not computed"))?;
    let is_first = which == 0;
    let factors = match per_channel(node, &value, constant) {
        Ok(factors) => factors,
        Err(fault) => {
            let sign = match (node.op.as_str(), is_first) {
                ("Add" | "Sum", _) => 1.0,
                ("Sub", true) => -1.0,
                _ => return Err(fault),
            };
            let named = (&value, node.need(which)?);
            return match add_whole(importer, node, named, constant, sign) {
                true => Ok(()),
                false => Err(fault),
            };
        }
    };
    let ones = || vec![1.0; factors.len()];
    let zeros = || vec![0.0; factors.len()];
    let negative = |values: &[f64]| values.iter().map(|x| -x).collect::<Vec<f64>>();
    let (scale, shift) = match node.op.as_str() {
        "Add" | "Sum" => (ones(), factors),
        "Sub" if is_first => (ones(), negative(&factors)),
        "Sub" => (negative(&ones()), factors),
        "Mul" => {
            let zeros = zeros();
            (factors, zeros)
        }
        "Div" if is_first => (factors.iter().map(|x| 1.0 / x).collect(), zeros()),
        op => {
            return Err(node.wrong(format!(
                "lowbit does not know {op} of a constant and a value"
            )));
        }
    };
    if scale.iter().chain(&shift).any(|x| !x.is_finite()) {
        return Err(node.wrong("a factor of it is no finite number"));
    }
    importer.affine(node, &value, scale, shift);
    Ok(())
}

/// A constant as one number per channel of a value that it broadcasts over.
pub(super) fn per_channel(
    node: &Node,
    value: &Value,
    constant: &Constant,
) -> Result<Vec<f64>, Fault> {
    let fail = || {
        node.wrong(format!(
            "its constant {:?} against {:?} is not one number, or one per channel",
            constant.dims, value.dims
        ))
    };
    let data = constant
        .floats()
        .ok_or_else(|| node.wrong("its constant holds integers"))?;
    let [_, _, channels] = extents(&value.axes, &value.dims);
    let flat = value.axes.iter().any(|axis| matches!(axis, Axis::Flat(_)));
    let wide = |&x: &f32| f64::from(x);
    if let &[x] = data
        && !flat
        && constant.dims.len() <= value.dims.len()
    {
        return Ok(vec![wide(&x); channels]);
    }
    let lead = value
        .dims
        .len()
        .checked_sub(constant.dims.len())
        .ok_or_else(fail)?;
    let is_channel = |i: usize| {
        value.axes[lead + i] == Axis::Channel && constant.dims[i] == value.dims[lead + i]
    };
    let is_one = |i: usize| constant.dims[i] == 1;
    match (0..constant.dims.len()).all(|i| is_one(i) || is_channel(i)) && data.len() == channels {
        true => Ok(data.iter().map(wide).collect()),
        false => Err(fail()),
    }
}

/// Layer norm over the channels, its factor and summand as an affine map behind it.
pub(super) fn layer_norm(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.value(node, 0)?;
    let rank = value.dims.len();
    let axis = crate::fold::axis_of(node, rank, -1)?;
    if axis + 1 != rank || value.axes[axis] != Axis::Channel {
        return Err(node.wrong(format!(
            "it is over {:?} from axis {axis} on: only the channels, last, are supported",
            value.dims
        )));
    }
    if node.int_or("stash_type", 1)? != 1 {
        return Err(node.wrong("only stash_type=1 is supported"));
    }
    let channels = value.dims[axis];
    let of = |index: usize, otherwise: f64| -> Result<Vec<f64>, Fault> {
        if node.input(index).is_none() {
            return Ok(vec![otherwise; channels]);
        }
        let constant = importer
            .model
            .constant(node, index)
            .and_then(Constant::floats);
        match constant.filter(|data| data.len() == channels) {
            Some(data) => Ok(data.iter().map(|&x| f64::from(x)).collect()),
            None => Err(node.wrong(format!(
                "its input {} is no constant of {channels} floats",
                index + 1
            ))),
        }
    };
    let (scale, shift) = (of(1, 1.0)?, of(2, 0.0)?);
    let eps = node.float_or("epsilon", 1e-5)?;
    let shape = importer.shape(&value);
    let item = importer.draft.op(
        &node.name,
        Op::LayerNorm(LayerNorm { eps }),
        &[value.item],
        shape,
    );
    let value = Value { item, ..value };
    importer.affine(node, &value, scale, shift);
    Ok(())
}

/// Running statistics as an affine map.
pub(super) fn batch_norm(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.value(node, 0)?;
    if node.int_or("training_mode", 0)? != 0 {
        return Err(node.wrong("training_mode=1: export the model for inference (model.eval())"));
    }
    if node.int_or("spatial", 1)? != 1 {
        return Err(node.wrong("spatial=0 is not supported: export with a newer opset"));
    }
    let is_channel = |axis: Axis, dim: usize| match axis {
        Axis::Channel => true,
        _ => dim == 1 && importer.shape(&value).c() == 1,
    };
    if value.axes.len() < 2 || !is_channel(value.axes[1], value.dims[1]) {
        return Err(node.wrong("its channels are not in its second axis"));
    }
    let channels = value.dims[1];
    let of = |index: usize| -> Result<&[f32], Fault> {
        let constant = importer
            .model
            .constant(node, index)
            .and_then(Constant::floats);
        match constant.filter(|data| data.len() == channels) {
            Some(data) => Ok(data),
            None => Err(node.wrong(format!(
                "its input {} is no constant of {channels} floats",
                index + 1
            ))),
        }
    };
    let (gamma, beta, mean, variance) = (of(1)?, of(2)?, of(3)?, of(4)?);
    let eps = f64::from(node.float_or("epsilon", 1e-5)?);
    let mut scale = Vec::with_capacity(channels);
    let mut shift = Vec::with_capacity(channels);
    for c in 0..channels {
        let factor = f64::from(gamma[c]) / (f64::from(variance[c]) + eps).sqrt();
        if !factor.is_finite() {
            return Err(node.wrong(format!("the variance of channel {c} is {}", variance[c])));
        }
        scale.push(factor);
        shift.push(f64::from(beta[c]) - f64::from(mean[c]) * factor);
    }
    importer.affine(node, &value, scale, shift);
    Ok(())
}
