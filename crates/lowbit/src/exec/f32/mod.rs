//! The operators in f32, one file each.

mod activation;
mod attention;
mod binary;
mod channels;
mod conv;
mod linear;
mod normalize;
mod pool;
mod tokens;

#[cfg(feature = "train")]
pub(crate) use activation::{RowFunction, per_element, unary};
#[cfg(feature = "train")]
pub(crate) use attention::Group as AttentionGroup;
#[cfg(feature = "train")]
pub(crate) use normalize::softmax;

use super::kernel::Kernel;
use crate::exec::moves::Move;
use crate::lower::Plan;
use crate::ops::{LayerNorm, Op};
use lowbit_kernels::Isa;
use lowbit_kernels::elementwise::{layer_norm_f32, sigmoid_f32};

/// Weights and bias of a step that has them.
pub(super) type Weights = (Vec<f32>, Vec<f32>);

/// The table of operators: the executable form of a step.
pub(super) fn kernel(
    plan: &Plan,
    index: usize,
    weights: Option<Weights>,
    isa: Isa,
) -> Box<dyn Kernel> {
    let layer = plan.exec.layer(&plan.exec.steps[index]);
    let relu = layer.epilogue.relu;
    let weights = || weights.expect("steps with products come with their weights");
    let function = |of| Box::new(activation::Unary::new(plan, index, isa, of));
    match layer.op {
        Op::Conv(conv) => Box::new(conv::Conv::new(plan, index, &conv, weights(), isa)),
        Op::Linear(_) => Box::new(linear::Linear::new(plan, index, weights(), isa)),
        Op::Relu => function(activation::per_element(|x| x.max(0.0))),
        Op::Sigmoid => function(activation::per_element(sigmoid_f32)),
        Op::MaxPool(pool) => Box::new(pool::Max(pool::Windows::new(
            plan,
            index,
            (pool.kernel, pool.stride, pool.padding),
            relu,
        ))),
        Op::Unary(unary) => function(activation::unary(unary)),
        Op::AvgPool(pool) => Box::new(pool::Mean::new(plan, index, &pool, relu)),
        Op::GlobalAvgPool => Box::new(pool::Global::new(plan, index, relu, isa)),
        Op::Add => Box::new(binary::Add::new(plan, index, relu, isa)),
        Op::Mul => Box::new(binary::Mul::new(plan, index, relu, isa)),
        Op::Concat => Box::new(channels::Concat::new(plan, index, relu)),
        Op::ChannelShuffle(shuffle) => {
            let c = plan.output(index).c;
            let sources = (0..c).map(|channel| shuffle.source(channel, c));
            Box::new(channels::Pick::new(plan, index, sources.collect(), relu))
        }
        Op::Slice(slice) => {
            let sources = slice.first..slice.first + slice.channels;
            Box::new(channels::Pick::new(plan, index, sources.collect(), relu))
        }
        Op::Softmax => {
            let c = plan.output(index).c;
            let function = move |x: &[f32], y: &mut [f32]| {
                let pixels = x.chunks_exact(c).zip(y.chunks_exact_mut(c));
                pixels.for_each(|(x, y)| normalize::softmax(x, y));
            };
            Box::new(normalize::PerPixel::new(plan, index, function))
        }
        Op::LayerNorm(LayerNorm { eps }) => {
            let c = plan.output(index).c;
            let function = move |x: &[f32], y: &mut [f32]| layer_norm_f32(isa, c, eps, x, y);
            Box::new(normalize::PerPixel::new(plan, index, function))
        }
        Op::Attention(attention) => {
            Box::new(attention::Attention::new(plan, index, attention, isa))
        }
        Op::Reshape(_) => Box::new(tokens::Tokens::new(plan, index, Move::Reshape, relu)),
        Op::Prefix(prefix) => {
            Box::new(tokens::Tokens::new(plan, index, Move::Prefix(prefix), relu))
        }
        Op::Transpose => Box::new(tokens::Tokens::new(plan, index, Move::Transpose, relu)),
        Op::Input | Op::BatchNorm(_) | Op::Flatten => {
            unreachable!("programs have no step for what moves no data or is fused")
        }
    }
}
