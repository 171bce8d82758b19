//! Shapes of results. An operator that stands here is one that a rewrite or the import knows; another is refused.

use super::arithmetic::broadcast;
use crate::constant::Constant;
use crate::error::Fault;
use crate::model::{Model, Node};
use crate::window::Window;

/// A range along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) start: usize,
    pub(crate) step: i64,
    pub(crate) len: usize,
}

impl Part {
    /// The place of its element `i`.
    pub(super) fn at(&self, i: usize) -> usize {
        (self.start as i64 + self.step * i as i64) as usize
    }
}

/// Operators whose result has the shape of their first input.
const ALIKE: &[&str] = &[
    "Abs",
    "BatchNormalization",
    "Cast",
    "Clip",
    "DequantizeLinear",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "LogSoftmax",
    "Neg",
    "PRelu",
    "QuantizeLinear",
    "Reciprocal",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Sqrt",
    "Swish",
    "Tanh",
    "Mish",
];

const BINARY: &[&str] = &["Add", "Sub", "Mul", "Div", "Pow", "Sum", "Min", "Max"];

/// The shapes of a node's results.
pub(super) fn infer(model: &Model, node: &Node) -> Result<Vec<Vec<usize>>, Fault> {
    let fail = |reason: String| node.wrong(reason);
    let x = || -> Result<&[usize], Fault> { Ok(model.shape(node.need(0)?)) };
    let one = |dims: Vec<usize>| Ok(vec![dims]);
    match node.op.as_str() {
        // Results after the first are of training.
        op if ALIKE.contains(&op) => one(x()?.to_vec()),
        op if BINARY.contains(&op) => {
            let mut dims = x()?.to_vec();
            for input in &node.inputs[1..] {
                dims = broadcast(&dims, model.shape(input)).map_err(fail)?;
            }
            one(dims)
        }
        "Conv" => {
            let weight = model.shape(node.need(1)?).to_vec();
            let dims = spatial(node, x()?)?;
            let &[out, _, kernel_h, kernel_w] = &weight[..] else {
                return Err(fail(format!(
                    "its weights have the shape {weight:?}: only 2-D convolutions are supported"
                )));
            };
            let window = Window::of(node, [dims[2], dims[3]], Some([kernel_h, kernel_w]))?;
            let [h, w] = window.extents([dims[2], dims[3]]).map_err(fail)?;
            one(vec![dims[0], out, h, w])
        }
        "MaxPool" | "AveragePool" => {
            let dims = spatial(node, x()?)?;
            let window = Window::of(node, [dims[2], dims[3]], None)?;
            let [h, w] = window.extents([dims[2], dims[3]]).map_err(fail)?;
            one(vec![dims[0], dims[1], h, w])
        }
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let dims = spatial(node, x()?)?;
            one(vec![dims[0], dims[1], 1, 1])
        }
        "Gemm" => {
            let (a, b) = (x()?, model.shape(node.need(1)?));
            let [turns_a, turns_b] = [node.int_or("transA", 0)?, node.int_or("transB", 0)?];
            match (a, b) {
                (&[a0, a1], &[b0, b1]) => {
                    let (rows, inner) = if turns_a != 0 { (a1, a0) } else { (a0, a1) };
                    let (other, columns) = if turns_b != 0 { (b1, b0) } else { (b0, b1) };
                    match inner == other {
                        true => one(vec![rows, columns]),
                        false => Err(fail(format!("it multiplies {a:?} with {b:?}"))),
                    }
                }
                _ => Err(fail(format!(
                    "it multiplies {a:?} with {b:?}, not two matrices"
                ))),
            }
        }
        "MatMul" => one(product(x()?, model.shape(node.need(1)?)).map_err(fail)?),
        "Attention" => {
            let (mut dims, values) = (x()?.to_vec(), model.shape(node.need(2)?));
            if let (Some(channels), Some(&of_values)) = (dims.last_mut(), values.last()) {
                *channels = of_values;
            }
            one(dims)
        }
        "Flatten" => {
            let dims = x()?;
            let axis = node.int_or("axis", 1)?;
            let axis = if axis < 0 {
                axis + dims.len() as i64
            } else {
                axis
            };
            let (before, after) = usize::try_from(axis)
                .ok()
                .and_then(|axis| dims.split_at_checked(axis))
                .ok_or_else(|| fail(format!("its axis {axis} is none of {dims:?}")))?;
            one(vec![before.iter().product(), after.iter().product()])
        }
        "Reshape" => one(reshaped(model, node, x()?)?),
        "Squeeze" => {
            let dims = x()?;
            let gone = match axes_of(model, node, dims.len())? {
                Some(axes) => axes,
                None => (0..dims.len()).filter(|&axis| dims[axis] == 1).collect(),
            };
            if let Some(&axis) = gone.iter().find(|&&axis| dims[axis] != 1) {
                return Err(fail(format!("it drops axis {axis} of {dims:?}")));
            }
            let kept = (0..dims.len()).filter(|axis| !gone.contains(axis));
            one(kept.map(|axis| dims[axis]).collect())
        }
        "Unsqueeze" => {
            let dims = x()?;
            let count = list(model, node, "axes", 1)?.map_or(0, |axes| axes.len());
            let new = axes_of(model, node, dims.len() + count)?.unwrap_or_default();
            let mut rest = dims.iter().copied();
            let rank = dims.len() + new.len();
            one((0..rank)
                .map(|axis| {
                    if new.contains(&axis) {
                        1
                    } else {
                        rest.next().unwrap_or(1)
                    }
                })
                .collect())
        }
        "Transpose" => {
            let dims = x()?;
            one(order_of(node, dims.len())?
                .iter()
                .map(|&axis| dims[axis])
                .collect())
        }
        "Concat" => {
            let mut dims = x()?.to_vec();
            let axis = axis_of(node, dims.len(), 0)?;
            for input in &node.inputs[1..] {
                let other = model.shape(input);
                let fits = other.len() == dims.len()
                    && (0..dims.len()).all(|i| i == axis || other[i] == dims[i]);
                if !fits {
                    return Err(fail(format!(
                        "it joins {dims:?} and {other:?} along axis {axis}"
                    )));
                }
                dims[axis] += other[axis];
            }
            one(dims)
        }
        "Split" => {
            let (axis, sizes) = sizes_of(model, node, x()?)?;
            let part = |size| {
                let mut dims = x()?.to_vec();
                dims[axis] = size;
                Ok(dims)
            };
            sizes.into_iter().map(part).collect()
        }
        "Slice" => one(slice_of(model, node)?.iter().map(|part| part.len).collect()),
        "Pad" => {
            let pads = pads_of(model, node, x()?.len())?;
            let padded = x()?.iter().zip(pads).map(|(&dim, [before, after])| {
                usize::try_from(dim as i64 + before + after)
                    .map_err(|_| fail("its padding leaves nothing".into()))
            });
            one(padded.collect::<Result<_, Fault>>()?)
        }
        "Expand" => {
            let shape = model
                .constant(node, 1)
                .ok_or_else(|| fail("its shape is not constant".into()))?;
            one(broadcast(x()?, &to_dims(node, shape)?).map_err(fail)?)
        }
        "Gather" => {
            let (dims, indices) = (x()?, model.shape(node.need(1)?));
            let axis = axis_of(node, dims.len(), 0)?;
            one([&dims[..axis], indices, &dims[axis + 1..]].concat())
        }
        "ArgMax" | "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceL2"
        | "ReduceProd" => {
            let dims = x()?;
            let axes = match node.op.as_str() {
                "ArgMax" => vec![axis_of(node, dims.len(), 0)?],
                _ => axes_of(model, node, dims.len())?.unwrap_or_else(|| (0..dims.len()).collect()),
            };
            let keeps = node.int_or("keepdims", 1)? == 1;
            let extent = |axis: usize| match axes.contains(&axis) {
                true => keeps.then_some(1),
                false => Some(dims[axis]),
            };
            one((0..dims.len()).filter_map(extent).collect())
        }
        _ => Err(fail(refused_operator(&node.op))),
    }
}

