//! Which model to ship, in one sentence, with its reason.

use super::{Row, Target};
use crate::plural;
use crate::statistics::Difference;
use serde::{Deserialize, Serialize};

/// What to ship.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The name of the row to ship.
    pub ship: String,
    /// Whether a quantized model is shown to lose no more than allowed.
    pub fits: bool,
    /// The sentence.
    pub sentence: String,
    /// What would be better still and is not shown to fit, and what would tell; nothing where all that was looked at fits, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A row's time as a share of FP32's: rounds in turns cancel what else the machine does, medians of different minutes do not.
fn time(row: &Row) -> f64 {
    row.speedup.map_or(1.0, |speedup| 1.0 / speedup.median)
}

/// Latencies that differ by less than this share are taken as equal: then the smaller model wins.
const EQUAL: f64 = 0.03;

/// Share of images on which a good quantized model and FP32 differ, where nothing else is known.
const DISAGREEMENT: f64 = 0.05;

/// Images from which on an interval of `half` points over `images` would be `wanted` points.
fn needed(images: usize, half: f64, wanted: f64) -> u64 {
    rounded(images as f64 * (half / wanted).powi(2))
}

/// Two digits, upwards: nobody counts images one by one.
fn rounded(images: f64) -> u64 {
    let unit = 10f64.powf((images.log10().floor() - 1.0).max(0.0));
    ((images / unit).ceil() * unit) as u64
}

/// Half the width of the paired interval of two models that agree everywhere (see `statistics`), in points.
fn narrowest(images: usize) -> f64 {
    100.0 * 1.96 / (images as f64 + 2.0)
}

/// The fewest images for the verdict of which [`too_few`] says nothing; 0 where no number would do.
pub(super) fn fewest_for_verdict(max_drop: f64) -> usize {
    if max_drop <= 0.0 {
        return 0;
    }
    // A fraction was cut off, and another may have been rounded away.
    let about = (100.0 * 1.96 / max_drop - 2.0).max(0.0) as usize;
    let mut near = about.saturating_sub(1)..about.saturating_add(3);
    near.find(|&images| narrowest(images) <= max_drop)
        .unwrap_or(about)
}

/// Why so few images cannot tell `max_drop` points, whatever comes out; none where they may.
#[must_use]
pub fn too_few(images: usize, max_drop: f64) -> Option<String> {
    let narrowest = narrowest(images);
    if max_drop > 0.0 && narrowest <= max_drop {
        return None;
    }
    let enough = match max_drop > 0.0 {
        true => {
            let share = max_drop / 100.0;
            let wanted = rounded(1.96f64.powi(2) * DISAGREEMENT / (share * share));
            format!(
                "give some {} (half of them choose), or a larger --max-drop",
                2 * wanted
            )
        }
        false => "give a --max-drop above 0".into(),
    };
    Some(format!(
        "{images} images for the verdict cannot tell {max_drop} points: {enough}"
    ))
}

/// Decides among measured rows, of which the first is FP32. The images that choose put rows in an order, from what is safest to
/// what is best by `target`; the others, which chose nothing, say in that order whether each fits, up to the first that is not
/// shown to. So one error in forty bounds that anything ships that does not fit, however many were looked at (split fixed sequence
/// testing: Angelopoulos et al., "Learn then Test", arXiv:2110.01052).
///
/// # Panics
/// If a row was not measured, or there is none.
#[must_use]
pub fn decide(rows: &[&Row], target: Target, max_drop: f64, images: usize) -> Verdict {
    let fp32 = rows[0];
    let candidates = candidates(&rows[1..], max_drop);
    // Faster beyond what the rounds scatter (the lower quartile of 25 is near the end of their median's 95 % interval), or smaller.
    let gains = |row: &&Row| match target {
        Target::Size => row.bytes < fp32.bytes,
        Target::Latency | Target::Throughput => {
            row.speedup.is_some_and(|speedup| speedup.quartile_1 > 1.0)
        }
    };
    let gaining = candidates.iter().copied().filter(|row| gains(row));
    let sequence = in_order(gaining.collect(), target);
    if sequence.is_empty() {
        return keep(fp32, &candidates, target, max_drop, images);
    }
    let fits = |row: &&Row| drop(row).high <= max_drop;
    let shown = sequence.iter().copied().take_while(fits).count();
    let next = sequence.get(shown).copied();
    let Some(ships) = shown.checked_sub(1).map(|last| sequence[last]) else {
        return unproven(fp32, next, max_drop, images);
    };
    let gained = -drop(ships);
    let sentence = format!(
        "Ship {}: {:.2}× FP32's speed here and {:.2}× smaller, for {:+.2} points of accuracy (95 % interval {:+.2} to {:+.2} on {images} images that chose nothing; {max_drop} allowed).",
        ships.name,
        ships.speedup.map_or(1.0, |speedup| speedup.median),
        fp32.bytes as f64 / ships.bytes as f64,
        gained.value,
        gained.low,
        gained.high,
    );
    Verdict {
        ship: ships.name.clone(),
        fits: true,
        sentence,
        next: next.map(|next| format!("Next: {}.", not_shown(next, max_drop, images))),
    }
}

