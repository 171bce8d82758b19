//! The nodes of ONNX's own backend tests against ONNX Runtime (bench/onnx/node_tests.py): each gives the same numbers, or is
//! refused for the reason that stands here.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lowbit::exec::{FloatModel, Model};
use lowbit::graph::Normalization;
use lowbit_onnx::{Options, decode};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    model: String,
    pixels: String,
    size: usize,
    values: String,
}

/// A part of what is said of what is refused, and the tests that are.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "only 1 is supported",
        &["test_averagepool_2d_dilations", "test_maxpool_2d_dilations"],
    ),
    (
        "mode=",
        &[
            "test_batchnorm_example_training_mode",
            "test_batchnorm_epsilon_training_mode",
            "pytorch-converted/test_ReflectionPad2d",
            "pytorch-converted/test_ReplicationPad2d",
            "pytorch-operator/test_operator_pad",
        ],
    ),
    ("at most 1", &["test_clip_min_greater_than_max"]),
    (
        "only images that become vectors",
        &[
            "test_reshape_reordered_all_dims",
            "test_reshape_reordered_last_dims",
        ],
    ),
    (
        "is not that of the channels",
        &[
            "test_concat_3d_axis_0",
            "test_concat_3d_axis_1",
            "test_concat_3d_axis_negative_3",
            "test_concat_3d_axis_negative_2",
            "test_slice",
            "test_slice_neg",
            "test_slice_end_out_of_bounds",
            "test_softmax_axis_0",
            "test_softmax_axis_1",
            "pytorch-converted/test_GLU_dim",
            "pytorch-converted/test_softmax_functional_dim3",
        ],
    ),
    (
        "which give one number for each",
        &[
            "test_reshape_extended_dims",
            "test_reshape_negative_dim",
            "pytorch-converted/test_PixelShuffle",
        ],
    ),
    ("only neighbors are supported", &["test_slice_neg_steps"]),
    (
        "of a value and a constant only",
        &[
            "test_div_example",
            "test_div",
            "test_sub_example",
            "test_sub",
        ],
    ),
    (
        "training_mode",
        &[
            "test_training_dropout_default",
            "test_training_dropout_default_mask",
            "test_training_dropout",
            "test_training_dropout_mask",
            "test_training_dropout_zero_ratio",
            "test_training_dropout_zero_ratio_mask",
        ],
    ),
    (
        "only the channels, last",
        &[
            "test_layer_normalization_4d_axis1",
            "test_layer_normalization_4d_axis_negative_3",
            "test_layer_normalization_4d_axis2",
            "test_layer_normalization_4d_axis_negative_2",
            "test_layer_normalization_3d_axis0_epsilon",
            "test_layer_normalization_3d_axis_negative_3_epsilon",
            "test_layer_normalization_3d_axis1_epsilon",
            "test_layer_normalization_3d_axis_negative_2_epsilon",
        ],
    ),
    (
        "only matrices are supported",
        &["test_matmul_3d", "test_matmul_4d", "test_matmul_bcast"],
    ),
    ("not matrices", &["test_matmul_1d_3d", "test_matmul_4d_1d"]),
    (
        "only as a part of patterns",
        &[
            "test_max_example",
            "test_max_two_inputs",
            "test_max_float32",
            "test_min_example",
            "test_min_two_inputs",
            "test_min_float32",
            "test_prelu_example",
            "test_prelu_broadcast",
            "pytorch-converted/test_PReLU_1d",
            "pytorch-converted/test_PReLU_2d",
            "pytorch-converted/test_PoissonNLLLLoss_no_reduce",
            "pytorch-converted/test_SELU",
            "pytorch-converted/test_Softmin",
            "pytorch-converted/test_Softplus",
            "pytorch-operator/test_operator_exp",
            "pytorch-operator/test_operator_max",
            "pytorch-operator/test_operator_min",
            "pytorch-operator/test_operator_pow",
            "pytorch-operator/test_operator_reduced_sum",
            "pytorch-operator/test_operator_reduced_sum_keepdim",
            "pytorch-operator/test_operator_selu",
            "pytorch-operator/test_operator_sqrt",
            "pytorch-operator/test_operator_symbolic_override",
        ],
    ),
    (
        "may do so",
        &[
            "test_constant_pad",
            "test_constant_pad_axes",
            "test_constant_pad_negative_axes",
            "pytorch-converted/test_ConstantPad2d",
            "pytorch-converted/test_ZeroPad2d",
        ],
    ),
    (
        "only that over all rows",
        &[
            "test_reduce_mean_do_not_keepdims_example",
            "test_reduce_mean_do_not_keepdims_random",
            "test_reduce_mean_keepdims_example",
            "test_reduce_mean_keepdims_random",
            "test_reduce_mean_negative_axes_keepdims_example",
            "test_reduce_mean_negative_axes_keepdims_random",
            "pytorch-operator/test_operator_reduced_mean",
            "pytorch-operator/test_operator_reduced_mean_keepdim",
        ],
    ),
    (
        "is an image, flattened",
        &[
            "test_concat_2d_axis_0",
            "test_concat_2d_axis_negative_2",
            "test_flatten_axis2",
            "test_flatten_axis3",
            "test_flatten_negative_axis2",
            "test_flatten_negative_axis1",
            "test_squeeze",
            "test_squeeze_negative_axes",
            "test_transpose_default",
            "test_transpose_all_permutations_1",
            "test_transpose_all_permutations_2",
            "test_transpose_all_permutations_3",
            "test_transpose_all_permutations_4",
            "test_transpose_all_permutations_5",
            "test_unsqueeze_negative_axes",
        ],
    ),
    (
        "elsewhere than in its second axis",
        &[
            "pytorch-converted/test_AvgPool1d",
            "pytorch-converted/test_AvgPool1d_stride",
        ],
    ),
    (
        "does not have this operator",
        &[
            "pytorch-converted/test_ConvTranspose2d",
            "pytorch-converted/test_ConvTranspose2d_no_bias",
            "pytorch-operator/test_operator_convtranspose",
            "pytorch-operator/test_operator_repeat",
            "pytorch-operator/test_operator_repeat_dim_overflow",
        ],
    ),
    (
        "is not one number, or one per channel",
        &["pytorch-operator/test_operator_params"],
    ),
];

