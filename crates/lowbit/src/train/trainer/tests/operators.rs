//! Operators beyond those of the zoo: finite differences, and a block that ships what was trained.

use super::*;

/// A squeeze-and-excite block (Hu et al. 2018): x · sigmoid(W₂ · relu(W₁ · mean(x))).
fn squeeze_and_excite() -> Graph {
    let mut graph = GraphBuilder::new("test", Shape::new(9, 7, 3), &classes(3));
    let mut x = graph.conv("conv1", 0, 6, 3, (1, 1), true);
    x = graph.add("relu1", Op::Relu, &[x]);
    let mut factor = graph.add("squeeze", Op::GlobalAvgPool, &[x]);
    factor = graph.add("se.fc1", Op::linear(4), &[factor]);
    factor = graph.add("se.relu", Op::Relu, &[factor]);
    factor = graph.add("se.fc2", Op::linear(6), &[factor]);
    factor = graph.add("se.sigmoid", Op::Sigmoid, &[factor]);
    x = graph.add("excite", Op::Mul, &[x, factor]);
    x = graph.conv("conv2", x, 5, 3, (2, 1), true);
    x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    graph.finish().unwrap()
}

#[test]
fn gradients_through_sigmoid_and_mul_agree_with_finite_differences() {
    check_gradients(&squeeze_and_excite());
}

#[test]
fn gradients_through_windows_asymmetric_padding_and_the_last_axis_agree_with_finite_differences() {
    use crate::graph::{AvgPool, Conv, MaxPool};
    let mut graph = GraphBuilder::new("test", Shape::new(9, 8, 2), &classes(3));
    let conv = Conv {
        out_channels: 4,
        kernel: [3, 2],
        stride: [1, 1],
        padding: [1, 0, 2, 1],
        dilation: [1, 1],
        groups: 1,
        bias: true,
    };
    let x = graph.add("conv1", Op::Conv(conv), &[0]);
    let pool = MaxPool {
        kernel: [3, 3],
        stride: [2, 1],
        padding: [1, 1, 0, 1],
    };
    let y = graph.add("pool1", Op::MaxPool(pool), &[x]);
    // Over the last axis: a product for each pixel.
    let y = graph.add("conv_last_axis", Op::linear(3), &[y]);
    let pool = AvgPool {
        kernel: [2, 2],
        stride: [1, 2],
        padding: [1, 0, 0, 1],
        counted_padding: [0; 4],
    };
    let y = graph.add("pool2", Op::AvgPool(pool), &[y]);
    let y = graph.add("flatten", Op::Flatten, &[y]);
    graph.add("fc", Op::linear(3), &[y]);
    check_gradients(&graph.finish().unwrap());
}

/// The gradient of such a map lies in its scratch without columns or rows of zeros before it, and with some behind it.
#[test]
fn gradients_through_padding_on_one_side_alone_agree_with_finite_differences() {
    use crate::graph::Conv;
    for (height, kernel, padding) in [
        (8, [3, 1], [2, 0, 0, 0]),
        (8, [2, 1], [1, 0, 0, 0]),
        (8, [1, 3], [0, 2, 0, 0]),
        (8, [3, 1], [0, 0, 2, 0]),
        (13, [3, 1], [2, 0, 0, 0]),
    ] {
        let mut graph = GraphBuilder::new("test", Shape::new(height, 6, 2), &classes(3));
        let conv = Conv {
            out_channels: 4,
            kernel,
            stride: [1, 1],
            padding,
            dilation: [1, 1],
            groups: 1,
            bias: true,
        };
        let x = graph.conv("conv1", 0, 5, 3, (1, 1), true);
        let x = graph.add("conv2", Op::Conv(conv), &[x]);
        let x = graph.add("flatten", Op::Flatten, &[x]);
        graph.add("fc", Op::linear(3), &[x]);
        check_gradients(&graph.finish().unwrap());
    }
}

