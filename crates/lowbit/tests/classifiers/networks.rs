//! Small networks of the kinds that people export.

use lowbit::graph::{
    AvgPool, BatchNorm, ChannelShuffle, Conv, GraphBuilder, MaxPool, NodeId, Op, Slice, Unary,
};
use lowbit::{Graph, Shape};

pub fn all() -> Vec<Graph> {
    vec![
        mobilenet_v2(),
        mobilenet_v3(),
        shufflenet(),
        densenet(),
        squeezenet(),
        regnet(),
        deep(),
        super::tokens::mixer(),
    ]
}

const RELU6: Op = Op::Unary(Unary::Clip { min: 0.0, max: 6.0 });

fn start(name: &str, size: usize) -> GraphBuilder {
    let classes: Vec<String> = (0..5).map(|class| format!("class{class}")).collect();
    GraphBuilder::new(name, Shape::new(size, size + 1, 3), &classes)
}

/// A convolution without bias, batch-norm, and what follows.
fn block(
    graph: &mut GraphBuilder,
    name: &str,
    input: NodeId,
    conv: Conv,
    after: Option<Op>,
) -> NodeId {
    let x = graph.add(name, Op::Conv(conv), &[input]);
    let x = graph.add(
        &format!("{name}.bn"),
        Op::BatchNorm(BatchNorm::default()),
        &[x],
    );
    match after {
        Some(op) => graph.add(&format!("{name}.act"), op, &[x]),
        None => x,
    }
}

fn conv(out_channels: usize, kernel: usize, stride: usize) -> Conv {
    Conv {
        stride: [stride; 2],
        bias: false,
        ..Conv::same(out_channels, kernel)
    }
}

fn depthwise(channels: usize, kernel: usize, stride: usize) -> Conv {
    Conv {
        groups: channels,
        ..conv(channels, kernel, stride)
    }
}

fn head(mut graph: GraphBuilder, x: NodeId) -> Graph {
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    let x = graph.add("flat", Op::Flatten, &[x]);
    graph.add("fc", Op::linear(5), &[x]);
    graph.finish().unwrap()
}

/// Inverted residuals with ReLU6 (Sandler et al. 2018), one with the asymmetric padding of TensorFlow's `same`.
pub fn mobilenet_v2() -> Graph {
    let mut graph = start("mobilenet-v2", 17);
    let x = block(&mut graph, "stem", 0, conv(8, 3, 2), Some(RELU6));
    let y = block(&mut graph, "expand1", x, conv(24, 1, 1), Some(RELU6));
    let y = block(&mut graph, "deep1", y, depthwise(24, 3, 1), Some(RELU6));
    let y = block(&mut graph, "project1", y, conv(8, 1, 1), None);
    let x = graph.add("add1", Op::Add, &[x, y]);
    let y = block(&mut graph, "expand2", x, conv(20, 1, 1), Some(RELU6));
    let same = Conv {
        padding: [0, 0, 1, 1],
        ..depthwise(20, 3, 2)
    };
    let y = block(&mut graph, "deep2", y, same, Some(RELU6));
    let x = block(&mut graph, "project2", y, conv(12, 1, 1), None);
    head(graph, x)
}

/// Squeeze-and-excite with hard sigmoid, and hard-swish (Howard et al. 2019).
pub fn mobilenet_v3() -> Graph {
    let mut graph = start("mobilenet-v3", 16);
    let swish = Some(Op::Unary(Unary::HardSwish));
    let x = block(&mut graph, "stem", 0, conv(8, 3, 2), swish);
    let y = block(&mut graph, "expand", x, conv(19, 1, 1), swish);
    let y = block(&mut graph, "deep", y, depthwise(19, 5, 1), swish);
    let s = graph.add("squeeze", Op::GlobalAvgPool, &[y]);
    let with_bias = |channels| Conv {
        bias: true,
        ..conv(channels, 1, 1)
    };
    let s = graph.add("se1", Op::Conv(with_bias(4)), &[s]);
    let s = graph.add("se1.relu", Op::Relu, &[s]);
    let s = graph.add("se2", Op::Conv(with_bias(19)), &[s]);
    let gate = Unary::HardSigmoid {
        alpha: 1.0 / 6.0,
        beta: 0.5,
    };
    let s = graph.add("gate", Op::Unary(gate), &[s]);
    let y = graph.add("excite", Op::Mul, &[y, s]);
    let y = block(&mut graph, "project", y, conv(8, 1, 1), None);
    let x = graph.add("add", Op::Add, &[x, y]);
    let x = block(&mut graph, "last", x, conv(16, 1, 1), swish);
    head(graph, x)
}

