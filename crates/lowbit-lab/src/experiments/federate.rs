//! A federation in one process: clients train on their own images, a server averages, every byte between them is counted.

mod identity;
mod measured;
mod remote;
mod results;

pub use measured::PerClient;
pub use remote::{Client, ClientState, Server};
pub use results::{Federated, FederatedRound, FederationResults, json, read};

use self::identity::{identity, name};
use self::results::{overhead, record, write};
use super::artifacts::Held;
use super::inputs::Input;
use super::learning::Outcome;
use super::sweep::{CompressionMetrics, RunResults};
use crate::config::areas;
use crate::decisive::Decisive;
use crate::evaluate::{Evaluation, evaluate};
use crate::machine::Machine;
use crate::{Config, LabError};
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit::quant::QuantizedModel;
use lowbit::train::{QatConfig, Trainer};
use lowbit::{Graph, ModelBits, Weights};
use lowbit_data::{ClientImages, Dataset, Partition, Split, labels_per_client};
use lowbit_fed::client::{Images, LocalTraining, Shard};
use lowbit_fed::norm::Norm;
use lowbit_fed::round::FedEvents;
use lowbit_fed::server::Start;
use lowbit_fed::wire::{Encoding, Parts};
use lowbit_fed::{FedError, Federation, Schema, Settings, checkpoint};
use lowbit_kernels::Isa;
use std::borrow::Cow;
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
    /// Bits per weight of the model.
    pub bits: ModelBits,
    /// How images are spread over clients.
    pub partition: Partition,
    /// Share of its images that a client keeps apart, to measure its own model on; 0 for none.
    pub local_test: f64,
    /// Clients, messages, strategy, failures.
    pub settings: Settings,
    /// Whether to go on from the last round of a run that was stopped.
    pub resume: Resume,
}

impl FederateConfig {
    /// The federation of the settings, with a model of so many bits.
    #[must_use]
    pub fn of(config: &Config, bits: ModelBits, resume: Resume) -> Self {
        // All by name: a new one must be passed on.
        let areas::Federating {
            clients,
            rounds,
            local_epochs,
            fraction,
            up_bits,
            down_bits,
            partition,
            local_test,
            strategy,
            aggregator,
            norm,
            dropout,
            deadline,
            min_clients,
            fault,
            feedback,
            rotation,
            at_a_time,
        } = config.federation.clone();
        let encoding = |bits| Encoding {
            bits,
            feedback,
            rotate: rotation,
        };
        Self {
            rounds,
            local_epochs,
            bits,
            partition,
            local_test,
            settings: Settings {
                clients,
                fraction,
                up: encoding(up_bits),
                down: encoding(down_bits),
                strategy,
                aggregator,
                norm,
                dropout,
                deadline: deadline.0,
                min_clients,
                seed: config.run.seed,
                faults: fault.0,
                at_a_time: match at_a_time {
                    0 => rayon::current_num_threads(),
                    given => given,
                },
            },
            resume,
        }
    }
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
    Ok(federate.partition.deal(
        labels,
        data.class_names.len(),
        clients,
        federate.local_test,
        config.run.seed,
    )?)
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
    let own = stays(&graph, federate.settings.norm)?;
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
        own: &own,
        clients: &clients,
        identity,
        folder,
    };
    if let Some(done) = run.earlier() {
        return Ok(done);
    }
    run.checked_resume(&parent)?;
    let _held = Held::take(run.folder.clone())?;
    run.rounds(events)
}

const RESULTS: &str = "training_results.json";
const CHECKPOINT: &str = "checkpoint.lbfc";

fn qat(config: &Config, bits: ModelBits) -> Option<QatConfig> {
    bits.packed().map(|bits| config.qat(bits))
}

/// The tensors that stay with each client.
fn stays(graph: &Graph, norm: Norm) -> Result<Schema, LabError> {
    let (_, own) = Schema::split(graph, &Weights::init(graph, 0), norm);
    match norm == Norm::Local && own.is_empty() {
        false => Ok(own),
        true => Err(LabError::Federation(FedError::Setting {
            name: "norm",
            value: norm.to_string(),
            expected: format!("{} has no batch-norm to keep, use server", graph.name()),
        })),
    }
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
    /// The tensors that stay with each client.
    own: &'a Schema,
    clients: &'a [ClientImages],
    identity: BTreeMap<String, String>,
    folder: PathBuf,
}

