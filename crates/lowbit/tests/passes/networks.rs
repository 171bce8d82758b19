//! Networks, weights that round badly, and what they give.

use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::graph::{BatchNorm, Conv, GraphBuilder, Normalization, Op, Unary, zoo};
use lowbit::quant::{ActivationQuant, QuantizedModel};
use lowbit::quantize::{Passes, PtqConfig, quantize};
use lowbit::{ActivationBits, Graph, Shape, WeightBits, Weights};
use lowbit_kernels::{Isa, random};

pub const IMAGES: usize = 24;

pub fn classes() -> Vec<String> {
    (0..5).map(|class| format!("class{class}")).collect()
}

/// Inverted residuals: depthwise filters of nine weights, strides, padding, ReLU6, an add; ImageNet's normalization.
pub fn mobile() -> Graph {
    let conv = |out_channels, kernel: usize, stride, groups| {
        Op::Conv(Conv {
            stride: [stride; 2],
            groups,
            bias: false,
            ..Conv::same(out_channels, kernel)
        })
    };
    let mut graph = GraphBuilder::new("mobile", Shape::new(17, 16, 3), &classes());
    let relu6 = Op::Unary(Unary::Clip { min: 0.0, max: 6.0 });
    let mut x = 0;
    let mut residual = 0;
    for (name, op, is_active) in [
        ("stem", conv(8, 3, 2, 1), true),
        ("expand", conv(24, 1, 1, 1), true),
        ("deep", conv(24, 3, 1, 24), true),
        ("project", conv(8, 1, 1, 1), false),
        ("grouped", conv(32, 3, 2, 2), true),
    ] {
        x = graph.add(name, op, &[x]);
        let norm = Op::BatchNorm(BatchNorm::default());
        x = graph.add(&format!("{name}.bn"), norm, &[x]);
        if is_active {
            x = graph.add(&format!("{name}.relu6"), relu6, &[x]);
        }
        match name {
            "stem" => residual = x,
            "project" => x = graph.add("add", Op::Add, &[residual, x]),
            _ => {}
        }
    }
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(5), &[x]);
    let imagenet = Normalization::per_channel(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);
    graph.normalization(imagenet).finish().unwrap()
}

pub fn networks() -> Vec<Graph> {
    let resnet = zoo::build("resnet8", Shape::new(16, 16, 3), &classes()).unwrap();
    vec![mobile(), resnet]
}

/// Weights of which most lie a little below half a step: rounding makes all of them smaller, and means with them.
pub fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::init(graph, 3);
    for (index, parameter) in graph.parameters().iter().enumerate() {
        let mut rng = random::stream(7, "test", index as u64);
        let tensor = weights.get_mut(&parameter.name).unwrap();
        let fan_in = tensor.data().len() / tensor.shape()[0];
        if parameter.name.ends_with(".weight") && tensor.shape().len() > 1 {
            for filter in tensor.data_mut().chunks_mut(fan_in) {
                let size = 1.0 / (fan_in as f32).sqrt();
                for w in filter.iter_mut() {
                    let steps = (7.0 * random::uniform(&mut rng)).floor() + 0.4;
                    let sign = if random::uniform(&mut rng) < 0.3 {
                        -1.0
                    } else {
                        1.0
                    };
                    *w = sign * size * steps / 7.0;
                }
                filter[0] = size;
            }
        } else if parameter.name.ends_with("running_var") {
            tensor.data_mut().fill(0.2);
        }
    }
    weights
}

pub fn images(graph: &Graph) -> Vec<u8> {
    several(graph, IMAGES)
}

pub fn several(graph: &Graph, images: usize) -> Vec<u8> {
    let mut rng = random::stream(6, "test", 0);
    let count = images * graph.input().len();
    (0..count)
        .map(|i| (random::below(&mut rng, 128) as usize + i / 48 % 128) as u8)
        .collect()
}

pub fn logits(model: &dyn Model, images: &[u8]) -> Vec<f32> {
    let mut logits = vec![0.0; model.count(images) * model.graph().classes()];
    model.run(images, &mut logits).unwrap();
    logits
}

pub fn float(graph: &Graph) -> Vec<f32> {
    let model = FloatModel::compile(graph, &weights(graph), Isa::best()).unwrap();
    logits(&model, &images(graph))
}

pub fn made(
    graph: &Graph,
    bits: WeightBits,
    passes: &str,
    method: ActivationQuant,
) -> QuantizedModel {
    let config = PtqConfig {
        method,
        weight_bits: bits,
        activation_bits: match method {
            ActivationQuant::WeightOnly => ActivationBits::Float,
            _ => ActivationBits::B8,
        },
        passes: passes.parse::<Passes>().unwrap(),
        ..PtqConfig::default()
    };
    quantize(graph, &weights(graph), &config, &images(graph), Isa::best()).unwrap()
}

pub fn run(graph: &Graph, model: &QuantizedModel) -> Vec<f32> {
    let model = IntegerModel::compile(model, Isa::best()).unwrap();
    logits(&model, &images(graph))
}

pub fn error(expected: &[f32], found: &[f32]) -> f32 {
    let pairs = expected.iter().zip(found);
    let squares: f32 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
    (squares / expected.len() as f32).sqrt()
}

/// Each class's mean logit over the images.
pub fn means(logits: &[f32]) -> Vec<f32> {
    let of = |class: usize| logits.iter().skip(class).step_by(5).sum::<f32>() / IMAGES as f32;
    (0..5).map(of).collect()
}
