//! Charts as SVG text: lines and points with hover values, bars.
//!
//! plotters draws; its colors are names ([`INK`], [`GRID`], [`SERIES`]) that the page's style sheet gives a light and a
//! dark value. Hover values lie over the drawing as transparent circles and rectangles with a `<title>`.

use super::labels::Labels;
use super::ticks::{digits, short, spread, with_digits};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::fmt::Write as _;

/// Text and axes.
pub(super) const INK: RGBColor = RGBColor(1, 1, 1);
/// Lines behind the data.
pub(super) const GRID: RGBColor = RGBColor(2, 2, 2);
/// Data, in the order of the series. Okabe & Ito 2008, which the color-blind can tell apart.
pub(super) const SERIES: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(110, 110, 110),
];

const SIZE: (u32, u32) = (640, 380);

/// One axis.
pub(super) struct Axis {
    pub(super) label: &'static str,
    pub(super) logarithmic: bool,
}

/// One value.
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Ends of its interval, if it has one.
    pub(super) interval: Option<(f64, f64)>,
    /// Text beside the point.
    pub(super) label: String,
    /// Text on hover.
    pub(super) tip: String,
}

/// Values of one color.
pub(super) struct Series {
    pub(super) name: String,
    /// Index into [`SERIES`].
    pub(super) color: usize,
    pub(super) points: Vec<Point>,
    pub(super) line: bool,
    pub(super) marks: bool,
}

/// Lines and points over two axes.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

/// Bars in groups, one of each series to a group.
pub(super) struct Bars {
    pub(super) title: String,
    pub(super) y_label: &'static str,
    pub(super) groups: Vec<String>,
    /// Name, color and one value per group; none where there is no bar.
    pub(super) series: Vec<(String, usize, Vec<Option<f64>>)>,
    /// Whether the bars of a group stand on each other; else side by side.
    pub(super) stacked: bool,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Chart {
    /// The chart as an `<svg>` element; none without a finite point.
    pub(super) fn svg(&self) -> Option<String> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = range(points().map(|point| point.x), self.x.logarithmic)?;
        let ys = points().flat_map(|point| {
            let (low, high) = point.interval.unwrap_or((point.y, point.y));
            [point.y, low, high]
        });
        let y = range(ys, self.y.logarithmic)?;
        let mut hits = String::new();
        let name: fn(&f64) -> String = match self.x.logarithmic && x.1 > 5.0 * x.0 {
            true => spread,
            false => short,
        };
        let mut svg = drawing(|area| {
            let digits = match self.y.logarithmic {
                true => None,
                false => Some(digits(y.1 - y.0)),
            };
            let (x, y) = (x.0..x.1, y.0..y.1);
            let out = (name, digits, &mut hits);
            match (self.x.logarithmic, self.y.logarithmic) {
                (false, false) => self.draw(area, x, y, out),
                (true, false) => self.draw(area, x.log_scale(), y, out),
                (false, true) => self.draw(area, x, y.log_scale(), out),
                (true, true) => self.draw(area, x.log_scale(), y.log_scale(), out),
            }
        });
        finish(&mut svg, &self.title, &hits);
        Some(svg)
    }

    /// `name` gives the text at a tick of the x axis; those of the y axis have so many digits, if it is linear.
    fn draw<X, Y>(
        &self,
        area: &Area<'_>,
        x: X,
        y: Y,
        (name, digits, hits): (fn(&f64) -> String, Option<usize>, &mut String),
    ) where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(50)
            .y_label_area_size(66)
            .build_cartesian_2d(x, y)
            .expect(MEMORY);
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(text(19))
            .axis_desc_style(text(20))
            .x_desc(self.x.label)
            .y_desc(self.y.label)
            // Of a decade, a logarithmic axis names but its ends otherwise.
            .x_labels(if self.x.logarithmic { 24 } else { 8 })
            .y_labels(7)
            .x_label_formatter(&name)
            .y_label_formatter(&|value| match digits {
                Some(digits) => with_digits(*value, digits),
                None => short(value),
            })
            .draw()
            .expect(MEMORY);
        let (columns, _) = chart.plotting_area().get_pixel_range();
        let mut labels = Labels {
            columns: columns.start..area.dim_in_pixel().0 as i32,
            taken: Vec::new(),
        };
        for series in self.series.iter().filter(|series| series.marks) {
            for point in series.finite() {
                let at = |y: f64| chart.backend_coord(&(point.x, y));
                let (x, y) = at(point.y);
                labels.taken.push([x - 5, y - 5, x + 5, y + 5]);
                if let Some((low, high)) = point.interval {
                    labels.taken.push([x - 2, at(high).1, x + 2, at(low).1]);
                }
            }
        }
        for series in &self.series {
            let color = SERIES[series.color % SERIES.len()];
            let finite = || series.finite();
            if series.line {
                let line = finite().map(|point| (point.x, point.y));
                let drawn = LineSeries::new(line, color.stroke_width(2));
                chart.draw_series(drawn).expect(MEMORY);
            }
            for point in finite() {
                if let Some((low, high)) = point.interval {
                    let ends = vec![(point.x, low), (point.x, high)];
                    let bar = PathElement::new(ends, color.stroke_width(2));
                    chart.draw_series([bar]).expect(MEMORY);
                }
                if series.marks {
                    let mark = Circle::new((point.x, point.y), 4, color.filled());
                    chart.draw_series([mark]).expect(MEMORY);
                }
                let (left, top) = chart.backend_coord(&(point.x, point.y));
                let (low, high) = point.interval.unwrap_or((point.y, point.y));
                let bar = [high, low].map(|y| chart.backend_coord(&(point.x, y)).1);
                if let Some(at) = labels.place(&point.label, (left, top), bar) {
                    let label = Text::new(point.label.clone(), at, text(19));
                    area.draw(&label).expect(MEMORY);
                }
                if !point.tip.is_empty() {
                    let tip = escape(&point.tip);
                    let _ = writeln!(
                        hits,
                        "<circle class=\"hit\" cx=\"{left}\" cy=\"{top}\" r=\"9\"><title>{tip}</title></circle>"
                    );
                }
            }
        }
    }

    /// Names and colors of the series, as a list under the chart.
    pub(super) fn legend(&self) -> String {
        let names = self
            .series
            .iter()
            .map(|series| (&series.name, series.color));
        legend(names.filter(|(name, _)| !name.is_empty()))
    }
}

