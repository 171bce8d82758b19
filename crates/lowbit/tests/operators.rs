//! Operators beyond those of the zoo in the executors: f32 and integers, every instruction set, any number of threads.

use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::graph::{
    AvgPool, ChannelShuffle, Conv, GraphBuilder, LayerNorm, MaxPool, Normalization, Op, Slice,
    Unary,
};
use lowbit::quantize::{PtqConfig, quantize};
use lowbit::{Graph, Numbers, Quantizer, Shape, Weights};
use lowbit_kernels::{Isa, random};

fn classes(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class{class}")).collect()
}

fn conv(out_channels: usize, kernel: [usize; 2]) -> Conv {
    Conv {
        out_channels,
        kernel,
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
        bias: true,
    }
}

/// Every attribute of every operator, in one network.
fn everything() -> Graph {
    let mut graph = GraphBuilder::new("everything", Shape::new(20, 17, 3), &classes(5));
    let x = graph.add(
        "stem",
        Op::Conv(Conv {
            stride: [2, 1],
            padding: [1, 0, 2, 1],
            ..conv(8, [3, 2])
        }),
        &[0],
    );
    let x = graph.batch_norm("bn", x);
    let x = graph.add("relu1", Op::Relu, &[x]);
    let depthwise = Conv {
        groups: 8,
        padding: [1; 4],
        ..conv(8, [3, 3])
    };
    let y = graph.add("depthwise", Op::Conv(depthwise), &[x]);
    let y = graph.add("sigmoid1", Op::Sigmoid, &[y]);
    let y = graph.add("gate", Op::Mul, &[x, y]);
    let dilated = Conv {
        dilation: [2, 3],
        stride: [1, 2],
        padding: [2, 3, 2, 3],
        groups: 2,
        ..conv(6, [3, 3])
    };
    let y = graph.add("dilated", Op::Conv(dilated), &[y]);
    let pool = MaxPool {
        kernel: [3, 2],
        stride: [2, 2],
        padding: [1, 0, 1, 1],
    };
    let y = graph.add("pool", Op::MaxPool(pool), &[y]);
    let pool = AvgPool {
        kernel: [2, 2],
        stride: [1, 1],
        padding: [0, 1, 0, 0],
        counted_padding: [0, 1, 0, 0],
    };
    let y = graph.add("mean2", Op::AvgPool(pool), &[y]);
    let y = graph.add("tokens", Op::linear(7), &[y]);
    let y = graph.add("norm", Op::LayerNorm(LayerNorm { eps: 1e-5 }), &[y]);
    let y = graph.add("scaled", Op::affine(7), &[y]);
    let z = graph.add("attention", Op::Softmax, &[y]);
    let z = graph.add(
        "shuffle",
        Op::ChannelShuffle(ChannelShuffle { groups: 7 }),
        &[z],
    );
    let y = graph.add("both", Op::Concat, &[y, z]);
    let slice = Slice {
        first: 3,
        channels: 7,
    };
    let y = graph.add("slice", Op::Slice(slice), &[y]);
    let y = [
        Unary::Clip {
            min: -0.5,
            max: 0.75,
        },
        Unary::HardSigmoid {
            alpha: 0.2,
            beta: 0.5,
        },
        Unary::HardSwish,
        Unary::Silu,
        Unary::Tanh,
        Unary::LeakyRelu { slope: 0.1 },
        Unary::Elu { alpha: 1.5 },
        Unary::Gelu { tanh: false },
        Unary::Gelu { tanh: true },
    ]
    .iter()
    .enumerate()
    .map(|(number, &unary)| {
        let z = graph.add(&format!("unary{number}"), Op::Unary(unary), &[y]);
        let factors = graph.add(&format!("mean{number}"), Op::GlobalAvgPool, &[z]);
        graph.add(&format!("add{number}"), Op::Add, &[z, factors])
    })
    .collect::<Vec<_>>();
    let y = graph.add("unaries", Op::Concat, &y);
    let y = graph.add("again", Op::linear(7), &[y]);
    let s = graph.add("squeeze", Op::GlobalAvgPool, &[y]);
    let s = graph.add("se1", Op::linear(3), &[s]);
    let s = graph.add("se_relu", Op::Relu, &[s]);
    let s = graph.add("se2", Op::linear(7), &[s]);
    let s = graph.add("sigmoid2", Op::Sigmoid, &[s]);
    let y = graph.add("excite", Op::Mul, &[y, s]);
    let y = graph.add("relu2", Op::Relu, &[y]);
    let y = graph.add("flatten", Op::Flatten, &[y]);
    let y = graph.add("fc", Op::linear(5), &[y]);
    graph.add("head", Op::Sigmoid, &[y]);
    let imagenet = Normalization::per_channel(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);
    graph.normalization(imagenet).finish().unwrap()
}

fn images(graph: &Graph, count: usize) -> Vec<u8> {
    let mut rng = random::stream(6, "test", 0);
    (0..count * graph.input().len())
        .map(|_| random::below(&mut rng, 256) as u8)
        .collect()
}

