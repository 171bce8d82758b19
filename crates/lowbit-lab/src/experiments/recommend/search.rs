//! Trying candidates until the time is up, or nothing is left that could change the verdict.

use super::cache::{Cache, Made};
use super::candidates::MIXED_BEFORE;
use super::mixed::{LayerOptions, Measuring, Predicted, mixes};
use super::{Candidate, FOLDER, Origin, Parts, Request, Row, candidates, score};
use crate::evaluate::{Evaluation, evaluate};
use crate::experiments::inputs::Input;
use crate::{Config, Events, LabError};
use lowbit::Graph;
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit_kernels::Isa;
use std::path::PathBuf;

/// Share of the time that is kept for timing what was chosen.
const FOR_TIMING: f64 = 0.2;

/// Points beyond the allowed drop at which fewer bits are not tried.
const HOPELESS: f64 = 20.0;

/// A candidate that was tried.
pub(super) struct Tried {
    pub(super) row: Row,
    pub(super) candidate: Candidate,
}

/// What trying came to.
#[derive(Default)]
pub(super) struct Found {
    pub(super) tried: Vec<Tried>,
    /// What was not tried, and why.
    pub(super) skipped: Vec<String>,
    /// Why trying ended before there was nothing left to try.
    pub(super) ended: Option<String>,
}

/// What candidates are tried with.
pub(super) struct Search<'a> {
    pub(super) config: &'a Config,
    pub(super) request: &'a Request<'a>,
    pub(super) parts: &'a Parts,
    pub(super) cache: &'a Cache,
    /// All images of the data.
    pub(super) input: &'a Input,
    pub(super) float: &'a Evaluation,
    pub(super) fp32: &'a FloatModel,
    /// Images of a timed call.
    pub(super) timed: &'a [u8],
    pub(super) isa: Isa,
    pub(super) events: &'a dyn Events,
}

