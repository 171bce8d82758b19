//! Which runs belong together: those whose results were decided by the same, but for the seed.

use super::runs::Run;
use crate::digest::{FNV_START, fnv};
use crate::experiments::sweep::RunResults;
use crate::plural;
use lowbit::train::{ActivationQuantizer, QatConfig, WeightQuantizer};
use lowbit::{ActivationBits, WeightBits, WeightGrid};
use lowbit_data::SplitRule;
use std::collections::BTreeMap;

/// The runs of one sweep: the same model, data and recipe.
pub(crate) struct Series<'a> {
    /// What they share, for people.
    pub(crate) title: String,
    /// Runs by what belongs to quantization, widest first.
    pub(crate) groups: Vec<(Kind, Vec<&'a Run>)>,
}

impl Series<'_> {
    /// Whether its models were trained by clients.
    pub(crate) fn is_federated(&self) -> bool {
        let mut runs = self.groups.iter().flat_map(|(_, runs)| runs);
        runs.any(|run| run.results.clients().is_some())
    }

    /// How many runs it has.
    pub(crate) fn len(&self) -> usize {
        self.groups.iter().map(|(_, runs)| runs.len()).sum()
    }
}

/// The runs, sorted into sweeps, the one with the newest run first.
pub(crate) fn series(runs: &[Run]) -> Vec<Series<'_>> {
    let mut sorted: BTreeMap<BTreeMap<String, String>, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        sorted.entry(shared(&run.results)).or_default().push(run);
    }
    let mut all: Vec<Vec<&Run>> = sorted.into_values().collect();
    let newest = |runs: &[&Run]| runs.iter().map(|run| run.results.timestamp.clone()).max();
    all.sort_by_key(|runs| std::cmp::Reverse(newest(runs)));
    all.into_iter()
        .map(|runs| Series {
            title: title(&runs[0].results),
            groups: groups(&runs),
        })
        .collect()
}

/// What the runs of one sweep share.
fn shared(run: &RunResults) -> BTreeMap<String, String> {
    if let Some(decisive) = &run.decisive {
        return decisive.shared().pairs().clone();
    }
    // Older runs say less: what they say must be the same.
    let mut known = vec![
        ("model", run.model.clone()),
        ("data", run.data.clone()),
        ("rounds", run.num_rounds.to_string()),
        ("fraction_train", run.fraction_train.to_string()),
        ("local_epochs", run.local_epochs.to_string()),
        ("batch_size", run.batch_size.to_string()),
        ("lr", run.learning_rate.to_string()),
    ];
    if let Some(config) = &run.config {
        known.extend([
            ("source", config.images.data.clone()),
            ("limit", config.images.limit.to_string()),
            ("image_size", config.input.image_size.to_string()),
            ("resize", config.input.resize.to_string()),
            ("optimizer", config.training.optimizer.to_string()),
            ("schedule", config.training.schedule.to_string()),
            ("augment", config.training.augment.to_string()),
        ]);
    }
    let owned = known
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    owned.collect()
}

/// `mlp on photos, 80 + 20 images of 32×32×3, 5 epochs, batch 64, lr 0.001, adam, cosine`.
fn title(run: &RunResults) -> String {
    let or = |text: &str, unknown: &str| {
        if text.is_empty() {
            unknown.to_owned()
        } else {
            text.to_owned()
        }
    };
    let synthetic = if run.synthetic {
        " (synthetic data)"
    } else {
        ""
    };
    let mut parts = vec![format!(
        "{} on {}{synthetic}",
        or(&run.model, "a model"),
        or(&run.data, "unknown data")
    )];
    if let Some(images) = &run.images {
        let [h, w, c] = images.image_shape;
        parts.push(format!(
            "{} + {} images of {h}×{w}×{c}",
            images.train_images, images.test_images
        ));
    }
    if let Some(config) = &run.config
        && config.images.split != SplitRule::Auto
    {
        parts.push(format!("split {}", config.images.split));
    }
    if run.num_rounds > 0 {
        parts.push(match run.clients() {
            None => plural::of(run.num_rounds, "epoch"),
            Some(clients) => format!(
                "{} of {} on {clients} clients",
                plural::of(run.num_rounds, "round"),
                plural::of(run.local_epochs, "epoch"),
            ),
        });
        if run.clients().is_some() {
            let said = |key: &str| run.decisive.as_ref()?.get(key);
            parts.extend(federation_words(&said));
        }
    }
    if run.batch_size > 0 {
        parts.push(format!(
            "batch {}, lr {}",
            run.batch_size, run.learning_rate
        ));
    }
    if let Some(config) = &run.config {
        let training = &config.training;
        parts.push(format!("{}, {}", training.optimizer, training.schedule));
        let augment = training.augment.to_string();
        // A federation's words have it already.
        if augment != "none" && run.clients().is_none() {
            parts.push(augment);
        }
        let mut recipe = config.recipe.clone();
        if recipe.own_teacher() {
            // The rows that it taught say so.
            recipe.teacher = Default::default();
        }
        let recipe = crate::decisive::recipe(&recipe);
        parts.extend(
            recipe
                .into_iter()
                .map(|(key, value)| format!("{key} {value}")),
        );
    }
    parts.join(", ")
}

