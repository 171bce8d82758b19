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
    let trained = trainer.pass.values.last().unwrap()[..8 * 3].to_vec();
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
