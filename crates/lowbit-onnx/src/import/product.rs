//! Convolutions and matrix products with constant weights.

use super::axes::{Axis, NCHW, places};
use super::pad::{must_be_zero, widened};
use super::{Importer, Value};
use crate::constant::{Codes, Constant};
use crate::draft::{Item, LayerCodes, Work};
use crate::error::Fault;
use crate::model::Node;
use crate::window::Window;
use lowbit::graph::{Conv, Op};
use lowbit::{Shape, Tensor, WeightBits};

/// The floats of a constant input; none where it is left out.
fn floats<'a>(
    importer: &Importer<'a>,
    node: &Node,
    index: usize,
    what: &str,
) -> Result<Option<&'a Constant>, Fault> {
    let Some(name) = node.input(index) else {
        return Ok(None);
    };
    let constant = importer.model.constants.get(name);
    match constant.filter(|constant| constant.floats().is_some()) {
        Some(constant) => Ok(Some(constant)),
        None => Err(node.wrong(format!("its {what} {name:?} is no constant of floats"))),
    }
}

pub(super) fn conv(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.image(node, 0)?;
    let weight =
        floats(importer, node, 1, "weight")?.ok_or_else(|| node.wrong("it lacks its weight"))?;
    let &[out, channels, kernel_h, kernel_w] = &weight.dims[..] else {
        return Err(node.wrong("only 2-D convolutions are supported"));
    };
    let groups = node.int_or("group", 1)?;
    let groups =
        usize::try_from(groups).map_err(|_| node.wrong(format!("its group is {groups}")))?;
    if groups == 0 || channels * groups != value.dims[1] || !out.is_multiple_of(groups) {
        return Err(node.wrong(format!(
            "its weights {:?} in {groups} groups do not fit {} channels",
            weight.dims, value.dims[1]
        )));
    }
    must_be_zero(node, &value)?;
    let window = Window::of(node, value.size(), Some([kernel_h, kernel_w]))?;
    let window = widened(window, &value);
    let bias = floats(importer, node, 2, "bias")?
        .and_then(Constant::floats)
        .map(<[f32]>::to_vec);
    if bias.as_ref().is_some_and(|bias| bias.len() != out) {
        return Err(node.wrong("its bias has another number of channels than its weights"));
    }
    let from = weight.floats().unwrap_or_default();
    let order = Order::Kernels {
        channels,
        pixels: kernel_h * kernel_w,
    };
    let data = order.arranged(from, |x| x);
    let codes = codes(importer, node, out, 0, &order)?;
    let conv = Conv {
        out_channels: out,
        kernel: [kernel_h, kernel_w],
        stride: window.stride,
        padding: window.pads,
        dilation: window.dilation,
        groups,
        bias: bias.is_some(),
    };
    let dims = importer.model.shape(node.output());
    let shape = Shape::new(dims[2], dims[3], out);
    let item = importer.draft.push(Item {
        name: node.name.clone(),
        work: Work::Op(Op::Conv(conv)),
        inputs: vec![value.item],
        weight: Some(Tensor::new(vec![out, kernel_h, kernel_w, channels], data)),
        bias,
        codes,
        grid: None,
        shape,
    });
    importer.set(node, item, NCHW.to_vec());
    Ok(())
}

pub(super) fn gemm(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    if node.int_or("transA", 0)? != 0 {
        return Err(node.wrong("transA=1 would turn the batch: only transA=0 is supported"));
    }
    let weight =
        floats(importer, node, 1, "weight")?.ok_or_else(|| node.wrong("it lacks its weight"))?;
    let (alpha, beta) = (node.float_or("alpha", 1.0)?, node.float_or("beta", 1.0)?);
    let is_quantized = |index| {
        let name = node.input(index);
        name.is_some_and(|name| importer.model.codes.contains_key(name))
    };
    if (is_quantized(1) && alpha != 1.0) || (is_quantized(2) && beta != 1.0) {
        return Err(node.wrong("alpha and beta of quantized weights: only 1 is supported"));
    }
    let turned = node.int_or("transB", 0)? != 0;
    let bias = floats(importer, node, 2, "bias")?;
    let bias = bias.map(|bias| {
        let values = bias.floats().unwrap_or_default();
        let scaled = values
            .iter()
            .map(|&b| if beta == 1.0 { b } else { b * beta });
        scaled.collect::<Vec<f32>>()
    });
    linear(importer, node, weight, turned, alpha, bias)
}

pub(super) fn matmul(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    if importer.is_value(node, 0) && importer.is_value(node, 1) {
        return Err(node.wrong(
            "lowbit multiplies two values of the image as matrices in attention alone: with a Softmax over the keys between two products, and no mask",
        ));
    }
    let weight =
        floats(importer, node, 1, "weight")?.ok_or_else(|| node.wrong("it lacks its weight"))?;
    linear(importer, node, weight, false, 1.0, None)
}