/// Two units with slices, concatenations and shuffles (Ma et al. 2018).
pub fn shufflenet() -> Graph {
    let mut graph = start("shufflenet", 12);
    let x = block(&mut graph, "stem", 0, conv(8, 3, 1), Some(Op::Relu));
    // The unit that goes down: both branches see everything.
    let y = block(&mut graph, "down.deep", x, depthwise(8, 3, 2), None);
    let y = block(&mut graph, "down.point", y, conv(6, 1, 1), Some(Op::Relu));
    let z = block(&mut graph, "right1.a", x, conv(6, 1, 1), Some(Op::Relu));
    let z = block(&mut graph, "right1.deep", z, depthwise(6, 3, 2), None);
    let z = block(&mut graph, "right1.b", z, conv(6, 1, 1), Some(Op::Relu));
    let x = graph.add("concat1", Op::Concat, &[y, z]);
    let shuffle = Op::ChannelShuffle(ChannelShuffle { groups: 2 });
    let x = graph.add("shuffle1", shuffle, &[x]);
    let half = |first| Op::Slice(Slice { first, channels: 6 });
    let y = graph.add("left2", half(0), &[x]);
    let z = graph.add("right2", half(6), &[x]);
    let z = block(&mut graph, "right2.a", z, conv(6, 1, 1), Some(Op::Relu));
    let z = block(&mut graph, "right2.deep", z, depthwise(6, 3, 1), None);
    let z = block(&mut graph, "right2.b", z, conv(6, 1, 1), Some(Op::Relu));
    let x = graph.add("concat2", Op::Concat, &[y, z]);
    let x = graph.add("shuffle2", shuffle, &[x]);
    let x = block(&mut graph, "last", x, conv(10, 1, 1), Some(Op::Relu));
    head(graph, x)
}

/// Batch-norm (as a factor and a summand per channel) before ReLU before the convolution, and growing concatenations
/// (Huang et al. 2017).
pub fn densenet() -> Graph {
    let mut graph = start("densenet", 13);
    let mut all = vec![block(&mut graph, "stem", 0, conv(8, 3, 1), Some(Op::Relu))];
    for layer in 1..=3 {
        let x = match &all[..] {
            &[one] => one,
            several => graph.add(&format!("concat{layer}"), Op::Concat, several),
        };
        let channels = 8 + 4 * (layer - 1);
        let y = graph.add(&format!("norm{layer}"), Op::affine(channels), &[x]);
        let y = graph.add(&format!("relu{layer}"), Op::Relu, &[y]);
        let y = block(
            &mut graph,
            &format!("bottleneck{layer}"),
            y,
            conv(6, 1, 1),
            Some(Op::Relu),
        );
        let grown = format!("grow{layer}");
        all.push(graph.add(&grown, Op::Conv(conv(4, 3, 1)), &[y]));
    }
    let x = graph.add("concat4", Op::Concat, &all);
    let pool = AvgPool {
        kernel: [3, 3],
        stride: [2, 2],
        padding: [1, 1, 1, 1],
        counted_padding: [1, 1, 1, 0],
    };
    let x = graph.add("transition", Op::AvgPool(pool), &[x]);
    head(graph, x)
}

