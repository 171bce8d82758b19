//! What QuantizeLinear and DequantizeLinear say: the integers of weights and biases, and the grids of values.

use crate::constant::{Byte, Codes, Constant};
use crate::error::Fault;
use crate::model::{Model, Node};
use lowbit::quant::ActivationParams;

/// The scales and zero points of a node.
struct Parameters<'a> {
    scale: &'a [f32],
    zero_point: Vec<i64>,
    axis: usize,
    byte: Option<Byte>,
}

impl Parameters<'_> {
    /// The scale and the zero point of element `at` of a tensor.
    fn of(&self, at: usize, dims: &[usize]) -> (f32, i64) {
        let index = match self.scale.len() {
            1 => 0,
            len => at / dims[self.axis + 1..].iter().product::<usize>().max(1) % len,
        };
        let zero_point = self.zero_point[index % self.zero_point.len()];
        (self.scale[index], zero_point)
    }
}

/// ONNX's numbers of types.
const FLOAT: i64 = 1;
const UINT8: i64 = 2;
const INT8: i64 = 3;

/// Attributes that both operators may have.
const ATTRIBUTES: [&str; 5] = [
    "axis",
    "block_size",
    "output_dtype",
    "precision",
    "saturate",
];

/// Reads the scales and zero points of a node whose first input has these extents.
fn parameters<'a>(model: &'a Model, node: &Node, dims: &[usize]) -> Result<Parameters<'a>, Fault> {
    node.only(&ATTRIBUTES)?;
    if node.int_or("block_size", 0)? != 0 {
        return Err(node.wrong("block_size: only one scale, or one per channel, is supported"));
    }
    // Everything is computed in f32.
    for key in ["precision", "output_dtype"] {
        let kind = node.int_or(key, 0)?;
        let is_of_integers = key == "output_dtype" && node.op == "QuantizeLinear";
        if !is_of_integers && !matches!(kind, 0 | FLOAT) {
            return Err(node.wrong(format!("{key}={kind}: only f32 ({FLOAT}) is supported")));
        }
    }
    let missing = || node.wrong("its scale is not constant: only static quantization is read");
    let scale = model.constant(node, 1).and_then(Constant::floats);
    let scale = scale
        .filter(|scale| !scale.is_empty())
        .ok_or_else(missing)?;
    if let Some(scale) = scale.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        return Err(node.wrong(format!("its scale is {scale}, expected a positive number")));
    }
    let (zero_point, byte) = match node.input(2) {
        None => (vec![0], None),
        Some(_) => {
            let constant = model.constant(node, 2);
            let ints = constant.and_then(|constant| Some((constant.ints()?, constant.byte())));
            let (ints, byte) = ints
                .filter(|(ints, _)| ints.len() == scale.len())
                .ok_or_else(|| node.wrong("its zero point is no constant like its scale"))?;
            (ints.to_vec(), byte)
        }
    };
    let axis = match scale.len() {
        1 => 0,
        len => {
            let axis = node.int_or("axis", 1)?;
            let rank = dims.len() as i64;
            let axis = if axis < 0 { axis + rank } else { axis };
            // A vector has one axis alone.
            let axis = if rank == 1 { 0 } else { axis };
            let fits = usize::try_from(axis)
                .ok()
                .filter(|&axis| dims.get(axis) == Some(&len));
            fits.ok_or_else(|| {
                node.wrong(format!("it has {len} scales along axis {axis} of {dims:?}"))
            })?
        }
    };
    Ok(Parameters {
        scale,
        zero_point,
        axis,
        byte,
    })
}

/// What QuantizeLinear makes of a constant, and DequantizeLinear; none where a node is neither, or reads a value.
pub(crate) fn of_constant(
    model: &Model,
    node: &Node,
) -> Result<Option<(Constant, Option<Codes>)>, Fault> {
    let quantizes = node.op == "QuantizeLinear";
    if !quantizes && node.op != "DequantizeLinear" {
        return Ok(None);
    }
    let Some(x) = model.constant(node, 0) else {
        return Ok(None);
    };
    let parameters = parameters(model, node, &x.dims)?;
    if quantizes {
        return Ok(Some((rounded(node, x, &parameters)?, None)));
    }
    let ints = x
        .ints()
        .ok_or_else(|| node.wrong("it dequantizes floats"))?;
    let mut codes = Codes {
        values: Vec::with_capacity(ints.len()),
        bits: x
            .stored
            .map(|stored| stored.bits)
            .filter(|&bits| bits <= 16),
        scale: parameters.scale.to_vec(),
        axis: parameters.axis,
    };
    let mut reals = Vec::with_capacity(ints.len());
    for (at, &code) in ints.iter().enumerate() {
        let (scale, zero_point) = parameters.of(at, &x.dims);
        let code = code.saturating_sub(zero_point);
        let code = i32::try_from(code)
            .map_err(|_| node.wrong(format!("its integer {code} has more than 32 bits")))?;
        codes.values.push(code);
        reals.push(code as f32 * scale);
    }
    Ok(Some((Constant::float(x.dims.clone(), reals), Some(codes))))
}