/// What tells one federation from another: its messages' bits up and down, how images are spread, and what is not usual.
pub(crate) fn federation_words<'a>(said: &dyn Fn(&str) -> Option<&'a str>) -> Vec<String> {
    let or_unknown = |key| said(key).unwrap_or("?");
    let [up, down] = ["up-bits", "down-bits"].map(or_unknown);
    let mut words = vec![
        format!("{up}/{down}"),
        named_partition(or_unknown("partition")),
    ];
    for (key, usual) in [
        ("strategy", "fedavg"),
        ("aggregator", "mean"),
        ("norm", "server"),
        ("fraction", "1"),
        ("dropout", "0"),
        ("faults", ""),
        ("augment", "none"),
    ] {
        if let Some(value) = said(key).filter(|&value| value != usual) {
            words.push(format!("{key} {value}"));
        }
    }
    words
}

/// How images are spread, in a few letters: a table of counts by a hash of it.
pub(crate) fn named_partition(text: &str) -> String {
    match text.strip_prefix("counts:") {
        Some(counts) => {
            let hash = fnv(FNV_START, counts.bytes());
            format!("table {:08x}", (hash ^ (hash >> 32)) as u32)
        }
        None => text.to_owned(),
    }
}

/// What makes a row of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kind {
    pub(crate) bits: u8,
    /// Bits of the first and the last layer.
    edges: u8,
    activations: ActivationBits,
    /// Where it is not the automatic choice.
    grid: Option<WeightGrid>,
    /// Where it is not the automatic choice.
    quantizer: Option<WeightQuantizer>,
    act_quantizer: Option<ActivationQuantizer>,
    ste: bool,
    frozen_epochs: usize,
    /// Widths that were trained before it, one beginning with the other's weights.
    wider: Option<String>,
    /// Whether the sweep's own 32-bit model taught it.
    taught: bool,
}

impl Kind {
    fn of(run: &RunResults) -> Self {
        let bits = run.bit_width;
        let plain = Self {
            bits,
            edges: bits.max(8),
            activations: ActivationBits::B8,
            grid: None,
            quantizer: None,
            act_quantizer: None,
            ste: true,
            frozen_epochs: 0,
            wider: None,
            taught: false,
        };
        // Of 32 bits, and of widths that are others', there is nothing more to say.
        let (Some(config), Ok(weights)) = (&run.config, WeightBits::try_from(bits)) else {
            return plain;
        };
        let asked = config.qat(weights);
        let automatic = QatConfig {
            quantizer: WeightQuantizer::Auto,
            activation_quantizer: ActivationQuantizer::Auto,
            ..asked
        };
        let (chosen, automatic) = (asked.chosen(), automatic.chosen());
        Self {
            edges: asked.edge_bits.max(asked.weight_bits).get(),
            activations: asked.activation_bits,
            grid: run.decisive.as_ref().and_then(|_| {
                let found = match said(run, "weight_grid") {
                    Some(_) => WeightGrid::MidRise,
                    None => WeightGrid::MidTread,
                };
                let usual = [weights, config.other_widths.edge_bits.max(weights)];
                let is_usual = usual.iter().all(|bits| bits.on(found) == *bits);
                (!is_usual).then_some(found)
            }),
            quantizer: Some(chosen.quantizer).filter(|&own| own != automatic.quantizer),
            act_quantizer: Some(chosen.activation_quantizer)
                .filter(|&own| own != automatic.activation_quantizer),
            ste: asked.ste,
            frozen_epochs: config.qat.freeze_bn_epochs,
            wider: said(run, "warm_start"),
            taught: said(run, "own_teacher").is_some(),
            ..plain
        }
    }

    /// Whether its runs began with a wider run's weights.
    pub(crate) fn is_warm_started(&self) -> bool {
        self.wider.is_some()
    }

    /// `8`, or `1 (edges 1, activations 4)`: the width, and what is not as it usually is.
    pub(crate) fn label(&self) -> String {
        let mut special = Vec::new();
        if self.edges != self.bits.max(8) {
            special.push(format!("edges {}", self.edges));
        }
        if self.activations != ActivationBits::B8 {
            special.push(match self.activations {
                ActivationBits::Float => "float activations".into(),
                bits => format!("activations {bits}"),
            });
        }
        if let Some(grid) = self.grid {
            special.push(grid.to_string());
        }
        if let Some(quantizer) = self.quantizer {
            special.push(format!("weights by {quantizer}"));
        }
        if let Some(quantizer) = self.act_quantizer {
            special.push(format!("activations by {quantizer}"));
        }
        if !self.ste {
            special.push("no STE".into());
        }
        if self.frozen_epochs > 0 {
            special.push(format!("{} frozen", self.frozen_epochs));
        }
        if let Some(wider) = &self.wider {
            special.push(match wider.split(", ").collect::<Vec<_>>()[..] {
                [first, .., last] => format!("after {first} to {last}"),
                _ => format!("after {wider}"),
            });
        }
        if self.taught {
            special.push("taught by 32".into());
        }
        if special.is_empty() {
            self.bits.to_string()
        } else {
            format!("{} ({})", self.bits, special.join(", "))
        }
    }
}

/// What a run's list of decisive settings says.
fn said(run: &RunResults, key: &str) -> Option<String> {
    let decisive = run.decisive.as_ref()?;
    decisive.get(key).map(str::to_owned)
}

/// The runs by kind, widest first.
fn groups<'a>(runs: &[&'a Run]) -> Vec<(Kind, Vec<&'a Run>)> {
    let mut groups: Vec<(Kind, Vec<&Run>)> = Vec::new();
    for &run in runs {
        let kind = Kind::of(&run.results);
        match groups.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, runs)) => runs.push(run),
            None => groups.push((kind, vec![run])),
        }
    }
    groups.sort_by_key(|(kind, _)| {
        std::cmp::Reverse((kind.bits, kind.edges, kind.activations.get()))
    });
    groups
}

#[cfg(test)]
mod tests;
