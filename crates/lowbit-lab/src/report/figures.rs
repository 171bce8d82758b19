//! What each chart of the page shows.

use super::charts::{Axis, Bars, Chart, Point, Series};
use super::layers::{Layer, WidthLayers};
use super::ticks::short;
use crate::analysis::runs::Run;
use crate::analysis::{Kind, Table, WidthRow};
use crate::experiments::sweep::RoundRecord;
use crate::plural;
use crate::roofline::Roofline;
use lowbit::ModelBits;

/// A drawn chart.
pub(super) struct Figure {
    pub(super) title: String,
    pub(super) svg: Option<String>,
    pub(super) legend: String,
}

impl From<Chart> for Figure {
    fn from(chart: Chart) -> Self {
        Self {
            svg: chart.svg(),
            legend: chart.legend(),
            title: chart.title,
        }
    }
}

impl From<Bars> for Figure {
    fn from(bars: Bars) -> Self {
        Self {
            svg: bars.svg(),
            legend: bars.legend(),
            title: bars.title,
        }
    }
}

fn axis(label: &'static str, logarithmic: bool) -> Axis {
    Axis { label, logarithmic }
}

/// Rows that no other row beats in both cost (to be low) and accuracy.
fn pareto(widths: &[WidthRow], cost: impl Fn(&WidthRow) -> f64) -> Vec<bool> {
    let beats = |a: &WidthRow, b: &WidthRow| {
        let (accuracy_a, accuracy_b) = (a.test_accuracy.value, b.test_accuracy.value);
        cost(a) <= cost(b)
            && accuracy_a >= accuracy_b
            && (cost(a) < cost(b) || accuracy_a > accuracy_b)
    };
    let front =
        |row: &WidthRow| cost(row).is_finite() && !widths.iter().any(|other| beats(other, row));
    widths.iter().map(front).collect()
}

/// Accuracy against a cost, the Pareto front joined.
fn tradeoff(
    widths: &[WidthRow],
    title: &str,
    x: Axis,
    value: impl Fn(&WidthRow) -> f64,
    cost: impl Fn(&WidthRow) -> f64,
    unit: &str,
) -> Chart {
    let front = pareto(widths, cost);
    let point = |row: &WidthRow, on_front: bool| {
        let accuracy = row.test_accuracy;
        Point {
            x: value(row),
            y: accuracy.value,
            interval: accuracy
                .low
                .is_finite()
                .then_some((accuracy.low, accuracy.high)),
            label: row.label.clone(),
            tip: format!(
                "{}: {:.2} %, {} {unit}{}",
                plural::bits(&row.label),
                accuracy.value,
                short(&value(row)),
                if on_front {
                    ", on the Pareto front"
                } else {
                    ""
                }
            ),
        }
    };
    let of = |wanted: bool| {
        let rows = widths.iter().zip(&front).filter(|(_, on)| **on == wanted);
        let mut points: Vec<Point> = rows.map(|(row, &on)| point(row, on)).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        points
    };
    let series = vec![
        Series {
            name: "Pareto front".into(),
            color: 0,
            points: of(true),
            line: true,
            marks: true,
        },
        Series {
            name: "off the front".into(),
            color: 6,
            points: of(false),
            line: false,
            marks: true,
        },
    ];
    Chart {
        title: title.into(),
        x,
        y: axis("test accuracy, %", false),
        series: series
            .into_iter()
            .filter(|series| !series.points.is_empty())
            .collect(),
    }
}

pub(super) fn accuracy_by_size(analysis: &Table) -> Figure {
    by_size(&analysis.widths).into()
}

fn by_size(widths: &[WidthRow]) -> Chart {
    let size = |row: &WidthRow| row.size_mb * 1e3;
    tradeoff(
        widths,
        "Accuracy against size",
        axis("file, kB", true),
        size,
        size,
        "kB",
    )
}

pub(super) fn accuracy_by_speed(analysis: &Table) -> Figure {
    by_speed(&analysis.widths).into()
}

fn by_speed(widths: &[WidthRow]) -> Chart {
    let x = axis("images per second, one thread, batch 64", false);
    let slowness = |row: &WidthRow| -row.img_per_s;
    tradeoff(
        widths,
        "Accuracy against speed",
        x,
        |row| row.img_per_s,
        slowness,
        "img/s",
    )
}

pub(super) fn overfitting(analysis: &Table) -> Figure {
    let value = |of: fn(&WidthRow) -> f64| {
        let values = analysis.widths.iter().map(move |row| Some(of(row)));
        values.collect::<Vec<_>>()
    };
    Bars {
        title: "Overfitting: train − test accuracy".into(),
        y_label: "points",
        groups: analysis
            .widths
            .iter()
            .map(|row| row.label.clone())
            .collect(),
        series: vec![("train − test".into(), 1, value(|row| row.overfitting_gap))],
        stacked: false,
    }
    .into()
}

/// One line per width: the first run's epochs.
pub(super) fn learning(
    groups: &[(Kind, Vec<&Run>)],
    title: &str,
    of: impl Fn(&RoundRecord) -> f64,
) -> Figure {
    let mut all = groups.iter().flat_map(|(_, runs)| runs);
    let unit = match all.any(|run| run.results.clients().is_some()) {
        true => "round",
        false => "epoch",
    };
    let line = |(index, (kind, runs)): (usize, &(Kind, Vec<&Run>))| {
        let first = &runs.first()?.results;
        let points = first.results_per_round.iter().map(|round| Point {
            x: round.round as f64,
            y: of(round),
            interval: None,
            label: String::new(),
            tip: format!(
                "{}, {unit} {}: {}",
                plural::bits(kind.label()),
                round.round,
                short(&of(round))
            ),
        });
        Some(Series {
            name: plural::bits(kind.label()),
            color: index,
            points: points.collect(),
            line: true,
            marks: true,
        })
    };
    let percent = title.contains("accuracy");
    Chart {
        title: format!("{title} by {unit}, first seed"),
        x: axis(unit, false),
        y: axis(if percent { "%" } else { "cross-entropy" }, false),
        series: groups.iter().enumerate().filter_map(line).collect(),
    }
    .into()
}

