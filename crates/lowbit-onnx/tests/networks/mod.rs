//! Small networks with weights of a formula, for what is exported.

use lowbit::graph::{
    Attention, AvgPool, ChannelShuffle, Conv, GraphBuilder, LayerNorm, MaxPool, NodeId,
    Normalization, Op, Prefix, Reshape, Slice, Unary, zoo,
};
use lowbit::{Graph, Shape, Tensor, Weights};

/// Numbers between −1 and 1 that look like noise.
pub struct Noise(pub u32);

impl Noise {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Pixels of `count` images: noise over a slope, so that images differ in their means.
pub fn images(shape: Shape, count: usize) -> Vec<u8> {
    let mut noise = Noise(count as u32);
    let len = shape.len();
    (0..count * len)
        .map(|i| {
            let slope = (i / len * 37 + i % len * 90 / len) as f32 % 150.0;
            (slope + 50.0 * (noise.next() + 1.0)) as u8
        })
        .collect()
}

/// Weights of about the size that training gives; statistics of batch-norms that do something.
pub fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::init(graph, 7);
    let mut noise = Noise(1);
    for parameter in graph.parameters() {
        let is = |suffix: &str| parameter.name.ends_with(suffix);
        let scale = match (is(".running_var"), is(".running_mean"), is(".bias")) {
            (true, ..) => [1.0, 0.5],
            (_, true, _) => [0.0, 0.2],
            (.., true) => [0.05, 0.3],
            _ => continue,
        };
        let count = parameter.shape.iter().product();
        let data = (0..count).map(|_| scale[0] + scale[1] * noise.next());
        weights.insert(
            parameter.name.clone(),
            Tensor::new(parameter.shape.clone(), data.collect()),
        );
    }
    weights
}

fn classes(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class {class}")).collect()
}

fn conv(out_channels: usize, kernel: usize, stride: usize, groups: usize) -> Op {
    Op::Conv(Conv {
        stride: [stride; 2],
        groups,
        ..Conv::same(out_channels, kernel)
    })
}

/// Inverted bottlenecks with ReLU6, a residual, and a normalization per channel.
fn bottlenecks() -> Graph {
    let relu6 = || Op::Unary(Unary::Clip { min: 0.0, max: 6.0 });
    let mut graph = GraphBuilder::new("bottlenecks", Shape::new(24, 20, 3), &classes(5));
    let mut x = graph.add("stem", conv(8, 3, 2, 1), &[0]);
    x = graph.add("stem_clip", relu6(), &[x]);
    for (block, stride) in [(0, 1), (1, 2), (2, 1)] {
        let name = |part: &str| format!("block{block}_{part}");
        let mut y = graph.add(&name("expand"), conv(16, 1, 1, 1), &[x]);
        y = graph.add(&name("expand_clip"), relu6(), &[y]);
        y = graph.add(&name("depthwise"), conv(16, 3, stride, 16), &[y]);
        y = graph.add(&name("depthwise_clip"), relu6(), &[y]);
        y = graph.add(&name("project"), conv(8, 1, 1, 1), &[y]);
        x = match stride {
            1 => graph.add(&name("add"), Op::Add, &[y, x]),
            _ => y,
        };
    }
    x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    x = graph.add("flatten", Op::Flatten, &[x]);
    graph.add("fc", Op::linear(5), &[x]);
    let normalization = Normalization::per_channel(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);
    graph.normalization(normalization).finish().unwrap()
}

/// Whatever else has a form in integers: pools, concatenation, shuffle, slice, a factor per channel, tables.
fn mixture() -> Graph {
    let mut graph = GraphBuilder::new("mixture", Shape::new(17, 19, 3), &classes(4));
    let stem = graph.add("stem", conv(12, 3, 1, 1), &[0]);
    let x = graph.add("stem_swish", Op::Unary(Unary::HardSwish), &[stem]);
    let pool = MaxPool {
        kernel: [3; 2],
        stride: [2; 2],
        padding: [1; 4],
    };
    let x = graph.add("pool", Op::MaxPool(pool), &[x]);
    let left = Slice {
        first: 0,
        channels: 5,
    };
    let right = Slice {
        first: 5,
        channels: 7,
    };
    let left = graph.add("left", Op::Slice(left), &[x]);
    let right = graph.add("right", Op::Slice(right), &[x]);
    let left = graph.add("left_conv", conv(5, 3, 1, 5), &[left]);
    let x = graph.add("concat", Op::Concat, &[left, right]);
    let shuffle = ChannelShuffle { groups: 3 };
    let x = graph.add("shuffle", Op::ChannelShuffle(shuffle), &[x]);
    let y = graph.add("squeeze", Op::GlobalAvgPool, &[x]);
    let y = graph.add("reduce", conv(6, 1, 1, 1), &[y]);
    let y = graph.add("reduce_relu", Op::Relu, &[y]);
    let y = graph.add("widen", conv(12, 1, 1, 1), &[y]);
    let hard = Unary::HardSigmoid {
        alpha: 0.2,
        beta: 0.5,
    };
    let y = graph.add("gate", Op::Unary(hard), &[y]);
    let x = graph.add("excite", Op::Mul, &[x, y]);
    let mean = AvgPool {
        kernel: [3; 2],
        stride: [2; 2],
        padding: [1; 4],
        counted_padding: [1, 1, 0, 0],
    };
    let x = graph.add("mean", Op::AvgPool(mean), &[x]);
    let x = graph.add("grouped", conv(9, 3, 1, 3), &[x]);
    let x = graph.add("grouped_silu", Op::Unary(Unary::Silu), &[x]);
    let x = graph.add("flatten", Op::Flatten, &[x]);
    let x = graph.add("hidden", Op::linear(10), &[x]);
    let x = graph.add(
        "hidden_leaky",
        Op::Unary(Unary::LeakyRelu { slope: 0.1 }),
        &[x],
    );
    graph.add("fc", Op::linear(4), &[x]);
    let normalization = Normalization::uniform(0.0, 1.0);
    graph.normalization(normalization).finish().unwrap()
}

