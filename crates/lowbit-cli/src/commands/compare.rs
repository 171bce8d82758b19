//! `lowbit compare`: FP32 against INT8.

use super::Context;
use crate::failure::Failure;
use crate::output::bold;
use crate::table::table;
use crate::which_images::WhichOfFrom;
use lowbit::{ActivationBits, WeightBits};
use lowbit_lab::experiments::compare::{self, CompareResults, FOLDER, From, Start};
use lowbit_lab::experiments::inputs::Input;
use lowbit_lab::experiments::unseen::Purpose;
use lowbit_lab::models::is_onnx;
use lowbit_lab::plural::{self, grouped};
use lowbit_lab::timing::{LayerSpeed, SpeedCell};
use std::path::PathBuf;

pub(super) fn run(
    context: &Context,
    from: Option<PathBuf>,
    which: WhichOfFrom,
) -> Result<(), Failure> {
    // A model that is trained already may be named as the model.
    let named = || Some(PathBuf::from(&context.config.network.model)).filter(|file| is_onnx(file));
    let from = from.or_else(named);
    let choice = which.of(from.as_deref())?;
    let bits = context.config.widths.bits;
    if bits != WeightBits::B8 {
        return Err(Failure::Input(format!(
            "bits {bits}: compare makes INT8 models; for others use sweep --widths 32,{bits}"
        )));
    }
    let config = &context.config;
    for (flag, is_int8) in [
        (
            "--act-bits",
            config.other_widths.act_bits == ActivationBits::B8,
        ),
        (
            "--edge-bits",
            config.other_widths.edge_bits <= WeightBits::B8,
        ),
        ("--layer-bits", config.ptq.layer_bits.is_empty()),
    ] {
        if !is_int8 {
            return Err(Failure::Input(format!(
                "{flag}: compare makes INT8 models; for others use quantize, and eval and bench on what it writes"
            )));
        }
    }
    let results = match from {
        None => {
            let start = Start {
                resume: context.resume,
                from: None,
            };
            compare(context, &context.input()?, &start)?
        }
        Some(file) => {
            let (model, chosen) =
                context.begin_from(&file, Purpose::CalibrateAndEvaluate, choice)?;
            let from = From {
                file: &file,
                model: &model,
                evaluated: &chosen.evaluated,
            };
            let start = Start {
                resume: false,
                from: Some(from),
            };
            compare(context, &chosen.input, &start)?
        }
    };
    context.progress.stop();
    context.output.results(&results, || report(&results))?;
    context
        .output
        .written(&context.config.results.out.join(FOLDER))
}

fn compare(context: &Context, input: &Input, start: &Start<'_>) -> Result<CompareResults, Failure> {
    Ok(compare::compare(
        &context.config,
        input,
        start,
        context.isa,
        &context.progress,
    )?)
}

fn report(results: &CompareResults) -> String {
    let (fp32, int8) = (&results.comparison.fp32, &results.comparison.int8);
    let ratios = &results.comparison.comparison;
    let drop = ratios.accuracy_drop_points;
    let gained = -drop;
    let title = format!(
        "\n{} on {}{}, {}, {}",
        results.training.model,
        results.data.name,
        if results.data.synthetic {
            " (synthetic data)"
        } else {
            ""
        },
        plural::of(results.data.test_images, "test image"),
        results.machine.summary(),
    );
    let change = match format!("{:.2}", drop.value.abs()) {
        none if none == "0.00" => none,
        points if drop.value > 0.0 => format!("−{points}"),
        points => format!("+{points}"),
    };
    let mut rows = vec![
        vec![
            "file, bytes".into(),
            grouped(fp32.size_bytes),
            grouped(int8.size_bytes),
            format!("{:.2}× smaller", ratios.compression_ratio),
        ],
        vec![
            "accuracy, %".into(),
            format!("{:.2}", fp32.accuracy_percent),
            format!("{:.2}", int8.accuracy_percent),
            format!("{change} [{:+.2}, {:+.2}]", gained.low, gained.high),
        ],
        vec![
            "loss".into(),
            format!("{:.4}", fp32.loss),
            format!("{:.4}", int8.loss),
            format!(
                "{} predictions changed",
                grouped(ratios.predictions_changed as u64)
            ),
        ],
    ];
    rows.extend(results.speed.iter().map(speed_row));
    let mut text = format!("{}\n\n", bold(title.trim_start_matches('\n')));
    text.insert(0, '\n');
    text += &table(&["", "FP32", "INT8", "INT8 against FP32"], &rows);
    text += "\n";
    text += &layer_table(&results.layers, "INT8");
    text += &format!("\n{}\n", verdict(results));
    text
}

