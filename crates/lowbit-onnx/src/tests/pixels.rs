//! Models that take pixels of 8 bits: what reads them sees the numbers that ONNX says they are.

use super::integers::{bytes, float, noise, run};
use super::*;

/// Nodes on pixels `x` up to `m`, then their mean, and a product whose weights are integers where `quantized`.
fn on_pixels(nodes: &[NodeProto], quantized: bool) -> ModelProto {
    let mut model = small();
    let mut image = info("x", &[0, 3, 8, 8]);
    if let Some(Value::TensorType(tensor)) = &mut image.r#type.as_mut().unwrap().value {
        tensor.elem_type = Some(DataType::Uint8.into());
    }
    let mut gemm = node("Gemm", &["f", "v"], "y");
    gemm.attribute = vec![int("transB", 1)];
    let graph = graph(&mut model);
    graph.input = vec![image];
    graph.node = nodes.to_vec();
    if quantized {
        graph
            .node
            .push(node("DequantizeLinear", &["vq", "vs"], "v"));
    }
    graph.node.extend([
        node("GlobalAveragePool", &["m"], "g"),
        node("Flatten", &["g"], "f"),
        gemm,
    ]);
    graph.initializer = vec![
        float("s", &[], &[0.02]),
        bytes("z", DataType::Uint8, &[], &[10]),
        float("one", &[], &[1.0]),
        bytes("zero", DataType::Uint8, &[], &[0]),
        float("factor", &[3, 1, 1], &FACTORS),
        float("summand", &[3, 1, 1], &SUMMANDS),
    ];
    let codes = [10, -20, 30, 40, 50, -60];
    graph.initializer.push(match quantized {
        true => bytes("vq", DataType::Int8, &[2, 3], &codes),
        false => float("v", &[2, 3], &codes.map(|code| code as f32 * 0.01)),
    });
    graph.initializer.push(float("vs", &[], &[0.01]));
    model
}

const FACTORS: [f32; 3] = [0.5, 2.0, 3.0];
const SUMMANDS: [f32; 3] = [1.0, -2.0, 0.5];

/// The logits where a pixel `q` of channel `c` stands for `real(q, c)`.
fn expected(real: impl Fn(f64, usize) -> f64) -> [f64; 2] {
    let pixels = noise();
    let mean = |c: usize| -> f64 {
        let of_channel = pixels.iter().skip(c).step_by(3);
        of_channel.map(|&q| real(f64::from(q), c)).sum::<f64>() / 64.0
    };
    [[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]].map(|row| (0..3).map(|c| row[c] * mean(c)).sum::<f64>())
}

fn assert_near(found: &[f32], expected: [f64; 2]) {
    for (found, expected) in found.iter().zip(expected) {
        let difference = (f64::from(*found) - expected).abs();
        assert!(
            difference < 1e-3 * (1.0 + expected.abs()),
            "{found}, {expected}"
        );
    }
    assert_eq!(found.len(), 2);
}

fn dequantized() -> NodeProto {
    node("DequantizeLinear", &["x", "s", "z"], "d")
}

fn cast(from: &str, to: &str) -> NodeProto {
    let mut cast = node("Cast", &[from], to);
    cast.attribute = vec![int("to", DataType::Float as i64)];
    cast
}

#[test]
fn maps_of_pixels_on_a_grid_are_computed_on_that_grid() {
    let nodes = [
        dequantized(),
        node("Mul", &["d", "factor"], "p"),
        node("Add", &["p", "summand"], "m"),
    ];
    let expected =
        expected(|q, c| (q - 10.0) * 0.02 * f64::from(FACTORS[c]) + f64::from(SUMMANDS[c]));
    for quantized in [false, true] {
        let model = on_pixels(&nodes, quantized);
        assert_eq!(import(&model).unwrap().quantized.is_some(), quantized);
        assert_near(&run(&model, &noise()), expected);
    }
}

#[test]
fn pixels_that_are_moved_or_cast_stay_what_they_are() {
    let turned = |from: &str, perm: &[i64], to: &str| {
        let mut turn = node("Transpose", &[from], to);
        turn.attribute = vec![ints("perm", perm)];
        turn
    };
    let moved = [
        turned("x", &[0, 2, 3, 1], "t"),
        node("DequantizeLinear", &["t", "s", "z"], "d"),
        turned("d", &[0, 3, 1, 2], "m"),
    ];
    let count = [cast("x", "m")];
    for quantized in [false, true] {
        let of = |nodes: &[NodeProto]| run(&on_pixels(nodes, quantized), &noise());
        assert_near(&of(&moved), expected(|q, _| (q - 10.0) * 0.02));
        assert_near(&of(&count), expected(|q, _| q));
        // Of the same numbers, both may be read.
        let both = [
            cast("x", "a"),
            node("DequantizeLinear", &["x", "one", "zero"], "b"),
            node("Add", &["a", "b"], "m"),
        ];
        assert_near(&of(&both), expected(|q, _| 2.0 * q));
    }
}

#[test]
fn pixels_are_not_two_numbers_at_once() {
    let nodes = [dequantized(), cast("x", "c"), node("Add", &["d", "c"], "m")];
    for quantized in [false, true] {
        let error = import(&on_pixels(&nodes, quantized)).unwrap_err();
        assert!(
            error.contains("the_Cast (Cast)") && error.contains("0 to 255"),
            "{error}"
        );
    }
    let nodes = [
        dequantized(),
        node("DequantizeLinear", &["x", "one", "zero"], "e"),
        node("Add", &["d", "e"], "m"),
    ];
    let error = import(&on_pixels(&nodes, true)).unwrap_err();
    assert!(error.contains("another scale"), "{error}");
}

#[test]
fn sums_of_bytes_are_refused_by_name() {
    let mut pool = node("AveragePool", &["x"], "w");
    pool.attribute = vec![ints("kernel_shape", &[1, 1])];
    let pad = TensorProto {
        int64_data: vec![0, 0, 1, 1, 0, 0, 1, 1],
        data_type: Some(DataType::Int64.into()),
        dims: vec![8],
        name: Some("pads".into()),
        ..Default::default()
    };
    for first in [
        node("Relu", &["x"], "w"),
        node("Add", &["x", "x"], "w"),
        node("Mul", &["x", "zero"], "w"),
        node("GlobalAveragePool", &["x"], "w"),
        node("QuantizeLinear", &["x", "s", "z"], "w"),
        pool,
    ] {
        let op = first.op_type().to_owned();
        let error = import(&on_pixels(&[first, cast("w", "m")], false)).unwrap_err();
        let begin = format!("node the_{op} ({op}): it ");
        assert!(error.starts_with(&begin), "{error}");
        assert!(error.contains("pixels of 8 bits") || error.contains("quantizes integers"));
    }
    let nodes = [
        node("Pad", &["x", "pads"], "w"),
        node("DequantizeLinear", &["w", "s", "z"], "m"),
    ];
    let mut model = on_pixels(&nodes, false);
    graph(&mut model).initializer.push(pad);
    let error = import(&model).unwrap_err();
    assert!(error.contains("the_Pad (Pad): it puts zeros"), "{error}");
}

#[test]
fn a_model_that_takes_pixels_is_not_asked_for_their_order() {
    let model = on_pixels(&[dequantized(), node("Identity", &["d"], "m")], false);
    let options = Options {
        bgr: true,
        ..Options::default()
    };
    let imported = decode(model.encode_to_vec(), &options).unwrap();
    assert!(
        imported
            .notes
            .iter()
            .any(|note| note.contains("has no effect"))
    );
    assert_eq!(logits(&imported), run(&model, &noise()));
}