/// A constant of floats as the integers that are nearest.
fn rounded(node: &Node, x: &Constant, parameters: &Parameters<'_>) -> Result<Constant, Fault> {
    let reals = x
        .floats()
        .ok_or_else(|| node.wrong("it quantizes integers"))?;
    let byte = byte(node, parameters)?;
    let [low, high] = match byte {
        Byte::Signed => [-128.0, 127.0],
        Byte::Unsigned => [0.0, 255.0],
    };
    let level = |(at, &real): (usize, &f32)| {
        let (scale, zero_point) = parameters.of(at, &x.dims);
        let level = (real / scale).round_ties_even() + zero_point as f32;
        level.clamp(low, high) as i64
    };
    let levels = reals.iter().enumerate().map(level).collect();
    Ok(Constant::int(x.dims.clone(), levels).stored_as(Some(byte.into())))
}

/// The type that a QuantizeLinear gives.
fn byte(node: &Node, parameters: &Parameters<'_>) -> Result<Byte, Fault> {
    let is_there = node.input(2).is_some();
    let said = match node.int_or("output_dtype", 0)? {
        0 => None,
        UINT8 => Some(Byte::Unsigned),
        INT8 => Some(Byte::Signed),
        kind => {
            let only = format!("only u8 ({UINT8}) and s8 ({INT8}) are supported");
            return Err(node.wrong(format!("output_dtype={kind}: {only}")));
        }
    };
    match (parameters.byte, is_there) {
        (Some(byte), _) if said.is_none_or(|said| said == byte) => Ok(byte),
        (Some(_), _) => Err(node.wrong("its output_dtype is another type than its zero point's")),
        (None, false) => Ok(said.unwrap_or(Byte::Unsigned)),
        (None, true) => {
            Err(node.wrong("its zero point is not of 8 bits: only u8 and s8 are supported"))
        }
    }
}

/// What the integers of a value of the image mean.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    /// The grid of all of them; with a scale per channel the coarsest.
    pub(crate) params: ActivationParams,
    pub(crate) byte: Byte,
    pub(crate) channels: Option<ChannelScales>,
}

/// Scales per channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChannelScales {
    pub(crate) scale: Vec<f32>,
    pub(crate) axis: usize,
}

/// The grid of a value of the image, as u8: what a QuantizeLinear rounds to, or a DequantizeLinear takes integers of type
/// `byte` for. Signed integers are 128 lower than the bytes that stand for them here.
pub(crate) fn grid(model: &Model, node: &Node, from: Option<Byte>) -> Result<Grid, Fault> {
    let dims = model.shape(node.need(0)?);
    let parameters = parameters(model, node, dims)?;
    let zero_point = parameters.zero_point[0];
    if parameters.zero_point.iter().any(|&z| z != zero_point) {
        return Err(node.wrong("it has a zero point per channel: only one for all is supported"));
    }
    let scale = parameters.scale.iter().copied().fold(0.0, f32::max);
    let channels = (parameters.scale.len() > 1).then(|| ChannelScales {
        scale: parameters.scale.to_vec(),
        axis: parameters.axis,
    });
    let byte = match from {
        Some(byte) => byte,
        None => self::byte(node, &parameters)?,
    };
    let zero_point = match byte {
        Byte::Signed => zero_point.saturating_add(128),
        Byte::Unsigned => zero_point,
    };
    let zero_point =
        u8::try_from(zero_point).map_err(|_| node.wrong("its zero point does not fit its type"))?;
    Ok(Grid {
        params: ActivationParams { scale, zero_point },
        byte,
        channels,
    })
}

/// The integers of a constant that a node moves: those of its first input, where that has any.
pub(crate) fn moved(
    model: &mut Model,
    node: &Node,
    evaluate: impl Fn(&Model, &Node) -> Result<Option<Vec<Constant>>, Fault>,
) -> Result<Option<Codes>, Fault> {
    const MOVES: [&str; 6] = [
        "Identity",
        "Transpose",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
    ];
    let Some(name) = node.input(0).filter(|_| MOVES.contains(&node.op.as_str())) else {
        return Ok(None);
    };
    let (Some(codes), Some(constant)) = (model.codes.get(name), model.constants.get(name)) else {
        return Ok(None);
    };
    let (codes, old) = (codes.clone(), constant.dims.clone());
    let ints = codes.values.iter().map(|&code| i64::from(code)).collect();
    let mut integers = format!("{name}:codes");
    // A file may have a value of that name.
    while model.shapes.contains_key(&integers) || model.constants.contains_key(&integers) {
        integers.push('_');
    }
    model.shapes.insert(integers.clone(), old.clone());
    model
        .constants
        .insert(integers.clone(), Constant::int(old.clone(), ints));
    let mut mover = node.clone();
    mover.inputs[0].clone_from(&integers);
    let moved = evaluate(model, &mover)?;
    model.constants.remove(&integers);
    model.shapes.remove(&integers);
    let Some(moved) = moved.and_then(|moved| moved.into_iter().next()) else {
        return Ok(None);
    };
    let before = |dims: &[usize], axis: usize| dims[..axis].iter().product::<usize>();
    let axis = match (codes.scale.len(), node.op.as_str()) {
        (1, _) => Some(0),
        (_, "Transpose") => match node.ints("perm")? {
            Some(order) => order.iter().position(|&from| from == codes.axis as i64),
            None => Some(old.len() - 1 - codes.axis),
        },
        _ => (0..moved.dims.len()).find(|&axis| {
            moved.dims[axis] == old[codes.axis]
                && before(&moved.dims, axis) == before(&old, codes.axis)
        }),
    };
    let values = moved.ints().unwrap_or_default();
    Ok(axis.map(|axis| Codes {
        values: values.iter().map(|&code| code as i32).collect(),
        axis,
        ..codes
    }))
}
