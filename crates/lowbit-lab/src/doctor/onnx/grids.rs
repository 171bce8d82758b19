//! Scales and zero points of an ONNX file's QuantizeLinear and DequantizeLinear nodes.

use lowbit_onnx::{Contents, ElementType, StoredNode};

/// What the integers of a value mean.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Grid {
    pub(super) element: ElementType,
    pub(super) scale: Vec<f32>,
    /// As many as scales; zeros where the file says none.
    pub(super) zero_point: Vec<i64>,
    /// Whether the file says the zero point.
    pub(super) has_zero_point: bool,
}

pub(super) const QUANTIZE: &str = "QuantizeLinear";
pub(super) const DEQUANTIZE: &str = "DequantizeLinear";

/// Operators that move numbers or choose among them, so that ONNX Runtime lets pairs through.
const PASSING: [&str; 6] = [
    "MaxPool",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
];

/// The operator without its domain: the pair has one of Microsoft's too.
pub(super) fn plain(op: &str) -> &str {
    op.rsplit('.').next().unwrap_or(op)
}

pub(super) fn is(node: &StoredNode, op: &str) -> bool {
    plain(&node.op) == op
}

pub(super) fn passes(node: &StoredNode) -> bool {
    PASSING.contains(&node.op.as_str())
}

/// The grid of a QuantizeLinear or DequantizeLinear whose parameters are constants.
pub(super) fn grid_of(contents: &Contents, node: &StoredNode) -> Option<Grid> {
    grid_at(contents, node, 1, || match is(node, DEQUANTIZE) {
        true => contents.constant(node, 0).map(|tensor| tensor.element),
        false => None,
    })
}

/// The grid whose scale and zero point are the inputs of a node from `index` on; `otherwise` says the type where the zero point
/// does not.
pub(super) fn grid_at(
    contents: &Contents,
    node: &StoredNode,
    index: usize,
    otherwise: impl Fn() -> Option<ElementType>,
) -> Option<Grid> {
    let scale = contents.constant(node, index)?.floats()?.to_vec();
    let zero = contents.constant(node, index + 1);
    let has_zero_point = zero.is_some();
    Some(Grid {
        element: otherwise()
            .or(zero.map(|zero| zero.element))
            .unwrap_or(ElementType::Uint(8)),
        zero_point: zero
            .and_then(|zero| zero.ints())
            .map_or_else(|| vec![0; scale.len()], <[i64]>::to_vec),
        scale,
        has_zero_point,
    })
}

impl Grid {
    /// The smallest and the largest real number that it has; none of floats, and of grids with several scales.
    pub(super) fn reach(&self) -> Option<[f64; 2]> {
        let ([scale], [zero], Some([low, high])) =
            (&self.scale[..], &self.zero_point[..], self.element.limits())
        else {
            return None;
        };
        let real = |code: i64| f64::from(*scale) * (code as f64 - *zero as f64);
        Some([real(low), real(high)])
    }
}

/// Whether what a Relu or Clip cuts off lies beyond a grid anyway.
pub(super) fn is_redundant(contents: &Contents, node: &StoredNode, behind: &Grid) -> bool {
    let Some([low, high]) = behind.reach() else {
        return false;
    };
    let number = |index: usize, key: &str| {
        let input = contents.constant(node, index);
        let input = input.and_then(|tensor| tensor.floats()?.first().copied());
        input
            .or_else(|| node.floats.get(key).copied())
            .map(f64::from)
    };
    let limits = match node.op.as_str() {
        "Relu" => [Some(0.0), None],
        "Clip" => [number(1, "min"), number(2, "max")],
        _ => return false,
    };
    let slack = f64::from(f32::EPSILON);
    limits[0].is_none_or(|min| min - low <= slack)
        && limits[1].is_none_or(|max| high - max <= slack)
}

/// The QuantizeLinear that a value goes into, through operators that let it pass, where nobody else reads it.
pub(super) fn quantized_by<'a>(contents: &'a Contents, value: &str) -> Option<&'a StoredNode> {
    let mut value = value.to_owned();
    for _ in 0..contents.nodes.len() {
        let node = only_reader(contents, &value)?;
        if is(node, QUANTIZE) {
            return Some(node);
        }
        if !passes(node) {
            return None;
        }
        node.output().clone_into(&mut value);
    }
    None
}

/// The one node that reads a value, where it is no output of the model.
pub(super) fn only_reader<'a>(contents: &'a Contents, value: &str) -> Option<&'a StoredNode> {
    let mut readers = contents.readers(value);
    let reader = readers.next()?;
    (readers.next().is_none() && !contents.is_output(value)).then_some(reader)
}

/// The DequantizeLinear that a value comes from, through operators that let it pass.
pub(super) fn dequantized_by<'a>(contents: &'a Contents, value: &str) -> Option<&'a StoredNode> {
    let mut value = value;
    for _ in 0..contents.nodes.len() {
        let node = contents.maker(value)?;
        if is(node, DEQUANTIZE) {
            return Some(node);
        }
        if !passes(node) {
            return None;
        }
        value = node.input(0)?;
    }
    None
}

/// Whether a file quantizes what flows between its nodes: not its weights alone, and not at run time.
pub(super) fn has_fixed_activations(contents: &Contents) -> bool {
    contents.nodes.iter().any(|node| {
        let quantizes = is(node, QUANTIZE)
            && node
                .input(0)
                .is_some_and(|input| !contents.tensors.contains_key(input));
        quantizes || plain(&node.op).starts_with("QLinear") || is(node, "QGemm")
    })
}
