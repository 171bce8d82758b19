//! Operators beyond those of the zoo against PyTorch, from tests/golden/operators.json.

use super::*;
use crate::graph::{
    Attention, AvgPool, ChannelShuffle, Conv, LayerNorm, MaxPool, Normalization, Slice, Unary,
};

fn attributes<const N: usize>(case: &Case<'_>, name: &str) -> [usize; N] {
    let values: Vec<usize> = case.0[name].as_array().unwrap().iter().map(size).collect();
    values.try_into().unwrap()
}

/// An operator of one input behind a ReLU, forward and backward.
fn check_unary(case: &Case<'_>, op: Op) {
    let (count, shape) = case.image("x");
    let mut graph = GraphBuilder::new("test", shape, &one_class());
    let x = graph.add("relu", Op::Relu, &[0]);
    let y = graph.add("op", op, &[x]);
    let given = [
        ("op.weight", case.given("weight")),
        ("op.bias", case.given("bias")),
    ];
    let mut step = Alone::new(&finish(graph, y), &given, 1, count);
    let y = step.forward(&[case.given("x").unwrap()]);
    assert_close("y", &y, &case.expected("y"), LAYER);
    let dx = step.backward(&case.given("dy").unwrap());
    assert_close("dx", &dx[0], &case.expected("dx"), LAYER);
    for (index, name) in ["dweight", "dbias"].into_iter().enumerate() {
        if given[index].1.is_some() {
            assert_close(name, &step.gradient(index), &case.expected(name), LAYER);
        }
    }
}

/// A clip behind a convolution that changes nothing, by depthwise products and by those of matrices.
fn check_clip(case: &Case<'_>) {
    let (count, shape) = case.image("x");
    let channels = shape.c();
    let max = case.0["ceiling"].as_f64().unwrap() as f32;
    for groups in [1, channels] {
        let mut graph = GraphBuilder::new("test", shape, &one_class());
        let x = graph.add("relu", Op::Relu, &[0]);
        let Op::Conv(plain) = Op::conv(channels, 1, 1, 0) else {
            unreachable!("it is one")
        };
        let conv = Conv { groups, ..plain };
        let x = graph.add("conv", Op::Conv(conv), &[x]);
        let y = graph.add("clip", Op::Unary(Unary::Clip { min: 0.0, max }), &[x]);
        let weights = match groups {
            1 => identity(channels),
            _ => Some(vec![1.0; channels]),
        };
        let mut step = Alone::new(&finish(graph, y), &[("conv.weight", weights)], 1, count);
        assert_eq!(
            step.trainer.network.pass.plan.exec.program.steps()[1]
                .epilogue
                .ceiling,
            Some(max)
        );
        let y = step.forward(&[case.given("x").unwrap()]);
        assert_close("y", &y, &case.expected("y"), LAYER);
        let dx = step.backward(&case.given("dy").unwrap());
        assert_close("dx", &dx[0], &case.expected("dx"), LAYER);
    }
}

/// Values side by side, one of them behind the other.
fn check_concat(case: &Case<'_>) {
    let ((count, a), (_, b)) = (case.image("x0"), case.image("x1"));
    let mut graph = GraphBuilder::new("test", a, &one_class());
    let x = graph.add("relu", Op::Relu, &[0]);
    let other = graph.conv("conv", 0, b.c(), 1, (1, 0), false);
    let y = graph.add("concat", Op::Concat, &[x, other]);
    let mut step = Alone::new(&finish(graph, y), &[], 2, count);
    let y = step.forward(&[case.given("x0").unwrap(), case.given("x1").unwrap()]);
    assert_close("y", &y, &case.expected("y"), 1e-7);
    let grads = step.backward(&case.given("dy").unwrap());
    assert_close("dx0", &grads[0], &case.expected("dx0"), 1e-7);
    assert_close("dx1", &grads[1], &case.expected("dx1"), 1e-7);
}

/// An operator of two inputs, the second of which may have one number per channel.
fn check_binary(case: &Case<'_>, op: Op) {
    let ((count, a), (_, b)) = (case.image("a"), case.image("b"));
    let mut graph = GraphBuilder::new("test", a, &one_class());
    let x = graph.add("relu", Op::Relu, &[0]);
    let factor = match a == b {
        true => graph.conv("conv", 0, a.c(), 1, (1, 0), false),
        false => graph.add("mean", Op::GlobalAvgPool, &[0]),
    };
    let y = graph.add("op", op, &[x, factor]);
    let mut step = Alone::new(&finish(graph, y), &[], 2, count);
    let y = step.forward(&[case.given("a").unwrap(), case.given("b").unwrap()]);
    assert_close("y", &y, &case.expected("y"), LAYER);
    let grads = step.backward(&case.given("dy").unwrap());
    assert_close("da", &grads[0], &case.expected("da"), LAYER);
    assert_close("db", &grads[1], &case.expected("db"), LAYER);
}

