//! The operators in u8, one file each.

mod activation;
mod binary;
mod channels;
mod conv;
mod depthwise;
mod linear;
mod pool;
mod product;
mod tokens;

use super::kernel::Kernel;
use crate::exec::moves::Move;
use crate::lower::{Epilogue, Plan, Step};
use crate::ops::Op;
use crate::quant::{ActivationParams, Arithmetic, InputParams, QuantizedLayer};
use lowbit_kernels::Isa;

/// What the integers of a model's values mean.
pub(super) struct Values {
    /// Per value of the program.
    pub(super) params: Vec<ActivationParams>,
    /// The highest level.
    pub(super) high: u8,
    /// The image's, and how far its zero point lies from the real zero.
    pub(super) pixels: InputParams,
    /// Whether parameters are found in each batch.
    pub(super) dynamic: bool,
    /// How accumulators become a result's steps.
    pub(super) arithmetic: Arithmetic,
}

/// The integers of a step that has them.
pub(super) struct IntegerLayer<'a> {
    pub(super) layer: &'a QuantizedLayer,
    /// Whether activations have one bit; pixels have 8 whatever the activations have.
    pub(super) one_bit_input: bool,
}

/// The parameters of a step's inputs and result, and how the result is cut.
struct StepParams {
    inputs: Vec<ActivationParams>,
    output: ActivationParams,
    /// Lowest and highest result; a ReLU cuts at the zero point.
    bounds: [u8; 2],
    arithmetic: Arithmetic,
}

/// Lowest and highest level of a result: a ReLU cuts at the zero point, a ceiling at its own level.
fn bounds(epilogue: &Epilogue, output: ActivationParams, high: u8) -> [u8; 2] {
    let low = match epilogue.relu {
        true => output.zero_point,
        false => 0,
    };
    let level = |ceiling: f32| output.level(ceiling).clamp(low, high);
    [low, epilogue.ceiling.map_or(high, level)]
}

impl StepParams {
    fn new(plan: &Plan, index: usize, values: &Values) -> Self {
        let step = &plan.exec.steps[index];
        let of = |value: usize| values.params[plan.exec.values[value].value];
        let output = of(step.output);
        Self {
            inputs: step.inputs.iter().map(|&value| of(value)).collect(),
            output,
            bounds: bounds(&plan.exec.layer(step).epilogue, output, values.high),
            arithmetic: values.arithmetic,
        }
    }
}

impl StepParams {
    /// The levels of an input on the result's grid.
    fn moved(&self, which: usize) -> [u8; 256] {
        let (from, to) = (self.inputs[which], self.output);
        let level = |q: usize| self.arithmetic.move_to_grid(q as u8, from, to, self.bounds);
        std::array::from_fn(level)
    }
}

/// Whether a step can compute in u8; the others run in f32 between a dequantization and a quantization.
pub(super) fn has_form(step: &Step) -> bool {
    match step.op {
        Op::Conv(_)
        | Op::Linear(_)
        | Op::Relu
        | Op::Sigmoid
        | Op::MaxPool(_)
        | Op::GlobalAvgPool
        | Op::Add
        | Op::Mul
        | Op::Unary(_)
        | Op::AvgPool(_)
        | Op::Concat
        | Op::ChannelShuffle(_)
        | Op::Slice(_)
        | Op::Reshape(_)
        | Op::Prefix(_)
        | Op::Transpose => true,
        Op::Softmax
        | Op::LayerNorm(_)
        | Op::Attention(_)
        | Op::Input
        | Op::BatchNorm(_)
        | Op::Flatten => false,
    }
}

/// The table of operators: the executable form of a step that [`has_form`].
pub(super) fn kernel(
    plan: &Plan,
    index: usize,
    layer: Option<IntegerLayer<'_>>,
    values: &Values,
    isa: Isa,
) -> Box<dyn Kernel> {
    let step = plan.exec.layer(&plan.exec.steps[index]);
    let params = || StepParams::new(plan, index, values);
    let layer = || layer.expect("steps with products come with their integers");
    match step.op {
        Op::Conv(conv) => {
            let layer = layer();
            match depthwise::Depthwise::new(plan, index, &layer, values, isa) {
                Some(depthwise) => Box::new(depthwise),
                None => Box::new(conv::Conv::new(plan, index, &conv, layer, values, isa)),
            }
        }
        Op::Linear(_) => Box::new(linear::Linear::new(plan, index, layer(), values, isa)),
        Op::Relu => Box::new(activation::Table::relu(plan, index, &params(), isa)),
        Op::Sigmoid => {
            let sigmoid = crate::ops::sigmoid;
            let function = (sigmoid, |x: f32| sigmoid(f64::from(x)) as f32);
            Box::new(activation::Table::of(plan, index, &params(), isa, function))
        }
        Op::MaxPool(pool) => Box::new(pool::Max::new(plan, index, &pool, params())),
        Op::GlobalAvgPool => Box::new(pool::Global::new(plan, index, &params(), isa)),
        Op::Add => Box::new(binary::Add::new(plan, index, &params(), isa)),
        Op::Mul => Box::new(binary::Mul::new(plan, index, &params(), isa)),
        Op::Unary(unary) => {
            let function = (move |x| unary.value(x), move |x| unary.value_f32(x));
            Box::new(activation::Table::of(plan, index, &params(), isa, function))
        }
        Op::AvgPool(pool) => Box::new(pool::Mean::new(plan, index, &pool, &params())),
        Op::Concat => Box::new(channels::Concat::new(plan, index, &params(), isa)),
        Op::ChannelShuffle(shuffle) => {
            let c = plan.output(index).c;
            let sources = (0..c).map(|channel| shuffle.source(channel, c)).collect();
            Box::new(channels::Pick::new(plan, index, sources, &params(), isa))
        }
        Op::Slice(slice) => {
            let sources = (slice.first..slice.first + slice.channels).collect();
            Box::new(channels::Pick::new(plan, index, sources, &params(), isa))
        }
        Op::Reshape(_) => Box::new(tokens::Tokens::new(plan, index, Move::Reshape, &params())),
        Op::Prefix(prefix) => Box::new(tokens::Tokens::new(
            plan,
            index,
            Move::Prefix(prefix),
            &params(),
        )),
        Op::Transpose => Box::new(tokens::Tokens::new(plan, index, Move::Transpose, &params())),
        Op::Softmax
        | Op::LayerNorm(_)
        | Op::Attention(_)
        | Op::Input
        | Op::BatchNorm(_)
        | Op::Flatten => {
            unreachable!("steps without an integer form run in f32")
        }
    }
}