#[test]
fn gradients_through_functions_of_one_element_and_counted_padding_agree_with_finite_differences() {
    use crate::graph::{AvgPool, Unary};
    let functions = [
        Unary::HardSwish,
        Unary::Silu,
        Unary::Tanh,
        Unary::Elu { alpha: 1.0 },
        Unary::Gelu { tanh: false },
        Unary::Gelu { tanh: true },
    ];
    let mut graph = GraphBuilder::new("test", Shape::new(8, 7, 3), &classes(3));
    let x = graph.conv("conv1", 0, 5, 3, (1, 1), true);
    // Side by side, so that no gradient dies away.
    let mut sum = x;
    for (number, unary) in functions.into_iter().enumerate() {
        let y = graph.add(&format!("unary{number}"), Op::Unary(unary), &[x]);
        let y = graph.conv(&format!("point{number}"), y, 5, 1, (1, 0), true);
        sum = graph.add(&format!("sum{number}"), Op::Add, &[sum, y]);
    }
    let pool = AvgPool {
        kernel: [3, 2],
        stride: [2, 2],
        padding: [1, 1, 1, 0],
        counted_padding: [1, 0, 1, 0],
    };
    let x = graph.add("pool", Op::AvgPool(pool), &[sum]);
    let x = graph.add("flatten", Op::Flatten, &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    check_gradients(&graph.finish().unwrap());
}

#[test]
fn a_squeeze_and_excite_block_trains_quantized_and_ships_what_was_trained() {
    use crate::exec::{IntegerModel, Model};
    let graph = squeeze_and_excite();
    let config = QatConfig::of(crate::WeightBits::B8);
    let (mut trainer, first, last) = qat(&graph, config, 60);
    assert!(last < 0.8 * first, "loss {first} to {last}");
    let model = trainer.quantized_model().unwrap();
    let (images, labels) = learnable(&graph, 8, 99);
    trainer.freeze_statistics(true);
    trainer.gradients(&images, &Targets::of(&labels)).unwrap();
    let trained = trainer.network.pass.values.last().unwrap()[..8 * 3].to_vec();
    let largest = trained.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let mut expected: Option<Vec<f32>> = None;
    for isa in Isa::available() {
        let mut logits = vec![0.0; 8 * 3];
        let deployed = IntegerModel::compile(&model, isa).unwrap();
        deployed.run(&images, &mut logits).unwrap();
        for (a, b) in trained.iter().zip(&logits) {
            assert!((a - b).abs() < 0.05 * largest, "{isa}: {a} against {b}");
        }
        assert_eq!(
            *expected.get_or_insert_with(|| logits.clone()),
            logits,
            "{isa}"
        );
    }
}

/// What mobile networks are made of: an inverted bottleneck with ReLU6 (Sandler et al. 2018), and a unit of ShuffleNet V2 (Ma et
/// al. 2018) that splits, concatenates and shuffles channels.
fn mobile(input: Shape, names: &[String]) -> Graph {
    use crate::graph::{ChannelShuffle, Conv, Slice, Unary};
    let mut graph = GraphBuilder::new("test", input, names);
    let depthwise = |channels, stride| Conv {
        out_channels: channels,
        kernel: [3, 3],
        stride: [stride, stride],
        padding: [1; 4],
        dilation: [1, 1],
        groups: channels,
        bias: false,
    };
    let block = |graph: &mut GraphBuilder, name: &str, op: Op, x: usize, relu6: bool| {
        let x = graph.add(name, op, &[x]);
        let x = graph.batch_norm(&format!("{name}_bn"), x);
        let clip = Unary::Clip { min: 0.0, max: 6.0 };
        match relu6 {
            true => graph.add(&format!("{name}_relu6"), Op::Unary(clip), &[x]),
            false => x,
        }
    };
    let stem = block(&mut graph, "stem", Op::conv(8, 3, 1, 1), 0, true);
    let x = block(&mut graph, "expand", Op::conv(18, 1, 1, 0), stem, true);
    let x = block(&mut graph, "deep", Op::Conv(depthwise(18, 1)), x, true);
    let x = block(&mut graph, "project", Op::conv(8, 1, 1, 0), x, false);
    let x = graph.add("add", Op::Add, &[stem, x]);
    let half = |first| Op::Slice(Slice { first, channels: 4 });
    let left = graph.add("left", half(0), &[x]);
    let right = graph.add("right", half(4), &[x]);
    let right = block(
        &mut graph,
        "branch",
        Op::Conv(depthwise(4, 1)),
        right,
        false,
    );
    let right = block(&mut graph, "point", Op::conv(4, 1, 1, 0), right, true);
    let x = graph.add("concat", Op::Concat, &[left, right]);
    let x = graph.add(
        "shuffle",
        Op::ChannelShuffle(ChannelShuffle { groups: 2 }),
        &[x],
    );
    let x = block(&mut graph, "down", Op::Conv(depthwise(8, 2)), x, true);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(names.len()), &[x]);
    graph.finish().unwrap()
}

