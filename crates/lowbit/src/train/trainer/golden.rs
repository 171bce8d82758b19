//! Training against PyTorch's, from the files that bench/peers/golden_*.py wrote: weights and data come of formulas that
//! the files state.

mod curves;
mod operators;

use super::*;
use crate::Tensor;
use crate::exec::{FloatModel, Model};
use crate::graph::{GraphBuilder, Op, Shape, zoo};
use crate::train::parameter::Parameter;
use crate::train::recipe::{golden, hash, signed};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Number(number) => vec![number.as_f64().unwrap()],
        _ => panic!("expected numbers, found {value}"),
    }
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// Asserts that all numbers agree within `tolerance` times the largest expected one.
fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |max, x| max.max(x.abs()));
    for (at, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= tolerance * largest,
            "{what}[{at}]: {found}, expected {expected}"
        );
    }
}

fn norm(values: &[f32]) -> f64 {
    let squares = values.iter().map(|&x| f64::from(x).powi(2));
    squares.sum::<f64>().sqrt()
}

fn batch(step: u64, count: usize, image_len: usize) -> (Vec<u8>, Vec<u32>) {
    let labels: Vec<u32> = (0..count as u64)
        .map(|i| hash(step * count as u64 + i + 777) % 10)
        .collect();
    let first = step * (count * image_len) as u64;
    let images = (0..count * image_len)
        .map(|at| {
            let label = labels[at / image_len];
            let pixel = hash(first + at as u64 + 12345) >> 24;
            let brighter = if at as u32 % 3 == label % 3 {
                label * 9
            } else {
                0
            };
            (pixel + brighter).min(255) as u8
        })
        .collect();
    (images, labels)
}

/// A case of layers.json.
struct Case<'a>(&'a Value);

impl Case<'_> {
    fn shape(&self, name: &str) -> Vec<usize> {
        let shape = self.0["given"][name]["shape"].as_array().unwrap();
        shape.iter().map(size).collect()
    }

    /// A tensor that the case gives; none if it does not.
    fn given(&self, name: &str) -> Option<Vec<f32>> {
        let given = self.0["given"].get(name)?;
        let number =
            |key: &str, default: f64| given.get(key).map_or(default, |x| x.as_f64().unwrap());
        let (scale, offset, levels) = (
            number("scale", 1.0),
            number("offset", 0.0),
            number("levels", 0.0),
        );
        let start = given["start"].as_u64().unwrap();
        let len = self.shape(name).iter().product::<usize>() as u64;
        let value = |s: f64| match levels {
            0.0 => s * scale + offset,
            _ => (s * levels).round_ties_even() / levels,
        };
        Some(
            (start..start + len)
                .map(|i| value(f64::from(signed(i))) as f32)
                .collect(),
        )
    }

    fn expected(&self, name: &str) -> Vec<f64> {
        numbers(&self.0["result"][name])
    }

    /// `[n]` and the shape of one image.
    fn image(&self, name: &str) -> (usize, Shape) {
        match self.shape(name)[..] {
            [n, h, w, c] => (n, Shape::new(h, w, c)),
            [n, features] => (n, Shape::new(1, 1, features)),
            _ => panic!("a map or vectors"),
        }
    }
}

/// The block `index` of `graph` alone, on values that tests write.
struct Alone {
    trainer: Trainer,
    index: usize,
    count: usize,
}

impl Alone {
    fn new(
        graph: &Graph,
        weights: &[(&str, Option<Vec<f32>>)],
        index: usize,
        count: usize,
    ) -> Self {
        let mut all = Weights::init(graph, 1);
        for (name, data) in weights {
            if let Some(data) = data {
                let tensor = all.get_mut(name).expect("the graph has it");
                *tensor = Tensor::new(tensor.shape().to_vec(), data.clone());
            }
        }
        let mut trainer = Trainer::new(graph, &all, Optimizer::default()).unwrap();
        trainer.network.pass.begin(count);
        Self {
            trainer,
            index,
            count,
        }
    }

    /// Calls `visit` with the offset of each row in a value and in a dense tensor, and their length.
    fn rows(&self, value: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let layout = self.trainer.network.pass.plan.layouts[value];
        let len = layout.w * layout.c;
        for row in 0..self.count * layout.h {
            let (image, y) = (row / layout.h, row % layout.h);
            let start = image * layout.image_len + layout.first() + y * layout.row_stride;
            visit(start, row * len, len);
        }
    }

