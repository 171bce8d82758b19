//! The operators that lowbit runs, with the attributes that it knows: what is looked up, and what docs/onnx.md says.

use super::{
    Importer, activation, attention, channels, elementwise, layout, pad, pool, product, quantize,
    tokens,
};
use crate::error::Fault;
use crate::model::Node;

/// An operator of ONNX.
pub(crate) struct Operator {
    pub(crate) name: &'static str,
    /// Its attributes, also those that became inputs, and which values are supported.
    pub(crate) attributes: &'static [(&'static str, &'static str)],
    /// What is supported beyond that, for people: the page's third column.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) about: &'static str,
    pub(crate) import: fn(&mut Importer<'_>, &Node) -> Result<(), Fault>,
}

macro_rules! operators {
    ($($name:ident: $import:path, [$($attribute:ident $values:literal),*], $about:literal;)+) => {
        &[$(Operator {
            name: stringify!($name),
            attributes: &[$((stringify!($attribute), $values)),*],
            about: $about,
            import: $import,
        }),+]
    };
}

/// All of them, by name.
pub(crate) const OPERATORS: &[Operator] = operators! {
    Add: elementwise::binary, [], "two values of the same shape, or a value and a constant per channel, for all or of its shape";
    Attention: attention::of_onnx, [is_causal "0", qk_matmul_output_mode "ignored", scale "all", softcap "0", softmax_precision "ignored"], "of queries, keys and values with an axis of heads, without a mask";
    AveragePool: pool::average_pool, [auto_pad "all", ceil_mode "0, 1", count_include_pad "0, 1", dilations "1", kernel_shape "2-D", pads "all", strides "all"], "2-D";
    BatchNormalization: elementwise::batch_norm, [epsilon "all", momentum "ignored", spatial "1", training_mode "0"], "with constant statistics";
    ChannelShuffle: channels::shuffle, [groups "all"], "Reshape, Transpose and Reshape that shuffle channels";
    Clip: activation::clip, [min "all", max "all"], "with constant limits; also Max and Min with a number";
    Concat: channels::concat, [axis "the channels"], "also constant tokens before a value's";
    Conv: product::conv, [auto_pad "all", dilations "all", group "all", kernel_shape "2-D", pads "not negative", strides "all"], "2-D, with constant weights";
    DequantizeLinear: quantize::dequantize, [axis "that of a product's output channels", block_size "0", output_dtype "f32", precision "f32", saturate "ignored"], "of constants, and behind QuantizeLinear";
    Div: elementwise::binary, [], "a value by a constant per channel or for all";
    Elu: activation::elu, [alpha "all"], "";
    Flatten: layout::reshape, [axis "1, or what keeps the batch"], "";
    Gather: tokens::gather, [axis "the channels or the pixels"], "of one constant index";
    Gelu: activation::gelu, [approximate "none, tanh"], "also its parts with Erf";
    Gemm: product::gemm, [alpha "all", beta "all", transA "0", transB "0, 1"], "with constant weights";
    GlobalAveragePool: pool::global_average_pool, [], "2-D";
    GlobalMaxPool: pool::global_max_pool, [], "2-D";
    HardSigmoid: activation::hard_sigmoid, [alpha "all", beta "all"], "also its parts: Add, Clip, Div or Mul";
    HardSwish: activation::hard_swish, [], "also its parts";
    LayerNormalization: elementwise::layer_norm, [axis "the last", epsilon "all", stash_type "1"], "over channels that are last; also its parts";
    LeakyRelu: activation::leaky_relu, [alpha "all"], "";
    MatMul: product::matmul, [], "a value with a constant matrix, over the channels or the pixels";
    MaxPool: pool::max_pool, [auto_pad "all", ceil_mode "0, 1", dilations "1", kernel_shape "2-D", pads "smaller than the kernel", storage_order "ignored", strides "all"], "2-D, without indices";
    Mul: elementwise::binary, [], "two values of the same shape, a value and one factor per channel, or a value and a constant per channel or for all";
    MultiHeadAttention: attention::of_parts, [scale "all"], "MatMul, Softmax over the last axis and MatMul, of values, without a mask; heads are parts of the channels";
    Pad: pad::pad, [axes "rows and columns", mode "constant", pads "not negative", value "0; the least number before MaxPool"], "before Conv, AveragePool and MaxPool; zeros to the left of one row";
    QuantizeLinear: quantize::quantize, [axis "of constants", block_size "0", output_dtype "u8, s8", precision "f32", saturate "ignored"], "u8 and s8, a scale for all or per channel, one zero point, with DequantizeLinear behind it";
    ReduceMean: pool::reduce_mean, [axes "rows and columns, or tokens", keepdims "0, 1", noop_with_empty_axes "0"], "";
    Relu: activation::relu, [], "";
    Reshape: layout::reshape, [allowzero "0, 1"], "an image to a vector or to tokens; channels to heads; patches; extents of 1 come and go";
    Sigmoid: activation::sigmoid, [], "";
    Slice: channels::slice, [axes "the channels or the pixels", ends "all", starts "all", steps "1"], "";
    Softmax: channels::softmax, [axis "the channels"], "at the end of a model it is left out, as LogSoftmax and ArgMax are";
    Split: channels::split, [axis "the channels or the pixels", num_outputs "all", split "all"], "";
    Squeeze: layout::reshape, [axes "all"], "";
    Sub: elementwise::binary, [], "a value and a constant per channel or for all, or a constant of its shape from it";
    Sum: elementwise::binary, [], "values of the same shape";
    Swish: activation::swish, [alpha "1"], "also its parts: Sigmoid, Mul";
    Tanh: activation::tanh, [], "";
    Transpose: layout::transpose, [perm "all"], "moves no data: it renames axes";
    Unsqueeze: layout::reshape, [axes "all"], "";
};

/// The operator of that name.
pub(crate) fn find(name: &str) -> Option<&'static Operator> {
    OPERATORS.iter().find(|operator| operator.name == name)
}

/// The table of docs/onnx.md.
#[cfg(test)]
fn markdown() -> String {
    let mut text = "| operator | attributes, and what of them | |\n|---|---|---|\n".to_owned();
    for operator in OPERATORS {
        let attributes: Vec<String> = operator
            .attributes
            .iter()
            .map(|(name, values)| format!("`{name}` {values}"))
            .collect();
        text += &format!(
            "| {} | {} | {} |\n",
            operator.name,
            attributes.join("; "),
            operator.about
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_table_that_is_looked_up() {
        let page = include_str!("../../../../docs/onnx.md");
        let table = markdown();
        assert!(
            page.contains(&table),
            "docs/onnx.md must hold this table:\n{table}"
        );
    }

    #[test]
    fn operators_are_in_order_and_there_once() {
        assert!(OPERATORS.is_sorted_by(|a, b| a.name < b.name));
    }
}
