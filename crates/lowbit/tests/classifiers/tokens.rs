//! Networks over tokens: transformers, and a mixer.

use lowbit::graph::{Attention, Conv, GraphBuilder, LayerNorm, NodeId, Op, Prefix, Reshape, Slice};
use lowbit::{Graph, Shape};

/// Those that have attention.
pub fn transformers() -> Vec<Graph> {
    vec![vit(), mobilevit(), cross()]
}

fn start(name: &str, [h, w]: [usize; 2]) -> GraphBuilder {
    let classes: Vec<String> = (0..5).map(|class| format!("class{class}")).collect();
    GraphBuilder::new(name, Shape::new(h, w, 3), &classes)
}

fn patches(channels: usize, size: usize) -> Op {
    let Op::Conv(conv) = Op::conv(channels, size, size, 0) else {
        unreachable!("it is one")
    };
    Op::Conv(Conv { bias: true, ..conv })
}

/// `x + constant`, a number for each element.
fn embedded(graph: &mut GraphBuilder, name: &str, x: NodeId, [h, w, c]: [usize; 3]) -> NodeId {
    let x = graph.add(&format!("{name}.flat"), Op::Flatten, &[x]);
    let x = graph.add(name, Op::affine(h * w * c), &[x]);
    let reshape = Op::Reshape(Reshape { h, w, c });
    graph.add(&format!("{name}.tokens"), reshape, &[x])
}

/// Layer norm, queries, keys and values of one product, attention, a product, and what went in.
fn block(
    graph: &mut GraphBuilder,
    name: &str,
    x: NodeId,
    c: usize,
    attention: Attention,
) -> NodeId {
    let norm = Op::LayerNorm(LayerNorm { eps: 1e-5 });
    let y = graph.add(&format!("{name}.norm"), norm, &[x]);
    let all = graph.add(&format!("{name}.qkv"), Op::linear(3 * c), &[y]);
    let part = |graph: &mut GraphBuilder, label: &str, first: usize| {
        let slice = Slice { first, channels: c };
        graph.add(&format!("{name}.{label}"), Op::Slice(slice), &[all])
    };
    let q = part(graph, "q", 0);
    let k = part(graph, "k", c);
    let v = part(graph, "v", 2 * c);
    let op = Op::Attention(attention);
    let y = graph.add(&format!("{name}.attention"), op, &[q, k, v]);
    let y = graph.add(&format!("{name}.out"), Op::linear(c), &[y]);
    graph.add(&format!("{name}.add"), Op::Add, &[x, y])
}

/// A class token in front of 90 patches: more than a block of queries, and a number that no vector divides.
fn vit() -> Graph {
    let mut graph = start("vit", [18, 20]);
    let x = graph.add("patches", patches(12, 2), &[0]);
    let x = graph.add("class", Op::Prefix(Prefix { tokens: 1 }), &[x]);
    let x = embedded(&mut graph, "position", x, [1, 91, 12]);
    let attention = Attention {
        heads: 4,
        scale: 1.5,
        patch: [1, 1],
    };
    let x = block(&mut graph, "block1", x, 12, attention);
    let x = block(
        &mut graph,
        "block2",
        x,
        12,
        Attention {
            heads: 1,
            ..attention
        },
    );
    let x = graph.add("flat", Op::Flatten, &[x]);
    let first = Slice {
        first: 0,
        channels: 12,
    };
    let x = graph.add("token", Op::Slice(first), &[x]);
    graph.add("fc", Op::linear(5), &[x]);
    graph.finish().unwrap()
}

/// Attention at places of patches, between padded convolutions: its inputs and its result have halos.
fn mobilevit() -> Graph {
    let mut graph = start("mobilevit", [8, 12]);
    let x = graph.conv("stem", 0, 10, 3, (1, 1), true);
    let conv =
        |graph: &mut GraphBuilder, name: &str, x: NodeId| graph.conv(name, x, 10, 3, (1, 1), true);
    let [q, k, v] = ["q", "k", "v"].map(|name| conv(&mut graph, name, x));
    let attention = Attention {
        heads: 2,
        scale: 0.7,
        patch: [2, 3],
    };
    let y = graph.add("attention", Op::Attention(attention), &[q, k, v]);
    let y = graph.add("relu", Op::Relu, &[y]);
    let y = conv(&mut graph, "after", y);
    // Read with padding as well.
    let [q, k, v] = [q, k, v].map(|x| conv(&mut graph, &format!("again{x}"), x));
    let z = graph.add("sum1", Op::Add, &[q, k]);
    let z = graph.add("sum2", Op::Add, &[z, v]);
    let y = graph.add("sum3", Op::Add, &[y, z]);
    let y = graph.add("mean", Op::GlobalAvgPool, &[y]);
    graph.add("fc", Op::linear(5), &[y]);
    graph.finish().unwrap()
}

/// Few queries, many keys, values of other channels.
fn cross() -> Graph {
    let mut graph = start("cross", [9, 7]);
    let q = graph.add("q", patches(8, 3), &[0]);
    let k = graph.add("k", Op::linear(8), &[0]);
    let v = graph.add("v", Op::linear(20), &[0]);
    let attention = Attention {
        heads: 4,
        scale: -2.0,
        patch: [1, 1],
    };
    let y = graph.add("attention", Op::Attention(attention), &[q, k, v]);
    let y = graph.add("mean", Op::GlobalAvgPool, &[y]);
    graph.add("fc", Op::linear(5), &[y]);
    graph.finish().unwrap()
}

/// Products over channels and over pixels, without attention and layer norm: everything has an integer form.
pub fn mixer() -> Graph {
    let mut graph = start("mixer", [12, 15]);
    let x = graph.add("patches", patches(11, 3), &[0]);
    let x = graph.add("prefix", Op::Prefix(Prefix { tokens: 2 }), &[x]);
    let x = embedded(&mut graph, "position", x, [1, 22, 11]);
    let y = graph.add("turned", Op::Transpose, &[x]);
    let y = graph.add("tokens1", Op::linear(13), &[y]);
    let y = graph.add("relu1", Op::Relu, &[y]);
    let y = graph.add("tokens2", Op::linear(22), &[y]);
    let y = graph.add("back", Op::Transpose, &[y]);
    let x = graph.add("add1", Op::Add, &[x, y]);
    let y = graph.add("channels1", Op::linear(17), &[x]);
    let y = graph.add("relu2", Op::Relu, &[y]);
    let y = graph.add("channels2", Op::linear(11), &[y]);
    let x = graph.add("add2", Op::Add, &[x, y]);
    // As an image, whose transpose is read with padding.
    let image = Op::Reshape(Reshape { h: 2, w: 11, c: 11 });
    let x = graph.add("image", image, &[x]);
    let y = graph.conv("image.conv", x, 6, 3, (1, 1), true);
    let z = graph.add("image.turned", Op::Transpose, &[x]);
    let z = graph.conv("turned.conv", z, 6, 3, (1, 1), true);
    let y = graph.add("mean1", Op::GlobalAvgPool, &[y]);
    let z = graph.add("mean2", Op::GlobalAvgPool, &[z]);
    let y = graph.add("sum", Op::Add, &[y, z]);
    graph.add("fc", Op::linear(5), &[y]);
    graph.finish().unwrap()
}
