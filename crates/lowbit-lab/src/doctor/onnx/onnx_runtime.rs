//! Which nodes of a file ONNX Runtime runs in integers on an x86-64 processor: the rules of its QDQ transformers, without running
//! it. They are checked against the graphs that it really runs (bench/onnx/fusion.py).
//!
//! A node runs in integers where its inputs come from DequantizeLinear and its result goes into one QuantizeLinear, of types that
//! its integer form takes (`qdq_selectors.cc`). Before that, pairs move through operators that only move numbers
//! (`qdq_propagation.cc`), pairs of signed bytes that nobody else reads become unsigned (`qdq_s8_to_u8.cc`), and f32 weights and
//! biases between pairs are quantized (`weight_bias_quantization.cc`).

use super::grids::{
    DEQUANTIZE, Grid, QUANTIZE, dequantized_by, grid_of, has_fixed_activations, is, is_redundant,
    only_reader, passes, plain, quantized_by,
};
use super::products::{channel_axis, weights_of};
use lowbit_onnx::{Contents, ElementType, StoredNode};
use std::collections::HashSet;

/// Where a node runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement<'a> {
    /// The node.
    pub node: &'a StoredNode,
    /// Why it runs in f32; none where it runs in integers.
    pub float: Option<String>,
    /// Whether its weights are f32 in the file, and become integers of one scale when it is loaded.
    pub quantized_at_load: bool,
}

/// Operators with an integer form of one input, of several.
const UNARY: [&str; 5] = [
    "AveragePool",
    "GlobalAveragePool",
    "LeakyRelu",
    "Sigmoid",
    "Softmax",
];
const VARIADIC: [&str; 3] = ["Add", "Mul", "Concat"];
/// Operators that compute and have none.
const FLOAT_ONLY: [&str; 22] = [
    "BatchNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "LRN",
    "HardSigmoid",
    "HardSwish",
    "Swish",
    "Tanh",
    "Elu",
    "Gelu",
    "Erf",
    "PRelu",
    "Sub",
    "Div",
    "Pow",
    "Sqrt",
    "Exp",
    "Mish",
    "ReduceMean",
    "ReduceSum",
    "Sum",
    "ConvTranspose",
];

/// Where each node that computes runs; nothing of files whose activations are not quantized.
#[must_use]
pub fn placements(contents: &Contents) -> Vec<Placement<'_>> {
    if !has_fixed_activations(contents) {
        return Vec::new();
    }
    // What is computed of constants and of shapes alone is no activation: it is gone when the model runs.
    let mut aside: HashSet<&str> = contents.tensors.keys().map(String::as_str).collect();
    let mut placed = Vec::new();
    for node in &contents.nodes {
        let is_aside = |input: &String| input.is_empty() || aside.contains(input.as_str());
        if node.op == "Shape" || node.inputs.iter().all(is_aside) {
            aside.extend(node.outputs.iter().map(String::as_str));
        } else {
            placed.extend(place(contents, node));
        }
    }
    placed
}

fn place<'a>(contents: &'a Contents, node: &'a StoredNode) -> Option<Placement<'a>> {
    let op = node.op.as_str();
    let mut quantized_at_load = false;
    let float = match op {
        "Conv" | "Gemm" => match product(contents, node) {
            Ok(at_load) => {
                quantized_at_load = at_load;
                None
            }
            Err(why) => Some(why),
        },
        "MatMul" => matmul(contents, node).err(),
        "Relu" | "Clip" => match is_left(contents, node) {
            true => Some("no grid behind it cuts off what it does".into()),
            false => return None,
        },
        _ if UNARY.contains(&op) || VARIADIC.contains(&op) => elementwise(contents, node).err(),
        _ if FLOAT_ONLY.contains(&op) => Some(format!("ONNX Runtime has no {op} on integers")),
        _ => match plain(op) {
            op if op.starts_with("QLinear") || op == "QGemm" => None,
            _ => return None,
        },
    };
    Some(Placement {
        node,
        float,
        quantized_at_load,
    })
}

/// Whether a Relu or Clip stays a node of its own: it goes into an f32 product before it, and is needless where the grid behind it
/// cuts off as much.
fn is_left(contents: &Contents, node: &StoredNode) -> bool {
    let before = node.input(0).and_then(|input| contents.maker(input));
    let is_fused = before.is_some_and(|before| matches!(before.op.as_str(), "Conv" | "Gemm"));
    let behind = quantized_by(contents, node.output()).and_then(|q| grid_of(contents, q));
    !is_fused && !behind.is_some_and(|grid| is_redundant(contents, node, &grid))
}

