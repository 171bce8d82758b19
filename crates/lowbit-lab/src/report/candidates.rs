//! Charts of the models that a recommendation has measured.

use super::charts::{Axis, Chart, Point, Series};
use super::figure;
use super::figures::Figure;
use super::ticks::short;
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
    /// Whether it ships: it has a color and a line of the legend of its own, since its name may find no room.
    pub(crate) ships: bool,
}

/// Accuracy against a cost, the front joined; nothing where fewer than two models were measured.
pub(crate) fn tradeoff(
    title: &str,
    (label, unit, logarithmic): (&'static str, &str, bool),
    models: &[Plotted<'_>],
) -> Markup {
    let of = |wanted: &dyn Fn(&Plotted<'_>) -> bool| {
        let chosen = models.iter().filter(|model| wanted(model));
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
    let series = |name: String, color: usize, points: Vec<Point>| Series {
        name,
        color,
        points,
        line: false,
        marks: true,
    };
    let front = of(&|model| model.on_front && !model.ships);
    let off = of(&|model| !model.on_front && !model.ships);
    let ships = of(&|model| model.ships);
    let name = ships.first().map(|point| point.label.clone());
    let series = [
        series(
            format!("{}, which ships", name.unwrap_or_default()),
            1,
            ships,
        ),
        series("on the front".into(), 0, front),
        series("off the front".into(), 6, off),
    ];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_is_named_where_others_crowd() {
        let model = |name, cost, ships| Plotted {
            name,
            accuracy: 81.0,
            interval: Some((80.0, 82.0)),
            cost,
            on_front: true,
            ships,
        };
        let page = |ships| {
            let models = [
                model("A", 2.76, false),
                model("B", 2.77, ships),
                model("C", 1.0, false),
            ];
            tradeoff("", ("speed", "×", false), &models).into_string()
        };
        assert!(page(true).contains("B, which ships"));
        assert!(page(true).contains("on the front"));
        // Where it is not in this chart, the legend does not speak of it.
        assert!(!page(false).contains("which ships"));
    }
}
