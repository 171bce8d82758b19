//! The basic residual block, and networks of three stages of them.

use crate::graph::{Graph, GraphBuilder, GraphError, NodeId, Op, Shape};

/// Two 3×3 convolutions without biases, each with batch-norm, beside a shortcut, and ReLU (He et al. 2016). Where the shape
/// changes, the shortcut is a projection, a 1×1 convolution with batch-norm (the paper's option B).
pub(super) fn basic_block(
    graph: &mut GraphBuilder,
    name: &str,
    input: NodeId,
    (in_channels, channels): (usize, usize),
    stride: usize,
) -> NodeId {
    let layer = |part: &str| format!("{name}.{part}");
    let mut x = graph.conv(&layer("conv1"), input, channels, 3, (stride, 1), false);
    x = graph.batch_norm(&layer("bn1"), x);
    x = graph.add(&layer("relu1"), Op::Relu, &[x]);
    x = graph.conv(&layer("conv2"), x, channels, 3, (1, 1), false);
    x = graph.batch_norm(&layer("bn2"), x);
    let shortcut = if stride != 1 || in_channels != channels {
        let y = graph.conv(&layer("shortcut"), input, channels, 1, (stride, 0), false);
        graph.batch_norm(&layer("shortcut_bn"), y)
    } else {
        input
    };
    x = graph.add(&layer("add"), Op::Add, &[x, shortcut]);
    graph.add(&layer("relu2"), Op::Relu, &[x])
}

/// conv 3×3 to the first of `channels`, BN, ReLU, then a stage of `blocks` basic blocks at each number of channels, the second
/// and third beginning with stride 2, global average pool, linear.
pub(super) fn three_stages(
    (name, input, class_names): (&str, Shape, &[String]),
    stem_stride: usize,
    channels: [usize; 3],
    blocks: usize,
) -> Result<Graph, GraphError> {
    let mut graph = GraphBuilder::new(name, input, class_names);
    let image = graph.input();
    let mut x = graph.conv("conv1", image, channels[0], 3, (stem_stride, 1), false);
    x = graph.batch_norm("bn1", x);
    x = graph.add("relu1", Op::Relu, &[x]);
    let mut from = channels[0];
    for (stage, to) in channels.into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("block{}", stage * blocks + block + 1);
            x = basic_block(&mut graph, &name, x, (from, to), stride);
            from = to;
        }
    }
    x = graph.add("pool", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(class_names.len()), &[x]);
    graph.finish()
}