    /// The block's result of `inputs`, in the order of its inputs.
    fn forward(&mut self, inputs: &[Vec<f32>]) -> Vec<f32> {
        for (at, input) in inputs.iter().enumerate() {
            let value = self.trainer.network.pass.plan.exec.program.steps()[self.index].inputs[at];
            let mut values = self.trainer.network.pass.values[value].clone();
            self.rows(value, |to, from, len| {
                values[to..][..len].copy_from_slice(&input[from..][..len]);
            });
            self.trainer.network.pass.values[value] = values;
        }
        self.trainer.network.layers[self.index].forward(&mut self.trainer.network.pass);
        let mut result = Vec::new();
        self.rows(self.index + 1, |from, _, len| {
            result.extend_from_slice(
                &self.trainer.network.pass.values[self.index + 1][from..][..len],
            );
        });
        result
    }

    /// The gradients of the inputs.
    fn backward(&mut self, dy: &[f32]) -> Vec<Vec<f32>> {
        let (pass, value) = (&mut self.trainer.network.pass, self.index + 1);
        pass.grads[value][..dy.len()].copy_from_slice(dy);
        pass.written[value] = true;
        self.trainer.network.layers[self.index].backward(pass);
        let inputs = &pass.plan.exec.program.steps()[self.index].inputs;
        let grads = inputs.iter().map(|&input| {
            let len = self.count * pass.plan.layouts[input].dense_len();
            pass.grads[input][..len].to_vec()
        });
        grads.collect()
    }

    /// The gradient of the block's parameter number `index`.
    fn gradient(&mut self, index: usize) -> Vec<f32> {
        self.trainer.network.layers[self.index].parameters()[index]
            .grad
            .clone()
    }
}

/// Relative to the largest element; f32 sums of a few hundred terms.
const LAYER: f64 = 2e-6;

fn one_class() -> Vec<String> {
    vec!["a".into(), "b".into()]
}

/// Ends a graph whose block of interest reads values behind the image.
fn finish(mut graph: GraphBuilder, last: usize) -> Graph {
    let flat = graph.add("flatten", Op::Flatten, &[last]);
    graph.add("end", Op::linear(2), &[flat]);
    graph.finish().unwrap()
}

fn check_conv(case: &Case<'_>) {
    let (count, shape) = case.image("x");
    let weight = case.shape("weight");
    let bias = case.given("bias");
    let mut graph = GraphBuilder::new("test", shape, &one_class());
    let x = graph.add("relu", Op::Relu, &[0]);
    let step = (size(&case.0["stride"]), size(&case.0["padding"]));
    let y = graph.conv("conv", x, weight[0], weight[1], step, bias.is_some());
    let graph = finish(graph, y);
    let given = [
        ("conv.weight", case.given("weight")),
        ("conv.bias", bias.clone()),
    ];
    let mut block = Alone::new(&graph, &given, 1, count);
    let y = block.forward(&[case.given("x").unwrap()]);
    assert_close("y", &y, &case.expected("y"), LAYER);
    let dx = block.backward(&case.given("dy").unwrap());
    assert_close("dx", &dx[0], &case.expected("dx"), LAYER);
    assert_close(
        "dweight",
        &block.gradient(0),
        &case.expected("dweight"),
        LAYER,
    );
    if bias.is_some() {
        assert_close("dbias", &block.gradient(1), &case.expected("dbias"), LAYER);
    }
}

/// A 1×1 convolution that changes nothing, for what is fused behind one.
fn identity(channels: usize) -> Option<Vec<f32>> {
    let at = |i: usize| f32::from(u8::from(i / channels == i % channels));
    Some((0..channels * channels).map(at).collect())
}

fn check_batch_norm(case: &Case<'_>) {
    let (count, shape) = case.image("x");
    let mut graph = GraphBuilder::new("test", shape, &one_class());
    let x = graph.add("relu", Op::Relu, &[0]);
    let x = graph.conv("conv", x, shape.c(), 1, (1, 0), false);
    let y = graph.batch_norm("bn", x);
    let graph = finish(graph, y);
    let given = [
        ("conv.weight", identity(shape.c())),
        ("bn.weight", case.given("weight")),
        ("bn.bias", case.given("bias")),
    ];
    let mut block = Alone::new(&graph, &given, 1, count);
    let y = block.forward(&[case.given("x").unwrap()]);
    assert_close("y", &y, &case.expected("y"), LAYER);
    let dx = block.backward(&case.given("dy").unwrap());
    assert_close("dx", &dx[0], &case.expected("dx"), LAYER);
    assert_close(
        "dweight",
        &block.gradient(1),
        &case.expected("dweight"),
        LAYER,
    );
    assert_close("dbias", &block.gradient(2), &case.expected("dbias"), LAYER);
    let weights = block.trainer.weights();
    for name in ["running_mean", "running_var"] {
        let found = weights.slice(&format!("bn.{name}"));
        assert_close(name, found, &case.expected(name), LAYER);
    }
}

