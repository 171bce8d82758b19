//! A federation in one process: clients train on their own images, a server averages, every byte between them is counted.

mod remote;

pub use remote::{Client, ClientState, Server};

use super::inputs::Input;
use super::sweep::{CompressionMetrics, RunResults};
use crate::decisive::Decisive;
use crate::evaluate::{Evaluation, evaluate};
use crate::machine::Machine;
use crate::{Config, LabError};
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit::format;
use lowbit::quant::QuantizedModel;
use lowbit::train::{QatConfig, Trainer};
use lowbit::{Graph, Weights};
use lowbit_data::{ClientImages, Dataset, Partition, labels_per_client};
use lowbit_fed::client::{LocalTraining, Shard};
use lowbit_fed::round::{FedEvents, RoundSummary};
use lowbit_fed::screen::ClientFailure;
use lowbit_fed::server::Start;
use lowbit_fed::wire::Parts;
use lowbit_fed::{FedError, Federation, Schema, Settings, checkpoint};
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a federation is, beyond the settings of any training.
#[derive(Clone, Debug, PartialEq)]
pub struct FederateConfig {
    /// Rounds.
    pub rounds: u32,
    /// Passes of a client over its images in a round.
    pub local_epochs: u32,
    /// Bits per weight of the model: 32, 16, 8, 4, 2 or 1.
    pub bits: u8,
    /// How images are spread over clients.
    pub partition: Partition,
    /// Clients, messages, strategy, failures.
    pub settings: Settings,
    /// Whether to go on from the last round of a run that was stopped.
    pub resume: Resume,
}

/// What becomes of a run that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It begins anew.
    No,
    /// It goes on; where only runs of other settings were stopped, that is an error which says what differs.
    Expected,
    /// It goes on if there is one, and begins otherwise: runs of a sweep lie side by side.
    IfStopped,
}

/// One round, as it stands in `results_per_round`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FederatedRound {
    /// From 1.
    pub round: u32,
    /// Mean of the clients' last local epoch, while the weights changed, weighted by images.
    pub train_loss: f64,
    /// The same for accuracy, 0–1.
    pub train_accuracy: f64,
    /// Of the global model as deployed.
    pub test_loss: f64,
    /// Of the global model as deployed, 0–1.
    pub test_accuracy: f64,
    /// Of the clients' own models on the images that they keep apart, 0–1.
    pub local_test_accuracy: f64,
    /// From the clients, all counted.
    pub bytes_up: u64,
    /// To the clients, all counted.
    pub bytes_down: u64,
    /// The former by what they hold.
    pub up: Parts,
    /// The latter by what they hold.
    pub down: Parts,
    /// Part of `down` that clients needed who had missed rounds.
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

/// A listener to a federation.
pub trait FederateEvents: FedEvents {
    /// A round is done and its checkpoint written; bytes are those of all rounds so far.
    fn round_done(&self, _round: &FederatedRound, _rounds: u32, _bytes: u64) {}

    /// Something worth a line.
    fn note(&self, _line: &str) {}
}

impl FederateEvents for lowbit_fed::round::Silent {}

/// Deals the training images out.
///
/// # Errors
/// [`LabError::Data`] when a client would have none.
pub fn deal(
    config: &Config,
    federate: &FederateConfig,
    data: &Dataset,
) -> Result<Vec<ClientImages>, LabError> {
    let clients = federate.settings.clients as usize;
    let labels = data.train.labels();
    Ok(federate
        .partition
        .deal(labels, data.class_names.len(), clients, config.run.seed)?)
}