fn check_attention(case: &Case<'_>) {
    let [q, k, v] = ["q", "k", "v"];
    let ((count, queries), (_, keys), (_, values)) = (case.image(q), case.image(k), case.image(v));
    let mut graph = GraphBuilder::new("test", queries, &one_class());
    let of_queries = graph.add(q, Op::Relu, &[0]);
    // Any values of the keys' extents: what they compute is not used.
    let mut of = |name: &str, shape: Shape| {
        let conv = Conv {
            out_channels: shape.c(),
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0, shape.h() - queries.h(), shape.w() - queries.w()],
            dilation: [1, 1],
            groups: 1,
            bias: false,
        };
        graph.add(name, Op::Conv(conv), &[0])
    };
    let (of_keys, of_values) = (of(k, keys), of(v, values));
    let attention = Attention {
        heads: size(&case.0["heads"]),
        scale: case.0["scale"].as_f64().unwrap() as f32,
        patch: [1, 1],
    };
    let inputs = [of_queries, of_keys, of_values];
    let y = graph.add("attention", Op::Attention(attention), &inputs);
    let graph = finish(graph, y);
    let mut step = Alone::new(
        &graph,
        &[],
        graph.program().unwrap().steps().len() - 2,
        count,
    );
    let y = step.forward(&[q, k, v].map(|name| case.given(name).unwrap()));
    assert_close("y", &y, &case.expected("y"), LAYER);
    let grads = step.backward(&case.given("dy").unwrap());
    for (grad, name) in grads.iter().zip(["dq", "dk", "dv"]) {
        assert_close(name, grad, &case.expected(name), LAYER);
    }
}

fn conv(case: &Case<'_>) -> Conv {
    Conv {
        out_channels: case.shape("weight")[0],
        kernel: attributes(case, "kernel"),
        stride: attributes(case, "stride"),
        padding: attributes(case, "padding"),
        dilation: attributes(case, "dilation"),
        groups: size(&case.0["groups"]),
        bias: true,
    }
}

/// Forward alone, in the f32 executor: the pixel p stands for x = p/8 − 1.
fn check_conv_forward(case: &Case<'_>) {
    let ((count, shape), x) = (case.image("x"), case.given("x").unwrap());
    let images: Vec<u8> = x.iter().map(|x| (8.0 * (x + 1.0)) as u8).collect();
    let classes = case.expected("y").len() / count;
    let classes: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
    let mut graph = GraphBuilder::new("test", shape, &classes);
    let y = graph.add("conv", Op::Conv(conv(case)), &[0]);
    graph.add("flatten", Op::Flatten, &[y]);
    let pixels = Normalization::uniform(8.0 / 255.0, 8.0 / 255.0);
    let graph = graph.normalization(pixels).finish().unwrap();
    let mut weights = Weights::init(&graph, 1);
    for name in ["weight", "bias"] {
        let tensor = weights.get_mut(&format!("conv.{name}")).unwrap();
        tensor
            .data_mut()
            .copy_from_slice(&case.given(name).unwrap());
    }
    for isa in Isa::available() {
        let model = FloatModel::compile(&graph, &weights, isa).unwrap();
        let mut y = vec![0.0; case.expected("y").len()];
        model.run(&images, &mut y).unwrap();
        assert_close("y", &y, &case.expected("y"), LAYER);
    }
}

#[test]
fn operators_beyond_the_zoo_agree_with_pytorch() {
    let golden = golden("operators");
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        let op = case["op"].as_str().unwrap();
        let case = Case(case);
        match op {
            "sigmoid" => check_unary(&case, Op::Sigmoid),
            "mul" => check_binary(&case, Op::Mul),
            "add" => check_binary(&case, Op::Add),
            "softmax" => check_unary(&case, Op::Softmax),
            "layer_norm" => {
                let eps = case.0["eps"].as_f64().unwrap() as f32;
                check_unary(&case, Op::LayerNorm(LayerNorm { eps }));
            }
            "attention" => check_attention(&case),
            "max_pool" => {
                let pool = MaxPool {
                    kernel: attributes(&case, "kernel"),
                    stride: attributes(&case, "stride"),
                    padding: attributes(&case, "padding"),
                };
                check_unary(&case, Op::MaxPool(pool));
            }
            "avg_pool" => {
                let pool = AvgPool {
                    kernel: attributes(&case, "kernel"),
                    stride: attributes(&case, "stride"),
                    padding: attributes(&case, "padding"),
                    counted_padding: [0; 4],
                };
                check_unary(&case, Op::AvgPool(pool));
            }
            "conv" if case.given("dy").is_some() => check_unary(&case, Op::Conv(conv(&case))),
            "conv" => check_conv_forward(&case),
            "clip" => check_clip(&case),
            "concat" => check_concat(&case),
            "slice" => {
                let [first, channels] = ["first", "channels"].map(|name| size(&case.0[name]));
                check_unary(&case, Op::Slice(Slice { first, channels }));
            }
            "shuffle" => {
                let groups = size(&case.0["groups"]);
                check_unary(&case, Op::ChannelShuffle(ChannelShuffle { groups }));
            }
            _ => panic!("no test for {op}"),
        }
    }
    assert_eq!(cases.len(), 29);
}
