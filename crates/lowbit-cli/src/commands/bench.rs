//! `lowbit bench`: speed alone.

use super::analyze::ROOFLINE;
use super::compare::{layer_table, speed_row};
use super::{Context, serve};
use crate::failure::Failure;
use crate::table::table;
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit::format::{StoredModel, write_atomically};
use lowbit::graph::zoo;
use lowbit::quant::QuantizedModel;
use lowbit::quantize::quantize;
use lowbit::{Graph, ModelBits, Shape, Weights};
use lowbit_kernels::{peak, random};
use lowbit_lab::Events;
use lowbit_lab::experiments::artifacts::{make_folder, write_json};
use lowbit_lab::machine::Machine;
use lowbit_lab::models::is_onnx;
use lowbit_lab::report::roofline_svg;
use lowbit_lab::roofline::{self, Roofline};
use lowbit_lab::timing::{self, LayerSpeed, SpeedCell};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

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
    u8i8_gmac_per_s: f64,
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
    let model = model(context, file)?;
    if let Timed::Quantized(_) = &model
        && (what.roofline || what.serve)
    {
        return Err(Failure::Input(
            "the model is quantized: --roofline and --serve want the FP32 model that it was made from"
                .into(),
        ));
    }
    let graph = match &model {
        Timed::Float(graph, _) => graph,
        Timed::Quantized(model) => &model.graph,
    };
    if let Timed::Float(graph, weights) = &model
        && what.roofline
    {
        return measure_roofline(context, graph, weights);
    }
    // Speed does not depend on what the images show.
    let mut rng = random::stream(context.config.run.seed, "bench", 0);
    let count = if what.serve { serve::MOST_IMAGES } else { 64 };
    let images: Vec<u8> = (0..count * graph.input().len())
        .map(|_| random::below(&mut rng, 256) as u8)
        .collect();
    let isa = context.isa;
    let (fp32, int8) = match &model {
        Timed::Float(graph, weights) => {
            let calibration = &images[..8 * graph.input().len()];
            let config = context.config.ptq(context.config.widths.bits);
            let quantized = quantize(graph, weights, &config, calibration, isa)?;
            (
                FloatModel::compile(graph, weights, isa)?,
                IntegerModel::compile(&quantized, isa)?,
            )
        }
        Timed::Quantized(model) => (
            FloatModel::dequantized(model, isa)?,
            IntegerModel::compile(model, isa)?,
        ),
    };
    if let Timed::Float(graph, weights) = &model
        && what.serve
    {
        return serve::answer(context, (graph, weights), &fp32, &int8, &images);
    }
    let bits = match &model {
        Timed::Float(..) => context.config.widths.bits.get(),
        Timed::Quantized(model) => {
            let layers = model.layers.iter().flatten();
            layers.map(|layer| layer.bits.get()).min().unwrap_or(8)
        }
    };
    let threads = rayon::current_num_threads();
    let peaks = what
        .peak
        .then(|| peak::measure(isa, Duration::from_secs(2)));
    let results = Results {
        model: graph.name().to_owned(),
        input: [graph.input().h(), graph.input().w(), graph.input().c()],
        bits,
        speed: timing::measure(&fp32, &int8, &images, threads),
        layers: timing::layers(&fp32, &int8, &images),
        peak: peaks.map(|peaks| Peaks {
            fp32_gmac_per_s: peaks.f32_gmac_per_s,
            u8i8_gmac_per_s: peaks.u8i8_gmac_per_s,
            memory_gb_per_s: peaks.memory_gb_per_s,
        }),
        machine: Machine::here(isa),
    };
    context.output.results(&results, || report(&results))
}

fn measure_roofline(context: &Context, graph: &Graph, weights: &Weights) -> Result<(), Failure> {
    context.progress.stage("roofline");
    let found = roofline::measure(graph, weights, &ModelBits::ALL, context.isa)?;
    context.progress.stop();
    let out = &context.config.results.out;
    write_roofline(out, &found)?;
    context.output.results(&found, || roofline_report(&found))?;
    context.output.written(&out.join(ROOFLINE_SVG))
}

const ROOFLINE_SVG: &str = "roofline.svg";

/// Writes `roofline.json` and `roofline.svg` into `folder`.
pub(super) fn write_roofline(folder: &Path, found: &Roofline) -> Result<(), Failure> {
    make_folder(folder)?;
    write_json(&folder.join(ROOFLINE), found)?;
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

/// What is timed.
enum Timed {
    /// A model of f32, against what quantization makes of it.
    Float(Graph, Weights),
    /// A model that is quantized already, against the f32 network of its weights.
    Quantized(Box<QuantizedModel>),
}

fn model(context: &Context, file: Option<&Path>) -> Result<Timed, Failure> {
    // A model that another program made may be named as the model.
    let named = Path::new(&context.config.network.model);
    let file = file.or_else(|| is_onnx(named).then_some(named));
    let Some(file) = file else {
        let config = &context.config;
        let size = if config.input.image_size > 0 {
            config.input.image_size
        } else {
            64
        };
        let classes: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
        let graph = zoo::build(&config.network.model, Shape::new(size, size, 3), &classes)?;
        let weights = Weights::init(&graph, config.run.seed);
        return Ok(Timed::Float(graph, weights));
    };
    Ok(match context.open(file)?.stored {
        StoredModel::Float { graph, weights } => Timed::Float(graph, weights),
        StoredModel::Quantized(model) => Timed::Quantized(Box::new(model)),
    })
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
            peak.fp32_gmac_per_s, peak.u8i8_gmac_per_s, peak.memory_gb_per_s
        );
    }
    text
}
