//! Which model to ship: FP32, or one of the quantized ones that are tried, measured on images that chose nothing.

mod cache;
mod candidates;
mod command;
mod finetune;
mod float;
mod knapsack;
mod mixed;
mod page;
mod parts;
mod search;
#[cfg(test)]
mod tests;
mod verdict;

pub use candidates::{Candidate, FineTuning, candidates, trained};
pub use command::Origin;
pub use mixed::Predicted;
pub use page::{FRONT, HEADER};
pub use parts::{FEWEST, Parts, labelled_calibration, parts};
pub use verdict::{Verdict, decide, front, too_few};

use super::artifacts::{Held, write_json};
use super::inputs::FloatFile;
use super::unseen::{Choice, Chosen, Which};
use crate::evaluate::Evaluation;
use crate::machine::Machine;
use crate::memory::heap_of;
use crate::plural;
use crate::statistics::{Difference, Summary, paired_difference};
use crate::{Config, Events, LabError};
use cache::Cache;
use float::Float;
use lowbit::exec::{FloatModel, IntegerModel, Model, RuntimeError};
use lowbit_kernels::Isa;
use search::{Found, Search, Tried};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// What the model to ship should be best at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Time of one call.
    #[default]
    Latency,
    /// Images per second in large batches.
    Throughput,
    /// Bytes of the file.
    Size,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// The model's file.
    pub file: &'a Path,
    /// What it holds.
    pub model: &'a FloatFile,
    /// Which images were asked for by hand.
    pub choice: Choice,
    /// Points of accuracy that may be lost.
    pub max_drop: f64,
    /// When it was asked for.
    pub begun: Instant,
    /// How long trying may take, from then on.
    pub time: Duration,
    /// What counts.
    pub target: Target,
    /// Images of a timed call.
    pub batch: usize,
    /// How long quantization-aware fine-tuning may take besides; none for none.
    pub train: Option<Duration>,
    /// Whether candidates that an earlier run has measured are taken from it.
    pub resume: bool,
}

impl Request<'_> {
    /// Whether the time is up, `trained` seconds not counted.
    fn is_over(&self, trained: f64) -> bool {
        self.begun.elapsed().as_secs_f64() - trained > self.time.as_secs_f64()
    }
}

/// A model on one part of the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartScore {
    /// Images of the part.
    pub images: usize,
    /// Right ones, percent.
    pub accuracy_percent: f64,
    /// FP32's accuracy less this one's, in points, paired, with its 95 % interval.
    pub drop_points: Difference,
    /// Images whose predicted class is not FP32's.
    pub changed: usize,
}

/// One model of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Candidates of one group differ in their passes alone.
    pub group: String,
    /// The file's bytes.
    pub bytes: u64,
    /// Seconds that quantizing, or training, took.
    pub seconds: f64,
    /// On the images that choose.
    pub choosing: PartScore,
    /// On the images that chose nothing; none where it was not chosen.
    pub verdict: Option<PartScore>,
    /// Milliseconds per call; none where it was not chosen.
    pub latency_ms: Option<Summary>,
    /// FP32's time over its own, in rounds that take turns.
    pub speedup: Option<Summary>,
    /// The most bytes of heap at once from packing its weights to the answer of one call; none where it was not timed, or the
    /// program does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What its layers let expect, of mixed widths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Predicted>,
    /// Epochs of quantization-aware fine-tuning; none where it was quantized after training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Whether no other row is better in accuracy, speed (against FP32, in turns) and bytes at once.
    pub on_front: bool,
    /// Its file in the results folder, where it is on the front or ships.
    pub file: Option<String>,
    /// The same model as an ONNX file beside it, where it has a form in ONNX.
    pub onnx: Option<String>,
    /// The command that makes the file; empty of FP32.
    pub command: String,
}

/// Everything that `lowbit recommend` found: `recommendation.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Always `recommendation`.
    pub experiment: String,
    /// The model's file.
    pub model: String,
    /// The data.
    pub data: String,
    /// How pixels become an ONNX model's input, said or found; none of lowbit's own models.
    pub preprocess: Option<String>,
    /// What counts.
    pub target: Target,
    /// Points of accuracy that may be lost.
    pub max_drop_points: f64,
    /// Threads of the timed calls.
    pub threads: usize,
    /// Images of the timed calls.
    pub batch: usize,
    /// Images that set ranges, that choose, and that give the verdict.
    pub images: [usize; 3],
    /// Images that widths were trained on; none where none were to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_images: Option<usize>,
    /// What is known of measured images that the model may have learned from; empty where it has not.
    #[serde(default)]
    pub doubts: String,
    /// FP32 first, then what was tried, in that order.
    pub rows: Vec<Row>,
    /// What was not tried, and why.
    pub skipped: Vec<String>,
    /// Why trying came to its end.
    pub ended: String,
    /// What to ship.
    pub verdict: Verdict,
    /// Seconds of the whole run.
    pub seconds: f64,
    /// What it was measured on.
    pub machine: Machine,
}