#[test]
fn gradients_of_mobile_blocks_agree_with_finite_differences() {
    check_gradients(&mobile(Shape::new(9, 7, 3), &classes(3)));
}

#[test]
fn mobile_blocks_learn_quantized_at_every_width_and_ship_what_was_trained() {
    use crate::WeightBits as B;
    let graph = mobile(Shape::new(12, 12, 3), &classes(6));
    for bits in [B::B16, B::B8, B::B4, B::B2, B::B1] {
        let (mut trainer, first, last) = qat(&graph, QatConfig::of(bits), 40);
        assert!(last < 0.8 * first, "{bits}: loss {first} to {last}");
        ships_what_was_trained(&graph, &mut trainer, &bits.to_string());
    }
}

#[test]
fn mobile_blocks_are_the_same_bits_at_any_number_of_threads() {
    let graph = mobile(Shape::new(12, 12, 3), &classes(6));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| {
            qat(&graph, QatConfig::of(crate::WeightBits::B8), 4)
                .0
                .weights()
        })
    };
    assert_eq!(run(1), run(3));
}

/// Convolutions whose maps have few pixels, so that the images of a slice are taken at once: with strides, with a kernel that
/// reaches over the whole map, and with channels that fill no block of the integer kernels.
fn few_pixels(input: Shape, names: &[String]) -> Graph {
    let mut graph = GraphBuilder::new("test", input, names);
    let x = graph.conv("stem", 0, 6, 3, (2, 1), true);
    let x = graph.conv("odd", x, 8, 3, (1, 1), true);
    let skip = graph.conv("skip", x, 12, 1, (2, 0), false);
    let x = graph.conv("down", x, 12, 3, (2, 1), true);
    let x = graph.conv("wide", x, 12, 5, (1, 2), false);
    let x = graph.add("sum", Op::Add, &[x, skip]);
    let x = graph.add("relu", Op::Relu, &[x]);
    let x = graph.conv("last", x, 8, 3, (1, 0), true);
    let x = graph.add("flatten", Op::Flatten, &[x]);
    graph.add("fc", Op::linear(names.len()), &[x]);
    graph.finish().unwrap()
}

#[test]
fn gradients_of_maps_of_few_pixels_agree_with_finite_differences() {
    check_gradients(&few_pixels(Shape::new(13, 15, 3), &classes(3)));
}

#[test]
fn maps_of_few_pixels_learn_quantized_at_every_width_and_ship_what_was_trained() {
    use crate::WeightBits as B;
    let graph = few_pixels(Shape::new(13, 15, 3), &classes(6));
    for bits in [B::B16, B::B8, B::B4, B::B2, B::B1] {
        let (mut trainer, first, last) = qat(&graph, QatConfig::of(bits), 40);
        assert!(last < 0.8 * first, "{bits}: loss {first} to {last}");
        ships_what_was_trained(&graph, &mut trainer, &bits.to_string());
    }
}
