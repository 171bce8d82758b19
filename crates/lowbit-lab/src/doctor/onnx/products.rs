//! The quantized products of an ONNX file: of QDQ pairs, and of operators on integers.

use super::super::products::{Product, turned};
use super::grids::{DEQUANTIZE, Grid, QUANTIZE, grid_at, grid_of, is, plain};
use lowbit_onnx::{Contents, StoredNode, StoredTensor};

/// Where a product's weights stand: the tensor of integers or of floats that are quantized when the model is loaded.
pub(super) struct Weights<'a> {
    pub(super) tensor: &'a StoredTensor,
    pub(super) grid: Grid,
    /// The axis of the grid's scales, as the file says it.
    pub(super) axis: i64,
    /// The integers.
    pub(super) codes: Vec<i64>,
}

/// Whether a node is a product of a value with weights.
pub(super) fn is_product(node: &StoredNode) -> bool {
    matches!(
        plain(&node.op),
        "Conv" | "Gemm" | "MatMul" | "QLinearConv" | "QLinearMatMul" | "QGemm"
    )
}

/// The weights of a product where they are quantized.
pub(super) fn weights_of<'a>(contents: &'a Contents, node: &StoredNode) -> Option<Weights<'a>> {
    if matches!(plain(&node.op), "QLinearConv" | "QLinearMatMul" | "QGemm") {
        let tensor = contents.constant(node, 3)?;
        return Some(Weights {
            codes: tensor.ints()?.to_vec(),
            grid: grid_at(contents, node, 4, || Some(tensor.element))?,
            axis: match plain(&node.op) {
                "QLinearConv" => 0,
                "QGemm" => i64::from(node.int_or("transB", 0) == 0),
                _ => tensor.dims.len() as i64 - 1,
            },
            tensor,
        });
    }
    let dequantize = contents
        .maker(node.input(1)?)
        .filter(|maker| is(maker, DEQUANTIZE))?;
    let grid = grid_of(contents, dequantize)?;
    let axis = dequantize.int_or("axis", 1);
    if let Some(tensor) = contents.constant(dequantize, 0) {
        let codes = tensor.ints()?.to_vec();
        return Some(Weights {
            tensor,
            grid,
            axis,
            codes,
        });
    }
    let quantize = contents
        .maker(dequantize.input(0)?)
        .filter(|maker| is(maker, QUANTIZE))?;
    let tensor = contents.constant(quantize, 0)?;
    let codes = quantized(tensor, &grid, axis)?;
    Some(Weights {
        tensor,
        grid,
        axis,
        codes,
    })
}

/// What QuantizeLinear makes of a tensor.
fn quantized(tensor: &StoredTensor, grid: &Grid, axis: i64) -> Option<Vec<i64>> {
    let [low, high] = grid.element.limits()?;
    let inner = match usize::try_from(axis) {
        Ok(axis) => tensor
            .dims
            .get(axis + 1..)
            .unwrap_or(&[])
            .iter()
            .product::<usize>(),
        Err(_) => 1,
    };
    let channels = grid.scale.len();
    let code = |(index, &x): (usize, &f32)| {
        let channel = match channels {
            1 => 0,
            channels => index / inner.max(1) % channels,
        };
        let zero = grid.zero_point.get(channel).copied().unwrap_or(0);
        let steps = f64::from(x / grid.scale[channel]).round_ties_even();
        (steps as i64).saturating_add(zero).clamp(low, high)
    };
    let floats = tensor.floats().filter(|_| channels > 0)?;
    Some(floats.iter().enumerate().map(code).collect())
}

/// The axis of a product's output channels in its weights.
pub(super) fn channel_axis(node: &StoredNode, rank: usize) -> usize {
    match plain(&node.op) {
        "Conv" | "QLinearConv" => 0,
        "Gemm" | "QGemm" => usize::from(node.int_or("transB", 0) == 0),
        _ => rank.saturating_sub(1),
    }
}

/// All quantized products of a file.
pub(in super::super) fn products(contents: &Contents) -> Vec<Product> {
    let nodes = contents.nodes.iter().filter(|node| is_product(node));
    nodes.filter_map(|node| product(contents, node)).collect()
}

fn product(contents: &Contents, node: &StoredNode) -> Option<Product> {
    let weights = weights_of(contents, node)?;
    let dims = &weights.tensor.dims;
    if dims.len() < 2 || weights.codes.is_empty() {
        return None;
    }
    let axis = channel_axis(node, dims.len());
    let filters = dims[axis];
    let taps = weights.codes.len() / filters.max(1);
    let is_conv = matches!(plain(&node.op), "Conv" | "QLinearConv");
    let codes = match (axis, is_conv) {
        (0, true) => turned(&weights.codes, taps, taps / dims[1].max(1)),
        (0, false) => weights.codes,
        // All weights as one: from [in, out] to [out, in].
        _ => turned(&weights.codes, weights.codes.len(), filters),
    };
    let input = match plain(&node.op) {
        "QLinearConv" | "QLinearMatMul" | "QGemm" => true,
        _ => super::grids::dequantized_by(contents, node.input(0)?).is_some(),
    };
    let group = node.int_or("group", 1);
    Some(Product {
        name: node.name.clone(),
        is_depthwise: is_conv && group > 1 && dims[1] == 1,
        bits: weights.grid.element.bits()?,
        limits: weights.grid.element.limits()?,
        codes,
        filters,
        scales: weights.grid.scale,
        zero_points: weights.grid.zero_point,
        takes_bytes: input,
    })
}
