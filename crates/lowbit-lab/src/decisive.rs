//! The settings that decide what a training ends with: one list for checkpoints, sweeps and run folders.
//!
//! Two trainings with equal lists end with the same bits. What is not in the list (threads, folders, the data set's name and
//! place, how a model is quantized afterwards) does not change a trained model.

use crate::Config;
use crate::config::areas::Recipe;
use crate::digest::{FNV_START, fnv};
use crate::experiments::inputs::Input;
use lowbit::graph::zoo;
use lowbit::train::{Optimizer, QatConfig};
use lowbit::{Graph, WeightGrid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The names, in the order in which a difference is told.
const KEYS: [&str; 37] = [
    "model",
    "graph",
    "classes",
    "input",
    "split",
    "data",
    "validation",
    "seed",
    "epochs",
    "batch_size",
    "lr",
    "optimizer",
    "schedule",
    "augment",
    "weight_decay",
    "label_smoothing",
    "clip_norm",
    "warmup_epochs",
    "mixup",
    "cutmix",
    "ema",
    "bn_reestimation",
    "teacher",
    "distillation",
    "start",
    "warm_start",
    "warm_weights",
    "own_teacher",
    "teacher_weights",
    "bits",
    "edge_bits",
    "weight_grid",
    "act_bits",
    "quantizer",
    "act_quantizer",
    "ste",
    "freeze_bn_epochs",
];

/// Name of the weights that nobody has trained.
const FRESH: &str = "scratch";

/// Those that belong to quantization-aware training: they make a row of a sweep, the others a sweep.
const QUANTIZATION: [&str; 11] = [
    // What a sweep's wider runs give its narrower ones.
    "warm_start",
    "own_teacher",
    // All of them in one, in the list of a federation.
    "quantizers",
    "bits",
    "edge_bits",
    "weight_grid",
    "act_bits",
    "quantizer",
    "act_quantizer",
    "ste",
    "freeze_bn_epochs",
];

/// Those that differ from seed to seed: they make neither a row nor a sweep.
const OF_SEED: [&str; 3] = ["seed", "warm_weights", "teacher_weights"];

/// Everything that decides what a training ends with, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decisive(BTreeMap<String, String>);

/// A setting that two trainings do not share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Its name.
    pub key: String,
    /// Its value there; none where it was not written down.
    pub found: Option<String>,
    /// Its value here.
    pub expected: String,
}

/// How a training is quantized, and for how many last epochs its statistics stand still.
#[derive(Clone, Copy, Debug)]
pub struct Quantized {
    /// Quantization-aware training.
    pub qat: QatConfig,
    /// Last epochs with frozen statistics.
    pub frozen_epochs: usize,
}

/// What an experiment's own trainings gave to this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Widths of those whose weights came before, widest first; the last one's were begun with.
    pub wider: Vec<u8>,
    /// Name of the weights that the widest of them began with; none for fresh ones.
    pub first: Option<String>,
    /// Whether the teacher is the experiment's own FP32 model.
    pub taught: bool,
}

impl Decisive {
    /// Lists what decides the training of `graph` on `input`. `start` names the weights that it begins with, if they are not
    /// fresh ones; automatic choices are made, so that they equal the same choices made by hand.
    #[must_use]
    pub fn of(
        config: &Config,
        input: &Input,
        graph: &Graph,
        quantized: Option<Quantized>,
        start: Option<&str>,
    ) -> Self {
        let training = &config.training;
        let mut list = vec![
            ("model", graph.name().to_owned()),
            ("classes", graph.class_names().join(", ")),
            ("input", graph.input().to_string()),
            ("split", input.data.split.clone()),
            ("data", input.identity.fingerprint.clone()),
            ("seed", config.run.seed.to_string()),
            ("epochs", training.epochs.to_string()),
            ("batch_size", training.batch_size.to_string()),
            ("lr", training.lr.to_string()),
            ("optimizer", optimizer(training.optimizer)),
            ("schedule", training.schedule.to_string()),
            ("augment", training.augment.to_string()),
            ("start", start.unwrap_or(FRESH).to_owned()),
        ];
        if let Some(fingerprint) = &input.identity.validation {
            // They choose the epoch.
            list.push(("validation", fingerprint.clone()));
        }
        // What a network of the zoo is, its name says.
        if !is_of_zoo(graph) {
            let description = serde_json::to_vec(graph).expect("graphs are plain data");
            let digest = fnv(FNV_START, description.into_iter());
            list.push(("graph", format!("{digest:016x}")));
        }
        // Those that are off are left out: trainings of versions that had none of them keep their names.
        list.extend(recipe(&config.recipe));
        match quantized {
            None => list.push(("bits", "32".into())),
            Some(Quantized { qat, frozen_epochs }) => {
                let qat = qat.chosen();
                list.extend([
                    ("bits", qat.weight_bits.to_string()),
                    ("edge_bits", qat.edge_bits.max(qat.weight_bits).to_string()),
                    ("act_bits", qat.activation_bits.to_string()),
                    ("quantizer", qat.quantizer.to_string()),
                    ("act_quantizer", qat.activation_quantizer.to_string()),
                    ("ste", qat.ste.to_string()),
                    ("freeze_bn_epochs", frozen_epochs.to_string()),
                ]);
                let edges = qat.edge_bits.max(qat.weight_bits);
                if qat.weight_bits.is_odd() || edges.is_odd() {
                    list.push(("weight_grid", WeightGrid::MidRise.to_string()));
                }
            }
        }
        Self::from_pairs(list)
    }

