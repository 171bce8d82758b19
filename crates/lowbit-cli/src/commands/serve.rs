//! `lowbit bench --serve`: answers lines, for scripts that time lowbit and other engines in turn (bench/peers).
//!
//! `fp32|int8|train|qat BATCH ITERATIONS` is answered with `ok SECONDS_PER_ITERATION`, `quit` or the end of input ends it,
//! anything else is answered with `error` and what was expected. `int8` is the model of `--bits`.

use super::Context;
use crate::failure::Failure;
use crate::output::print;
use lowbit::exec::Model;
use lowbit::train::Trainer;
use lowbit::{Graph, Weights};
use std::io::BufRead;
use std::time::Instant;

/// Images per iteration at most.
pub(super) const MOST_IMAGES: usize = 256;

/// What a line asks for.
struct Request<'a> {
    what: &'a str,
    batch: usize,
    iterations: u32,
}

enum Line<'a> {
    Quit,
    Request(Request<'a>),
    Wrong,
}

pub(super) fn answer(
    context: &Context,
    (graph, weights): (&Graph, &Weights),
    fp32: &dyn Model,
    quantized: &dyn Model,
    images: &[u8],
) -> Result<(), Failure> {
    let config = &context.config;
    let optimizer = config.training.optimizer;
    // Not every model that runs can be trained.
    let qat = Some(config.qat(config.widths.bits));
    let [mut trainer, mut qat_trainer] =
        [None, qat].map(|qat| Trainer::compile(graph, weights, optimizer, qat, context.isa));
    let classes = graph.classes() as u32;
    let labels: Vec<u32> = (0..MOST_IMAGES as u32)
        .map(|index| index % classes)
        .collect();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::Run(format!("standard input: {error}")))?;
        let request = match read(&line) {
            Line::Quit => break,
            Line::Request(request) => request,
            Line::Wrong => {
                print("error expected: fp32|int8|train|qat BATCH(1..256) ITERATIONS, or quit\n")?;
                continue;
            }
        };
        let unfit = match request.what {
            "train" => trainer.as_ref().err(),
            "qat" => qat_trainer.as_ref().err(),
            _ => None,
        };
        if let Some(error) = unfit {
            print(&format!("error {error}\n"))?;
            continue;
        }
        let images = &images[..request.batch * graph.input().len()];
        let labels = &labels[..request.batch];
        let mut logits = vec![0.0; request.batch * graph.classes()];
        let start = Instant::now();
        for _ in 0..request.iterations {
            match (request.what, &mut trainer, &mut qat_trainer) {
                ("fp32", ..) => fp32.run(images, &mut logits)?,
                ("train", Ok(trainer), _) | ("qat", _, Ok(trainer)) => {
                    trainer.step(images, labels, 1e-6)?;
                }
                _ => quantized.run(images, &mut logits)?,
            }
        }
        let seconds = start.elapsed().as_secs_f64() / f64::from(request.iterations);
        print(&format!("ok {seconds:.9}\n"))?;
    }
    Ok(())
}

fn read(line: &str) -> Line<'_> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (what, batch, iterations) = match words[..] {
        ["quit"] => return Line::Quit,
        [what, batch, iterations] => (what, batch.parse(), iterations.parse()),
        _ => return Line::Wrong,
    };
    match (batch, iterations) {
        (Ok(batch @ 1..=MOST_IMAGES), Ok(iterations @ 1..))
            if ["fp32", "int8", "train", "qat"].contains(&what) =>
        {
            Line::Request(Request {
                what,
                batch,
                iterations,
            })
        }
        _ => Line::Wrong,
    }
}
