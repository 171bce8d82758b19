//! What a federation comes to, and how it stands in `training_results.json`.

use super::measured::{Measured, PerClient};
use crate::LabError;
use crate::experiments::sweep::RunResults;
use lowbit::format;
use lowbit_fed::round::RoundSummary;
use lowbit_fed::screen::ClientFailure;
use lowbit_fed::wire::Parts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One round, as it stands in `results_per_round`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FederatedRound {
    /// From 1.
    pub round: u32,
    /// Mean of the clients' last local epoch, while the weights changed, weighted by images.
    pub train_loss: f64,
    /// The same for accuracy, 0–1.
    pub train_accuracy: f64,
    /// Of the global model as deployed; where clients keep their batch-norm, the mean over all clients' own models. NaN, in
    /// files null, where the model gives no numbers any more.
    #[serde(deserialize_with = "crate::records::number_or_nan")]
    pub test_loss: f64,
    /// The same for accuracy, 0–1.
    pub test_accuracy: f64,
    /// How the clients' own models differ on the test images; none where there is one model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_per_client: Option<PerClient>,
    /// Of the clients' own models on the images that they keep apart, 0–1; none where they keep none.
    pub local_test_accuracy: Option<f64>,
    /// From the clients, all counted.
    pub bytes_up: u64,
    /// To the clients, all counted.
    pub bytes_down: u64,
    /// The former by what they hold.
    pub up: Parts,
    /// The latter by what they hold.
    pub down: Parts,
    /// Part of `down` that went to clients who had missed rounds, this round's own message to them with it.
    pub catch_up: Parts,
    /// Clients whose updates count.
    pub clients: usize,
    /// The others.
    pub failures: Vec<ClientFailure>,
    /// Seconds in which clients trained.
    pub training_seconds: f64,
    /// Seconds of measuring the global model.
    pub evaluation_seconds: f64,
    /// Seconds of everything else: encoding, decoding, averaging, the checkpoint.
    pub other_seconds: f64,
}

/// `federation` of `training_results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FederationResults {
    /// Settings by their names on the command line.
    pub settings: BTreeMap<String, String>,
    /// Images per client (row) and class (column).
    pub labels_per_client: Vec<Vec<usize>>,
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// Bytes from the clients over the whole run.
    pub bytes_up: u64,
    /// Bytes to the clients over the whole run.
    pub bytes_down: u64,
    /// Both by what they hold.
    pub parts: Parts,
    /// Clients that did not count, over all rounds.
    pub failures: usize,
    /// Seconds of everything but clients' training and measuring the model, share of all.
    pub overhead: f64,
}

/// A federation, done.
#[derive(Clone, Debug)]
pub struct Federated {
    /// Its folder.
    pub folder: PathBuf,
    /// What any run comes to.
    pub results: RunResults,
    /// Round by round.
    pub rounds: Vec<FederatedRound>,
    /// What only a federation comes to.
    pub federation: FederationResults,
    /// Whether an earlier call had finished it.
    pub earlier: bool,
}

/// Seconds of everything but training and measuring, share of all.
pub(super) fn overhead(rounds: &[FederatedRound]) -> f64 {
    let sum = |of: fn(&FederatedRound) -> f64| rounds.iter().map(of).sum::<f64>();
    let other = sum(|round| round.other_seconds);
    let work = sum(|round| round.training_seconds) + sum(|round| round.evaluation_seconds);
    other / (other + work)
}

pub(super) fn record(
    summary: &RoundSummary,
    test: &Measured,
    (evaluation_seconds, local_test): (f64, f64),
) -> FederatedRound {
    FederatedRound {
        round: summary.round,
        train_loss: f64::from(summary.report.train_loss),
        train_accuracy: f64::from(summary.report.train_accuracy),
        test_loss: test.score.loss,
        test_accuracy: test.score.accuracy,
        test_per_client: test.per_client,
        local_test_accuracy: (local_test > 0.0)
            .then(|| f64::from(summary.report.local_test_accuracy)),
        bytes_up: summary.up.total(),
        bytes_down: summary.down.total(),
        up: summary.up,
        down: summary.down,
        catch_up: summary.catch_up,
        clients: summary.accepted.len(),
        failures: summary.failures.clone(),
        training_seconds: summary.training_seconds,
        evaluation_seconds,
        other_seconds: summary.other_seconds,
    }
}

/// `training_results.json`: any run's keys, with the federation's own rounds, and what only a federation has.
pub(super) fn write(
    path: &Path,
    results: &RunResults,
    rounds: &[FederatedRound],
    federation: &FederationResults,
) -> Result<(), LabError> {
    let value = value(results, rounds, federation);
    let json = serde_json::to_string_pretty(&value).expect("plain data");
    format::write_atomically(path, json.as_bytes())?;
    Ok(())
}

pub(super) fn value(
    results: &RunResults,
    rounds: &[FederatedRound],
    federation: &FederationResults,
) -> serde_json::Value {
    let mut value = serde_json::to_value(results).expect("plain data");
    value["results_per_round"] = serde_json::to_value(rounds).expect("plain data");
    value["federation"] = serde_json::to_value(federation).expect("plain data");
    value
}

/// A federation's results as they stand in its file.
#[must_use]
pub fn json(done: &Federated) -> serde_json::Value {
    value(&done.results, &done.rounds, &done.federation)
}

/// A federation's results, from its file; none if there is none, or it is another kind of run's.
#[must_use]
pub fn read(path: &Path) -> Option<Federated> {
    let bytes = std::fs::read(path).ok()?;
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let rounds = serde_json::from_value(value.get("results_per_round")?.clone()).ok()?;
    let federation = serde_json::from_value(value.get_mut("federation")?.take()).ok()?;
    Some(Federated {
        folder: path.parent()?.to_owned(),
        results: serde_json::from_value(value).ok()?,
        rounds,
        federation,
        earlier: true,
    })
}
