//! Charts of two models that were timed in turn, each on its own, for a notebook.

use super::alone;
use super::charts::Bars;
use super::figures::Figure;
use crate::timing::{LayerSpeed, SpeedCell};
use maud::{PreEscaped, html};

/// Speed by batch and threads, and time by layer, as HTML with SVG that needs no style sheet; empty where nothing was timed.
/// `names` are those of the two models.
#[must_use]
pub fn pair_figures(names: [&str; 2], speed: &[SpeedCell], layers: &[LayerSpeed]) -> String {
    let speeds = Bars {
        stacked: false,
        title: "Images per second".into(),
        y_label: "img/s",
        groups: speed
            .iter()
            .map(|cell| format!("batch {} × {}", cell.batch, cell.threads))
            .collect(),
        series: series(
            names,
            speed
                .iter()
                .map(|cell| [cell.fp32_img_per_s(), cell.quantized_img_per_s()]),
        ),
    };
    let times = Bars {
        stacked: false,
        title: "Milliseconds by layer, one thread".into(),
        y_label: "ms",
        groups: layers.iter().map(|layer| layer.name.clone()).collect(),
        series: series(
            names,
            layers
                .iter()
                .map(|layer| [layer.fp32_ms, layer.quantized_ms]),
        ),
    };
    let timed = [speeds, times]
        .into_iter()
        .filter(|bars| !bars.groups.is_empty());
    let figures = timed.map(Figure::from);
    let drawn: Vec<Figure> = figures.filter(|figure| figure.svg.is_some()).collect();
    html! {
        @for figure in &drawn {
            figure style="display:inline-block;margin:0 1em 1em 0" {
                figcaption { (figure.title) ", " (names[0]) " (blue) and " (names[1]) " (orange)" }
                @if let Some(svg) = &figure.svg { (PreEscaped(alone(svg))) }
            }
        }
    }
    .into_string()
}

fn series(
    names: [&str; 2],
    values: impl Iterator<Item = [f64; 2]> + Clone,
) -> Vec<(String, usize, Vec<Option<f64>>)> {
    [0, 1]
        .map(|side| {
            let of_side = values.clone().map(|pair| Some(pair[side])).collect();
            (names[side].to_owned(), side, of_side)
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Summary;

    #[test]
    fn both_models_have_a_bar_for_every_layer_and_no_style_sheet_is_needed() {
        let layer = |name: &str| LayerSpeed {
            name: name.into(),
            batch: 64,
            macs: 5,
            fp32_ms: 2.0,
            quantized_ms: 1.0,
            fp32_gmac_per_s: 3.0,
            quantized_gmac_per_s: 6.0,
        };
        let cell = SpeedCell {
            threads: 1,
            batch: 64,
            fp32_ms: Summary::of(&[4.0]),
            quantized_ms: Summary::of(&[1.0]),
            speedup: Summary::of(&[4.0]),
        };
        let html = pair_figures(["FP32", "INT8"], &[cell], &[layer("conv1"), layer("a<b")]);
        assert_eq!(html.matches("<svg").count(), 2);
        assert!(html.contains("conv1") && html.contains("a&lt;b") && !html.contains("a<b"));
        assert!(!html.contains("#010101") && html.contains("INT8"));
        assert_eq!(pair_figures(["FP32", "INT8"], &[], &[]), "");
    }
}
