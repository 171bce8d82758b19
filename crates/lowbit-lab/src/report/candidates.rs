//! Charts of the models that a recommendation has measured.

use super::charts::{Axis, Chart, Point, Series, short};
use super::figure;
use super::figures::Figure;
use maud::{Markup, html};

/// A model that was measured.
pub(crate) struct Plotted<'a> {
    pub(crate) name: &'a str,
    /// Percent.
    pub(crate) accuracy: f64,
    /// Of the accuracy lost against FP32, brought to the accuracy; none of FP32 itself.
    pub(crate) interval: Option<(f64, f64)>,
    /// What it takes, in the chart's unit.
    pub(crate) cost: f64,
    pub(crate) on_front: bool,
}

/// Accuracy against a cost, the front joined; nothing where fewer than two models were measured.
pub(crate) fn tradeoff(
    title: &str,
    (label, unit, logarithmic): (&'static str, &str, bool),
    models: &[Plotted<'_>],
) -> Markup {
    let of = |wanted: bool| {
        let chosen = models.iter().filter(|model| model.on_front == wanted);
        let mut points: Vec<Point> = chosen
            .map(|model| Point {
                x: model.cost,
                y: model.accuracy,
                interval: model.interval,
                label: model.name.to_owned(),
                tip: format!(
                    "{}: {:.2} %, {} {unit}",
                    model.name,
                    model.accuracy,
                    short(&model.cost)
                ),
            })
            .collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        points
    };
    let series = [("on the front", 0, true), ("off the front", 6, false)];
    let series = series.map(|(name, color, on_front)| Series {
        name: name.into(),
        color,
        points: of(on_front),
        line: false,
        marks: true,
    });
    let axis = |label, logarithmic| Axis { label, logarithmic };
    let chart = Chart {
        title: title.into(),
        x: axis(label, logarithmic),
        y: axis("accuracy, %", false),
        series: series
            .into_iter()
            .filter(|series| !series.points.is_empty())
            .collect(),
    };
    html! { @if models.len() > 1 { (figure(&Figure::from(chart))) } }
}