/// Why an operator is not there, and what to do.
fn refused_operator(op: &str) -> String {
    let what = match op {
        "If" | "Loop" | "Scan" => {
            "lowbit runs no control flow: export with fixed shapes, or simplify the model (onnxsim)"
        }
        "ConvInteger" | "MatMulInteger" | "DynamicQuantizeLinear" => {
            "the model is quantized dynamically, which lowbit does not read: give the FP32 model that it was made from (lowbit quantize --method dynamic makes one of that)"
        }
        op if op.starts_with("com.microsoft.") => {
            "lowbit does not have this operator of ONNX Runtime's: give the FP32 model that it was made from, or quantize it as QDQ"
        }
        "LSTM" | "GRU" | "RNN" => "lowbit runs image classifiers, and no recurrent networks",
        "NonMaxSuppression" | "TopK" | "RoiAlign" => {
            "lowbit runs image classifiers, and no detectors"
        }
        _ => "lowbit does not have this operator (docs/onnx.md lists those that it has)",
    };
    what.to_owned()
}

/// A batch of images, channels second.
fn spatial<'a>(node: &Node, dims: &'a [usize]) -> Result<&'a [usize], Fault> {
    match dims.len() {
        4 => Ok(dims),
        _ => Err(node.wrong(format!(
            "it reads {dims:?}: only images [N, C, H, W] are supported"
        ))),
    }
}