pub(super) fn speed_row(cell: &SpeedCell) -> Vec<String> {
    let threads = if cell.threads == 1 {
        "thread"
    } else {
        "threads"
    };
    vec![
        format!("img/s, batch {}, {} {threads}", cell.batch, cell.threads),
        format!("{:.0}", cell.fp32_img_per_s()),
        format!("{:.0}", cell.quantized_img_per_s()),
        format!(
            "{:.2}× faster [{:.2}, {:.2}]",
            cell.speedup.median, cell.speedup.quartile_1, cell.speedup.quartile_3
        ),
    ]
}

/// Where the time goes; `quantized` names the integer model.
pub(super) fn layer_table(layers: &[LayerSpeed], quantized: &str) -> String {
    let total = |of: fn(&LayerSpeed) -> f64| layers.iter().map(of).sum::<f64>();
    let (fp32, integer) = (total(|l| l.fp32_ms), total(|l| l.quantized_ms));
    let row = |layer: &LayerSpeed| {
        vec![
            layer.name.clone(),
            format!("{:.2}", layer.macs as f64 * 1e-6),
            format!("{:.2}", layer.fp32_ms),
            format!("{:.0} %", 100.0 * layer.fp32_ms / fp32),
            format!("{:.1}", layer.fp32_gmac_per_s),
            format!("{:.2}", layer.quantized_ms),
            format!("{:.0} %", 100.0 * layer.quantized_ms / integer),
            format!("{:.1}", layer.quantized_gmac_per_s),
        ]
    };
    let rows: Vec<_> = layers.iter().map(row).collect();
    let quantized_ms = format!("{quantized} ms");
    let header = [
        "layer",
        "MMAC",
        "FP32 ms",
        "share",
        "GMAC/s",
        &quantized_ms,
        "share",
        "GMAC/s",
    ];
    let batch = match layers.first().map_or(0, |layer| layer.batch) {
        1 => "one image".to_owned(),
        images => format!("batch of {images}"),
    };
    format!(
        "{}  (ms per {batch} on one thread, medians)\n",
        table(&header, &rows)
    )
}

/// One sentence for a person who must decide.
fn verdict(results: &CompareResults) -> String {
    if let Some(line) = &results.no_verdict {
        return line.clone();
    }
    let ratios = &results.comparison.comparison;
    let drop = ratios.accuracy_drop_points;
    let gained = -drop;
    let speed = |cell: &SpeedCell| cell.speedup.median;
    let slowest = results
        .speed
        .iter()
        .map(speed)
        .fold(f64::INFINITY, f64::min);
    let fastest = results.speed.iter().map(speed).fold(0.0, f64::max);
    let accuracy = if drop.high <= 0.5 {
        "costs no more than half a point of accuracy".to_owned()
    } else if drop.low > 0.0 {
        format!("costs {:.2} points of accuracy", drop.value)
    } else {
        "may cost accuracy: too few test images to tell".to_owned()
    };
    let ship = if drop.high <= 0.5 && slowest > 1.0 {
        "Ship INT8"
    } else {
        "Look closer"
    };
    let [slowest, fastest] = [slowest, fastest].map(|times| format!("{times:.1}"));
    let faster = match slowest == fastest {
        true => slowest,
        false => format!("{slowest}–{fastest}"),
    };
    format!(
        "{}: it is {:.2}× smaller, {faster}× faster here, and {accuracy} (95 % interval {:+.2} to {:+.2} points).",
        bold(ship),
        ratios.compression_ratio,
        gained.low,
        gained.high,
    )
}