/// `x + constant`, a number for each element.
fn embedded(graph: &mut GraphBuilder, x: NodeId, [h, w, c]: [usize; 3]) -> NodeId {
    let x = graph.add("position_flat", Op::Flatten, &[x]);
    let x = graph.add("position", Op::affine(h * w * c), &[x]);
    graph.add("position_tokens", Op::Reshape(Reshape { h, w, c }), &[x])
}

fn linear(graph: &mut GraphBuilder, name: &str, x: NodeId, features: usize) -> NodeId {
    graph.add(name, Op::linear(features), &[x])
}

/// A class token before patches, two heads, and the token as the result.
fn transformer() -> Graph {
    let mut graph = GraphBuilder::new("transformer", Shape::new(12, 16, 3), &classes(4));
    let x = graph.add("patches", Op::conv(8, 4, 4, 0), &[0]);
    let x = graph.add("class", Op::Prefix(Prefix { tokens: 1 }), &[x]);
    let x = embedded(&mut graph, x, [1, 13, 8]);
    let norm = Op::LayerNorm(LayerNorm { eps: 1e-5 });
    let y = graph.add("norm", norm, &[x]);
    let [q, k, v] = ["q", "k", "v"].map(|name| linear(&mut graph, name, y, 8));
    let attention = Op::Attention(Attention {
        heads: 2,
        scale: 0.75,
        patch: [1, 1],
    });
    let y = graph.add("attention", attention, &[q, k, v]);
    let y = linear(&mut graph, "out", y, 8);
    let x = graph.add("add", Op::Add, &[x, y]);
    let x = graph.add("flat", Op::Flatten, &[x]);
    let first = Slice {
        first: 0,
        channels: 8,
    };
    let x = graph.add("token", Op::Slice(first), &[x]);
    linear(&mut graph, "fc", x, 4);
    graph.finish().unwrap()
}

/// Attention at places of patches of an image.
fn patched() -> Graph {
    let mut graph = GraphBuilder::new("patched", Shape::new(8, 12, 3), &classes(4));
    let x = graph.add("stem", conv(12, 3, 1, 1), &[0]);
    let [q, k] = ["q", "k"].map(|name| linear(&mut graph, name, x, 12));
    let v = linear(&mut graph, "v", x, 6);
    let attention = Op::Attention(Attention {
        heads: 3,
        scale: 1.0,
        patch: [2, 3],
    });
    let x = graph.add("attention", attention, &[q, k, v]);
    let x = graph.add("after", conv(6, 3, 1, 1), &[x]);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    linear(&mut graph, "fc", x, 4);
    graph.finish().unwrap()
}

/// Products over pixels and over channels.
fn mixer() -> Graph {
    let mut graph = GraphBuilder::new("mixer", Shape::new(12, 16, 3), &classes(4));
    let x = graph.add("patches", Op::conv(8, 4, 4, 0), &[0]);
    let x = graph.add("relu", Op::Relu, &[x]);
    let image = Op::Reshape(Reshape { h: 1, w: 12, c: 8 });
    let x = graph.add("tokens", image, &[x]);
    let y = graph.add("turned", Op::Transpose, &[x]);
    let y = linear(&mut graph, "over_tokens", y, 12);
    let y = graph.add("back", Op::Transpose, &[y]);
    let x = graph.add("add", Op::Add, &[x, y]);
    let x = linear(&mut graph, "over_channels", x, 10);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    linear(&mut graph, "fc", x, 4);
    graph.finish().unwrap()
}

/// Networks over tokens.
pub fn tokens() -> Vec<Graph> {
    vec![transformer(), patched(), mixer()]
}

/// All of them, and the zoo's at sizes that run in a moment.
pub fn all() -> Vec<Graph> {
    let zoo =
        |name: &str, side: usize| zoo::build(name, Shape::new(side, side, 3), &classes(6)).unwrap();
    vec![
        zoo("eurosat-cnn", 32),
        zoo("resnet8", 16),
        zoo("mlp", 8),
        bottlenecks(),
        mixture(),
    ]
}