/// The training images, as clients read them.
#[derive(Debug)]
struct TrainingImages<'a>(&'a Split);

impl Images for TrainingImages<'_> {
    fn image(&self, index: usize) -> Result<Cow<'_, [u8]>, String> {
        self.0.image(index).map_err(|error| error.to_string())
    }
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
        let entries = |folder: &Path| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        // Then those of models of other widths.
        let of_widths = entries(&self.config.results.out);
        let of_widths = of_widths.iter().filter(|folder| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with("bit")
        });
        let stopped = std::iter::once(parent)
            .chain(of_widths.map(PathBuf::as_path))
            .flat_map(entries)
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
        // What only the stopped run has differs, too.
        let only_there = |(key, value): (&String, &String)| {
            let is_here = self.identity.contains_key(key);
            (!is_here).then(|| (key.clone(), value.clone(), "nothing".to_owned()))
        };
        let mut here = self.identity.iter();
        let differing = here
            .find_map(differs)
            .or_else(|| found.iter().find_map(only_there));
        match differing {
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
            Some(model) => evaluate(&IntegerModel::compile(&model, self.isa)?, test)?,
            None => evaluate(&FloatModel::compile(self.graph, weights, self.isa)?, test)?,
        })
    }

    /// What clients do with their images.
    fn local<'b>(&'b self, schema: &'b Schema, shards: &'b [Shard]) -> LocalTraining<'b> {
        LocalTraining {
            graph: self.graph,
            schema,
            own: self.own,
            qat: qat(self.config, self.federate.bits),
            optimizer: self.config.training.optimizer,
            lr: self.config.training.lr,
            schedule: self.config.training.schedule,
            augment: self.config.training.augment,
            batch_size: self.config.training.batch_size,
            local_epochs: self.federate.local_epochs,
            rounds: self.federate.rounds,
            proximal: self.federate.settings.strategy.proximal(),
            seed: self.config.run.seed,
            isa: self.isa,
            images: Box::new(TrainingImages(&self.data.train)),
            labels: self.data.train.labels(),
            shards,
        }
    }

    fn rounds(&self, events: &dyn FederateEvents) -> Result<Federated, LabError> {
        let weights = self.start()?;
        let norm = self.federate.settings.norm;
        let (schema, _) = Schema::split(self.graph, &weights, norm);
        let flat = |schema: &Schema| schema.flatten(&weights).expect("a schema of these weights");
        let (model, own) = (flat(&schema), flat(self.own));
        let shards = shards(self.clients);
        let local = self.local(&schema, &shards);
        let settings = self.federate.settings.clone();
        let start = Start::Seed(self.config.run.seed);
        let mut federation = Federation::new(settings, schema.clone(), model, own, start, &local)?;
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
            let test = self.measure(&federation)?;
            let evaluation_seconds = start.elapsed().as_secs_f64();
            let saving = Instant::now();
            let mut record = record(
                &summary,
                &test,
                (evaluation_seconds, self.federate.local_test),
            );
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
        self.finish(self.save_models(&federation)?, rounds)
    }

    /// Writes the results beside the models, which have `original` and `compressed` bytes; the checkpoint goes.
    fn finish(
        &self,
        (original, compressed): (u64, u64),
        rounds: Vec<FederatedRound>,
    ) -> Result<Federated, LabError> {
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
        let outcome = |round: &FederatedRound| {
            let classes = self.data.class_names.len();
            let loss = Some(round.train_loss);
            let recipe = &self.config.recipe;
            Outcome::of(round.test_accuracy, &self.data.test, classes, loss, recipe)
        };
        RunResults {
            bit_width: self.federate.bits.get(),
            num_rounds: rounds.len(),
            fraction_train: self.federate.settings.fraction,
            local_epochs: self.federate.local_epochs as usize,
            batch_size: self.config.training.batch_size,
            learning_rate: self.config.training.lr,
            training_time_seconds: Some(rounds.iter().map(|round| round.training_seconds).sum()),
            final_test_accuracy: last.map_or(0.0, |round| round.test_accuracy),
            chosen_epoch: None,
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
            learning: last.map(|round| outcome(round).learning()),
            images: None,
            evaluated: None,
            began_with: None,
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
