//! What imported networks have beside the zoo's operators: groups, dilation, tokens.

use super::*;
use crate::graph::{
    Attention, AvgPool, Conv, LayerNorm, MaxPool, NodeId, Prefix, Reshape, Slice, Unary,
};

fn conv(out_channels: usize, kernel: [usize; 2], groups: usize) -> Conv {
    Conv {
        out_channels,
        kernel,
        stride: [1, 1],
        padding: [kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2],
        dilation: [1, 1],
        groups,
        bias: true,
    }
}

/// Groups (ResNeXt, RegNet), dilation, a stride of its own each way, padding wider than the kernel, several filters for each channel,
/// and a convolution as the last layer.
fn groups(input: Shape, names: &[String]) -> Graph {
    let mut graph = GraphBuilder::new("test", input, names);
    let x = graph.conv("stem", 0, 6, 3, (1, 1), true);
    let mut add = |name: &str, conv: Conv, x: NodeId, relu: bool| {
        let x = graph.add(name, Op::Conv(conv), &[x]);
        match relu {
            true => graph.add(&format!("{name}_relu"), Op::Relu, &[x]),
            false => x,
        }
    };
    let grouped = add("grouped", conv(8, [3, 3], 2), x, true);
    let dilated = Conv {
        dilation: [2, 3],
        padding: [2, 3, 2, 3],
        ..conv(8, [3, 3], 1)
    };
    let dilated = add("dilated", dilated, x, true);
    let uneven = Conv {
        stride: [2, 1],
        ..conv(12, [3, 2], 4)
    };
    let wide = Conv {
        padding: [2, 1, 1, 3],
        stride: [2, 2],
        ..conv(6, [2, 1], 1)
    };
    let uneven = add("uneven", uneven, grouped, false);
    let several = add("several", conv(16, [3, 3], 8), dilated, true);
    let wide = add("wide", wide, several, true);
    let x = graph.add("uneven_mean", Op::GlobalAvgPool, &[uneven]);
    let y = graph.add("wide_mean", Op::GlobalAvgPool, &[wide]);
    let x = graph.add("concat", Op::Concat, &[x, y]);
    let last = Conv {
        padding: [0; 4],
        ..conv(names.len(), [1, 1], 1)
    };
    let x = graph.add("last", Op::Conv(last), &[x]);
    graph.add("flatten", Op::Flatten, &[x]);
    graph.finish().unwrap()
}

/// A transformer of two heads over patches behind a class token with a place each (Dosovitskiy et al. 2021), a mixing of its tokens
/// (Tolstikhin et al. 2021), and a summand per channel.
fn tokens(input: Shape, names: &[String]) -> Graph {
    const C: usize = 8;
    let mut graph = GraphBuilder::new("test", input, names);
    let patches = Conv {
        stride: [3, 3],
        padding: [0; 4],
        ..conv(C, [3, 3], 1)
    };
    let patches = graph.add("patches", Op::Conv(patches), &[0]);
    let count = (input.h() / 3) * (input.w() / 3) + 1;
    let x = graph.add("class", Op::Prefix(Prefix { tokens: 1 }), &[patches]);
    let x = graph.add("flat", Op::Flatten, &[x]);
    let x = graph.add("position", Op::affine(count * C), &[x]);
    let reshape = |h, w, c| Op::Reshape(Reshape { h, w, c });
    let x = graph.add("tokens", reshape(1, count, C), &[x]);
    let norm = Op::LayerNorm(LayerNorm { eps: 1e-5 });
    let y = graph.add("norm1", norm, &[x]);
    let y = graph.add("norm1_affine", Op::affine(C), &[y]);
    let all = graph.add("qkv", Op::linear(3 * C), &[y]);
    let parts = ["q", "k", "v"].map(|name| {
        let first = ["q", "k", "v"].iter().position(|it| *it == name).unwrap() * C;
        graph.add(name, Op::Slice(Slice { first, channels: C }), &[all])
    });
    let attention = Op::Attention(Attention {
        heads: 2,
        scale: 0.9,
        patch: [1, 1],
    });
    let y = graph.add("attention", attention, &parts);
    let y = graph.add("out", Op::linear(C), &[y]);
    let x = graph.add("add1", Op::Add, &[x, y]);
    // Tokens are mixed as channels are.
    let y = graph.add("transpose", Op::Transpose, &[x]);
    let y = graph.add("mix", Op::linear(count), &[y]);
    let y = graph.add("back", Op::Transpose, &[y]);
    let x = graph.add("add2", Op::Add, &[x, y]);
    let y = graph.add("weights", Op::Softmax, &[x]);
    let x = graph.add("add3", Op::Add, &[x, y]);
    // Read with padding: the reshape moves its elements.
    let x = graph.add("image", reshape(count, 1, C), &[x]);
    let image = graph.add("image_conv", Op::Conv(conv(C, [3, 1], 1)), &[x]);
    let term = graph.add("mean", Op::GlobalAvgPool, &[image]);
    let x = graph.add("per_channel", Op::Add, &[image, term]);
    let x = graph.add("per_channel_relu", Op::Relu, &[x]);
    let x = graph.add("mean2", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(names.len()), &[x]);
    graph.finish().unwrap()
}

