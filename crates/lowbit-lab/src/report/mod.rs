//! `report.html`: one self-contained page about the runs of a sweep.
//!
//! [`page`] gathers, `charts` draws, `page.css` and `page.js` dress; nothing is loaded from anywhere.

pub(crate) mod candidates;
mod charts;
mod federation;
mod figures;
mod labels;
mod layers;
mod pair;
mod ticks;

use crate::analysis::{Analysis, Table, UNEQUAL, WidthRow, runs::Runs, series};
use crate::roofline::Roofline;
use figures::Figure;
use lowbit::ModelBits;
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use pair::pair_figures;

/// The page.
#[must_use]
pub fn page(
    runs: &Runs,
    analysis: &Analysis,
    roofline: Option<&Roofline>,
    cost_per_mb: Option<f64>,
) -> String {
    // The page is about the sweep with the newest run; the others have a table each.
    let all = series(&runs.runs);
    let groups = all.first().map_or(&[][..], |series| &series.groups);
    let newest = groups
        .iter()
        .flat_map(|(_, runs)| runs)
        .max_by_key(|run| &run.results.timestamp);
    let about = newest.map(|run| &run.results);
    let subject = &analysis.newest.title;
    let layers = layers::of(groups);
    let machine = about.and_then(|run| run.machine.as_ref());
    let config = about.and_then(|run| run.config.as_ref());
    let images = about.and_then(|run| run.images.as_ref());
    let validated = images.filter(|images| images.validation_images > 0);
    let watched = match validated {
        Some(_) => "Validation accuracy",
        None => "Test accuracy",
    };
    let header = [
        "bits", "MB", "smaller", "saved %", "test %", "95 %", "train %", "gap", "Δ to 32",
        "Δ, 95 %", "img/s", "faster", "train s", "runs", "folder",
    ];
    let rows = |table: &Table| table.widths.iter().map(cells).collect::<Vec<_>>();
    let body = html! {
        header {
            h1 { "What fewer bits do to a model" }
            p { (subject) @if let Some(machine) = machine { ", " (machine.summary()) } }
            @if let Some(images) = validated {
                p { "Each epoch was measured on " (images.validation_images) " validation images, and the best one was kept; the "
                    (images.test_images) " test images were looked at once." }
            }
        }
        main {
            (summary(&analysis.newest))
            section {
                h2 { "Widths" }
                (table("widths", &header, &rows(&analysis.newest)))
            }
            section {
                h2 { "Accuracy, size and speed" }
                div class="figures" {
                    (figure(&figures::accuracy_by_size(&analysis.newest)))
                    (figure(&figures::accuracy_by_speed(&analysis.newest)))
                    (figure(&figures::overfitting(&analysis.newest)))
                }
            }
            section {
                h2 { "Learning curves" }
                div class="figures" {
                    (figure(&figures::learning(groups, watched, |round| 100.0 * round.watched_accuracy())))
                    (figure(&figures::learning(groups, "Train loss", |round| round.train_loss)))
                }
            }
            (federation::section(runs, cost_per_mb))
            @if !layers.is_empty() { (layer_section(&layers)) }
            @if let Some(roofline) = roofline { (roofline_section(roofline)) }
            @if !(analysis.others.is_empty() && analysis.beside.is_empty()) {
                section {
                    h2 { "Also in this folder" }
                    @if !analysis.beside.is_empty() {
                        ul { @for line in &analysis.beside { li { (line) } } }
                    }
                    @for (index, other) in analysis.others.iter().enumerate() {
                        h3 { (other.title) }
                        (table(&format!("other-{index}"), &header, &rows(other)))
                    }
                }
            }
            @if !analysis.skipped.is_empty() {
                section {
                    h2 { "Skipped" }
                    ul { @for line in &analysis.skipped { li { (line) } } }
                }
            }
            section {
                h2 { "Configuration" }
                @match config.map(serde_json::to_string_pretty) {
                    Some(Ok(json)) => pre { (json) },
                    _ => p { "These runs do not say." },
                }
            }
        }
        footer {
            p { "Sizes are those of files, speeds were timed at batches of up to 64 on one thread. Test accuracies are those of the "
                "models as deployed, train accuracies those of the last epoch's batches while the weights changed. Intervals are "
                "95 % over seeds alone (Student's t)." }
        }
        div id="tip" role="status" hidden {}
    };
    document(&format!("lowbit: {subject}"), TIPS, &body)
}

