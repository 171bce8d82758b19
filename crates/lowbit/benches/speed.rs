//! Images per second of training and inference of `eurosat-cnn` (64×64×3, random data), one thread and all:
//! `cargo bench -p lowbit --bench speed`. `lowbit bench` measures the same with spread and in pairs.

use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::graph::zoo;
use lowbit::quantize::{PtqConfig, quantize};
use lowbit::train::{Optimizer, Trainer};
use lowbit::{Shape, Weights};
use lowbit_kernels::{Isa, random};
use std::time::Instant;

fn main() {
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let graph = zoo::eurosat_cnn(Shape::new(64, 64, 3), &classes).expect("the zoo's own shape");
    let weights = Weights::init(&graph, 1);
    let isa = Isa::current().expect("a usable LOWBIT_ISA");
    let mut rng = random::stream(1, "bench", 0);
    let images: Vec<u8> = (0..64 * graph.input().len())
        .map(|_| random::below(&mut rng, 256) as u8)
        .collect();
    let labels: Vec<u32> = (0..64).map(|i| i % 10).collect();
    let float = FloatModel::compile(&graph, &weights, isa).expect("fresh weights fit");
    let quantized =
        quantize(&graph, &weights, &PtqConfig::default(), &images, isa).expect("they do");
    let integer = IntegerModel::compile(&quantized, isa).expect("fresh integers fit");
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{isa}, images/s, median (best)");
    for threads in [1, all] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        pool.install(|| {
            for (name, model) in [("fp32", &float as &dyn Model), ("int8", &integer)] {
                for batch in [1, 64] {
                    let images = &images[..batch * graph.input().len()];
                    let mut logits = vec![0.0; batch * 10];
                    report(name, threads, batch, || {
                        model.run(images, &mut logits).expect("fits");
                    });
                }
            }
            let mut trainer =
                Trainer::compile(&graph, &weights, Optimizer::default(), None, isa).expect("fits");
            report("train", threads, 64, || {
                trainer.step(&images, &labels, 1e-4).expect("finite");
            });
        });
    }
}

fn report(name: &str, threads: usize, batch: usize, mut work: impl FnMut()) {
    work();
    let start = Instant::now();
    let mut seconds = Vec::new();
    while start.elapsed().as_secs_f64() < 2.0 {
        let run = Instant::now();
        work();
        seconds.push(run.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let per_second = |seconds: f64| batch as f64 / seconds;
    let (median, best) = (seconds[seconds.len() / 2], seconds[0]);
    println!(
        "{name:6} {threads} threads, batch {batch:2}: {:7.0} ({:7.0})",
        per_second(median),
        per_second(best)
    );
}
