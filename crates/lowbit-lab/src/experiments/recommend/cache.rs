//! Quantized models that an earlier run has made, named by everything that decides them.

use super::candidates::{FineTuning, LEARNED, MIXED, trained};
use super::mixed::LayerOptions;
use super::{Candidate, Parts, Request, Row, candidates};
use crate::digest::{FNV_START, fnv, of_weights};
use crate::evaluate::images_digest;
use crate::experiments::artifacts::{CHECKPOINT, Held, make_folder, write_json};
use crate::experiments::unseen::Chosen;
use crate::machine::Machine;
use crate::training::{Plan, Trained};
use crate::{Config, LabError};
use lowbit::WeightBits;
use lowbit::format::{self, StoredModel, TrainingRecord};
use lowbit::quant::QuantizedModel;
use lowbit::quantize::{LayerBits, quantize};
use lowbit_kernels::Isa;
use lowbit_onnx::{Input as ExportInput, export_quantized};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Instant;

/// The folder of quantized models.
pub(super) struct Cache {
    folder: PathBuf,
    /// A hash of what all candidates of this run share: the model's bytes and weights, which may stand in other files, the
    /// calibration images, the preprocessing, and the version of lowbit.
    shared: u64,
    /// A hash of what else decides how long a layer takes.
    timed: u64,
    /// A hash of what else decides what a training comes to: its images, and its seed.
    learned: u64,
    resume: bool,
}

/// A hash of the images that trainings learn from and look at, and of their seed.
fn learned(start: u64, chosen: &Chosen, config: &Config) -> Result<u64, LabError> {
    let data = &chosen.input.data;
    let images = [
        images_digest(&data.train)?,
        images_digest(&data.validation)?,
        images_digest(&data.test)?,
    ];
    let said = format!("{images:?}, {}", config.run.seed);
    Ok(fnv(start, said.bytes()))
}

/// A quantized model, from this run or an earlier one.
pub(super) struct Made {
    pub(super) model: QuantizedModel,
    pub(super) bytes: u64,
    /// Seconds that it took to make.
    pub(super) seconds: f64,
}

/// What stands beside the file of a model.
#[derive(Serialize, Deserialize)]
struct Beside {
    seconds: f64,
}

impl Cache {
    pub(super) fn open(
        folder: &Held,
        request: &Request<'_>,
        chosen: &Chosen,
        config: &Config,
        parts: &Parts,
        isa: Isa,
    ) -> Result<Self, LabError> {
        let file = std::fs::read(request.file).map_err(|source| LabError::Io {
            path: request.file.to_owned(),
            source,
        })?;
        let said = [
            env!("CARGO_PKG_VERSION"),
            &config.onnx.preprocess,
            &chosen.input.data.class_names.join(", "),
        ];
        let mut digest = of_weights(fnv(FNV_START, file.into_iter()), &request.model.weights);
        for part in said {
            digest = fnv(
                digest,
                part.len().to_le_bytes().into_iter().chain(part.bytes()),
            );
        }
        digest = fnv(digest, parts.calibration.iter().copied());
        // What a number of bits means may change with the format: two of them were three values before version 7.
        digest = fnv(digest, format::FORMAT_VERSION.to_le_bytes().into_iter());
        let here = Machine::here(isa);
        let timed = format!(
            "{}, {}, {}, {}",
            here.host, here.cpu, here.isa, request.batch
        );
        let folder = folder.join("candidates");
        make_folder(&folder)?;
        Ok(Self {
            folder,
            shared: digest,
            timed: fnv(digest, timed.bytes()),
            learned: learned(digest, chosen, config)?,
            resume: request.resume,
        })
    }

    fn path(&self, candidate: &Candidate, extension: &str) -> PathBuf {
        let Some(training) = candidate.training else {
            return self.path_from(self.shared, candidate, extension);
        };
        let text = serde_json::to_string(&training).expect("settings are plain data");
        self.path_from(fnv(self.learned, text.bytes()), candidate, extension)
    }