pub(super) fn sqnr(widths: &[WidthLayers]) -> Figure {
    noise(widths).into()
}

fn noise(widths: &[WidthLayers]) -> Bars {
    let names: Vec<String> = widths[0]
        .layers
        .iter()
        .map(|layer| layer.name.clone())
        .collect();
    let series = widths.iter().enumerate().map(|(index, width)| {
        let of = |name: &String| width.layers.iter().find(|layer| layer.name == *name);
        let values = names.iter().map(|name| of(name).map(|layer| layer.sqnr_db));
        (plural::bits(&width.label), index + 1, values.collect())
    });
    Bars {
        title: "Weights: signal over quantization noise".into(),
        y_label: "dB",
        series: series.collect(),
        groups: names,
        stacked: false,
    }
}

/// Steps of the weights' distribution before and after.
pub(super) fn histogram(layer: &Layer) -> Figure {
    distribution(layer).into()
}

fn distribution(layer: &Layer) -> Chart {
    let steps = |name: &str, color: usize, shares: &[f64]| {
        let bin = (layer.high - layer.low) / shares.len() as f64;
        let point = |x: f64, y: f64| Point {
            x,
            y,
            interval: None,
            label: String::new(),
            tip: String::new(),
        };
        let points = shares.iter().enumerate().flat_map(|(index, &share)| {
            let left = layer.low + index as f64 * bin;
            [point(left, 100.0 * share), point(left + bin, 100.0 * share)]
        });
        Series {
            name: name.into(),
            color,
            points: points.collect(),
            line: true,
            marks: false,
        }
    };
    Chart {
        title: format!(
            "{}, {}, {:.1} dB",
            layer.name,
            plural::bits(layer.bits),
            layer.sqnr_db
        ),
        x: axis("weight in quantization steps", false),
        y: axis("% of weights", false),
        series: vec![
            steps("packed", 1, &layer.after),
            steps("latent", 0, &layer.before),
        ],
    }
}

pub(super) fn roofline(roofline: &Roofline) -> Figure {
    limits_and_layers(roofline).into()
}

fn limits_and_layers(roofline: &Roofline) -> Chart {
    let intensity = |bytes: u64, macs: u64| macs as f64 / bytes as f64;
    let mut widths: Vec<ModelBits> = roofline.layers.iter().map(|layer| layer.bits).collect();
    widths.dedup();
    let all = roofline
        .layers
        .iter()
        .map(|layer| intensity(layer.bytes, layer.macs));
    let (low, high) = all.fold((f64::INFINITY, 0.0f64), |(low, high), x| {
        (low.min(x), high.max(x))
    });
    let limits = [
        ("f32", roofline.fp32_gmac_per_s),
        ("i16", roofline.i16_gmac_per_s),
        ("u8×i8", roofline.u8i8_gmac_per_s),
    ];
    let mut peaks: Vec<(String, f64)> = Vec::new();
    for (name, peak) in limits {
        match peaks.last_mut() {
            // Lines this near are one on the page (AVX2 multiplies bytes as 16 bits).
            Some((names, last)) if (peak / *last).ln().abs() < 0.1 => {
                *names = format!("{names}, {name}");
                *last = last.max(peak);
            }
            _ => peaks.push((name.into(), peak)),
        }
    }
    let mut series: Vec<Series> = peaks
        .iter()
        .map(|(name, peak)| {
            let peak = *peak;
            let ridge = peak / roofline.memory_gb_per_s;
            let start = (low / 1.2).min(ridge);
            let corner = |x: f64, y: f64, label: &str| Point {
                x,
                y,
                interval: None,
                label: label.into(),
                tip: format!("limit in {name}: {peak:.1} GMAC/s"),
            };
            let end = (high * 1.1).max(ridge);
            Series {
                name: String::new(),
                color: 6,
                points: vec![
                    corner(start, start * roofline.memory_gb_per_s, ""),
                    corner(ridge, peak, ""),
                    // The name stands on the flat part, away from the slope that all limits share.
                    corner((ridge * end).sqrt(), peak, name),
                    corner(end, peak, ""),
                ],
                line: true,
                marks: false,
            }
        })
        .collect();
    for (index, bits) in widths.into_iter().enumerate() {
        let layers = roofline.layers.iter().filter(|layer| layer.bits == bits);
        let points = layers.map(|layer| Point {
            x: intensity(layer.bytes, layer.macs),
            y: layer.gmac_per_s,
            interval: None,
            label: String::new(),
            tip: format!(
                "{}, {}: {:.1} GMAC/s, {:.0} % of peak",
                layer.name,
                plural::bits(bits),
                layer.gmac_per_s,
                100.0 * layer.share_of_peak
            ),
        });
        series.push(Series {
            name: plural::bits(bits),
            color: index,
            points: points.collect(),
            line: false,
            marks: true,
        });
    }
    Chart {
        title: format!("Roofline of {}", roofline.model),
        x: axis("multiply-accumulates per byte", true),
        y: axis("GMAC/s", true),
        series,
    }
}

#[cfg(test)]
mod tests;