/// The type that a value has before it is dequantized: signed bytes become unsigned where one reader alone has them.
fn input(contents: &Contents, node: &StoredNode, index: usize) -> Result<Grid, String> {
    let missing = || match node.inputs.len() {
        1 => "no DequantizeLinear before it".to_owned(),
        _ => format!("no DequantizeLinear before its input {}", index + 1),
    };
    let value = node.input(index).ok_or_else(missing)?;
    let dequantize = dequantized_by(contents, value).ok_or_else(missing)?;
    let mut grid = grid_of(contents, dequantize)
        .ok_or_else(|| "its input's scale is no constant".to_owned())?;
    let quantize = dequantize.input(0).and_then(|value| contents.maker(value));
    let quantize = quantize.filter(|maker| is(maker, QUANTIZE));
    if quantize.is_some_and(|quantize| is_alone(contents, quantize)) {
        to_unsigned(&mut grid);
    }
    Ok(grid)
}

/// Whether a QuantizeLinear makes a pair with one DequantizeLinear, whose result goes to one place.
fn is_alone(contents: &Contents, quantize: &StoredNode) -> bool {
    let places =
        |value: &str| contents.readers(value).count() + usize::from(contents.is_output(value));
    only_reader(contents, quantize.output())
        .is_some_and(|dequantize| is(dequantize, DEQUANTIZE) && places(dequantize.output()) <= 1)
}

/// Makes unsigned bytes of signed ones.
fn to_unsigned(grid: &mut Grid) {
    if grid.element == ElementType::Int(8) {
        grid.element = ElementType::Uint(8);
        grid.zero_point
            .iter_mut()
            .for_each(|zero| *zero = zero.saturating_add(128));
    }
}

/// The grid that a node's result goes to, through a Relu or Clip that the grid makes needless; nothing where it stays real.
fn output(contents: &Contents, node: &StoredNode) -> Result<Option<Grid>, String> {
    let value = node.output();
    let clip =
        only_reader(contents, value).filter(|reader| matches!(reader.op.as_str(), "Relu" | "Clip"));
    let end = clip.map_or(value, StoredNode::output);
    let Some(quantize) = quantized_by(contents, end) else {
        let readers = contents.readers(end).count();
        let into_grid = contents.readers(end).any(|reader| is(reader, QUANTIZE));
        return match (into_grid, clip) {
            (true, _) if contents.is_output(end) => {
                Err("its real result is an output of the model too".into())
            }
            (true, _) => Err(format!("{readers} nodes read its real result")),
            (false, Some(clip)) => Err(format!("no QuantizeLinear behind its {}", clip.op)),
            (false, None) => Ok(None),
        };
    };
    let mut grid = grid_of(contents, quantize)
        .ok_or_else(|| "the scale behind it is no constant".to_owned())?;
    if let Some(clip) = clip
        && !is_redundant(contents, clip, &grid)
    {
        return Err(format!(
            "the {} behind it cannot go into the grid ({} with zero point {})",
            clip.op,
            grid.element,
            grid.zero_point.first().copied().unwrap_or(0)
        ));
    }
    if is_alone(contents, quantize) {
        to_unsigned(&mut grid);
    }
    Ok(Some(grid))
}

fn need_output(contents: &Contents, node: &StoredNode) -> Result<Grid, String> {
    output(contents, node)?.ok_or_else(|| "no QuantizeLinear behind it".into())
}

fn is_wide(grid: &Grid) -> Result<(), String> {
    match grid.element.bits() {
        Some(8) => Ok(()),
        Some(bits) => Err(format!("it has no form for activations of {bits} bits")),
        None => Err("it has no form for activations of that type".into()),
    }
}

fn elementwise(contents: &Contents, node: &StoredNode) -> Result<(), String> {
    let mut first: Option<Grid> = None;
    for index in 0..node.inputs.len() {
        let grid = input(contents, node, index)?;
        is_wide(&grid)?;
        if first
            .as_ref()
            .is_some_and(|first| first.element != grid.element)
        {
            return Err("its inputs are of different types".into());
        }
        first = Some(grid);
        if UNARY.contains(&node.op.as_str()) {
            break;
        }
    }
    let behind = need_output(contents, node)?;
    match first {
        Some(first) if first.element == behind.element => Ok(()),
        _ => Err("s8 before it is read by others too, and u8 is behind it".into()),
    }
}

