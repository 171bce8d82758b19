//! A compact network of inverted residuals for 64×64 images.

use crate::graph::{Graph, GraphBuilder, GraphError, NodeId, Op, Shape};
use crate::ops::{Conv, Unary};

/// Channels within a block, in multiples of those that enter it.
const EXPANSION: usize = 4;

/// conv 3→24 3×3 with stride 2, BN, ReLU6, then two inverted residuals each (Sandler et al. 2018; expansion 4) of 24, 48 and 96
/// channels on maps of half, a quarter and an eighth of the image's side, global average pool, linear.
/// 152,002 parameters for ten classes.
///
/// # Errors
/// [`GraphError`] when a layer does not fit the images.
pub fn eurosat_mobile(input: Shape, class_names: &[String]) -> Result<Graph, GraphError> {
    let mut graph = GraphBuilder::new("eurosat-mobile", input, class_names);
    let image = graph.input();
    let mut x = graph.conv("conv1", image, 24, 3, (2, 1), false);
    x = graph.batch_norm("bn1", x);
    x = relu6(&mut graph, "relu1", x);
    let blocks = [
        (24, 24, 1),
        (24, 24, 1),
        (24, 48, 2),
        (48, 48, 1),
        (48, 96, 2),
        (96, 96, 1),
    ];
    for (index, (from, to, stride)) in blocks.into_iter().enumerate() {
        x = inverted_residual(
            &mut graph,
            &format!("block{}", index + 1),
            x,
            (from, to),
            stride,
        );
    }
    x = graph.add("pool", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(class_names.len()), &[x]);
    graph.finish()
}

fn relu6(graph: &mut GraphBuilder, name: &str, input: NodeId) -> NodeId {
    graph.add(
        name,
        Op::Unary(Unary::Clip { min: 0.0, max: 6.0 }),
        &[input],
    )
}

/// 1×1 to many channels, a 3×3 filter for each of them, 1×1 to few; the input is added where the shape stays.
fn inverted_residual(
    graph: &mut GraphBuilder,
    name: &str,
    input: NodeId,
    (from, to): (usize, usize),
    stride: usize,
) -> NodeId {
    let layer = |part: &str| format!("{name}.{part}");
    let inner = from * EXPANSION;
    let mut x = graph.conv(&layer("expand"), input, inner, 1, (1, 0), false);
    x = graph.batch_norm(&layer("bn1"), x);
    x = relu6(graph, &layer("relu1"), x);
    let depthwise = Conv {
        out_channels: inner,
        kernel: [3; 2],
        stride: [stride; 2],
        padding: [1; 4],
        dilation: [1; 2],
        groups: inner,
        bias: false,
    };
    x = graph.add(&layer("depthwise"), Op::Conv(depthwise), &[x]);
    x = graph.batch_norm(&layer("bn2"), x);
    x = relu6(graph, &layer("relu2"), x);
    x = graph.conv(&layer("project"), x, to, 1, (1, 0), false);
    x = graph.batch_norm(&layer("bn3"), x);
    match stride == 1 && from == to {
        true => graph.add(&layer("add"), Op::Add, &[x, input]),
        false => x,
    }
}
