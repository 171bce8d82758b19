//! `lowbit bench`: speed alone.

use super::Context;
use super::analyze::ROOFLINE;
use super::compare::{layer_table, speed_row};
use crate::failure::Failure;
use crate::table::table;
use lowbit::format::{self, StoredModel, write_atomically};
use lowbit::graph::zoo;
use lowbit::quant::quantize;
use lowbit::runtime::{FloatModel, IntegerModel, Model};
use lowbit::train::Trainer;
use lowbit::{Graph, Shape, Weights};
use lowbit_kernels::{peak, random};
use lowbit_lab::experiments::sweep::WIDTHS;
use lowbit_lab::machine::Machine;
use lowbit_lab::report::roofline_svg;
use lowbit_lab::roofline::{self, Roofline};
use lowbit_lab::timing::{self, LayerSpeed, SpeedCell};
use lowbit_lab::{Events, LabError};
use serde::Serialize;
use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Serialize)]
struct Results {
    model: String,
    input: [usize; 3],
    /// Bits per weight of the integer model.
    bits: u8,
    speed: Vec<SpeedCell>,
    layers: Vec<LayerSpeed>,
    peak: Option<Peaks>,
    machine: Machine,
}

/// Register-only peaks of one thread.
#[derive(Serialize)]
struct Peaks {
    fp32_gmac_per_s: f64,
    int8_gmac_per_s: f64,
    memory_gb_per_s: f64,
}

/// What to measure.
#[derive(Clone, Copy)]
pub(super) struct What {
    pub(super) serve: bool,
    pub(super) peak: bool,
    pub(super) roofline: bool,
}

pub(super) fn run(context: &Context, file: Option<&Path>, what: What) -> Result<(), Failure> {
    let (graph, weights) = model(context, file)?;
    if what.roofline {
        return measure_roofline(context, &graph, &weights);
    }
    let serve_lines = what.serve;
    // Speed does not depend on what the images show.
    let mut rng = random::stream(context.config.seed, "bench", 0);
    let count = if serve_lines { 256 } else { 64 };
    let images: Vec<u8> = (0..count * graph.input().len())
        .map(|_| random::below(&mut rng, 256) as u8)
        .collect();
    let isa = context.isa;
    let fp32 = FloatModel::compile(&graph, &weights, isa)?;
    let calibration = &images[..8 * graph.input().len()];
    let quantized = quantize(
        &graph,
        &weights,
        &context.config.ptq(context.config.bits),
        calibration,
        isa,
    )?;
    let int8 = IntegerModel::compile(&quantized, isa)?;
    if serve_lines {
        return serve(context, &graph, &weights, &fp32, &int8, &images);
    }
    let threads = rayon::current_num_threads();
    let peaks = what
        .peak
        .then(|| peak::measure(isa, Duration::from_secs(2)));
    let results = Results {
        model: graph.name().to_owned(),
        input: [graph.input().h(), graph.input().w(), graph.input().c()],
        bits: context.config.bits,
        speed: timing::measure(&fp32, &int8, &images, threads),
        layers: timing::layers(&fp32, &int8, &images),
        peak: peaks.map(|peaks| Peaks {
            fp32_gmac_per_s: peaks.f32_gmac_per_s,
            int8_gmac_per_s: peaks.u8i8_gmac_per_s,
            memory_gb_per_s: peaks.memory_gb_per_s,
        }),
        machine: Machine::here(isa),
    };
    context.output.results(&results, || report(&results));
    Ok(())
}

fn measure_roofline(context: &Context, graph: &Graph, weights: &Weights) -> Result<(), Failure> {
    context.progress.stage("roofline");
    let found = roofline::measure(graph, weights, &WIDTHS, context.isa)?;
    context.progress.stop();
    let out = &context.config.out;
    write_roofline(out, &found)?;
    context.output.results(&found, || roofline_report(&found));
    context.output.written(&out.join(ROOFLINE_SVG));
    Ok(())
}

const ROOFLINE_SVG: &str = "roofline.svg";

/// Writes `roofline.json` and `roofline.svg` into `folder`.
pub(super) fn write_roofline(folder: &Path, found: &Roofline) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|source| LabError::Io {
        path: folder.to_owned(),
        source,
    })?;
    let json = serde_json::to_string_pretty(found).expect("results are plain data");
    write_atomically(&folder.join(ROOFLINE), json.as_bytes())?;
    let svg = roofline_svg(found);
    write_atomically(&folder.join(ROOFLINE_SVG), svg.as_bytes())?;
    Ok(())
}