fn logits(model: &dyn Model, images: &[u8]) -> Vec<f32> {
    let mut logits = vec![0.0; model.count(images) * model.graph().classes()];
    model.try_run(images, &mut logits).unwrap();
    logits
}

#[test]
fn every_attribute_of_every_operator_gives_the_same_bits_on_every_isa_and_close_ones_in_integers() {
    let graph = everything();
    let weights = Weights::init(&graph, 3);
    let images = images(&graph, 7);
    let image_len = graph.input().len();
    let float = logits(&FloatModel::new(&graph, &weights).unwrap(), &images);
    let configs = [
        Quantizer::new(&graph, &weights).calibrate(&images).unwrap(),
        Quantizer::new(&graph, &weights).dynamic().unwrap(),
        Quantizer::new(&graph, &weights).weight_only().unwrap(),
    ];
    for quantized in &configs {
        let mut expected: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let model = IntegerModel::compile(quantized, isa).unwrap();
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let found = pool.install(|| logits(&model, &images));
                let of = format!("{}, {isa}, {threads} threads", quantized.method);
                let expected = expected.get_or_insert_with(|| found.clone());
                assert_eq!(*expected, found, "{of}");
                for (a, b) in float.iter().zip(&found) {
                    assert!((a - b).abs() < 0.02, "{of}: {b} for {a}");
                }
                if quantized.method.to_string() != "dynamic" {
                    let one_by_one: Vec<f32> = images
                        .chunks(image_len)
                        .flat_map(|image| pool.install(|| logits(&model, image)))
                        .collect();
                    assert_eq!(*expected, one_by_one, "{of}, one by one");
                }
            }
        }
    }
    for isa in Isa::available() {
        let model = FloatModel::compile(&graph, &weights, isa).unwrap();
        assert_eq!(logits(&model, &images), float, "{isa}");
    }
}

#[test]
fn only_what_has_no_integer_form_runs_in_f32() {
    let graph = everything();
    let weights = Weights::init(&graph, 3);
    let images = images(&graph, 2);
    let config = PtqConfig::default();
    let quantized = quantize(&graph, &weights, &config, &images, Isa::best()).unwrap();
    let profile = IntegerModel::new(&quantized)
        .unwrap()
        .try_profile(&images)
        .unwrap();
    let in_f32: Vec<&str> = profile
        .iter()
        .filter(|layer| layer.numbers == Numbers::F32)
        .map(|layer| &layer.name[..])
        .collect();
    assert_eq!(in_f32, ["norm", "attention", "head"]);
}

#[test]
fn files_say_every_attribute_and_name_the_version_that_can() {
    use lowbit::format::{self, StoredModel};
    let graph = everything();
    let weights = Weights::init(&graph, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    format::save_float(&path, &graph, &weights, None).unwrap();
    let StoredModel::Float { graph: read, .. } = format::load(&path).unwrap() else {
        panic!("not a float model");
    };
    assert_eq!(read, graph);
    let bytes = std::fs::read(&path).unwrap();
    let version = b"format_version\\\":3";
    assert!(bytes.windows(version.len()).any(|window| window == version));
    // An attribute that this version does not know is an error, not something else.
    let text = String::from_utf8_lossy(&bytes[8..4096]);
    assert!(text.contains("dilation"));
    let changed: Vec<u8> = {
        let at = bytes
            .windows(8)
            .position(|window| window == b"dilation")
            .unwrap();
        let mut changed = bytes.clone();
        changed[at..at + 8].copy_from_slice(b"rotation");
        changed
    };
    std::fs::write(&path, changed).unwrap();
    let error = format::load(&path).unwrap_err().to_string();
    assert!(error.contains("rotation"), "{error}");
}

#[test]
fn wrong_lengths_are_errors_and_no_images_are_none() {
    let graph = everything();
    let weights = Weights::init(&graph, 3);
    let float = FloatModel::new(&graph, &weights).unwrap();
    let quantized = Quantizer::new(&graph, &weights).dynamic().unwrap();
    let integer = IntegerModel::new(&quantized).unwrap();
    for model in [&float as &dyn Model, &integer] {
        let one = vec![0; graph.input().len()];
        let error = model.try_run(&one, &mut [0.0; 4]).unwrap_err().to_string();
        assert!(
            error.contains("1020 bytes") && error.contains("5 logits"),
            "{error}"
        );
        assert!(model.try_run(&one[1..], &mut [0.0; 5]).is_err());
        assert!(model.try_profile(&one[1..]).is_err());
        model.try_run(&[], &mut []).unwrap();
        assert!(
            model
                .try_profile(&[])
                .unwrap()
                .iter()
                .all(|layer| layer.seconds == 0.0)
        );
    }
}

#[test]
fn models_can_move_to_other_threads() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<FloatModel>();
    is_send_and_sync::<IntegerModel>();
    is_send_and_sync::<Box<dyn Model>>();
}
