//! What decides a federation's result, and the name that its folder has of it.

use super::{FederateConfig, qat};
use crate::Config;
use crate::digest::{FNV_START, fnv};
use crate::experiments::inputs::Input;
use lowbit_data::Partition;
use lowbit_fed::Norm;
use std::collections::BTreeMap;

/// All settings that decide the result, by name.
pub(super) fn identity(
    config: &Config,
    federate: &FederateConfig,
    input: &Input,
) -> BTreeMap<String, String> {
    let FederateConfig {
        rounds,
        local_epochs,
        bits,
        partition,
        local_test,
        settings,
        resume: _,
    } = federate;
    let qat = qat(config, *bits).map_or("none".to_owned(), |qat| {
        serde_json::to_string(&qat.chosen()).expect("plain data")
    });
    let deadline = settings
        .deadline
        .map_or("none".to_owned(), |seconds| format!("{seconds}s"));
    let augment = config.training.augment.to_string();
    let faults: Vec<String> = settings
        .faults
        .iter()
        .map(|fault| format!("{fault:?}"))
        .collect();
    [
        ("model", config.network.model.clone()),
        // What the images are, and not what they are called.
        ("data", input.identity.fingerprint.clone()),
        ("batch-size", config.training.batch_size.to_string()),
        ("lr", config.training.lr.to_string()),
        ("optimizer", config.training.optimizer.to_string()),
        ("schedule", config.training.schedule.to_string()),
        ("seed", config.run.seed.to_string()),
        ("bits", bits.to_string()),
        ("quantizers", qat),
        ("rounds", rounds.to_string()),
        ("local-epochs", local_epochs.to_string()),
        ("partition", partition.to_string()),
        ("clients", settings.clients.to_string()),
        ("fraction", settings.fraction.to_string()),
        ("up-bits", settings.up.bits.to_string()),
        ("down-bits", settings.down.bits.to_string()),
        (
            "feedback",
            format!(
                "{} up, {} down",
                settings.up.feedback, settings.down.feedback
            ),
        ),
        (
            "rotate",
            format!("{} up, {} down", settings.up.rotate, settings.down.rotate),
        ),
        ("strategy", settings.strategy.to_string()),
        ("aggregator", settings.aggregator.to_string()),
        ("dropout", settings.dropout.to_string()),
        ("deadline", deadline),
        ("min-clients", settings.min_clients.to_string()),
        ("faults", faults.join(", ")),
    ]
    .into_iter()
    // Runs of versions that could not say these keep their names.
    .chain((augment != "none").then_some(("augment", augment)))
    .chain((settings.norm != Norm::Server).then(|| ("norm", settings.norm.to_string())))
    .chain((*local_test != Partition::HELD).then(|| ("local-test", local_test.to_string())))
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Eight digits for a set of settings (FNV-1a).
pub(super) fn name(identity: &BTreeMap<String, String>) -> String {
    let text = identity
        .iter()
        .flat_map(|(key, value)| [key.as_str(), "=", value, "\n"]);
    let hash = fnv(FNV_START, text.flat_map(str::bytes));
    format!("{:08x}", (hash ^ (hash >> 32)) as u32)
}