impl Series {
    /// The points that have a place.
    fn finite(&self) -> impl Iterator<Item = &Point> {
        let points = self.points.iter();
        points.filter(|point| point.x.is_finite() && point.y.is_finite())
    }
}

impl Bars {
    /// The chart as an `<svg>` element; none without a finite value.
    pub(super) fn svg(&self) -> Option<String> {
        let values = || {
            self.series
                .iter()
                .flat_map(|(_, _, values)| values.iter().flatten())
        };
        let (low, high) = match self.stacked {
            false => range(values().copied().chain([0.0]), false)?,
            true => {
                let of_group = |group| {
                    let values = self.series.iter().map(move |(_, _, values)| values[group]);
                    values.map(Option::unwrap_or_default).sum()
                };
                let sums = (0..self.groups.len()).map(of_group);
                range(sums.chain([0.0]), false)?
            }
        };
        // Bars stand on zero, without a margin below.
        let lowest = values().fold(0.0, |low: f64, &value| low.min(value));
        let low = if lowest < 0.0 { low } else { 0.0 };
        let mut hits = String::new();
        let mut svg = drawing(|area| {
            let groups = self.groups.len() as f64;
            let mut chart = ChartBuilder::on(area)
                .margin(8)
                .x_label_area_size(34)
                .y_label_area_size(66)
                .build_cartesian_2d(0.0..groups, low..high)
                .expect(MEMORY);
            chart
                .configure_mesh()
                .axis_style(INK)
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .label_style(text(19))
                .axis_desc_style(text(20))
                .disable_x_mesh()
                .x_labels(0)
                .y_desc(self.y_label)
                .y_labels(7)
                .y_label_formatter(&|value| with_digits(*value, digits(high - low)))
                .draw()
                .expect(MEMORY);
            let (_, bottom) = chart.backend_coord(&(0.0, low));
            for (group, name) in self.groups.iter().enumerate() {
                let (center, _) = chart.backend_coord(&(group as f64 + 0.5, 0.0));
                let style = text(19).pos(plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Center,
                    plotters::style::text_anchor::VPos::Top,
                ));
                let label = Text::new(name.clone(), (center, bottom + 8), style);
                area.draw(&label).expect(MEMORY);
            }
            let beside = match self.stacked {
                true => 1,
                false => self.series.len().max(1),
            };
            let width = 0.8 / beside as f64;
            let mut tops = vec![0.0; self.groups.len()];
            for (index, (name, color, values)) in self.series.iter().enumerate() {
                for (group, value) in values.iter().enumerate() {
                    let Some(value) = value.filter(|value| value.is_finite()) else {
                        continue;
                    };
                    let place = if self.stacked { 0 } else { index };
                    let left = group as f64 + 0.1 + place as f64 * width;
                    let bottom = if self.stacked { tops[group] } else { 0.0 };
                    let corners = [(left, bottom), (left + 0.92 * width, bottom + value)];
                    tops[group] += value;
                    let color = SERIES[color % SERIES.len()];
                    let bar = Rectangle::new(corners, color.filled());
                    chart.draw_series([bar]).expect(MEMORY);
                    let (x0, y0) = chart.backend_coord(&corners[0]);
                    let (x1, y1) = chart.backend_coord(&corners[1]);
                    let tip = escape(&format!(
                        "{}, {name}: {}",
                        self.groups[group],
                        short(&value)
                    ));
                    let _ = writeln!(
                        hits,
                        "<rect class=\"hit\" x=\"{x0}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{tip}</title></rect>",
                        y0.min(y1),
                        (x1 - x0).max(1),
                        (y1 - y0).abs().max(4),
                    );
                }
            }
        });
        finish(&mut svg, &self.title, &hits);
        Some(svg)
    }

    /// Names and colors of the series, as a list under the chart.
    pub(super) fn legend(&self) -> String {
        legend(self.series.iter().map(|(name, color, _)| (name, *color)))
    }
}