fn product(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let (&[ref batch_a @ .., rows, inner], &[ref batch_b @ .., other, columns]) = (a, b) else {
        return Err(format!("it multiplies {a:?} with {b:?}, not matrices"));
    };
    if inner != other {
        return Err(format!("it multiplies {a:?} with {b:?}"));
    }
    Ok([broadcast(batch_a, batch_b)?, vec![rows, columns]].concat())
}

/// A list of integers that is an attribute or, in later opsets, a constant input.
pub(crate) fn list(
    model: &Model,
    node: &Node,
    key: &str,
    input: usize,
) -> Result<Option<Vec<i64>>, Fault> {
    if let Some(values) = node.ints(key)? {
        return Ok(Some(values.to_vec()));
    }
    if node.input(input).is_none() {
        return Ok(None);
    }
    match model.constant(node, input).and_then(Constant::ints) {
        Some(values) => Ok(Some(values.to_vec())),
        None => Err(node.wrong(format!(
            "its {key} come from other nodes: only constants are supported"
        ))),
    }
}

fn placed(node: &Node, axis: i64, rank: usize) -> Result<usize, Fault> {
    let place = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(place) {
        Ok(place) if place < rank => Ok(place),
        _ => Err(node.wrong(format!("its axis {axis} is none of {rank}"))),
    }
}

/// The attribute `axis`.
pub(crate) fn axis_of(node: &Node, rank: usize, otherwise: i64) -> Result<usize, Fault> {
    placed(node, node.int_or("axis", otherwise)?, rank)
}

/// The axes of a reduction, of Squeeze or of Unsqueeze; none where there is no list.
pub(crate) fn axes_of(
    model: &Model,
    node: &Node,
    rank: usize,
) -> Result<Option<Vec<usize>>, Fault> {
    let axes = list(model, node, "axes", 1)?;
    let empty_is_none = node.op.starts_with("Reduce");
    let axes = axes.filter(|axes| !(empty_is_none && axes.is_empty()));
    axes.map(|axes| axes.iter().map(|&axis| placed(node, axis, rank)).collect())
        .transpose()
}

/// The order of axes of a Transpose.
pub(crate) fn order_of(node: &Node, rank: usize) -> Result<Vec<usize>, Fault> {
    let Some(order) = node.ints("perm")? else {
        return Ok((0..rank).rev().collect());
    };
    let places: Vec<usize> = order
        .iter()
        .filter_map(|&axis| usize::try_from(axis).ok())
        .collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    match sorted == (0..rank).collect::<Vec<_>>() && order.len() == rank {
        true => Ok(places),
        false => Err(node.wrong(format!("its order {order:?} is none of {rank} axes"))),
    }
}

/// The axis and the sizes of a Split.
pub(crate) fn sizes_of(
    model: &Model,
    node: &Node,
    dims: &[usize],
) -> Result<(usize, Vec<usize>), Fault> {
    let axis = axis_of(node, dims.len(), 0)?;
    let extent = dims[axis];
    let sizes: Vec<usize> = match list(model, node, "split", 1)? {
        Some(sizes) => sizes
            .iter()
            .filter_map(|&size| usize::try_from(size).ok())
            .collect(),
        None => {
            let parts = node
                .int("num_outputs")?
                .map_or(node.outputs.len(), |parts| parts.max(1) as usize);
            // The last may be smaller.
            let size = extent.div_ceil(parts.max(1));
            (0..parts.min(extent))
                .map(|part| size.min(extent.saturating_sub(part * size)))
                .collect()
        }
    };
    match sizes.iter().sum::<usize>() == extent && sizes.len() == node.outputs.len() {
        true => Ok((axis, sizes)),
        false => Err(node.wrong(format!(
            "it splits {extent} into {sizes:?}, for {} outputs",
            node.outputs.len()
        ))),
    }
}

