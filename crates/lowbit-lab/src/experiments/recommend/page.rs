//! `report.html` of a recommendation.

use super::verdict::Verdict;
use super::{PartScore, Recommendation, Row};
use crate::plural;
use crate::report::candidates::{Plotted, tradeoff};
use crate::report::{TIPS, document};
use maud::{Markup, html};

/// The header of the table, for people.
pub const HEADER: [&str; 9] = [
    "model",
    "bytes",
    "choosing %",
    "verdict %",
    "points [95 %]",
    "changed",
    "heap, MB",
    "ms",
    "faster",
];

/// What the star behind a name says, and which of the two speeds it is about.
pub const FRONT: &str = "* no other row is better in accuracy, speed and bytes at once; speed is the last column, of rounds in turns with FP32, and ms are of \
     different minutes.";

impl Recommendation {
    /// The rows of the table, for people; those on the front are marked with a star.
    #[must_use]
    pub fn cells(&self) -> Vec<Vec<String>> {
        let none = || "–".to_owned();
        let row = |row: &Row| {
            let part = row.verdict.as_ref();
            // FP32 loses nothing to itself.
            let other = part.filter(|_| row.speedup.is_some());
            let gained = other.map(|part| -part.drop_points);
            vec![
                format!("{}{}", row.name, if row.on_front { " *" } else { "" }),
                plural::grouped(row.bytes),
                format!("{:.2}", row.choosing.accuracy_percent),
                part.map_or_else(none, |part| format!("{:.2}", part.accuracy_percent)),
                gained.map_or_else(none, |d| {
                    format!("{:+.2} [{:+.2}, {:+.2}]", d.value, d.low, d.high)
                }),
                other.map_or_else(none, |part| part.changed.to_string()),
                row.memory_bytes
                    .map_or_else(none, |bytes| format!("{:.2}", bytes as f64 / 1e6)),
                row.latency_ms
                    .map_or_else(none, |ms| format!("{:.3}", ms.median)),
                row.speedup
                    .map_or_else(none, |s| format!("{:.2}×", s.median)),
            ]
        };
        self.rows.iter().map(row).collect()
    }
}

/// The accuracy of a part with the interval of what it lost against FP32.
fn plotted<'a>(row: &'a Row, part: &PartScore, cost: f64, verdict: &Verdict) -> Plotted<'a> {
    let (drop, accuracy) = (part.drop_points, part.accuracy_percent);
    let interval = (
        accuracy - (drop.high - drop.value),
        accuracy + (drop.value - drop.low),
    );
    Plotted {
        name: &row.name,
        accuracy,
        interval: (drop.high > drop.low).then_some(interval),
        cost,
        on_front: row.on_front,
        ships: row.name == verdict.ship,
    }
}

/// Points below FP32, in those that may be lost (or one), beyond which a model is not drawn.
const FAR: f64 = 20.0;

/// The rows that a chart of all of them shows, and the names of those that it leaves out: one that lost nearly everything would
/// press the others into a line.
pub(super) fn near(rows: &[Row], max_drop: f64) -> (Vec<&Row>, String) {
    let fp32 = rows
        .first()
        .map_or(0.0, |row| row.choosing.accuracy_percent);
    let floor = fp32 - FAR * max_drop.max(1.0);
    let (shown, below): (Vec<&Row>, Vec<&Row>) = rows
        .iter()
        .partition(|row| row.choosing.accuracy_percent >= floor);
    let below: Vec<&str> = below.iter().map(|row| row.name.as_str()).collect();
    let about = match below[..] {
        [] => String::new(),
        _ => format!(" (not shown, far below: {})", below.join("; ")),
    };
    (shown, about)
}

fn charts(found: &Recommendation) -> Markup {
    let timed = found.rows.iter().filter_map(|row| {
        let part = row.verdict.as_ref().filter(|_| row.latency_ms.is_some())?;
        // Milliseconds of two rows are of different minutes: what is comparable is each against FP32 in turns.
        let speed = row.speedup.map_or(1.0, |speedup| speedup.median);
        Some(plotted(row, part, speed, &found.verdict))
    });
    let (shown, about) = near(&found.rows, found.max_drop_points);
    let sized = shown
        .into_iter()
        .map(|row| plotted(row, &row.choosing, row.bytes as f64 / 1e6, &found.verdict));
    html! {
        div class="figures" {
            (tradeoff("Images that chose nothing, against speed", ("speed, FP32 = 1", "× FP32's speed", false), &timed.collect::<Vec<_>>()))
            (tradeoff(&format!("Images that choose, against size{about}"), ("file, MB", "MB", true), &sized.collect::<Vec<_>>()))
        }
    }
}

pub(super) fn page(found: &Recommendation) -> String {
    let body = html! {
        header {
            h1 { (found.verdict.sentence) }
            @if let Some(next) = &found.verdict.next { p { (next) } }
            p { (found.model) " on " (found.data) ", " (found.machine.summary()) }
        }
        main {
            section {
                h2 { "What was measured" }
                div class="scroll" {
                    table class="numbers" {
                        thead { tr { @for cell in HEADER { th scope="col" { (cell) } } } }
                        tbody {
                            @for row in found.cells() {
                                tr { @for (index, cell) in row.iter().enumerate() {
                                    @if index == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                                } }
                            }
                        }
                    }
                }
                p { (FRONT) " Trying ended because " (found.ended) "." }
                p { (found.conditions()) "." }
                (charts(found))
            }
            section {
                h2 { "Commands" }
                @for row in found.rows.iter().filter(|row| !row.command.is_empty()) {
                    p { (row.name) }
                    pre class="wrapped" { (row.command) }
                }
            }
            section { h2 { "Files" } ul {
                @for file in found.rows.iter().flat_map(|row| row.file.iter().chain(&row.onnx)) { li { (file) } }
            } }
            @if !found.skipped.is_empty() {
                section { h2 { "Not tried" } ul { @for line in &found.skipped { li { (line) } } } }
            }
        }
        div id="tip" role="status" hidden {}
    };
    document(&format!("lowbit recommend: {}", found.model), TIPS, &body)
}