/// Fire modules (Iandola et al. 2016) with a max-pool of overlapping windows.
pub fn squeezenet() -> Graph {
    let mut graph = start("squeezenet", 15);
    let x = graph.conv("stem", 0, 8, 3, (2, 0), true);
    let x = graph.add("stem.relu", Op::Relu, &[x]);
    let pool = MaxPool {
        kernel: [3, 3],
        stride: [2, 2],
        padding: [0, 0, 1, 1],
    };
    let mut x = graph.add("pool", Op::MaxPool(pool), &[x]);
    for fire in 1..=2 {
        let named = |part: &str| format!("fire{fire}.{part}");
        let s = graph.conv(&named("squeeze"), x, 4, 1, (1, 0), true);
        let s = graph.add(&named("squeeze.relu"), Op::Relu, &[s]);
        let a = graph.conv(&named("expand1"), s, 6, 1, (1, 0), true);
        let a = graph.add(&named("expand1.relu"), Op::Relu, &[a]);
        let b = graph.conv(&named("expand3"), s, 7, 3, (1, 1), true);
        let b = graph.add(&named("expand3.relu"), Op::Relu, &[b]);
        x = graph.add(&named("concat"), Op::Concat, &[a, b]);
    }
    let x = graph.conv("last", x, 5, 1, (1, 0), true);
    let x = graph.add("last.relu", Op::Relu, &[x]);
    head(graph, x)
}

/// Grouped convolutions (Radosavovic et al. 2020), SiLU, GELU and the other tables.
fn regnet() -> Graph {
    let mut graph = start("regnet", 11);
    let silu = Some(Op::Unary(Unary::Silu));
    let x = block(&mut graph, "stem", 0, conv(12, 3, 1), silu);
    let grouped = |groups, stride| Conv {
        groups,
        ..conv(24, 3, stride)
    };
    let gelu = Some(Op::Unary(Unary::Gelu { tanh: false }));
    let y = block(&mut graph, "grouped3", x, grouped(3, 2), gelu);
    let y = block(&mut graph, "grouped12", y, grouped(12, 1), None);
    let y = graph.add("tanh", Op::Unary(Unary::Tanh), &[y]);
    let multiplied = Conv {
        groups: 24,
        dilation: [1, 2],
        stride: [2, 1],
        ..conv(48, 3, 1)
    };
    let y = block(&mut graph, "multiplied", y, multiplied, None);
    let leaky = Unary::LeakyRelu { slope: 0.1 };
    let y = graph.add("leaky", Op::Unary(leaky), &[y]);
    let y = graph.add("elu", Op::Unary(Unary::Elu { alpha: 1.0 }), &[y]);
    let s = graph.add("summands", Op::GlobalAvgPool, &[y]);
    let y = graph.add("shifted", Op::Add, &[y, s]);
    let y = graph.add("sigmoid", Op::Sigmoid, &[y]);
    head(graph, y)
}

/// Many weights for few pixels: maps of 4×5, 4×4, 2×2 and one pixel, with strides, dilation and padding of each side, a 1×1 whose
/// input has a halo and one whose result has, residuals, and a layer that reads a map by itself and by a window.
pub fn deep() -> Graph {
    let mut graph = start("deep", 9);
    let relu = Some(Op::Relu);
    let x = block(&mut graph, "stem", 0, conv(40, 3, 2), relu);
    let narrow = Conv {
        kernel: [2, 3],
        padding: [0, 1, 0, 0],
        ..conv(48, 3, 1)
    };
    let x = block(&mut graph, "narrow", x, narrow, relu);
    let y = block(&mut graph, "same", x, conv(48, 3, 1), relu);
    let dilated = Conv {
        dilation: [2, 3],
        padding: [2, 3, 2, 3],
        ..conv(48, 3, 1)
    };
    let y = block(&mut graph, "dilated", y, dilated, None);
    let x = graph.add("add1", Op::Add, &[x, y]);
    let x = graph.add("add1.relu", Op::Relu, &[x]);
    // Its input is also read with padding, so that it has a halo.
    let side = block(&mut graph, "side", x, conv(33, 1, 2), None);
    let y = block(&mut graph, "down", x, conv(33, 3, 2), None);
    let x = graph.add("add2", Op::Add, &[side, y]);
    let x = graph.add("add2.relu", Op::Relu, &[x]);
    let y = block(&mut graph, "expand", x, conv(70, 1, 1), relu);
    let y = block(&mut graph, "window", y, depthwise(70, 3, 1), relu);
    let y = block(&mut graph, "project", y, conv(33, 1, 1), None);
    let x = graph.add("add3", Op::Add, &[x, y]);
    let x = block(&mut graph, "last", x, conv(64, 3, 2), Some(RELU6));
    head(graph, x)
}