/// The range of a Slice along every axis.
pub(crate) fn slice_of(model: &Model, node: &Node) -> Result<Vec<Part>, Fault> {
    let dims = model.shape(node.need(0)?);
    let need = |key: &str, input: usize| {
        list(model, node, key, input)?.ok_or_else(|| node.wrong(format!("it lacks its {key}")))
    };
    let (starts, ends) = (need("starts", 1)?, need("ends", 2)?);
    let axes = list(model, node, "axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(model, node, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(node.wrong("its starts, ends, axes and steps differ in number"));
    }
    let whole = |&len: &usize| Part {
        start: 0,
        step: 1,
        len,
    };
    let mut parts: Vec<Part> = dims.iter().map(whole).collect();
    for i in 0..starts.len() {
        let axis = placed(node, axes[i], dims.len())?;
        let (extent, step) = (dims[axis] as i64, steps[i]);
        if step == 0 || step.unsigned_abs() > 1 << 30 {
            return Err(node.wrong(format!("its step is {step}")));
        }
        let place = |x: i64| if x < 0 { x.saturating_add(extent) } else { x };
        let (low, high) = if step > 0 {
            (0, extent)
        } else {
            (-1, extent - 1)
        };
        let start = place(starts[i]).clamp(low.max(0), high.max(0));
        // A negative end that is out of range stands before the first element.
        let end = place(ends[i]).clamp(low, high);
        let distance = if step > 0 { end - start } else { start - end };
        let len = (distance.max(0) as u64).div_ceil(step.unsigned_abs()) as usize;
        parts[axis] = Part {
            start: start as usize,
            step,
            len,
        };
    }
    Ok(parts)
}

/// Elements that a Pad adds before and after each axis.
pub(crate) fn pads_of(model: &Model, node: &Node, rank: usize) -> Result<Vec<[i64; 2]>, Fault> {
    let pads = list(model, node, "pads", 1)?.ok_or_else(|| node.wrong("it lacks its pads"))?;
    let axes = match list(model, node, "axes", 3)? {
        Some(axes) => axes
            .iter()
            .map(|&axis| placed(node, axis, rank))
            .collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() || pads.iter().any(|pad| pad.unsigned_abs() > 1 << 20) {
        return Err(node.wrong(format!("its pads {pads:?} do not fit {rank} axes")));
    }
    let mut all = vec![[0; 2]; rank];
    for (i, &axis) in axes.iter().enumerate() {
        all[axis] = [pads[i], pads[axes.len() + i]];
    }
    Ok(all)
}

fn reshaped(model: &Model, node: &Node, from: &[usize]) -> Result<Vec<usize>, Fault> {
    let shape = model.constant(node, 1).and_then(Constant::ints);
    let shape = shape.ok_or_else(|| {
        node.wrong("its shape comes from other nodes: only constants are supported")
    })?;
    let keeps_zero = node.int_or("allowzero", 0)? != 0;
    let mut dims = Vec::with_capacity(shape.len());
    let mut open = None;
    for (axis, &dim) in shape.iter().enumerate() {
        dims.push(match dim {
            0 if !keeps_zero => from.get(axis).copied().unwrap_or(0),
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            dim => {
                usize::try_from(dim).map_err(|_| node.wrong(format!("its shape is {shape:?}")))?
            }
        });
    }
    let total: usize = from.iter().product();
    let rest = dims
        .iter()
        .try_fold(1usize, |rest, &dim| rest.checked_mul(dim))
        .unwrap_or(0);
    if let Some(axis) = open
        && rest > 0
        && total.is_multiple_of(rest)
    {
        dims[axis] = total / rest;
    }
    match dims.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim)) == Some(total) {
        true => Ok(dims),
        false => Err(node.wrong(format!(
            "it makes {shape:?} of {from:?}, one image: is the batch fixed in it? Export it with a dynamic batch, or a batch of 1"
        ))),
    }
}

pub(super) fn to_dims(node: &Node, x: &Constant) -> Result<Vec<usize>, Fault> {
    let ints = x
        .ints()
        .ok_or_else(|| node.wrong("its shape is no list of integers"))?;
    ints.iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| node.wrong(format!("its shape has {dim}"))))
        .collect()
}
