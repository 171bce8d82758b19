//! `report.html` of a recommendation.

use super::Recommendation;
use crate::plural;
use crate::report::document;
use maud::html;

/// The header of the table, for people.
pub const HEADER: [&str; 8] = [
    "model",
    "bytes",
    "choosing %",
    "verdict %",
    "points [95 %]",
    "changed",
    "ms",
    "faster",
];

impl Recommendation {
    /// The rows of the table, for people; those on the front are marked with a star.
    #[must_use]
    pub fn cells(&self) -> Vec<Vec<String>> {
        let none = || "–".to_owned();
        let row = |row: &super::Row| {
            let part = row.verdict.as_ref();
            // FP32 loses nothing to itself.
            let other = part.filter(|_| row.speedup.is_some());
            let drop = other.map(|part| part.drop_points);
            vec![
                format!("{}{}", row.name, if row.on_front { " *" } else { "" }),
                row.bytes.to_string(),
                format!("{:.2}", row.choosing.accuracy_percent),
                part.map_or_else(none, |part| format!("{:.2}", part.accuracy_percent)),
                drop.map_or_else(none, |d| {
                    format!("{:+.2} [{:+.2}, {:+.2}]", -d.value, -d.high, -d.low)
                }),
                other.map_or_else(none, |part| part.changed.to_string()),
                row.latency_ms
                    .map_or_else(none, |ms| format!("{:.3}", ms.median)),
                row.speedup
                    .map_or_else(none, |s| format!("{:.2}×", s.median)),
            ]
        };
        self.rows.iter().map(row).collect()
    }
}

pub(super) fn page(found: &Recommendation) -> String {
    let [calibration, choosing, verdict] = found.images;
    let body = html! {
        header {
            h1 { (found.verdict.sentence) }
            p { (found.model) " on " (found.data) ", " (found.machine.summary()) }
        }
        main {
            section {
                h2 { "What was measured" }
                div class="scroll" {
                    table {
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
                p { "* no other row is better in accuracy, latency and bytes at once. " (calibration) " images set ranges, "
                    (choosing) " chose, " (verdict) " chose nothing; calls of " (plural::of(found.batch, "image")) " on "
                    (found.threads) " threads" (found.doubts) ". Trying ended because " (found.ended) "." }
            }
            section {
                h2 { "Commands" }
                @for row in found.rows.iter().filter(|row| !row.command.is_empty()) { pre { (row.command) } }
            }
            section { h2 { "Files" } ul {
                @for file in found.rows.iter().flat_map(|row| row.file.iter().chain(&row.onnx)) { li { (file) } }
            } }
            @if !found.skipped.is_empty() {
                section { h2 { "Not tried" } ul { @for line in &found.skipped { li { (line) } } } }
            }
        }
    };
    document(&format!("lowbit recommend: {}", found.model), "", &body)
}
