//! Which model to ship, in one sentence, with its reason.

use super::{Row, Target};
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

/// Why so few images cannot tell `max_drop` points, whatever comes out; none where they may.
#[must_use]
pub fn too_few(images: usize, max_drop: f64) -> Option<String> {
    // The paired interval of two models that agree everywhere (see `statistics`).
    let narrowest = 100.0 * 1.96 / (images as f64 + 2.0);
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

/// Decides among measured rows, of which the first is FP32.
///
/// # Panics
/// If a row was not measured, or there is none.
#[must_use]
pub fn decide(rows: &[&Row], target: Target, max_drop: f64, images: usize) -> Verdict {
    let fp32 = rows[0];
    let drop = |row: &Row| row.verdict.as_ref().expect("measured").drop_points;
    let quantized = &rows[1..];
    let shown: Vec<&Row> = quantized
        .iter()
        .copied()
        .filter(|row| drop(row).high <= max_drop)
        .collect();
    if shown.is_empty() {
        return unproven(fp32, quantized, max_drop, images);
    }
    // Faster beyond what the rounds scatter, or smaller.
    let gains = |row: &&Row| match target {
        Target::Size => row.bytes < fp32.bytes,
        Target::Latency | Target::Throughput => {
            row.speedup.is_some_and(|speedup| speedup.quartile_1 > 1.0)
        }
    };
    let gaining: Vec<&Row> = shown.iter().copied().filter(|row| gains(row)).collect();
    let key = |row: &Row| match target {
        Target::Size => row.bytes as f64,
        Target::Latency | Target::Throughput => time(row),
    };
    let Some(first) = gaining
        .iter()
        .copied()
        .min_by(|a, b| key(a).total_cmp(&key(b)))
    else {
        let nearest = shown[0];
        let reason = match target {
            Target::Size => format!("no file is smaller than its {} bytes", fp32.bytes),
            _ => format!(
                "no quantized model within {max_drop} points is faster here ({}: {:.2}× its speed)",
                nearest.name,
                nearest.speedup.map_or(1.0, |speedup| speedup.median),
            ),
        };
        return Verdict {
            ship: fp32.name.clone(),
            fits: true,
            sentence: format!("Keep FP32: {reason}."),
        };
    };
    let best = match target {
        Target::Size => first,
        _ => gaining
            .iter()
            .copied()
            .filter(|row| time(row) <= time(first) * (1.0 + EQUAL))
            .min_by_key(|row| row.bytes)
            .unwrap_or(first),
    };
    let lost = drop(best);
    Verdict {
        ship: best.name.clone(),
        fits: true,
        sentence: format!(
            "Ship {}: {:.2}× FP32's speed here and {:.2}× smaller, for {:+.2} points of accuracy (95 % interval {:+.2} to {:+.2} on {images} images that chose nothing; {max_drop} allowed).",
            best.name,
            best.speedup.map_or(1.0, |speedup| speedup.median),
            fp32.bytes as f64 / best.bytes as f64,
            -lost.value,
            -lost.high,
            -lost.low,
        ),
    }
}

/// Nothing is shown to fit: because it does not, or because too few images say so.
fn unproven(fp32: &Row, quantized: &[&Row], max_drop: f64, images: usize) -> Verdict {
    let drop = |row: &Row| row.verdict.as_ref().expect("measured").drop_points;
    let best = quantized
        .iter()
        .copied()
        .min_by(|a, b| drop(a).value.total_cmp(&drop(b).value));
    let sentence = match best {
        None => "Keep FP32: nothing that was tried comes near it on the images that choose.".into(),
        Some(best) if drop(best).value < max_drop => {
            let lost = drop(best);
            let half = (lost.high - lost.low) / 2.0;
            let more = needed(images, half, max_drop - lost.value.max(0.0));
            format!(
                "Keep FP32 for now: {} lost {:.2} points, but {images} images cannot tell {max_drop} (95 % interval up to {:.2}): give the verdict some {more}.",
                best.name, lost.value, lost.high,
            )
        }
        Some(best) => format!(
            "Keep FP32: the best quantized model, {}, loses {:.2} points (95 % interval {:.2} to {:.2}), {max_drop} are allowed.",
            best.name,
            drop(best).value,
            drop(best).low,
            drop(best).high,
        ),
    };
    Verdict {
        ship: fp32.name.clone(),
        fits: false,
        sentence,
    }
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
