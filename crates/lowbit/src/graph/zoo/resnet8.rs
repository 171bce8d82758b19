//! The smallest residual network for 32×32 images.

use crate::graph::{Graph, GraphBuilder, GraphError, NodeId, Op, Shape};

/// ResNet-8 (He et al. 2016, section 4.2, with n = 1): conv 3→16 3×3, BN, ReLU, then one basic block each of 16, 32 and
/// 64 channels with stride 1, 2 and 2 (projection shortcut where the shape changes), global average pool, linear.
///
/// # Errors
/// [`GraphError`] when a layer does not fit the images.
pub fn resnet8(input: Shape, class_names: &[String]) -> Result<Graph, GraphError> {
    let mut graph = GraphBuilder::new("resnet8", input, class_names);
    let image = graph.input();
    let mut x = graph.conv("conv1", image, 16, 3, (1, 1), false);
    x = graph.batch_norm("bn1", x);
    x = graph.add("relu1", Op::Relu, &[x]);
    x = basic_block(&mut graph, "block1", x, 16, 1, false);
    x = basic_block(&mut graph, "block2", x, 32, 2, true);
    x = basic_block(&mut graph, "block3", x, 64, 2, true);
    x = graph.add("pool", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(class_names.len()), &[x]);
    graph.finish()
}

fn basic_block(
    graph: &mut GraphBuilder,
    name: &str,
    input: NodeId,
    channels: usize,
    stride: usize,
    project: bool,
) -> NodeId {
    let mut x = graph.conv(
        &format!("{name}.conv1"),
        input,
        channels,
        3,
        (stride, 1),
        false,
    );
    x = graph.batch_norm(&format!("{name}.bn1"), x);
    x = graph.add(&format!("{name}.relu1"), Op::Relu, &[x]);
    x = graph.conv(&format!("{name}.conv2"), x, channels, 3, (1, 1), false);
    x = graph.batch_norm(&format!("{name}.bn2"), x);
    let shortcut = if project {
        let y = graph.conv(
            &format!("{name}.shortcut"),
            input,
            channels,
            1,
            (stride, 0),
            false,
        );
        graph.batch_norm(&format!("{name}.shortcut_bn"), y)
    } else {
        input
    };
    x = graph.add(&format!("{name}.add"), Op::Add, &[x, shortcut]);
    graph.add(&format!("{name}.relu2"), Op::Relu, &[x])
}