fn matmul(contents: &Contents, node: &StoredNode) -> Result<(), String> {
    let x = input(contents, node, 0)?;
    is_wide(&x)?;
    let w = match weights_of(contents, node) {
        Some(weights) => weights.grid,
        None => input(contents, node, 1)?,
    };
    narrow_weights(&w)?;
    if x.element != ElementType::Uint(8) {
        return Err("its input is s8 and read by others too".into());
    }
    match output(contents, node)? {
        Some(behind) if behind.element != x.element => Err("it goes from u8 to s8".into()),
        _ => Ok(()),
    }
}

fn narrow_weights(grid: &Grid) -> Result<(), String> {
    match grid.element.bits() {
        Some(8) => Ok(()),
        Some(bits) => Err(format!("weights of {bits} bits")),
        None => Err("weights of another type".into()),
    }
}

/// Whether a convolution's or linear layer's weights become integers when it is loaded; or why it runs in f32.
fn product(contents: &Contents, node: &StoredNode) -> Result<bool, String> {
    let is_gemm = node.op == "Gemm";
    let x = input(contents, node, 0)?;
    is_wide(&x)?;
    let weights = weights_of(contents, node);
    // What is quantized when the model is loaded needs a way to a grid without branches.
    let filled_in = || match quantized_without_passing(contents, node) {
        true => Ok(()),
        false => Err("f32 weights or biases, and no QuantizeLinear right behind it".to_owned()),
    };
    let at_load = match (&weights, node.input(1)) {
        (Some(weights), _) => {
            narrow_weights(&weights.grid)?;
            if is_gemm && !weights.grid.has_zero_point {
                return Err("the DequantizeLinear of its weights has no zero point".into());
            }
            false
        }
        (None, Some(value)) if contents.tensors.contains_key(value) => {
            filled_in()?;
            true
        }
        _ => return Err("its weights are no constants".into()),
    };
    if x.element != ElementType::Uint(8) && !is_gemm {
        return Err("its input is s8 and read by others too".into());
    }
    if let Some(value) = node.input(2) {
        if contents.tensors.contains_key(value) {
            let axis_fits = weights.as_ref().is_none_or(|weights| {
                let axis = channel_axis(node, weights.tensor.dims.len()) as i64;
                weights.grid.scale.len() == 1 || weights.axis == axis
            });
            filled_in()?;
            if !axis_fits {
                return Err("an f32 bias, and scales of another axis than its channels".into());
            }
        } else {
            bias(
                contents,
                value,
                &x,
                weights.as_ref().map(|weights| &weights.grid),
            )?;
            if is_gemm && node.float_or("beta", 1.0) != 1.0 {
                return Err("its beta is not 1".into());
            }
        }
    }
    let behind = match is_gemm {
        true => output(contents, node)?,
        false => Some(need_output(contents, node)?),
    };
    match behind {
        Some(behind) if behind.element != x.element => Err(format!(
            "{} goes in and {} comes out",
            x.element, behind.element
        )),
        _ => Ok(at_load),
    }
}

/// Whether nothing but a Relu or Clip stands between a node and its QuantizeLinear.
fn quantized_without_passing(contents: &Contents, node: &StoredNode) -> bool {
    let mut value = node.output();
    for _ in 0..contents.nodes.len() {
        match only_reader(contents, value) {
            Some(reader) if matches!(reader.op.as_str(), "Relu" | "Clip") => {
                value = reader.output()
            }
            // Pairs have moved through such operators before.
            reader => return reader.is_some_and(|reader| is(reader, QUANTIZE) || passes(reader)),
        }
    }
    false
}

fn bias(contents: &Contents, value: &str, x: &Grid, w: Option<&Grid>) -> Result<(), String> {
    let dequantize = contents
        .maker(value)
        .filter(|maker| is(maker, DEQUANTIZE))
        .ok_or("its bias is no constant")?;
    let grid = grid_of(contents, dequantize).ok_or("its bias has no constant scale")?;
    if grid.element != ElementType::Int(32) {
        return Err(format!("its bias is {}", grid.element));
    }
    match w.is_none_or(|w| super::bias::fits(&grid.scale, x, w)) {
        true => Ok(()),
        false => Err("the scale of its bias is not that of input times weight".into()),
    }
}