impl Search<'_> {
    /// Seconds until trying must end.
    fn left(&self) -> f64 {
        let all = self.request.time.as_secs_f64() * (1.0 - FOR_TIMING);
        all - self.request.begun.elapsed().as_secs_f64()
    }

    /// Tries the candidates in their order; what was not tried is said.
    pub(super) fn run(&self) -> Result<Found, LabError> {
        let mut found = Found::default();
        let mut fixed = candidates();
        let narrower = fixed.split_off(MIXED_BEFORE);
        for candidate in fixed {
            self.attempt(candidate, None, &mut found)?;
        }
        for (candidate, predicted) in self.mixed(&mut found)? {
            self.attempt(candidate, Some(predicted), &mut found)?;
        }
        for candidate in narrower {
            self.attempt(candidate, None, &mut found)?;
        }
        Ok(found)
    }

    /// Tries a candidate, if time allows and it may change the verdict.
    fn attempt(
        &self,
        candidate: Candidate,
        predicted: Option<Predicted>,
        found: &mut Found,
    ) -> Result<(), LabError> {
        let name = &candidate.name;
        let cached = self.request.resume && self.cache.has(&candidate);
        if let Some(reason) = is_hopeless(&candidate, &found.tried, self.request.max_drop) {
            found.skipped.push(format!("{name}: {reason}"));
            return Ok(());
        }
        if !cached && self.left() <= 0.0 {
            found.skipped.push(format!("{name}: the time was up"));
            found.ended = Some("the time was up".into());
            return Ok(());
        }
        let rounding = self.seconds_of_rounding(&candidate);
        if !cached && rounding > self.left() {
            let left = self.left();
            let reason = format!("{name}: takes some {rounding:.0} s, {left:.0} were left");
            found.skipped.push(reason);
            found.ended = Some("the time was too short for the rest".into());
            return Ok(());
        }
        let left = self.left().max(0.0);
        self.events.stage(&format!("{name} ({left:.0} s left)"));
        let row = self.one(&candidate, predicted)?;
        self.tell(&row);
        if let Some(predicted) = predicted {
            let off = row.bytes as f64 - predicted.bytes as f64;
            self.events.note(&format!(
                "{}: {} bytes, {off:+} against those predicted by its layers",
                row.name, row.bytes
            ));
        }
        found.tried.push(Tried { row, candidate });
        Ok(())
    }

    /// Says what a candidate came to.
    pub(super) fn tell(&self, row: &Row) {
        self.events.note(&format!(
            "{}: {:.2} % of {} images that choose, {:+.2} points, {:.1} s",
            row.name,
            row.choosing.accuracy_percent,
            row.choosing.images,
            (-row.choosing.drop_points).value,
            row.seconds
        ));
    }

    /// Models with mixed widths that are worth making, by what each layer loses, weighs and takes at each width.
    fn mixed(&self, found: &mut Found) -> Result<Vec<(Candidate, Predicted)>, LabError> {
        let is_base = |tried: &&Tried| {
            let config = &tried.candidate.config;
            tried.row.group == "W8A8" && config.passes.bias_correction
        };
        let Some(base) = found.tried.iter().find(is_base) else {
            return Ok(Vec::new());
        };
        let is_over = || self.left() <= 0.0;
        let model = self.cache.model(&base.candidate)?;
        let measuring = Measuring {
            weights: &self.request.model.weights,
            fp32: self.fp32,
            base: &model,
            calibration: &self.parts.calibration,
            timed: self.timed,
            isa: self.isa,
        };
        self.events.stage(&format!(
            "what each layer loses with fewer bits ({:.0} s left)",
            self.left().max(0.0)
        ));
        let measure = || match is_over() {
            true => Ok(None),
            false => measuring.layers(&is_over),
        };
        let Some(layers) = self.cache.layers(&base.candidate, measure)? else {
            found.skipped.push("mixed widths: the time was up".into());
            found.ended = Some("the time was up".into());
            return Ok(Vec::new());
        };
        if let Some(most) = layers.iter().max_by(|a, b| {
            let loss = |layer: &LayerOptions| layer.options.get(1).map_or(0.0, |o| o.divergence);
            loss(a).total_cmp(&loss(b))
        }) {
            self.events.note(&format!(
                "of {} layers, {} loses most with 4 bits",
                layers.len(),
                most.name
            ));
        }
        let mixes = mixes(&layers, base.row.bytes);
        if mixes.is_empty() {
            let reason = "mixed widths: no layer but the first and the last has weights";
            found.skipped.push(reason.into());
        }
        for (candidate, _) in &mixes {
            let path = self.layers_file(candidate);
            let lines = candidate.config.layer_bits.to_string().replace(',', "\n") + "\n";
            lowbit::format::write_atomically(&path, lines.as_bytes())?;
        }
        Ok(mixes)
    }

    /// Where the bits of a mixed candidate's layers stand for `--layer-bits @FILE`.
    fn layers_file(&self, candidate: &Candidate) -> PathBuf {
        let name = format!("{}.layers", candidate.slug());
        self.config.results.out.join(FOLDER).join(name)
    }

    /// What rounding takes that looks at what layers read, about.
    fn seconds_of_rounding(&self, candidate: &Candidate) -> f64 {
        let passes = candidate.config.passes;
        let graph = &self.request.model.graph;
        let work = match (passes.adaround, passes.gptq) {
            (Some(steps), _) => seconds_of_learning(graph, steps),
            (None, true) => seconds_of_compensation(graph),
            (None, false) => 0.0,
        };
        work / rayon::current_num_threads() as f64
    }

    fn one(&self, candidate: &Candidate, predicted: Option<Predicted>) -> Result<Row, LabError> {
        let made = self
            .cache
            .made(candidate, self.request, self.parts, self.isa)?;
        self.row(candidate, &made, predicted)
    }

    /// The row of a model, measured on the images that choose.
    pub(super) fn row(
        &self,
        candidate: &Candidate,
        made: &Made,
        predicted: Option<Predicted>,
    ) -> Result<Row, LabError> {
        let model = IntegerModel::compile(&made.model, self.isa)?;
        let evaluation = evaluate(&model, &self.parts.choosing)?;
        Ok(Row {
            name: candidate.name.clone(),
            group: candidate.group.to_owned(),
            bytes: made.bytes,
            seconds: made.seconds,
            choosing: score(self.float, &evaluation),
            verdict: None,
            latency_ms: None,
            speedup: None,
            memory_bytes: None,
            predicted,
            epochs: candidate.training.map(|training| training.epochs),
            on_front: false,
            file: None,
            onnx: None,
            command: self.command(candidate),
        })
    }

    /// The command that makes the same file.
    fn command(&self, candidate: &Candidate) -> String {
        let origin = Origin {
            file: self.request.file,
            choice: self.request.choice,
            config: self.config,
        };
        let layers = candidate.is_mixed().then(|| self.layers_file(candidate));
        origin.command(candidate, self.parts.calibration_images, layers.as_deref())
    }
}