/// Attention at places of patches whose inputs have halos, with a ReLU; queries that are read again elsewhere.
fn places(input: Shape, names: &[String]) -> Graph {
    let mut graph = GraphBuilder::new("test", input, names);
    let x = graph.conv("stem", 0, 6, 3, (1, 1), true);
    let [q, k, v] = ["q", "k", "v"].map(|name| graph.conv(name, x, 6, 3, (1, 1), true));
    let attention = Op::Attention(Attention {
        heads: 3,
        scale: -0.8,
        patch: [2, 3],
    });
    let y = graph.add("attention", attention, &[q, k, v]);
    let y = graph.add("attention_relu", Op::Relu, &[y]);
    let y = graph.conv("after", y, 6, 3, (1, 1), true);
    let again = graph.conv("again", q, 6, 3, (1, 1), true);
    let y = graph.add("add", Op::Add, &[y, again]);
    let y = graph.add("mean", Op::GlobalAvgPool, &[y]);
    graph.add("fc", Op::linear(names.len()), &[y]);
    graph.finish().unwrap()
}

/// Batch-norm and a clip behind linear layers.
fn normalized_vectors(input: Shape, names: &[String]) -> Graph {
    let mut graph = GraphBuilder::new("test", input, names);
    let x = graph.add("flatten", Op::Flatten, &[0]);
    let x = graph.add("conv_over_one_pixel", Op::linear(20), &[x]);
    let x = graph.batch_norm("bn1", x);
    let x = graph.add("relu1", Op::Relu, &[x]);
    let x = graph.add("fc2", Op::linear(9), &[x]);
    let clip = Unary::Clip { min: 0.0, max: 0.7 };
    let x = graph.add("clip", Op::Unary(clip), &[x]);
    graph.add("fc3", Op::linear(names.len()), &[x]);
    graph.finish().unwrap()
}

/// A ReLU behind everything of one input that stands alone, side by side so that no gradient dies away.
fn cut(input: Shape, names: &[String]) -> Graph {
    let mut graph = GraphBuilder::new("test", input, names);
    let x = graph.conv("stem", 0, 6, 3, (1, 1), true);
    let pool = AvgPool {
        kernel: [3, 2],
        stride: [1, 1],
        padding: [1, 1, 1, 0],
        counted_padding: [0; 4],
    };
    let most = MaxPool {
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1; 4],
    };
    let slope = Unary::LeakyRelu { slope: 0.3 };
    let norm = Op::LayerNorm(LayerNorm { eps: 1e-5 });
    let ops = [
        Op::AvgPool(pool),
        Op::MaxPool(most),
        Op::Unary(slope),
        Op::Unary(Unary::Gelu { tanh: false }),
        norm,
        Op::Transpose,
        Op::GlobalAvgPool,
    ];
    let mut means = Vec::new();
    for (number, op) in ops.into_iter().enumerate() {
        // Small numbers of both signs, with a halo for what follows.
        let y = graph.conv(&format!("own{number}"), x, 6, 3, (1, 1), true);
        let y = graph.add(&format!("op{number}"), op, &[y]);
        let y = graph.add(&format!("relu{number}"), Op::Relu, &[y]);
        let y = graph.conv(&format!("after{number}"), y, 4, 1, (1, 0), true);
        means.push(graph.add(&format!("mean{number}"), Op::GlobalAvgPool, &[y]));
    }
    let x = graph.add("concat", Op::Concat, &means);
    graph.add("fc", Op::linear(names.len()), &[x]);
    graph.finish().unwrap()
}

#[test]
fn gradients_through_a_cut_behind_anything_agree_with_finite_differences() {
    let graph = cut(Shape::new(7, 6, 3), &classes(3));
    let program = graph.program().unwrap();
    let is_cut = |step: &&crate::graph::Step| step.name.starts_with("op") && step.epilogue.relu;
    assert_eq!(program.steps().iter().filter(is_cut).count(), 7);
    check_gradients(&graph);
}

#[test]
fn gradients_of_groups_dilation_and_uneven_strides_agree_with_finite_differences() {
    check_gradients(&groups(Shape::new(9, 8, 3), &classes(3)));
}

#[test]
fn gradients_of_tokens_agree_with_finite_differences() {
    check_gradients(&tokens(Shape::new(9, 6, 3), &classes(3)));
    check_gradients(&places(Shape::new(4, 6, 2), &classes(3)));
}

#[test]
fn gradients_of_normalized_vectors_agree_with_finite_differences() {
    check_gradients(&normalized_vectors(Shape::new(4, 3, 3), &classes(3)));
}

#[test]
fn imported_networks_learn_quantized_at_every_width_and_ship_what_was_trained() {
    use crate::WeightBits as B;
    type Build = fn(Shape, &[String]) -> Graph;
    let networks: [(&str, Build); 4] = [
        ("groups", groups),
        ("tokens", tokens),
        ("places", places),
        ("vectors", normalized_vectors),
    ];
    for (name, build) in networks {
        let graph = build(Shape::new(12, 12, 3), &classes(6));
        for bits in [B::B16, B::B8, B::B4, B::B2, B::B1] {
            let (mut trainer, first, last) = qat(&graph, QatConfig::of(bits), 60);
            assert!(last < 0.9 * first, "{name}, {bits}: loss {first} to {last}");
            ships_what_was_trained(&graph, &mut trainer, &format!("{name}, {bits}"));
        }
    }
}

#[test]
fn imported_networks_are_the_same_bits_at_any_number_of_threads() {
    for build in [groups, tokens, places] {
        let graph = build(Shape::new(12, 12, 3), &classes(6));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            let config = QatConfig::of(crate::WeightBits::B8);
            pool.install(|| qat(&graph, config, 4).0.weights())
        };
        assert_eq!(run(1), run(3));
    }
}