fn roofline_report(found: &Roofline) -> String {
    format!(
        "{}, batch {} on one thread, {}\npeaks: {:.1} GMAC/s in f32, {:.1} in i16, {:.1} in u8×i8, {:.1} GB/s from memory\n\n{}\nProducts count as the layer is defined; kernels skip those that a max-pool drops, and with AVX2 integer convolutions need fewer (Winograd), so that a layer may pass 100 %.\nMB are worked out: activations in and out and packed weights, once each.\n{}\n",
        found.model,
        found.batch,
        found.machine.summary(),
        found.fp32_gmac_per_s,
        found.i16_gmac_per_s,
        found.u8i8_gmac_per_s,
        found.memory_gb_per_s,
        table(&Roofline::COLUMNS, &found.rows()),
        found.verdict(),
    )
}

fn model(context: &Context, file: Option<&Path>) -> Result<(Graph, Weights), Failure> {
    let Some(file) = file else {
        let config = &context.config;
        let size = if config.image_size > 0 {
            config.image_size
        } else {
            64
        };
        let classes: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
        let graph = zoo::build(&config.model, Shape::new(size, size, 3), &classes)?;
        let weights = Weights::init(&graph, config.seed);
        return Ok((graph, weights));
    };
    match format::load(file)? {
        StoredModel::Float { graph, weights } => Ok((graph, weights)),
        StoredModel::Quantized(_) => Err(Failure::Input(format!(
            "{}: is quantized; give the FP32 model it was made from, so that both can be timed",
            file.display()
        ))),
    }
}

fn report(results: &Results) -> String {
    let rows: Vec<_> = results.speed.iter().map(speed_row).collect();
    let quantized = match results.bits {
        8 => "INT8".to_owned(),
        bits => format!("{bits}-bit"),
    };
    let against = format!("{quantized} against FP32");
    let mut text = format!(
        "{}, {}\n\n{}\n{}",
        results.model,
        results.machine.summary(),
        table(&["", "FP32", &quantized, &against], &rows),
        layer_table(&results.layers, &quantized),
    );
    if let Some(peak) = &results.peak {
        text += &format!(
            "\npeak of one thread: {:.1} GMAC/s in f32, {:.1} in u8×i8, {:.1} GB/s from memory\n",
            peak.fp32_gmac_per_s, peak.int8_gmac_per_s, peak.memory_gb_per_s
        );
    }
    text
}

/// Answers `fp32|int8|train|qat BATCH ITERATIONS` with `ok SECONDS_PER_ITERATION` until `quit` or the end of input: for
/// scripts that time lowbit and other engines in turn (bench/peers).
fn serve(
    context: &Context,
    graph: &Graph,
    weights: &Weights,
    fp32: &dyn Model,
    int8: &dyn Model,
    images: &[u8],
) -> Result<(), Failure> {
    let mut trainer = Trainer::new(graph, weights, context.config.optimizer, context.isa)?;
    let qat = context.config.qat(context.config.bits);
    let mut quantized =
        Trainer::quantized(graph, weights, context.config.optimizer, qat, context.isa)?;
    let classes = graph.classes() as u32;
    let labels: Vec<u32> = (0..256).map(|index| index % classes).collect();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::Run(format!("standard input: {error}")))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let (what, batch, iterations) = match words[..] {
            ["quit"] => break,
            [what, batch, iterations] => (
                what,
                batch.parse().unwrap_or(0),
                iterations.parse().unwrap_or(0),
            ),
            _ => ("", 0, 0),
        };
        if !["fp32", "int8", "train", "qat"].contains(&what)
            || !(1..=256).contains(&batch)
            || iterations == 0
        {
            println!("error expected: fp32|int8|train|qat BATCH(1..256) ITERATIONS, or quit");
            continue;
        }
        let images = &images[..batch * graph.input().len()];
        let mut logits = vec![0.0; batch * graph.classes()];
        let start = Instant::now();
        for _ in 0..iterations {
            match what {
                "fp32" => fp32.run(images, &mut logits),
                "int8" => int8.run(images, &mut logits),
                "train" => drop(trainer.step(images, &labels[..batch], 1e-6)?),
                _ => drop(quantized.step(images, &labels[..batch], 1e-6)?),
            }
        }
        println!(
            "ok {:.9}",
            start.elapsed().as_secs_f64() / f64::from(iterations)
        );
    }
    Ok(())
}