/// What AdaRound takes on one thread: multiply-adds of 256 pixels per weight and step, forwards and backwards.
fn seconds_of_learning(graph: &Graph, steps: u32) -> f64 {
    const GMAC_PER_S: f64 = 6.0;
    let weights = graph.parameter_count() as f64;
    weights * 2.0 * 256.0 * f64::from(steps) * 1e-9 / GMAC_PER_S
}

/// What GPTQ takes on one thread: of each pair of a filter's taps, the products over 16,384 pixels in f32, and in f64 its part of
/// a factorization and of the compensation in each output channel, for each of ten ranges or so.
fn seconds_of_compensation(graph: &Graph) -> f64 {
    const GMAC_PER_S: [f64; 2] = [30.0, 3.0];
    let program = graph.program();
    let steps = program.as_ref().map_or(&[][..], |program| program.steps());
    let layers = steps.iter().filter_map(|step| step.weight_extents());
    let seconds = layers.map(|[out, kernel_h, kernel_w, channels]| {
        let taps = (kernel_h * kernel_w * channels) as f64;
        let alone = taps / 6.0 + 5.0 * out as f64;
        taps * taps * 1e-9 * (8192.0 / GMAC_PER_S[0] + alone / GMAC_PER_S[1])
    });
    seconds.sum()
}

/// Why fewer bits cannot change the verdict: more of them, rounded as well as can be, lost far more than is allowed.
fn is_hopeless(candidate: &Candidate, tried: &[Tried], max_drop: f64) -> Option<String> {
    if candidate.is_mixed() {
        return None;
    }
    let bits = candidate.config.weight_bits;
    let of = |tried: &Tried| tried.candidate.config.weight_bits;
    let wider = tried.iter().filter(|other| {
        let repaired = other.candidate.config.passes.bias_correction;
        of(other) > bits && repaired && !other.candidate.is_mixed()
    });
    let nearest = wider
        .filter(|other| other.candidate.learns() || bits.get() == 1)
        .min_by(|a, b| {
            let lost = |tried: &Tried| tried.row.choosing.drop_points.low;
            let order = of(a).cmp(&of(b));
            order.then(lost(a).total_cmp(&lost(b)))
        })?;
    let lost = nearest.row.choosing.drop_points.low;
    (lost > max_drop + HOPELESS)
        .then(|| format!("{} lost {lost:.0} points or more already", nearest.row.name))
}

#[cfg(test)]
mod tests {
    use super::{seconds_of_compensation, seconds_of_learning};
    use lowbit::Shape;
    use lowbit::graph::zoo;

    #[test]
    fn compensation_is_expected_to_take_seconds_where_learning_takes_longer() {
        let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
        let graph = zoo::build("eurosat-cnn", Shape::new(64, 64, 3), &classes).unwrap();
        // Taps: 75, 800, 576, 2400, 128, 128. The largest: 2400² · (8192 / 30 + (400 + 640) / 3) ns = 3.6 s.
        let seconds = seconds_of_compensation(&graph);
        assert!((3.6..4.3).contains(&seconds), "{seconds}");
        assert!(seconds < seconds_of_learning(&graph, 500));
    }
}