impl Recommendation {
    /// What was called, what the images did, and what is known against them, in words.
    #[must_use]
    pub fn conditions(&self) -> String {
        let [calibration, choosing, verdict] = self.images;
        let trained = self
            .training_images
            .map_or_else(String::new, |count| format!("{count} images trained, "));
        format!(
            "calls of {} on {}; {trained}{calibration} images set ranges, {choosing} chose, {verdict} chose nothing{}",
            plural::of(self.batch, "image"),
            plural::of(self.threads, "thread"),
            self.doubts
        )
    }
}

/// Where things are written.
pub const FOLDER: &str = "recommend";
/// The name of FP32's row.
pub const FP32: &str = "FP32";

/// Runs the experiment and writes `recommendation.json`, `report.html` and the models of the front and the one to ship into the
/// folder `recommend` of the results.
///
/// # Errors
/// [`LabError`] saying what stopped it, and what to do.
pub fn recommend(
    config: &Config,
    request: &Request<'_>,
    chosen: &Chosen,
    isa: Isa,
    events: &dyn Events,
) -> Result<Recommendation, LabError> {
    let parts = parts(chosen, config, request.train.is_some(), request.max_drop)?;
    if request.train.is_some() && chosen.evaluated.images == Which::All {
        return Err(LabError::Mismatch(
            "--train with all images: it would learn from those that choose and judge".into(),
        ));
    }
    if let Some(line) = too_few(parts.verdict.len(), request.max_drop) {
        return Err(LabError::Mismatch(line));
    }
    let folder = Held::take(config.results.out.join(FOLDER))?;
    let FloatFile { graph, weights, .. } = request.model;
    let fp32 = FloatModel::compile(graph, weights, isa)?;
    let measured = Float::measure(&fp32, &parts, request)?;
    let compile = || FloatModel::compile(graph, weights, isa);
    let fp32_bytes = memory(compile, measured.timed())?;
    let cache = Cache::open(&folder, request, chosen, config, &parts, isa)?;
    let search = Search {
        config,
        request,
        parts: &parts,
        cache: &cache,
        input: &chosen.input,
        float: &measured.choosing,
        fp32: &fp32,
        timed: measured.timed(),
        isa,
        events,
    };
    let mut found = search.run()?;
    let training_seconds = match request.train {
        Some(time) => search.fine_tune(time, &mut found)?,
        None => 0.0,
    };
    let Found {
        tried,
        mut skipped,
        mut ended,
    } = found;
    let mut rows = vec![measured.row(request)];
    rows[0].memory_bytes = fp32_bytes;
    let kept = finalists(&tried, request);
    let mut made_by = vec![None];
    for Tried { row, candidate } in tried {
        rows.push(row);
        made_by.push(Some(candidate));
    }
    let mut float_times = Vec::new();
    events.stage("timing");
    for number in kept {
        let (row, candidate) = (&mut rows[number + 1], made_by[number + 1].as_ref());
        // What was trained has had a time of its own.
        let is_due = float_times.is_empty() || row.epochs.is_some();
        let in_time = |_: &&Candidate| is_due || !request.is_over(training_seconds);
        let Some(candidate) = candidate.filter(in_time) else {
            skipped.push(format!(
                "{}: tried, but the time was up before it was timed",
                row.name
            ));
            ended = Some("the time was up".into());
            continue;
        };
        let stored = cache.model(candidate)?;
        row.memory_bytes = memory(|| IntegerModel::compile(&stored, isa), measured.timed())?;
        let model = IntegerModel::compile(&stored, isa)?;
        float_times.push(measured.complete(row, &model, &parts)?);
        if let (Some(part), Some(speedup)) = (&row.verdict, row.speedup) {
            events.note(&format!(
                "{}: {:.2} % of {} images that chose nothing, {:.2}× FP32's speed",
                row.name, part.accuracy_percent, part.images, speedup.median
            ));
        }
    }
    float_times.sort_by(|a, b| a.median.total_cmp(&b.median));
    rows[0].latency_ms = float_times.get(float_times.len() / 2).copied();
    let complete = |row: &&Row| row.verdict.is_some();
    let finalists: Vec<&Row> = rows.iter().filter(complete).collect();
    let on_front = front(&finalists);
    let verdict = decide(
        &finalists,
        request.target,
        request.max_drop,
        parts.verdict.len(),
    );
    for (row, on_front) in rows
        .iter_mut()
        .filter(|row| row.verdict.is_some())
        .zip(on_front)
    {
        row.on_front = on_front;
    }
    cache.forget_front(&folder, made_by.iter().flatten());
    for (row, candidate) in rows.iter_mut().zip(&made_by) {
        if let Some(candidate) = candidate.as_ref().filter(|_| is_kept(row, &verdict)) {
            cache.keep(candidate, &folder, row)?;
        }
    }
    let data = &chosen.input.data;
    let found = Recommendation {
        experiment: "recommendation".into(),
        model: request.file.display().to_string(),
        data: data.name.clone(),
        preprocess: Some(config.onnx.preprocess.clone()).filter(|name| !name.is_empty()),
        target: request.target,
        max_drop_points: request.max_drop,
        threads: rayon::current_num_threads(),
        // A call takes no more images than there are.
        batch: request.batch.min(parts.verdict.len()),
        images: [
            parts.calibration_images,
            parts.choosing.len(),
            parts.verdict.len(),
        ],
        training_images: request.train.map(|_| data.train.len()),
        doubts: chosen.evaluated.doubts(),
        rows,
        skipped,
        ended: ended.unwrap_or_else(|| "nothing was left to try".into()),
        verdict,
        seconds: request.begun.elapsed().as_secs_f64(),
        machine: Machine::here(isa),
    };
    write_json(&folder.join("recommendation.json"), &found)?;
    let page = page::page(&found);
    lowbit::format::write_atomically(&folder.join("report.html"), page.as_bytes())?;
    Ok(found)
}

