//! Trying candidates until the time is up, or nothing is left that could change the verdict.

use super::cache::Cache;
use super::{Candidate, Parts, Request, Row, candidates, score};
use crate::evaluate::{Evaluation, evaluate};
use crate::{Config, Events, LabError};
use lowbit::exec::IntegerModel;
use lowbit_kernels::Isa;

/// Share of the time that is kept for timing what was chosen.
const FOR_TIMING: f64 = 0.2;

/// Points beyond the allowed drop at which fewer bits are not tried.
const HOPELESS: f64 = 20.0;

/// A candidate that was tried.
pub(super) struct Tried {
    pub(super) row: Row,
    /// Its number among all candidates.
    pub(super) at: usize,
}

/// What candidates are tried with.
pub(super) struct Search<'a> {
    pub(super) config: &'a Config,
    pub(super) request: &'a Request<'a>,
    pub(super) parts: &'a Parts,
    pub(super) cache: &'a Cache,
    pub(super) float: &'a Evaluation,
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
    pub(super) fn run(&self) -> Result<(Vec<Tried>, Vec<String>, String), LabError> {
        let mut tried: Vec<Tried> = Vec::new();
        let mut skipped = Vec::new();
        let mut ended = "nothing was left to try".to_owned();
        for (at, candidate) in candidates().iter().enumerate() {
            let cached = self.request.resume && self.cache.has(candidate);
            if let Some(reason) = self.is_hopeless(candidate, &tried) {
                skipped.push(format!("{}: {reason}", candidate.name));
                continue;
            }
            if !cached && self.left() <= 0.0 {
                skipped.push(format!("{}: the time was up", candidate.name));
                ended = "the time was up".into();
                continue;
            }
            let learning = self.seconds_of_learning(candidate);
            if !cached && learning > self.left() {
                skipped.push(format!(
                    "{}: takes some {learning:.0} s, {:.0} were left",
                    candidate.name,
                    self.left()
                ));
                ended = "the time was too short for the rest".into();
                continue;
            }
            self.events.stage(&format!(
                "{} ({:.0} s left)",
                candidate.name,
                self.left().max(0.0)
            ));
            let row = self.one(candidate)?;
            self.events.note(&format!(
                "{}: {:.2} % of {} images that choose, {:+.2} points, {:.1} s",
                row.name,
                row.choosing.accuracy_percent,
                row.choosing.images,
                -row.choosing.drop_points.value,
                row.seconds
            ));
            tried.push(Tried { row, at });
        }
        Ok((tried, skipped, ended))
    }

    /// Why fewer bits cannot change the verdict: more of them, rounded as well as can be, lost far more than is allowed.
    fn is_hopeless(&self, candidate: &Candidate, tried: &[Tried]) -> Option<String> {
        let bits = candidate.config.weight_bits;
        let all = candidates();
        let wider = tried.iter().filter(|other| {
            let config = &all[other.at].config;
            config.weight_bits > bits && config.passes.bias_correction
        });
        let nearest = wider
            .filter(|other| all[other.at].learns() || bits.get() == 1)
            .min_by(|a, b| {
                let bits = |tried: &Tried| all[tried.at].config.weight_bits;
                let lost = |tried: &Tried| tried.row.choosing.drop_points.low;
                let order = bits(a).cmp(&bits(b));
                order.then(lost(a).total_cmp(&lost(b)))
            })?;
        let lost = nearest.row.choosing.drop_points.low;
        (lost > self.request.max_drop + HOPELESS)
            .then(|| format!("{} lost {lost:.0} points or more already", nearest.row.name))
    }

    /// What learning its rounding takes, about: multiply-adds of 256 pixels per weight and step, forwards and backwards.
    fn seconds_of_learning(&self, candidate: &Candidate) -> f64 {
        const GMAC_PER_S_AND_THREAD: f64 = 6.0;
        let Some(steps) = candidate.config.passes.adaround else {
            return 0.0;
        };
        let weights = self.request.model.graph.parameter_count() as f64;
        let work = weights * 2.0 * 256.0 * f64::from(steps) * 1e-9;
        work / GMAC_PER_S_AND_THREAD / rayon::current_num_threads() as f64
    }

    fn one(&self, candidate: &Candidate) -> Result<Row, LabError> {
        let made = self
            .cache
            .made(candidate, self.request, self.parts, self.isa)?;
        let model = IntegerModel::compile(&made.model, self.isa)?;
        let evaluation = evaluate(&model, &self.parts.choosing);
        Ok(Row {
            name: candidate.name.clone(),
            group: candidate.group.to_owned(),
            bytes: made.bytes,
            seconds: made.seconds,
            choosing: score(self.float, &evaluation),
            verdict: None,
            latency_ms: None,
            speedup: None,
            on_front: false,
            file: None,
            onnx: None,
            command: self.command(candidate),
        })
    }

    /// The command that makes the same file.
    fn command(&self, candidate: &Candidate) -> String {
        let config = self.config;
        let mut command = format!(
            "lowbit quantize {} --data {} {}",
            quoted(&self.request.file.display().to_string()),
            quoted(&config.images.data),
            candidate.flags()
        );
        for (flag, value, default) in [
            ("preprocess", config.onnx.preprocess.clone(), String::new()),
            (
                "labels",
                config.onnx.labels.display().to_string(),
                String::new(),
            ),
            (
                "data-dir",
                config.images.data_dir.display().to_string(),
                "data".into(),
            ),
            ("seed", config.run.seed.to_string(), "1".into()),
            (
                "image-size",
                config.input.image_size.to_string(),
                "0".into(),
            ),
            ("resize", config.input.resize.to_string(), "stretch".into()),
            ("limit", config.images.limit.to_string(), "0".into()),
            (
                "calibration-images",
                self.parts.calibration_images.to_string(),
                "512".into(),
            ),
        ] {
            if value != default {
                command += &format!(" --{flag} {}", quoted(&value));
            }
        }
        if config.input.exif {
            command += " --exif";
        }
        if self.request.choice.all {
            command += " --all";
        }
        if let Some(seed) = self.request.choice.split_seed {
            command += &format!(" --split-seed {seed}");
        }
        command
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,+~".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_with_blanks_are_one_word_to_a_shell() {
        assert_eq!(quoted("a/b-1.onnx"), "a/b-1.onnx");
        assert_eq!(quoted("my model's"), r"'my model'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
