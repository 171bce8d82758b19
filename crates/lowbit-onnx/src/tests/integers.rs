//! Integers in a file: names that collide with those that are made, and attributes that change what is computed.

use super::*;
use lowbit::exec::IntegerModel;

/// Integers of 8 bits; no dims for a single one.
pub(super) fn bytes(name: &str, kind: DataType, dims: &[i64], values: &[i32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(kind.into()),
        int32_data: values.to_vec(),
        ..Default::default()
    }
}

pub(super) fn float(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        float_data: values.to_vec(),
        ..floats(name, dims)
    }
}

/// The logits of a model, with its integers where it has such.
pub(super) fn run(model: &ModelProto, pixels: &[u8]) -> Vec<f32> {
    let imported = import(model).unwrap();
    let runs: Box<dyn Model> = match &imported.quantized {
        Some(quantized) => Box::new(IntegerModel::new(quantized).unwrap()),
        None => Box::new(FloatModel::new(&imported.graph, &imported.weights).unwrap()),
    };
    let mut logits = vec![0.0; imported.graph.classes()];
    runs.run(pixels, &mut logits).unwrap();
    logits
}

pub(super) fn noise() -> Vec<u8> {
    (0..8 * 8 * 3).map(|i| (i * 37 % 251) as u8).collect()
}

/// An image that is rounded, a QLinearConv, and a product whose weights have the name `weights`.
fn of_integers(weights: &str) -> ModelProto {
    let mut model = small();
    let taps: Vec<i32> = (0..12).map(|i| i * 5 % 17 - 8).collect();
    let conv = ["q", "xs", "xz", "k", "ks", "kz", "cs", "xz"];
    let mut gemm = node("Gemm", &["f", weights], "y");
    gemm.attribute = vec![int("transB", 1)];
    let graph = graph(&mut model);
    graph.node = vec![
        node("QuantizeLinear", &["x", "xs", "xz"], "q"),
        node("QLinearConv", &conv, "c"),
        node("DequantizeLinear", &["c", "cs", "xz"], "d"),
        node("GlobalAveragePool", &["d"], "g"),
        node("Flatten", &["g"], "f"),
        gemm,
    ];
    graph.initializer = vec![
        float("xs", &[], &[1.0 / 255.0]),
        float("ks", &[], &[0.01]),
        float("cs", &[], &[0.002]),
        bytes("xz", DataType::Uint8, &[], &[0]),
        bytes("kz", DataType::Int8, &[], &[0]),
        bytes("k", DataType::Int8, &[4, 3, 1, 1], &taps),
        floats(weights, &[2, 4]),
    ];
    model
}

#[test]
fn a_name_of_the_file_is_not_one_that_is_made_for_a_part_of_an_operator() {
    let expected = run(&of_integers("v"), &noise());
    assert!(expected.iter().any(|&x| x != 0.0));
    for name in ["c:w", "c:x", "c:real"] {
        assert_eq!(run(&of_integers(name), &noise()), expected, "{name}");
    }
}

/// A product of quantized weights that are transposed, and a bias of the name `bias`.
fn turned(bias: &str) -> ModelProto {
    let mut model = small();
    let gemm = node("Gemm", &["f", "t", bias], "y");
    let graph = graph(&mut model);
    graph.node.truncate(4);
    graph.node.extend([
        node("DequantizeLinear", &["v", "vs"], "rr"),
        node("Transpose", &["rr"], "t"),
        gemm,
    ]);
    graph.initializer[2] = bytes(
        "v",
        DataType::Int8,
        &[2, 4],
        &[1, -2, 3, 4, 50, -60, 70, -80],
    );
    graph.initializer.push(float("vs", &[], &[0.01]));
    graph.initializer.push(float(bias, &[2], &[1.0, -1.0]));
    model
}

#[test]
fn nor_one_that_is_made_for_integers_on_the_move() {
    let expected = run(&turned("b2"), &noise());
    for name in ["rr:codes", "rr\ncodes"] {
        assert_eq!(run(&turned(name), &noise()), expected, "{name:?}");
    }
}

#[test]
fn an_image_that_layers_of_f32_read_is_rounded_and_cut_off() {
    let mut model = small();
    let graph = graph(&mut model);
    graph.node[0].input[0] = "d".into();
    graph.node.splice(
        0..0,
        [
            node("QuantizeLinear", &["x", "xs", "xz"], "q"),
            node("DequantizeLinear", &["q", "xs", "xz"], "d"),
        ],
    );
    graph.initializer.extend([
        // Its largest number is half of white.
        float("xs", &[], &[1.0 / 510.0]),
        bytes("xz", DataType::Uint8, &[], &[0]),
    ]);
    let cut: Vec<u8> = noise().iter().map(|&pixel| pixel.min(128)).collect();
    let logits = run(&model, &noise());
    assert_eq!(logits, run(&model, &cut));
    assert_ne!(logits, run(&model, &[0; 8 * 8 * 3]));
}

