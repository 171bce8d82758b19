//! Bands against the same steps one after the other.

use crate::exec::engine::Engine;
use crate::exec::float_model;
use crate::exec::integer_model::{self, Kernels};
use crate::graph::{Conv, GraphBuilder, Op, Unary, fold_batch_norm};
use crate::lower::{ExecProgram, Mode, Plan};
use crate::{Graph, Quantizer, Shape, Weights};
use lowbit_kernels::{Isa, random};

/// Two windows in one band, of which the first sees beyond the image on each side, and one that steps.
fn network() -> Graph {
    let classes = ["a", "b", "c"].map(String::from);
    let mut graph = GraphBuilder::new("network", Shape::new(117, 106, 3), &classes);
    let x = graph.add("stem", Op::Conv(Conv::same(40, 1)), &[0]);
    let x = graph.add("swish", Op::Unary(Unary::HardSwish), &[x]);
    let dilated = Conv {
        dilation: [2, 1],
        padding: [2, 1, 2, 1],
        groups: 40,
        ..Conv::same(40, 3)
    };
    let x = graph.add("dilated", Op::Conv(dilated), &[x]);
    let x = graph.add("expand", Op::Conv(Conv::same(48, 1)), &[x]);
    let stepping = Conv {
        stride: [2; 2],
        padding: [1, 2, 3, 2],
        groups: 48,
        ..Conv::same(48, 5)
    };
    let x = graph.add("stepping", Op::Conv(stepping), &[x]);
    let x = graph.add("project", Op::Conv(Conv::same(8, 1)), &[x]);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    graph.finish().unwrap()
}

/// The logits of both, for one and for several images, on one and on several threads.
fn are_the_same(plan: Plan, engine: impl Fn(Plan) -> Engine, images: &[u8], per_image: usize) {
    assert!(!plan.bands.is_empty());
    let mut whole = plan.clone();
    whole.bands.clear();
    let (banded, whole) = (engine(plan), engine(whole));
    let run = |engine: &Engine, count: usize, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let mut logits = vec![0.0; 3 * count];
        let images = &images[..count * per_image];
        pool.build()
            .unwrap()
            .install(|| engine.run(images, count, &mut logits));
        logits
    };
    for count in [1, 2] {
        let expected = run(&whole, count, 1);
        assert!(expected.iter().any(|&x| x != 0.0));
        // On so many that bands no longer suit, too.
        for threads in [1, 2, 3, 9] {
            assert_eq!(
                run(&banded, count, threads),
                expected,
                "{count} on {threads}"
            );
        }
        // The engine keeps its buffers, and a thread its rows.
        assert_eq!(run(&banded, count, 1), expected);
    }
    let mut logits = vec![0.0; 6];
    banded.profile(images, 2, &mut logits);
    assert_eq!(logits, run(&whole, 2, 1));
}

/// Two bands, of which one has too few rows for nine threads. Without the first one, its result would lie where its input does.
fn two_bands() -> Graph {
    let classes = ["a", "b", "c"].map(String::from);
    let mut graph = GraphBuilder::new("two", Shape::new(128, 128, 3), &classes);
    let stepping = |channels, kernel| Conv {
        stride: [2; 2],
        ..Conv::same(channels, kernel)
    };
    let of_groups = |conv: Conv| Conv {
        groups: conv.out_channels,
        ..conv
    };
    let x = graph.add("stem", Op::Conv(stepping(8, 1)), &[0]);
    let x = graph.add("expand", Op::Conv(Conv::same(192, 1)), &[x]);
    let x = graph.add("depthwise", Op::Conv(of_groups(Conv::same(192, 3))), &[x]);
    let x = graph.add("project", Op::Conv(Conv::same(8, 1)), &[x]);
    let x = graph.add("again", Op::Conv(Conv::same(192, 1)), &[x]);
    let x = graph.add("half", Op::Conv(of_groups(stepping(192, 3))), &[x]);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    graph.finish().unwrap()
}

#[test]
fn bands_by_rows_and_step_by_step_give_the_same_bits() {
    check(&two_bands(), [&[[1, 4], [4, 6]]; 2]);
}

#[test]
fn rows_at_a_time_give_the_bits_of_whole_values() {
    check(&network(), [&[[0, 6]], &[[0, 5]]]);
}

/// The first step of each band, and the one behind its last.
fn steps_of(plan: &Plan) -> Vec<[usize; 2]> {
    let bands = plan.bands.iter();
    bands
        .map(|band| [band.steps.start, band.steps.end])
        .collect()
}

/// Checks a network whose bands have these steps, in f32 and in integers.
fn check(graph: &Graph, steps: [&[[usize; 2]]; 2]) {
    let weights = Weights::init(graph, 1);
    let mut rng = random::stream(1, "images", 0);
    let per_image = graph.input().len();
    let images: Vec<u8> = (0..2 * per_image)
        .map(|_| random::below(&mut rng, 256) as u8)
        .collect();
    let quantized = Quantizer::new(graph, &weights).calibrate(&images).unwrap();
    for isa in Isa::available() {
        let exec = ExecProgram::float(graph.program().unwrap());
        let float = |plan| {
            float_model::engine_of(graph, plan, isa, |step, _| fold_batch_norm(step, &weights))
        };
        let plan = Plan::new(exec).unwrap();
        assert_eq!(steps_of(&plan), steps[0]);
        are_the_same(plan, float, &images, per_image);
        let exec = integer_model::exec_program(&quantized, Mode::Static).unwrap();
        let kernels = Kernels::new(&quantized, Mode::Static, isa, true);
        let integer = |plan| integer_model::engine_of(&quantized, plan, &kernels);
        let plan = Plan::new(exec).unwrap();
        assert_eq!(steps_of(&plan), steps[1]);
        are_the_same(plan, integer, &images, per_image);
    }
}