/// Shows what a chart's point says when it is pointed at, on a page with an element `tip`.
pub(crate) const TIPS: &str = include_str!("page.js");

/// A page that stands alone: its style and its script are part of it.
pub(crate) fn document(title: &str, script: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) }
                @if !script.is_empty() { script { (PreEscaped(script)) } }
            }
            body { (body) }
        }
    };
    page.into_string()
}

fn summary(analysis: &Table) -> Markup {
    let summary = &analysis.summary;
    let width = |label: &Option<String>| label.as_ref().map_or("–".into(), crate::plural::bits);
    let number = |value: f64, unit: &str| {
        if value.is_finite() {
            format!("{value:.2}{unit}")
        } else {
            "–".into()
        }
    };
    let cards = [
        (
            format!(
                "Sweet spot: smallest within {} of 32 bits",
                summary.allowed()
            ),
            width(&summary.sweet_spot),
        ),
        ("Best accuracy".into(), width(&summary.best_accuracy)),
        ("Smallest file".into(), width(&summary.best_compression)),
        (
            "Smaller than FP32 on average".into(),
            number(summary.average_compression, "×"),
        ),
        (
            "Train − test on average".into(),
            number(summary.average_overfitting, " points"),
        ),
        (
            "Train − test at most".into(),
            number(summary.largest_overfitting, " points"),
        ),
    ];
    html! {
        @if let Some(line) = &summary.no_verdict { p class="empty" { (line) } }
        @for line in &summary.notes { p class="empty" { (sentence(line)) } }
        @if !summary.not_learned.is_empty() {
            p class="empty" { "Not shown to be better than a guess, or diverged: " (summary.not_learned.join(", ")) "." }
        }
        @if analysis.widths.iter().any(|row| row.warm_started) { p class="empty" { (UNEQUAL) } }
        dl class="cards" {
            @for (name, value) in &cards {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A note as a sentence of its own.
fn sentence(note: &str) -> String {
    let mut letters = note.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

fn cells(row: &WidthRow) -> Vec<String> {
    let number = |value: f64, digits: usize| {
        if value.is_finite() {
            format!("{value:.digits$}")
        } else {
            "–".into()
        }
    };
    let accuracy = row.test_accuracy;
    vec![
        row.label.clone(),
        number(row.size_mb, 3),
        number(row.compression_ratio, 2),
        number(row.size_reduction_percent, 1),
        number(accuracy.value, 2),
        if accuracy.low.is_finite() {
            // Student's interval knows no limits, accuracies do.
            format!(
                "{:.2} to {:.2}",
                accuracy.low.max(0.0),
                accuracy.high.min(100.0)
            )
        } else {
            "–".into()
        },
        number(row.train_accuracy, 2),
        number(row.overfitting_gap, 2),
        row.accuracy_delta
            .map_or("–".into(), |delta| format!("{delta:+.2}")),
        row.accuracy_delta_interval
            .map_or("–".into(), |[low, high]| {
                format!("{low:+.2} to {high:+.2}")
            }),
        number(row.img_per_s, 0),
        number(row.speedup, 2),
        number(row.training_time_seconds, 0),
        row.runs.to_string(),
        row.folder.display().to_string(),
    ]
}

/// A table, and the same as text to copy.
fn table(name: &str, header: &[&str], rows: &[Vec<String>]) -> Markup {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells
                .chain([header[column].chars().count()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:>width$}"));
        padded.collect::<Vec<_>>().join("  ")
    };
    let mut text = line(header.to_vec());
    for row in rows {
        text.push('\n');
        text += &line(row.iter().map(String::as_str).collect());
    }
    html! {
        div class="scroll" {
            table id=(name) {
                thead { tr { @for cell in header { th scope="col" { (cell) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if index == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
        details { summary { "As text" } pre { (text) } }
    }
}

fn figure(figure: &Figure) -> Markup {
    html! {
        figure {
            figcaption { (figure.title) }
            @match &figure.svg {
                Some(svg) => { (PreEscaped(svg)) (PreEscaped(&figure.legend)) }
                None => p class="empty" { "No run tells." },
            }
        }
    }
}

fn layer_section(layers: &[layers::WidthLayers]) -> Markup {
    let names: Vec<&str> = layers[0]
        .layers
        .iter()
        .map(|layer| layer.name.as_str())
        .collect();
    let mut header = vec!["bits"];
    header.extend(&names);
    let rows: Vec<Vec<String>> = layers
        .iter()
        .map(|width| {
            let mut row = vec![width.label.clone()];
            row.extend(names.iter().map(|&name| {
                let layer = width.layers.iter().find(|layer| layer.name == name);
                layer.map_or("–".into(), |layer| format!("{:.1}", layer.sqnr_db))
            }));
            row
        })
        .collect();
    html! {
        section {
            h2 { "Layers" }
            p { "Signal-to-quantization-noise ratio of the weights, batch-norm folded in: 10·log₁₀(Σw² / Σ(w − ŵ)²) in dB, "
                "latent weights against the packed ones of the first run." }
            div class="figures" { (figure(&figures::sqnr(layers))) }
            (table("sqnr", &header, &rows))
            @for width in layers {
                details {
                    summary { "Weights at " (crate::plural::bits(&width.label)) ", before and after" }
                    div class="figures small" {
                        @for layer in &width.layers { (figure(&figures::histogram(layer))) }
                    }
                }
            }
        }
    }
}

fn roofline_section(roofline: &Roofline) -> Markup {
    html! {
        section {
            h2 { "Roofline" }
            p { "One thread, batches of " (roofline.batch) ", " (roofline.machine.summary()) ". Register-only peaks: "
                (format!("{:.1}", roofline.fp32_gmac_per_s)) " GMAC/s in f32, "
                (format!("{:.1}", roofline.i16_gmac_per_s)) " in i16, "
                (format!("{:.1}", roofline.u8i8_gmac_per_s)) " in u8×i8; "
                (format!("{:.1}", roofline.memory_gb_per_s)) " GB/s from memory. Products count as the layer is defined; kernels skip those that a max-pool drops, and with AVX2 integer convolutions need fewer (Winograd), so that a layer may pass 100 %. MB are worked out, activations in and out and packed weights once each. " (roofline.verdict()) }
            div class="figures" { (figure(&figures::roofline(roofline))) }
            (table("roofline", &Roofline::COLUMNS, &roofline.rows()))
        }
    }
}

/// The roofline alone, as an SVG file that stands on its own.
#[must_use]
pub fn roofline_svg(roofline: &Roofline) -> String {
    let figure = figures::roofline(roofline);
    let svg = figure.svg.unwrap_or_default();
    // Outside of the page there is no legend below, and no style sheet: give the names of colors their light values.
    let mut widths: Vec<ModelBits> = roofline.layers.iter().map(|layer| layer.bits).collect();
    widths.dedup();
    let names: String = widths
        .iter()
        .enumerate()
        .map(|(index, bits)| {
            let (y, color) = (210 + 18 * index, charts::rgb(index));
            format!("<text x=\"560\" y=\"{y}\" font-family=\"sans-serif\" font-size=\"13\" fill=\"{color}\">{}</text>\n", crate::plural::bits(bits))
        })
        .collect();
    alone(&svg.replace("</svg>", &format!("{names}</svg>")))
}

/// A chart with the style sheet's light colors, for where there is no style sheet.
fn alone(svg: &str) -> String {
    svg.replacen("<svg ", "<svg style=\"background:#fff\" ", 1)
        .replace("#010101", "#1b1f24")
        .replace("#020202", "#d9dde3")
        .replace("class=\"hit\"", "fill=\"transparent\"")
}

#[cfg(test)]
mod tests;