    /// Gives what came from the experiment's own trainings names of its own: which widths and how they taught is a row's, their
    /// weights are a seed's, and what the widest began with is the whole experiment's.
    #[must_use]
    pub fn inherited(mut self, inherited: &Inherited) -> Self {
        let mut rename = |from: &str, to: &str| {
            if let Some(value) = self.0.remove(from) {
                self.0.insert(to.to_owned(), value);
            }
        };
        if inherited.taught {
            rename("teacher", "teacher_weights");
            rename("distillation", "own_teacher");
        }
        if !inherited.wider.is_empty() {
            rename("start", "warm_weights");
            let first = inherited.first.as_deref().unwrap_or(FRESH);
            self.0.insert("start".into(), first.to_owned());
            let list: Vec<String> = inherited.wider.iter().map(u8::to_string).collect();
            self.0.insert("warm_start".into(), list.join(", "));
        }
        self
    }

    fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let owned = pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        Self(owned.collect())
    }

    /// Takes the list of another kind of experiment, which names its settings itself.
    #[must_use]
    pub fn of_named(list: BTreeMap<String, String>) -> Self {
        Self(list)
    }

    /// Picks the list out of a checkpoint's metadata.
    #[must_use]
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Self {
        let known = KEYS
            .iter()
            .filter_map(|&key| Some((key, metadata.get(key)?.clone())));
        Self::from_pairs(known)
    }

    /// All names and values.
    #[must_use]
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The value of a setting.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Finds the first setting, in the order of the list, that `found` does not share.
    #[must_use]
    pub fn first_difference(&self, found: &Self) -> Option<Mismatch> {
        let key = KEYS.iter().find(|&&key| self.get(key) != found.get(key))?;
        Some(Mismatch {
            key: (*key).to_owned(),
            found: found.get(key).map(str::to_owned),
            expected: self.get(key).unwrap_or("none").to_owned(),
        })
    }

    /// The name of the folder of such a run: 64 bits of a hash of the list (FNV-1a), and the seed for people.
    #[must_use]
    pub fn folder(&self) -> String {
        let mut digest = FNV_START;
        for (key, value) in &self.0 {
            // Lengths first, so that no two lists give the same bytes.
            let lengths = [key.len() as u64, value.len() as u64].map(u64::to_le_bytes);
            digest = fnv(digest, lengths.concat().into_iter());
            digest = fnv(digest, key.bytes().chain(value.bytes()));
        }
        format!("run_{digest:016x}_seed{}", self.get("seed").unwrap_or("0"))
    }

    /// What the runs of one sweep share: all but the seed and what belongs to quantization.
    #[must_use]
    pub fn shared(&self) -> Self {
        self.filtered(|key| !OF_SEED.contains(&key) && !QUANTIZATION.contains(&key))
    }

    /// What makes a row of a sweep: what belongs to quantization.
    #[must_use]
    pub fn row(&self) -> Self {
        self.filtered(|key| QUANTIZATION.contains(&key))
    }

    fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        let kept = self.0.iter().filter(|(key, _)| keep(key));
        Self(
            kept.map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        )
    }
}

/// Whether a graph is the zoo's network of its name.
fn is_of_zoo(graph: &Graph) -> bool {
    let known = zoo::build(graph.name(), graph.input(), graph.class_names());
    known.is_ok_and(|known| known == *graph)
}

/// Lists what of a recipe is not off, by name.
#[must_use]
pub fn recipe(recipe: &Recipe) -> Vec<(&'static str, String)> {
    // All fields by name: a new one must be listed.
    let Recipe {
        weight_decay,
        label_smoothing,
        clip_norm,
        warmup_epochs,
        mixup,
        cutmix,
        ema,
        bn_reestimation,
        // It is `start`.
        start_from: _,
        teacher,
        teacher_weight,
        temperature,
    } = recipe;
    let numbers = [
        ("weight_decay", *weight_decay),
        ("label_smoothing", *label_smoothing),
        ("clip_norm", *clip_norm),
        ("mixup", *mixup),
        ("cutmix", *cutmix),
        ("ema", *ema),
    ];
    let mut list: Vec<_> = numbers
        .into_iter()
        .filter(|(_, value)| *value > 0.0)
        .map(|(key, value)| (key, value.to_string()))
        .collect();
    if *warmup_epochs > 0 {
        list.push(("warmup_epochs", warmup_epochs.to_string()));
    }
    if *bn_reestimation > 0 {
        list.push(("bn_reestimation", bn_reestimation.to_string()));
    }
    if !teacher.as_os_str().is_empty() {
        // What it is, and not what it is called; one that cannot be read is refused where training begins.
        let bytes = std::fs::read(teacher).unwrap_or_default();
        let digest = fnv(FNV_START, bytes.into_iter());
        list.push(("teacher", format!("{digest:016x}")));
        let how = format!("weight {teacher_weight}, temperature {temperature}");
        list.push(("distillation", how));
    }
    list
}

/// Its name; all its numbers where they are not those that the name stands for.
fn optimizer(optimizer: Optimizer) -> String {
    let name = optimizer.to_string();
    if name.parse() == Ok(optimizer) {
        return name;
    }
    serde_json::to_string(&optimizer).expect("an optimizer is plain data")
}

#[cfg(test)]
mod tests;