/// Rows that may fit by the images that choose: those that are shown to; where there are none, those that lose no more; where there
/// are none either, the nearest.
fn candidates<'a>(rows: &[&'a Row], max_drop: f64) -> Vec<&'a Row> {
    let within = |bound: fn(&Difference) -> f64| -> Vec<&'a Row> {
        let rows = rows.iter().copied();
        rows.filter(|row| bound(&row.choosing.drop_points) <= max_drop)
            .collect()
    };
    let nearest = || nearest(rows).into_iter().collect();
    [within(|lost| lost.high), within(|lost| lost.value)]
        .into_iter()
        .find(|rows| !rows.is_empty())
        .unwrap_or_else(nearest)
}

/// Rows from the safest by the images that choose to the best by `target`; what is neither safer nor better than another is left out.
fn in_order(mut rows: Vec<&Row>, target: Target) -> Vec<&Row> {
    rows.sort_by(|a, b| {
        let bound = |row: &Row| row.choosing.drop_points.high;
        bound(a).total_cmp(&bound(b))
    });
    let mut sequence: Vec<&Row> = Vec::new();
    for row in rows {
        let is_better = sequence.last().is_none_or(|last| {
            best(&[last, row], target).is_some_and(|best| best.name == row.name)
        });
        if is_better {
            sequence.push(row);
        }
    }
    sequence
}

/// What a row loses on the images that chose nothing.
fn drop(row: &Row) -> Difference {
    row.verdict.as_ref().expect("measured").drop_points
}

/// The row that loses least on the images that choose.
fn nearest<'a>(rows: &[&'a Row]) -> Option<&'a Row> {
    let lost = |row: &Row| row.choosing.drop_points.value;
    let rows = rows.iter().copied();
    rows.min_by(|a, b| lost(a).total_cmp(&lost(b)))
}

/// The smallest, or the fastest; of those that are nearly as fast, the smallest.
fn best<'a>(rows: &[&'a Row], target: Target) -> Option<&'a Row> {
    let rows = || rows.iter().copied();
    match target {
        Target::Size => rows().min_by_key(|row| row.bytes),
        Target::Latency | Target::Throughput => {
            let first = rows().min_by(|a, b| time(a).total_cmp(&time(b)))?;
            let near = rows().filter(|row| time(row) <= time(first) * (1.0 + EQUAL));
            near.min_by_key(|row| row.bytes)
        }
    }
}

/// Nothing that may fit gains anything.
fn keep(fp32: &Row, candidates: &[&Row], target: Target, max_drop: f64, images: usize) -> Verdict {
    let fitting = candidates.iter().copied();
    let fitting: Vec<&Row> = fitting.filter(|row| drop(row).high <= max_drop).collect();
    let Some(near) = best(&fitting, target) else {
        return unproven(fp32, candidates.first().copied(), max_drop, images);
    };
    let reason = match target {
        Target::Size => format!("no file is smaller than its {} bytes", fp32.bytes),
        _ => format!(
            "no quantized model within {} is faster here beyond the scatter of the rounds ({}: {})",
            plural::of(max_drop, "point"),
            near.name,
            near.speedup.map_or_else(String::new, |speedup| format!(
                "{:.2}× its speed, quartiles {:.2} to {:.2}",
                speedup.median, speedup.quartile_1, speedup.quartile_3
            )),
        ),
    };
    Verdict {
        ship: fp32.name.clone(),
        fits: true,
        sentence: format!("Keep FP32: {reason}."),
        next: None,
    }
}

/// Nothing is shown to fit: because it does not, or because too few images say so.
fn unproven(fp32: &Row, best: Option<&Row>, max_drop: f64, images: usize) -> Verdict {
    let sentence = match best {
        None => {
            "Keep FP32: nothing else could be measured in the time that there was; give more --time.".into()
        }
        Some(best) => {
            let for_now = if may_fit(best, max_drop) {
                " for now"
            } else {
                ""
            };
            format!("Keep FP32{for_now}: {}.", not_shown(best, max_drop, images))
        }
    };
    Verdict {
        ship: fp32.name.clone(),
        fits: false,
        sentence,
        next: None,
    }
}

/// Whether more images could show that a row fits.
fn may_fit(row: &Row, max_drop: f64) -> bool {
    drop(row).value < max_drop
}

/// Why a row that was chosen does not ship.
fn not_shown(row: &Row, max_drop: f64, images: usize) -> String {
    let lost = drop(row);
    if !may_fit(row, max_drop) {
        return format!(
            "{} was chosen, and loses {:.2} points (95 % interval {:.2} to {:.2}), {max_drop} are allowed",
            row.name, lost.value, lost.low, lost.high,
        );
    }
    let half = (lost.high - lost.low) / 2.0;
    let more = needed(images, half, max_drop - lost.value.max(0.0));
    let what = match lost.value {
        gain if gain < 0.0 => format!("gained {:.2} points", -gain),
        loss => format!("lost {loss:.2} points"),
    };
    format!(
        "{} {what}, but {images} images cannot tell a loss of {max_drop} (95 % interval up to {:.2}): give the verdict some {more}",
        row.name, lost.high,
    )
}

/// Which rows no other beats in accuracy, latency and bytes at once.
#[must_use]
pub fn front(rows: &[&Row]) -> Vec<bool> {
    let key = |row: &Row| {
        let accuracy = row
            .verdict
            .as_ref()
            .map_or(0.0, |part| part.accuracy_percent);
        [-accuracy, time(row), row.bytes as f64]
    };
    let beats =
        |a: [f64; 3], b: [f64; 3]| (0..3).all(|i| a[i] <= b[i]) && (0..3).any(|i| a[i] < b[i]);
    rows.iter()
        .map(|row| !rows.iter().any(|other| beats(key(other), key(row))))
        .collect()
}