/// What a model takes of the heap from being made to the answer of one call.
fn memory<M: Model>(
    compile: impl FnOnce() -> Result<M, RuntimeError>,
    images: &[u8],
) -> Result<Option<u64>, LabError> {
    let (ran, bytes) = heap_of(|| {
        let model = compile()?;
        let mut logits = vec![0.0; model.count(images) * model.graph().classes()];
        model.run(images, &mut logits)
    });
    ran?;
    Ok(bytes)
}

/// Whether a row's files go into the results folder: who chose may ship what the images that chose nothing put behind another.
fn is_kept(row: &Row, verdict: &Verdict) -> bool {
    row.on_front || row.name == verdict.ship
}

/// What a model says about a part, beside FP32.
fn score(fp32: &Evaluation, other: &Evaluation) -> PartScore {
    PartScore {
        images: other.correct.len(),
        accuracy_percent: 100.0 * other.accuracy(),
        drop_points: paired_difference(&fp32.correct, &other.correct).in_percent(),
        changed: fp32.changed(other),
    }
}

/// The best of each group, in the order in which they are timed: first those that may fit, where size counts the smallest.
fn finalists(tried: &[Tried], request: &Request<'_>) -> Vec<usize> {
    let mut kept = best_of_groups(tried, request.max_drop);
    kept.sort_by_key(|&number| {
        let row = &tried[number].row;
        let bytes = match request.target {
            Target::Size => row.bytes,
            Target::Latency | Target::Throughput => 0,
        };
        (row.choosing.drop_points.high > request.max_drop, bytes)
    });
    kept
}

/// The numbers of the candidates that are measured to the end: the best of each group, where it lost no more than allowed or
/// images may say so; and the best of all in any case.
fn best_of_groups(tried: &[Tried], max_drop: f64) -> Vec<usize> {
    let drop = |number: &usize| tried[*number].row.choosing.drop_points;
    let mut kept = Vec::new();
    for (number, one) in tried.iter().enumerate() {
        let group: Vec<usize> = (0..tried.len())
            .filter(|&other| tried[other].row.group == one.row.group)
            .collect();
        // The first of equals: it took less.
        let best = group
            .iter()
            .min_by(|a, b| drop(a).value.total_cmp(&drop(b).value));
        if best == Some(&number) && drop(&number).low <= max_drop {
            kept.push(number);
        }
    }
    if kept.is_empty() {
        let all: Vec<usize> = (0..tried.len()).collect();
        kept.extend(
            all.iter()
                .min_by(|a, b| drop(a).value.total_cmp(&drop(b).value)),
        );
    }
    kept
}