    fn path_from(&self, start: u64, candidate: &Candidate, extension: &str) -> PathBuf {
        let config = serde_json::to_string(&candidate.config).expect("settings are plain data");
        let digest = fnv(start, config.bytes());
        self.folder.join(format!("{digest:016x}.{extension}"))
    }

    pub(super) fn has(&self, candidate: &Candidate) -> bool {
        // Written last.
        self.path(candidate, "json").is_file()
    }

    /// The model of a candidate that was made.
    pub(super) fn model(&self, candidate: &Candidate) -> Result<QuantizedModel, LabError> {
        let path = self.path(candidate, "safetensors");
        match format::load(&path)? {
            StoredModel::Quantized(model) => Ok(model),
            StoredModel::Float { .. } => Err(LabError::Mismatch(format!(
                "{}: is no quantized model: remove it",
                path.display()
            ))),
        }
    }

    /// Takes the model of an earlier run if it may, else makes it.
    pub(super) fn made(
        &self,
        candidate: &Candidate,
        request: &Request<'_>,
        parts: &Parts,
        isa: Isa,
    ) -> Result<Made, LabError> {
        if let Some(made) = self.resume.then(|| self.earlier(candidate)).flatten() {
            return Ok(made);
        }
        let begun = Instant::now();
        let model = request.model;
        let quantized = quantize(
            &model.graph,
            &model.weights,
            &candidate.config,
            &parts.calibration,
            isa,
        )?;
        let seconds = begun.elapsed().as_secs_f64();
        self.keep_made(candidate, quantized, model.record.as_ref(), seconds)
    }

    /// A candidate that an earlier run has made.
    fn earlier(&self, candidate: &Candidate) -> Option<Made> {
        let text = std::fs::read_to_string(self.path(candidate, "json")).ok()?;
        let Beside { seconds } = serde_json::from_str(&text).ok()?;
        let file = std::fs::metadata(self.path(candidate, "safetensors")).ok()?;
        Some(Made {
            model: self.model(candidate).ok()?,
            bytes: file.len(),
            seconds,
        })
    }

    fn keep_made(
        &self,
        candidate: &Candidate,
        model: QuantizedModel,
        record: Option<&TrainingRecord>,
        seconds: f64,
    ) -> Result<Made, LabError> {
        let path = self.path(candidate, "safetensors");
        let bytes = format::save_quantized(&path, &model, record)?;
        write_json(&self.path(candidate, "json"), &Beside { seconds })?;
        Ok(Made {
            model,
            bytes,
            seconds,
        })
    }

    /// Epochs that an earlier run with as many seconds for all trainings took for a width, if this one goes on there, or else
    /// those that `plan` finds.
    pub(super) fn epochs<E: From<LabError>>(
        &self,
        bits: WeightBits,
        seconds: f64,
        plan: impl FnOnce() -> Result<usize, E>,
    ) -> Result<usize, E> {
        let start = fnv(self.learned, seconds.to_le_bytes().into_iter());
        let path = self.path_from(start, &trained(bits, 0), "epochs.json");
        let earlier = || -> Option<usize> {
            serde_json::from_str(&std::fs::read_to_string(&path).ok()?).ok()
        };
        if let Some(epochs) = self.resume.then(earlier).flatten() {
            return Ok(epochs);
        }
        let epochs = plan()?;
        write_json(&path, &epochs)?;
        Ok(epochs)
    }