const MEMORY: &str = "drawing into memory cannot fail";

fn drawing(draw: impl FnOnce(&Area<'_>)) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&area);
        area.present().expect(MEMORY);
    }
    svg
}

/// Scales with the page, says its name to those who cannot see it, and answers the pointer.
fn finish(svg: &mut String, title: &str, hits: &str) {
    let (width, height) = SIZE;
    let fixed = format!("<svg width=\"{width}\" height=\"{height}\"");
    *svg = svg.replacen(&fixed, "<svg class=\"chart\" role=\"img\"", 1);
    if let Some(end) = svg.find('>') {
        svg.insert_str(end + 1, &format!("\n<title>{}</title>", escape(title)));
    }
    if let Some(end) = svg.rfind("</svg>") {
        svg.insert_str(end, hits);
    }
}

/// A series' color as style sheets write it.
pub(super) fn rgb(color: usize) -> String {
    let RGBColor(r, g, b) = SERIES[color % SERIES.len()];
    format!("rgb({r},{g},{b})")
}

fn legend<'a>(names: impl Iterator<Item = (&'a String, usize)>) -> String {
    let items: String = names
        .map(|(name, color)| {
            format!(
                "<li><i style=\"background:{}\"></i>{}</li>",
                rgb(color),
                escape(name)
            )
        })
        .collect();
    format!("<ul class=\"legend\">{items}</ul>")
}

fn text(size: u32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&INK)
}

/// A range with a margin that holds all finite values.
fn range(values: impl Iterator<Item = f64>, logarithmic: bool) -> Option<(f64, f64)> {
    let usable = values.filter(|value| value.is_finite() && (!logarithmic || *value > 0.0));
    let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return None;
    }
    if logarithmic {
        return Some((low / 1.3, high * 1.6));
    }
    let margin = if high > low {
        0.06 * (high - low)
    } else {
        low.abs().max(1.0) * 0.1
    };
    Some((low - margin, high + margin))
}

/// Text as HTML and SVG want it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[(f64, f64)]) -> Chart {
        let axis = |logarithmic| Axis {
            label: "a < b",
            logarithmic,
        };
        let points = values.iter().map(|&(x, y)| Point {
            x,
            y,
            interval: Some((y - 1.0, y + 1.0)),
            label: "8".into(),
            tip: "<8 & 9>".into(),
        });
        Chart {
            title: "T & T".into(),
            x: axis(true),
            y: axis(false),
            series: vec![Series {
                name: "s".into(),
                color: 1,
                points: points.collect(),
                line: true,
                marks: true,
            }],
        }
    }

    #[test]
    fn ticks_of_a_logarithmic_axis_do_not_lie_on_each_other() {
        let named: Vec<String> = (1..=20)
            .map(|of| spread(&(100.0 * f64::from(of))))
            .collect();
        let named: Vec<&str> = named
            .iter()
            .map(String::as_str)
            .filter(|it| !it.is_empty())
            .collect();
        assert_eq!(named, ["100", "200", "500", "1000", "2000"]);
        assert_eq!(
            [0.05, 0.06, 1000.0].map(|value| spread(&value)),
            ["0.05", "", "1000"]
        );
    }

    #[test]
    fn every_point_has_a_mark_a_label_and_an_escaped_hover_text() {
        let svg = chart(&[(1.0, 80.0), (100.0, 90.0)]).svg().unwrap();
        assert_eq!(svg.matches("class=\"hit\"").count(), 2);
        assert_eq!(svg.matches("&lt;8 &amp; 9&gt;").count(), 2);
        assert!(svg.contains("<title>T &amp; T</title>"));
        assert!(svg.starts_with("<svg class=\"chart\"") && !svg.contains("width=\"640\" height"));
    }

    #[test]
    fn values_that_are_not_numbers_are_left_out() {
        assert!(chart(&[(1.0, f64::NAN)]).svg().is_none());
        let svg = chart(&[(1.0, f64::NAN), (2.0, 1.0)]).svg().unwrap();
        assert_eq!(svg.matches("class=\"hit\"").count(), 1);
    }
}