fn check_max_pool(case: &Case<'_>) {
    let (count, shape) = case.image("x");
    for fused in [false, true] {
        let mut graph = GraphBuilder::new("test", shape, &one_class());
        let mut x = graph.add("relu", Op::Relu, &[0]);
        if fused {
            x = graph.conv("conv", x, shape.c(), 1, (1, 0), false);
        }
        let y = graph.add("pool", Op::max_pool(2), &[x]);
        let graph = finish(graph, y);
        let given = fused.then(|| ("conv.weight", identity(shape.c())));
        let mut block = Alone::new(&graph, given.as_slice(), 1, count);
        let y = block.forward(&[case.given("x").unwrap()]);
        assert_close("y", &y, &case.expected("y"), 0.0);
        let dx = block.backward(&case.given("dy").unwrap());
        // A value goes through 8 digits in the file.
        assert_close("dx", &dx[0], &case.expected("dx"), 1e-7);
    }
}

fn check_linear(case: &Case<'_>) {
    let (count, shape) = case.image("x");
    let outputs = case.shape("weight")[0];
    let mut graph = GraphBuilder::new("test", shape, &one_class());
    let x = graph.add("relu", Op::Relu, &[0]);
    let x = graph.add("flatten0", Op::Flatten, &[x]);
    let y = graph.add("fc", Op::linear(outputs), &[x]);
    let graph = finish(graph, y);
    let given = [
        ("fc.weight", case.given("weight")),
        ("fc.bias", case.given("bias")),
    ];
    let mut block = Alone::new(&graph, &given, 1, count);
    let y = block.forward(&[case.given("x").unwrap()]);
    assert_close("y", &y, &case.expected("y"), LAYER);
    let dx = block.backward(&case.given("dy").unwrap());
    assert_close("dx", &dx[0], &case.expected("dx"), LAYER);
    assert_close(
        "dweight",
        &block.gradient(0),
        &case.expected("dweight"),
        LAYER,
    );
    assert_close("dbias", &block.gradient(1), &case.expected("dbias"), LAYER);
}

fn check_cross_entropy(case: &Case<'_>) {
    let (logits, classes) = (case.given("logits").unwrap(), case.shape("logits")[1]);
    let labels: Vec<u32> = numbers(&case.0["labels"])
        .iter()
        .map(|&x| x as u32)
        .collect();
    let mut grad = vec![0.0; logits.len()];
    let (loss, _) = cross_entropy(&logits, &labels, classes, &mut grad);
    assert_close("loss", &[loss as f32], &case.expected("loss"), LAYER);
    assert_close("dlogits", &grad, &case.expected("dlogits"), LAYER);
}

fn check_global_avg_pool(case: &Case<'_>) {
    let (count, shape) = case.image("x");
    let mut graph = GraphBuilder::new("test", shape, &one_class());
    let x = graph.add("relu", Op::Relu, &[0]);
    let y = graph.add("pool", Op::GlobalAvgPool, &[x]);
    let mut block = Alone::new(&finish(graph, y), &[], 1, count);
    let y = block.forward(&[case.given("x").unwrap()]);
    assert_close("y", &y, &case.expected("y"), LAYER);
    let dx = block.backward(&case.given("dy").unwrap());
    assert_close("dx", &dx[0], &case.expected("dx"), LAYER);
}

fn check_add_relu(case: &Case<'_>) {
    let (count, shape) = case.image("a");
    let mut graph = GraphBuilder::new("test", shape, &one_class());
    let a = graph.conv("conv1", 0, shape.c(), 1, (1, 0), false);
    let b = graph.conv("conv2", 0, shape.c(), 1, (1, 0), false);
    let sum = graph.add("add", Op::Add, &[a, b]);
    let y = graph.add("relu", Op::Relu, &[sum]);
    let mut block = Alone::new(&finish(graph, y), &[], 2, count);
    let y = block.forward(&[case.given("a").unwrap(), case.given("b").unwrap()]);
    assert_close("y", &y, &case.expected("y"), LAYER);
    let grads = block.backward(&case.given("dy").unwrap());
    assert_close("da", &grads[0], &case.expected("da"), LAYER);
    assert_close("db", &grads[1], &case.expected("db"), LAYER);
}

#[test]
fn single_layers_and_their_gradients_agree_with_pytorch() {
    let golden = golden("layers");
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        let op = case["op"].as_str().unwrap();
        let case = Case(case);
        match op {
            "conv2d" => check_conv(&case),
            "batch_norm" => check_batch_norm(&case),
            "max_pool_2x2" => check_max_pool(&case),
            "linear" => check_linear(&case),
            "cross_entropy" => check_cross_entropy(&case),
            "global_avg_pool" => check_global_avg_pool(&case),
            "add_relu" => check_add_relu(&case),
            _ => panic!("no test for {op}"),
        }
    }
    assert_eq!(cases.len(), 15);
}