    /// Trains by `train` for what it tells, and keeps nothing.
    pub(super) fn probe(
        &self,
        candidate: &Candidate,
        train: impl FnOnce(&Plan<'_>) -> Result<Trained, LabError>,
    ) -> Result<Trained, LabError> {
        let folder = self.path(candidate, "probe");
        make_folder(&folder)?;
        let trained = train(&Plan {
            checkpoint: Some(&folder.join(CHECKPOINT)),
            ..Plan::default()
        });
        let _ = std::fs::remove_dir_all(&folder);
        trained
    }

    /// Takes the model that an earlier run has trained if it may, else trains it by `train`, from where an earlier run was
    /// stopped.
    pub(super) fn trained(
        &self,
        candidate: &Candidate,
        train: impl FnOnce(&Plan<'_>) -> Result<Trained, LabError>,
    ) -> Result<Made, LabError> {
        if let Some(made) = self.resume.then(|| self.earlier(candidate)).flatten() {
            return Ok(made);
        }
        let folder = self.path(candidate, "training");
        make_folder(&folder)?;
        let checkpoint = folder.join(CHECKPOINT);
        let plan = Plan {
            checkpoint: Some(&checkpoint),
            resume: self.resume,
            ..Plan::default()
        };
        let trained = train(&plan)?;
        let Some(model) = trained.quantized.clone() else {
            let reason = "training ended without an integer model".into();
            return Err(LabError::Unquantizable { reason });
        };
        let seconds = trained.train_seconds();
        let made = self.keep_made(candidate, model, trained.record.as_ref(), seconds)?;
        // Its end is in the candidate's own file.
        let _ = std::fs::remove_dir_all(&folder);
        Ok(made)
    }

    /// Puts a copy of a candidate's file where people look for it, and the model as ONNX beside it, where it has such a form.
    pub(super) fn keep(
        &self,
        candidate: &Candidate,
        folder: &Held,
        row: &mut Row,
    ) -> Result<(), LabError> {
        let from = self.path(candidate, "safetensors");
        let bytes = std::fs::read(&from).map_err(|source| LabError::Io { path: from, source })?;
        let name = candidate.slug();
        let file = format!("{name}.safetensors");
        format::write_atomically(&folder.join(&file), &bytes)?;
        row.file = Some(file);
        if let Ok(exported) = export_quantized(&self.model(candidate)?, ExportInput::default()) {
            let file = format!("{name}.onnx");
            exported.write(&folder.join(&file))?;
            row.onnx = Some(file);
        }
        Ok(())
    }

    /// Removes what an earlier run has left on its front, and its widths of layers where this one has `tried` none such.
    pub(super) fn forget_front<'a>(
        &self,
        folder: &Held,
        tried: impl Iterator<Item = &'a Candidate>,
    ) {
        let trainings = FineTuning::WIDTHS.map(|bits| trained(bits, 0));
        let names = candidates().into_iter().chain(trainings);
        let names = names.map(|candidate| candidate.slug());
        let mixed =
            MIXED.map(|group| Candidate::mixed(group, LayerBits::default(), LEARNED).slug());
        let kept: Vec<String> = tried.map(Candidate::slug).collect();
        let stale = mixed.iter().filter(|name| !kept.contains(name));
        let mut files: Vec<String> = stale.map(|name| format!("{name}.layers")).collect();
        for name in names.chain(mixed.iter().cloned()) {
            files.extend(["safetensors", "onnx"].map(|extension| format!("{name}.{extension}")));
        }
        for file in files {
            // What is not there need not go.
            let _ = std::fs::remove_file(folder.join(file));
        }
    }

    /// Layers that were measured with this base, on this machine, before, or else by `measure`.
    pub(super) fn layers(
        &self,
        base: &Candidate,
        measure: impl FnOnce() -> Result<Option<Vec<LayerOptions>>, LabError>,
    ) -> Result<Option<Vec<LayerOptions>>, LabError> {
        let path = self.path_from(self.timed, base, "layers.json");
        let earlier = || {
            let text = std::fs::read_to_string(&path).ok()?;
            let layers: Vec<LayerOptions> = serde_json::from_str(&text).ok()?;
            layers.iter().all(LayerOptions::is_whole).then_some(layers)
        };
        if let Some(layers) = self.resume.then(earlier).flatten() {
            return Ok(Some(layers));
        }
        let layers = measure()?;
        if let Some(layers) = &layers {
            write_json(&path, layers)?;
        }
        Ok(layers)
    }
}