#[test]
fn whatever_reads_a_rounded_image_reads_its_levels() {
    let with = |between: Vec<NodeProto>, levels: bool| {
        let mut model = small();
        let graph = graph(&mut model);
        graph.node[0].input[0] = "m".into();
        let from = if levels { "d" } else { "x" };
        let mut nodes = vec![];
        if levels {
            nodes.push(node("QuantizeLinear", &["x", "xs", "xz"], "q"));
            nodes.push(node("DequantizeLinear", &["q", "xs", "xz"], "d"));
        }
        nodes.extend(between.into_iter().map(|mut node| {
            for input in &mut node.input {
                if input == "image" {
                    *input = from.into();
                }
            }
            node
        }));
        graph.node.splice(0..0, nodes);
        graph.initializer.extend([
            // Three levels to a pixel, up to a third of white.
            float("xs", &[], &[1.0 / 765.0]),
            bytes("xz", DataType::Uint8, &[], &[0]),
            float("one", &[], &[1.0]),
        ]);
        run(
            &model,
            &match levels {
                true => noise(),
                false => noise().iter().map(|&p| p.min(85)).collect(),
            },
        )
    };
    let named = |mut node: NodeProto, name: &str| {
        node.name = Some(name.into());
        node
    };
    for between in [
        vec![named(node("Sigmoid", &["image"], "m"), "s")],
        vec![named(node("Add", &["image", "image"], "m"), "s")],
        vec![named(node("Add", &["image", "one"], "m"), "s")],
        vec![named(node("Mul", &["image", "image"], "m"), "s")],
    ] {
        let (rounded, plain) = (with(between.clone(), true), with(between.clone(), false));
        let name = between[0].op_type.clone();
        for (a, b) in rounded.iter().zip(&plain) {
            // Sums are products of 16-bit weights.
            assert!(
                (a - b).abs() < 2e-4 * a.abs(),
                "{name:?}: {rounded:?} {plain:?}"
            );
        }
    }
}

#[test]
fn a_softmax_over_other_axes_than_the_file_s_is_refused() {
    let with = |opset: i64| {
        let mut model = of_integers("v");
        let mut softmax = node("QLinearSoftmax", &["c", "cs", "xz", "cs", "xz"], "s");
        softmax.domain = Some("com.microsoft".into());
        softmax.attribute = vec![int("axis", 1), int("opset", opset)];
        let graph = graph(&mut model);
        graph.node[2].input[0] = "s".into();
        graph.node.insert(2, softmax);
        import(&model)
    };
    assert!(with(13).is_ok());
    let error = with(11).unwrap_err();
    assert!(
        error.contains("QLinearSoftmax") && error.contains("its opset is 11 and the file's 13"),
        "{error}"
    );
}

#[test]
fn what_is_said_of_types_is_f32_or_refused() {
    let with = |index: usize, key: &str, value: i64| {
        let mut model = of_integers("v");
        model.opset_import[0].version = Some(23);
        graph(&mut model).node[index]
            .attribute
            .push(int(key, value));
        import(&model)
    };
    for (index, key, value) in [
        (0, "precision", 1),
        (0, "output_dtype", 2),
        (2, "output_dtype", 1),
        (0, "saturate", 0),
    ] {
        assert!(with(index, key, value).is_ok(), "{key}={value}");
    }
    for (index, key, value, expected) in [
        (0, "precision", 10, "precision=10: only f32"),
        (2, "output_dtype", 10, "output_dtype=10: only f32"),
        (0, "output_dtype", 3, "another type than its zero point"),
        (0, "output_dtype", 17, "only u8 (2) and s8 (3)"),
        (0, "block_size", 4, "block_size"),
    ] {
        let error = with(index, key, value).unwrap_err();
        assert!(
            error.starts_with("node the_") && error.contains(expected),
            "{error}"
        );
    }
}

#[test]
fn logits_that_are_integers_are_said_to_be() {
    let mut model = of_integers("v");
    let in_reals = run(&model, &noise());
    let graph = graph(&mut model);
    graph.node[5].output[0] = "l".into();
    graph.initializer.push(float("ys", &[], &[0.001]));
    graph
        .node
        .push(node("QuantizeLinear", &["l", "ys", "xz"], "y"));
    graph.initializer[3] = bytes("xz", DataType::Uint8, &[], &[0]);
    let notes = import(&model).unwrap().notes;
    assert!(
        notes
            .iter()
            .any(|note| note.contains("output y are integers")),
        "{notes:?}"
    );
    for (found, real) in run(&model, &noise()).iter().zip(in_reals) {
        let expected = (real / 0.001).round().clamp(0.0, 255.0) * 0.001;
        assert!((found - expected).abs() < 1.1e-3, "{found}, {expected}");
    }
}