fn bytes(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}

/// The largest difference, of the largest value; or why the model is refused.
fn run(test: &Test) -> Result<f32, String> {
    let options = Options {
        normalization: Some(Normalization::uniform(0.5, 0.25)),
        ..Options::default()
    };
    let imported = decode(bytes(&test.model), &options).map_err(|error| error.to_string())?;
    let model =
        FloatModel::new(&imported.graph, &imported.weights).map_err(|error| error.to_string())?;
    assert_eq!(imported.graph.classes(), test.size, "{}", test.name);
    let mut logits = vec![0.0; test.size];
    model.run(&bytes(&test.pixels), &mut logits).unwrap();
    let values = bytes(&test.values);
    let (values, _) = values.as_chunks::<4>();
    let values: Vec<f32> = values
        .iter()
        .map(|&value| f32::from_le_bytes(value))
        .collect();
    let (count, last) = (values.len().min(160), (test.size - 1) as f64);
    // As numpy's linspace rounds.
    let step = last / (count.max(2) - 1) as f64;
    let place = |i: usize| {
        if i + 1 == count {
            test.size - 1
        } else {
            (i as f64 * step) as usize
        }
    };
    let largest = values.iter().fold(1e-3, |most: f32, x| most.max(x.abs()));
    let difference = |(i, value): (usize, &f32)| (logits[place(i)] - value).abs();
    let worst = values
        .iter()
        .enumerate()
        .map(difference)
        .fold(0.0, f32::max);
    Ok(worst / largest)
}

#[test]
fn every_node_test_gives_the_same_numbers_or_is_refused_for_a_stated_reason() {
    let golden: Golden = serde_json::from_str(include_str!("golden/node_tests.json")).unwrap();
    let mut wrong = Vec::new();
    let mut passed = 0;
    for test in &golden.tests {
        let expected = REFUSED
            .iter()
            .find(|(_, names)| names.contains(&test.name.as_str()));
        match (run(test), expected) {
            (Ok(difference), None) if difference <= 2e-5 => passed += 1,
            (Err(error), Some((reason, _))) if error.contains(reason) => {}
            (Ok(difference), _) => wrong.push(format!("{}: differs by {difference:e}", test.name)),
            (Err(error), _) => wrong.push(format!("{}: {error}", test.name)),
        }
    }
    assert!(
        wrong.is_empty(),
        "{passed} pass, of {}; others:\n{}",
        golden.tests.len(),
        wrong.join("\n")
    );
}
