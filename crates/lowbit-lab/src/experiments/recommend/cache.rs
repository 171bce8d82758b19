//! Quantized models that an earlier run has made, named by everything that decides them.

use super::candidates::{LEARNED, MIXED};
use super::mixed::LayerOptions;
use super::{Candidate, Parts, Request, Row, candidates};
use crate::digest::{FNV_START, fnv, of_weights};
use crate::experiments::artifacts::{Held, make_folder, write_json};
use crate::experiments::unseen::Chosen;
use crate::machine::Machine;
use crate::{Config, LabError};
use lowbit::format::{self, StoredModel};
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
    resume: bool,
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
            resume: request.resume,
        })
    }

    fn path(&self, candidate: &Candidate, extension: &str) -> PathBuf {
        self.path_from(self.shared, candidate, extension)
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
        let [path, beside] =
            ["safetensors", "json"].map(|extension| self.path(candidate, extension));
        let earlier = || -> Option<Made> {
            let text = std::fs::read_to_string(&beside).ok()?;
            let Beside { seconds } = serde_json::from_str(&text).ok()?;
            Some(Made {
                model: self.model(candidate).ok()?,
                bytes: std::fs::metadata(&path).ok()?.len(),
                seconds,
            })
        };
        if let Some(made) = self.resume.then(earlier).flatten() {
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
        let bytes = format::save_quantized(&path, &quantized, model.record.as_ref())?;
        write_json(&beside, &Beside { seconds })?;
        Ok(Made {
            model: quantized,
            bytes,
            seconds,
        })
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
        let names = candidates().into_iter().map(|candidate| candidate.slug());
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