/// Runs a federation into `OUT/<b>bit/run_<settings>`; one that is finished with the same settings is not run again.
///
/// # Errors
/// [`LabError`] saying what stopped it; finished rounds are kept.
pub fn federate(
    config: &Config,
    federate: &FederateConfig,
    input: &Input,
    isa: Isa,
    events: &dyn FederateEvents,
) -> Result<Federated, LabError> {
    federate.settings.check()?;
    let graph = input.graph(&config.network.model)?;
    let clients = deal(config, federate, &input.data)?;
    let identity = identity(config, federate, input);
    let parent = config.results.out.join(format!("{}bit", federate.bits));
    let folder = parent.join(format!("run_{}", name(&identity)));
    let run = Run {
        config,
        federate,
        input,
        data: &input.data,
        isa,
        graph: &graph,
        clients: &clients,
        identity,
        folder,
    };
    if let Some(done) = run.earlier() {
        return Ok(done);
    }
    run.checked_resume(&parent)?;
    let _lock = hold(&run.folder)?;
    run.rounds(events)
}

/// Makes the folder of a run, and keeps others from working on it.
fn hold(folder: &Path) -> Result<std::fs::File, LabError> {
    let io = |source| LabError::Io {
        path: folder.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(io)?;
    let lock = std::fs::File::create(folder.join(LOCK)).map_err(io)?;
    if lock.try_lock().is_err() {
        return Err(LabError::Mismatch(format!(
            "{}: another lowbit works on this run; wait for it, or use another --out or --seed",
            folder.display()
        )));
    }
    Ok(lock)
}

const RESULTS: &str = "training_results.json";
const CHECKPOINT: &str = "checkpoint.lbfc";
const LOCK: &str = "lock";

/// All settings that decide the result, by name.
fn identity(config: &Config, federate: &FederateConfig, input: &Input) -> BTreeMap<String, String> {
    let FederateConfig {
        rounds,
        local_epochs,
        bits,
        partition,
        settings,
        resume: _,
    } = federate;
    let qat = qat(config, *bits).map_or("none".to_owned(), |qat| {
        serde_json::to_string(&qat.chosen()).expect("plain data")
    });
    let deadline = settings
        .deadline
        .map_or("none".to_owned(), |seconds| format!("{seconds}s"));
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
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Eight digits for a set of settings (FNV-1a).
fn name(identity: &BTreeMap<String, String>) -> String {
    let text = identity
        .iter()
        .flat_map(|(key, value)| [key.as_str(), "=", value, "\n"]);
    let hash = text
        .flat_map(str::bytes)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{:08x}", (hash ^ (hash >> 32)) as u32)
}

fn qat(config: &Config, bits: u8) -> Option<QatConfig> {
    (bits < 32).then(|| config.qat(bits))
}

fn shards(clients: &[ClientImages]) -> Vec<Shard> {
    let shard = |client: &ClientImages| Shard {
        train: client.train.clone(),
        held: client.held.clone(),
    };
    clients.iter().map(shard).collect()
}

struct Run<'a> {
    config: &'a Config,
    federate: &'a FederateConfig,
    input: &'a Input,
    data: &'a Dataset,
    isa: Isa,
    graph: &'a Graph,
    clients: &'a [ClientImages],
    identity: BTreeMap<String, String>,
    folder: PathBuf,
}

impl Run<'_> {
    /// The results, if the run is whole.
    fn earlier(&self) -> Option<Federated> {
        read(&self.folder.join(RESULTS))
    }

    /// With `--resume` and nothing to resume here, says which setting a stopped run beside it differs in.
    fn checked_resume(&self, parent: &Path) -> Result<(), LabError> {
        if self.federate.resume != Resume::Expected || self.folder.join(CHECKPOINT).exists() {
            return Ok(());
        }
        let stopped = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| !path.join(RESULTS).exists())
            .find_map(|path| {
                let path = path.join(CHECKPOINT);
                checkpoint::identity(&path).map(|found| (path, found))
            });
        let Some((path, found)) = stopped else {
            return Ok(());
        };
        let differs = |(key, expected): (&String, &String)| {
            let found = found.get(key).map_or("nothing", String::as_str);
            (found != expected).then(|| (key.clone(), found.to_owned(), expected.clone()))
        };
        match self.identity.iter().find_map(differs) {
            None => Ok(()),
            Some((key, found, expected)) => Err(LabError::OtherRun {
                path,
                key,
                found: Some(found),
                expected,
            }),
        }
    }

    /// Fresh weights, with what quantization-aware training adds to them.
    fn start(&self) -> Result<Weights, LabError> {
        let weights = Weights::init(self.graph, self.config.run.seed);
        Ok(self
            .trainer(&weights)?
            .map_or(weights, |trainer| trainer.weights()))
    }

    fn trainer(&self, weights: &Weights) -> Result<Option<Trainer>, LabError> {
        let trainer = qat(self.config, self.federate.bits).map(|qat| {
            let optimizer = self.config.training.optimizer;
            Trainer::compile(self.graph, weights, optimizer, Some(qat), self.isa)
        });
        Ok(trainer.transpose()?)
    }

    /// The packed model of `weights`; none at 32 bits.
    fn packed(&self, weights: &Weights) -> Result<Option<QuantizedModel>, LabError> {
        let trainer = self.trainer(weights)?;
        Ok(trainer.and_then(|mut trainer| trainer.quantized_model()))
    }

    /// Measures the model as deployed.
    fn evaluate(&self, weights: &Weights) -> Result<Evaluation, LabError> {
        let test = &self.data.test;
        Ok(match self.packed(weights)? {
            Some(model) => evaluate(&IntegerModel::compile(&model, self.isa)?, test),
            None => evaluate(&FloatModel::compile(self.graph, weights, self.isa)?, test),
        })
    }

    /// What clients do with their images.
    fn local<'b>(&'b self, schema: &'b Schema, shards: &'b [Shard]) -> LocalTraining<'b> {
        LocalTraining {
            graph: self.graph,
            schema,
            qat: qat(self.config, self.federate.bits),
            optimizer: self.config.training.optimizer,
            lr: self.config.training.lr,
            schedule: self.config.training.schedule,
            batch_size: self.config.training.batch_size,
            local_epochs: self.federate.local_epochs,
            rounds: self.federate.rounds,
            proximal: self.federate.settings.strategy.proximal(),
            seed: self.config.run.seed,
            isa: self.isa,
            images: self.data.train.images(),
            labels: self.data.train.labels(),
            shards,
        }
    }

    fn rounds(&self, events: &dyn FederateEvents) -> Result<Federated, LabError> {
        let weights = self.start()?;
        let schema = Schema::of(self.graph, &weights);
        let model = schema.flatten(&weights).expect("a schema of these weights");
        let shards = shards(self.clients);
        let local = self.local(&schema, &shards);
        let settings = self.federate.settings.clone();
        let start = Start::Seed(self.config.run.seed);
        let mut federation = Federation::new(settings, schema.clone(), model, start, &local)?;
        let path = self.folder.join(CHECKPOINT);
        let mut rounds: Vec<FederatedRound> = Vec::new();
        if self.federate.resume != Resume::No && path.exists() {
            let records = checkpoint::restore(&path, &mut federation, &self.identity)?;
            rounds = serde_json::from_str(&records).unwrap_or_default();
            events.note(&format!(
                "resumed after round {} of {}",
                rounds.len(),
                self.federate.rounds
            ));
        }
        while rounds.len() < self.federate.rounds as usize {
            let summary = federation.run_round(events)?;
            let start = Instant::now();
            let weights = schema.unflatten(federation.server().global());
            let test = self.evaluate(&weights)?;
            let evaluation_seconds = start.elapsed().as_secs_f64();
            let saving = Instant::now();
            let mut record = record(&summary, &test, evaluation_seconds);
            rounds.push(record.clone());
            let records = serde_json::to_string(&rounds).expect("plain data");
            checkpoint::save(&path, &federation, &self.identity, &records)?;
            record.other_seconds += saving.elapsed().as_secs_f64();
            *rounds.last_mut().expect("it was pushed") = record.clone();
            let bytes = rounds
                .iter()
                .map(|round| round.bytes_up + round.bytes_down)
                .sum();
            events.round_done(&record, self.federate.rounds, bytes);
        }
        self.finish(&schema.unflatten(federation.server().global()), rounds)
    }

    /// Writes models and results; the checkpoint goes.
    fn finish(
        &self,
        weights: &Weights,
        rounds: Vec<FederatedRound>,
    ) -> Result<Federated, LabError> {
        let own = super::sweep::deployable(self.graph, weights);
        let fp32 = self.folder.join("model_fp32.safetensors");
        let record = self.input.record(self.config.run.seed);
        let original = format::save_float(&fp32, self.graph, &own, Some(&record))?;
        let bits = self.federate.bits;
        let packed = self.folder.join(format!("model_{bits}bit.safetensors"));
        let compressed = match self.packed(weights)? {
            Some(model) => format::save_quantized(&packed, &model, Some(&record))?,
            None => original,
        };
        let results = self.results(&rounds, original, compressed);
        let federation = self.federation(&rounds);
        write(&self.folder.join(RESULTS), &results, &rounds, &federation)?;
        // What is left is of no use any more.
        let _ = std::fs::remove_file(self.folder.join(CHECKPOINT));
        Ok(Federated {
            folder: self.folder.clone(),
            results,
            rounds,
            federation,
            earlier: false,
        })
    }

    fn results(&self, rounds: &[FederatedRound], original: u64, compressed: u64) -> RunResults {
        let last = rounds.last();
        RunResults {
            bit_width: self.federate.bits,
            num_rounds: rounds.len(),
            fraction_train: self.federate.settings.fraction,
            local_epochs: self.federate.local_epochs as usize,
            batch_size: self.config.training.batch_size,
            learning_rate: self.config.training.lr,
            training_time_seconds: Some(rounds.iter().map(|round| round.training_seconds).sum()),
            final_test_accuracy: last.map_or(0.0, |round| round.test_accuracy),
            final_test_loss: last.map(|round| round.test_loss),
            results_per_round: Vec::new(),
            compression_metrics: Some(CompressionMetrics::of(
                self.federate.bits,
                original,
                compressed,
            )),
            timestamp: super::sweep::timestamp(),
            seed: self.config.run.seed,
            model: self.graph.name().into(),
            data: self.data.name.clone(),
            synthetic: self.data.synthetic,
            img_per_s: None,
            speedup: None,
            learning: None,
            images: None,
            decisive: Some(Decisive::of_named(self.identity.clone())),
            machine: Some(Machine::here(self.isa)),
            config: Some(self.config.clone()),
        }
    }

    fn federation(&self, rounds: &[FederatedRound]) -> FederationResults {
        let labels = self.data.train.labels();
        let mut parts = Parts::default();
        for round in rounds {
            parts += round.up;
            parts += round.down;
        }
        FederationResults {
            settings: self.identity.clone(),
            labels_per_client: labels_per_client(labels, self.data.class_names.len(), self.clients),
            class_names: self.data.class_names.clone(),
            bytes_up: rounds.iter().map(|round| round.bytes_up).sum(),
            bytes_down: rounds.iter().map(|round| round.bytes_down).sum(),
            parts,
            failures: rounds.iter().map(|round| round.failures.len()).sum(),
            overhead: overhead(rounds),
        }
    }
}

/// Seconds of everything but training and measuring, share of all.
fn overhead(rounds: &[FederatedRound]) -> f64 {
    let sum = |of: fn(&FederatedRound) -> f64| rounds.iter().map(of).sum::<f64>();
    let other = sum(|round| round.other_seconds);
    let work = sum(|round| round.training_seconds) + sum(|round| round.evaluation_seconds);
    other / (other + work)
}

fn record(summary: &RoundSummary, test: &Evaluation, evaluation_seconds: f64) -> FederatedRound {
    FederatedRound {
        round: summary.round,
        train_loss: f64::from(summary.report.train_loss),
        train_accuracy: f64::from(summary.report.train_accuracy),
        test_loss: test.loss,
        test_accuracy: test.accuracy(),
        local_test_accuracy: f64::from(summary.report.local_test_accuracy),
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
fn write(
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

fn value(
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

impl From<FedError> for LabError {
    fn from(error: FedError) -> Self {
        match error {
            FedError::Format(error) => Self::Format(error),
            other => Self::Federation(other),
        }
    }
}

#[cfg(test)]
mod tests;