/// A product over the last axis with weights `[in, out]`, or `[out, in]` where they are turned.
fn linear(
    importer: &mut Importer<'_>,
    node: &Node,
    weight: &Constant,
    turned: bool,
    alpha: f32,
    bias: Option<Vec<f32>>,
) -> Result<(), Fault> {
    let mut value = importer.value(node, 0)?;
    let &[rows, columns] = &weight.dims[..] else {
        return Err(node.wrong(format!(
            "its weights have the shape {:?}: only matrices are supported",
            weight.dims
        )));
    };
    let (out, inner) = if turned {
        (rows, columns)
    } else {
        (columns, rows)
    };
    // A mixer's products are over the pixels.
    let is_last = |value: &Value| value.axes.last() == Some(&Axis::Channel);
    if inner > 1
        && !is_last(&value)
        && let Some(turned) = importer.turned(node, &value).filter(is_last)
    {
        value = turned;
    }
    let order = Order::Matrix {
        turned,
        size: [out, inner],
        inputs: last_axis(node, &value, inner)?,
    };
    let from = weight.floats().unwrap_or_default();
    let data = order.arranged(from, |x| if alpha == 1.0 { x } else { x * alpha });
    let codes = codes(importer, node, out, usize::from(!turned), &order)?;
    let bias = match bias {
        None => vec![0.0; out],
        Some(bias) if bias.len() == out => bias,
        Some(bias) if bias.len() == 1 => vec![bias[0]; out],
        Some(bias) => {
            return Err(node.wrong(format!(
                "its bias has {} values for {out} outputs",
                bias.len()
            )));
        }
    };
    let shape = importer.shape(&value).with_channels(out);
    let item = importer.draft.push(Item {
        name: node.name.clone(),
        work: Work::Op(Op::linear(out)),
        inputs: vec![value.item],
        weight: Some(Tensor::new(vec![out, inner], data)),
        bias: Some(bias),
        codes,
        grid: None,
        shape,
    });
    let mut axes = value.axes;
    if let Some(last) = axes.last_mut() {
        *last = Axis::Channel;
    }
    importer.set(node, item, axes);
    Ok(())
}

/// Where a file has the weights of a product, which lowbit wants by output, pixel of the kernel, input.
enum Order {
    /// `[out, channels, pixels]`.
    Kernels { channels: usize, pixels: usize },
    /// `[in, out]`, or `[out, in]` where they are turned, of `size` `[out, in]`.
    Matrix {
        turned: bool,
        size: [usize; 2],
        /// The place of each input in the file, where that is another order.
        inputs: Option<Vec<usize>>,
    },
}

impl Order {
    /// What `to` makes of each element, in lowbit's order.
    fn arranged<T: Copy, U>(&self, from: &[T], to: impl Fn(T) -> U) -> Vec<U> {
        let mut all = Vec::with_capacity(from.len());
        match self {
            Self::Kernels { pixels: 1, .. }
            | Self::Matrix {
                turned: true,
                inputs: None,
                ..
            } => all.extend(from.iter().map(|&x| to(x))),
            &Self::Kernels { channels, pixels } => {
                for kernel in from.chunks_exact((channels * pixels).max(1)) {
                    for pixel in 0..pixels {
                        all.extend(kernel[pixel..].iter().step_by(pixels).map(|&x| to(x)));
                    }
                }
            }
            Self::Matrix {
                turned,
                size: [out, inner],
                inputs,
            } => {
                for o in 0..*out {
                    all.extend((0..*inner).map(|i| {
                        let i = inputs.as_ref().map_or(i, |places| places[i]);
                        to(from[if *turned { o * inner + i } else { i * out + o }])
                    }));
                }
            }
        }
        all
    }
}

/// The integers of a product whose weights have them, brought into lowbit's order; output channels are their axis `axis`.
fn codes(
    importer: &Importer<'_>,
    node: &Node,
    out: usize,
    axis: usize,
    order: &Order,
) -> Result<Option<LayerCodes>, Fault> {
    let of = |index: usize| importer.model.codes.get(node.input(index)?);
    let Some(weight) = of(1) else {
        return Ok(None);
    };
    let per_channel = |scale: &[f32]| match scale {
        &[one] => vec![one; out],
        scale => scale.to_vec(),
    };
    if weight.scale.len() > 1 && weight.axis != axis {
        return Err(node.wrong(format!(
            "its weights have scales along axis {}: only output channels, axis {axis}, are supported",
            weight.axis
        )));
    }
    let bits = width(weight).ok_or_else(|| {
        node.wrong("its weights less their zero point do not fit 8 bits: quantize them as s8, symmetrically")
    })?;
    // In range, as `width` has seen.
    let weights = order.arranged(&weight.values, |code| code as i16);
    let bias = match of(2) {
        None => None,
        Some(bias) if bias.scale.len() > 1 && bias.scale.len() != out => {
            let scales = bias.scale.len();
            return Err(node.wrong(format!("its bias has {scales} scales for {out} outputs")));
        }
        Some(bias) => {
            let values = match &bias.values[..] {
                &[one] => vec![one; out],
                values => values.to_vec(),
            };
            Some((values, per_channel(&bias.scale)))
        }
    };
    Ok(Some(LayerCodes {
        bits,
        weights,
        scale: per_channel(&weight.scale),
        bias,
    }))
}

/// The narrowest width, from that in the file on, which holds integers; none where 8 bits do not, and the file has no 16.
fn width(codes: &Codes) -> Option<WeightBits> {
    use WeightBits::{B4, B8, B16, Ternary};
    let widths: &[WeightBits] = match codes.bits {
        Some(2) => &[Ternary, B4, B8],
        Some(4) => &[B4, B8],
        Some(16) => &[B16],
        _ => &[B8],
    };
    let low = codes.values.iter().copied().min().unwrap_or(0);
    let high = codes.values.iter().copied().max().unwrap_or(0);
    let holds = |bits: &WeightBits| {
        let limit = 1 << (bits.get() - 1);
        -limit <= low && high < limit
    };
    widths.iter().copied().find(holds)
}

/// The order of the features that a product reads, where it is not lowbit's.
fn last_axis(node: &Node, value: &Value, inner: usize) -> Result<Option<Vec<usize>>, Fault> {
    match value.axes.last() {
        Some(Axis::Channel) => Ok(None),
        Some(Axis::Flat(order)) => Ok(Some(places(order))),
        Some(Axis::Batch | Axis::One) if inner == 1 => Ok(None),
        _ => Err(node.wrong(format!(
            "it multiplies over an axis of {:?} that is not the channels",
            value.dims
        ))),
    }
}
