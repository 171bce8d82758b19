//! The same federation with clients that are elsewhere: the server's side and a client's side, between which somebody else
//! carries the messages. With the same settings, images and seeds, the model is that of [`federate`](super::federate) to the
//! bit, as long as the same clients answer.

use super::measured::Measured;
use super::{FederateConfig, Federated, FederatedRound, Run, deal, identity, name, record, shards};
use crate::experiments::artifacts::Held;
use crate::experiments::inputs::Input;
use crate::{Config, LabError};
use lowbit::{Graph, Weights};
use lowbit_data::ClientImages;
use lowbit_fed::client::{Local, upload};
use lowbit_fed::norm::Norm;
use lowbit_fed::round::{Closed, RoundSummary, close, open};
use lowbit_fed::screen::ClientFailure;
use lowbit_fed::server::Start;
use lowbit_fed::wire::{self, Kind, Parts};
use lowbit_fed::{FedError, Schema};
use lowbit_kernels::Isa;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What both sides know.
struct Shared {
    config: Config,
    federate: FederateConfig,
    input: Arc<Input>,
    isa: Isa,
    graph: Graph,
    clients: Vec<ClientImages>,
    identity: BTreeMap<String, String>,
    folder: PathBuf,
    /// Fresh weights, with what quantization-aware training adds to them.
    weights: Weights,
    schema: Schema,
    /// Nothing stays with a client: the server measures the model, and has no client's batch-norm.
    own: Schema,
}

impl Shared {
    fn new(
        config: Config,
        federate: FederateConfig,
        input: Arc<Input>,
        clients: Vec<ClientImages>,
        isa: Isa,
    ) -> Result<Self, LabError> {
        federate.settings.check()?;
        if federate.settings.norm == Norm::Local {
            return Err(LabError::Federation(FedError::Setting {
                name: "norm",
                value: "local".into(),
                expected: "this server has no client's batch-norm to measure a model with, use server, or lowbit federate"
                    .into(),
            }));
        }
        let graph = input.graph(&config.network.model)?;
        let identity = identity(&config, &federate, &input);
        let parent = config.results.out.join(format!("{}bit", federate.bits));
        let mut shared = Self {
            folder: parent.join(format!("run_{}", name(&identity))),
            weights: Weights::new(),
            schema: Schema::new(Vec::new()),
            own: Schema::new(Vec::new()),
            config,
            federate,
            input,
            isa,
            graph,
            clients,
            identity,
        };
        shared.weights = shared.run().start()?;
        shared.schema = Schema::of(&shared.graph, &shared.weights);
        Ok(shared)
    }

    fn run(&self) -> Run<'_> {
        Run {
            config: &self.config,
            federate: &self.federate,
            input: &self.input,
            data: &self.input.data,
            isa: self.isa,
            graph: &self.graph,
            own: &self.own,
            clients: &self.clients,
            identity: self.identity.clone(),
            folder: self.folder.clone(),
        }
    }

    fn fresh(&self) -> Vec<f32> {
        let flat = self.schema.flatten(&self.weights);
        flat.expect("a schema of these weights")
    }
}

/// The server's side.
pub struct Server {
    shared: Shared,
    server: lowbit_fed::server::Server,
    rounds: Vec<FederatedRound>,
    /// When the round began, the bytes of its messages, and those that clients needed who had missed rounds.
    begun: (Instant, Parts, Parts),
    selected: Vec<u32>,
    /// The last round of each client in which its answer counted.
    counted: BTreeMap<u32, u32>,
    _held: Held,
}

impl Server {
    /// Takes the run's folder, `OUT/<b>bit/run_<settings>`. `clients` of the settings must be there; their images are dealt
    /// from the training images of `input`, as far as the results say who has which.
    ///
    /// # Errors
    /// [`LabError`] for settings that make no sense, a folder that another process has, or one with the results of such a run.
    pub fn new(
        config: Config,
        federate: FederateConfig,
        input: Arc<Input>,
        isa: Isa,
    ) -> Result<Self, LabError> {
        let clients = deal(&config, &federate, &input.data)?;
        let seed = config.run.seed;
        let shared = Shared::new(config, federate, input, clients, isa)?;
        let held = Held::take(shared.folder.clone())?;
        // Of clients that are elsewhere nobody knows that they would answer alike.
        if shared.run().earlier().is_some() {
            return Err(LabError::Mismatch(format!(
                "{}: a federation with these settings is finished there; move it away, or use another out or seed",
                shared.folder.display()
            )));
        }
        let server = lowbit_fed::server::Server::new(
            shared.schema.clone(),
            shared.fresh(),
            Start::Seed(seed),
            shared.federate.settings.down,
            shared.federate.settings.seed,
        );
        Ok(Self {
            shared,
            server,
            rounds: Vec::new(),
            begun: (Instant::now(), Parts::default(), Parts::default()),
            selected: Vec::new(),
            counted: BTreeMap::new(),
            _held: held,
        })
    }

    /// Begins the next round; returns it and its clients.
    pub fn open(&mut self) -> (u32, Vec<u32>) {
        self.begun = (Instant::now(), Parts::default(), Parts::default());
        let (round, selected) = open(&mut self.server, &self.shared.federate.settings);
        self.selected.clone_from(&selected);
        (round, selected)
    }

    /// The messages that bring a client to this round's model.
    pub fn send(&mut self, client: u32) -> Vec<Vec<u8>> {
        let packet = self.server.send(client);
        self.begun.1 += packet.parts;
        self.begun.2 += packet.catch_up;
        packet.messages
    }

    /// The last round in which an answer of the client counted, 0 for none: what it could not say is then another.
    #[must_use]
    pub fn counted(&self, client: u32) -> u32 {
        self.counted.get(&client).copied().unwrap_or(0)
    }

    /// Ends the round with the messages that came, each with its client and the seconds that it took, and those that sent
    /// none; measures the model. Nobody knows what the latter hold: they are sent all of the model next time.
    ///
    /// # Errors
    /// [`LabError::Federation`] when fewer clients answered than must.
    pub fn close(
        &mut self,
        mut messages: Vec<(u32, f64, Vec<u8>)>,
        lost: Vec<ClientFailure>,
    ) -> Result<FederatedRound, LabError> {
        let ending = Instant::now();
        let (begun, down, catch_up) = self.begun;
        let client_seconds = messages.iter().map(|(_, seconds, _)| seconds).sum();
        for failed in &lost {
            self.server.forget(failed.client);
        }
        let settings = &self.shared.federate.settings;
        let closed = close(&mut self.server, settings, &mut messages, lost)?;
        let Closed {
            accepted,
            failures,
            report,
            up,
        } = closed;
        for &client in &accepted {
            self.counted.insert(client, self.server.round());
        }
        let other_seconds = ending.elapsed().as_secs_f64();
        let summary = RoundSummary {
            round: self.server.round(),
            selected: std::mem::take(&mut self.selected),
            accepted,
            failures,
            report,
            down,
            catch_up,
            up,
            client_seconds,
            training_seconds: (ending - begun).as_secs_f64(),
            other_seconds,
        };
        let measuring = Instant::now();
        let weights = self.shared.schema.unflatten(self.server.global());
        let test = Measured {
            score: self.shared.run().evaluate(&weights)?.score(),
            per_client: None,
        };
        let round = record(
            &summary,
            &test,
            (
                measuring.elapsed().as_secs_f64(),
                self.shared.federate.local_test,
            ),
        );
        self.rounds.push(round.clone());
        Ok(round)
    }

    /// Writes models and results.
    ///
    /// # Errors
    /// [`LabError`] with the file that cannot be written.
    pub fn finish(self) -> Result<Federated, LabError> {
        let weights = self.shared.schema.unflatten(self.server.global());
        let run = self.shared.run();
        run.finish(run.save(&run.folder, &weights)?, self.rounds)
    }
}

/// What a client keeps between two rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientState {
    /// The model that it holds; empty before the first round.
    pub model: Vec<f32>,
    /// The round of that model; 0 before the first.
    pub round: u32,
    /// What it could not say so far; empty where nothing is lost.
    pub residual: Vec<f32>,
    /// The same if its last answer counts, which it learns with the next message.
    pub pending: Vec<f32>,
    /// The round of its last answer; 0 before the first.
    pub answered: u32,
}

/// A client's side.
pub struct Client {
    shared: Shared,
    client: u32,
}

impl Client {
    /// Client number `client`, whose images are those that it is dealt from `input`; with `own`, they are all of `input`.
    ///
    /// # Errors
    /// [`LabError`] for settings that make no sense, or images that are too few.
    pub fn new(
        config: Config,
        federate: FederateConfig,
        input: Arc<Input>,
        client: u32,
        own: bool,
        isa: Isa,
    ) -> Result<Self, LabError> {
        if client >= federate.settings.clients {
            return Err(LabError::Federation(FedError::Setting {
                name: "client",
                value: client.to_string(),
                expected: format!("there are clients 0 to {}", federate.settings.clients - 1),
            }));
        }
        let mut clients = match own {
            false => deal(&config, &federate, &input.data)?,
            true => {
                let mut alone = federate.clone();
                alone.settings.clients = 1;
                let mut none = vec![ClientImages::default(); federate.settings.clients as usize];
                let all = deal(&config, &alone, &input.data)?.into_iter().next();
                none[client as usize] = all.unwrap_or_default();
                none
            }
        };
        clients.truncate(client as usize + 1);
        Ok(Self {
            shared: Shared::new(config, federate, input, clients, isa)?,
            client,
        })
    }

    /// Training images of the client.
    #[must_use]
    pub fn images(&self) -> u32 {
        self.shared.clients[self.client as usize].train.len() as u32
    }

    /// Takes the messages of `round` and trains; returns its answer, and changes what it keeps. `counted` is the last round in
    /// which an answer of it counted, by the server.
    ///
    /// # Errors
    /// [`LabError::Mismatch`] for messages that cannot be read or that change a model which it does not hold, or a training
    /// that failed; what it keeps is then unchanged.
    pub fn answer(
        &self,
        state: &mut ClientState,
        (round, counted): (u32, u32),
        messages: &[Vec<u8>],
    ) -> Result<Vec<u8>, LabError> {
        let schema = &self.shared.schema;
        let fail = |text: String| LabError::Mismatch(format!("client {}: {text}", self.client));
        let mut next = state.clone();
        if next.answered != 0 && counted == next.answered {
            next.residual = std::mem::take(&mut next.pending);
        }
        self.receive(&mut next, messages).map_err(fail)?;
        if next.round != round {
            let held = next.round;
            return Err(fail(format!(
                "holds the model of round {held}, this is round {round}"
            )));
        }
        let shards = shards(&self.shared.clients);
        let run = self.shared.run();
        let local = run.local(schema, &shards);
        let trained = local
            .train(self.client, round, &next.model, &[])
            .map_err(fail)?;
        let settings = &self.shared.federate.settings;
        let sender = (self.client, round, self.images(), settings.seed);
        let upload = upload(
            schema,
            sender,
            &next.model,
            &trained,
            &next.residual,
            settings.up,
        );
        next.pending = match upload.residual.is_empty() {
            true => next.residual.clone(),
            false => upload.residual,
        };
        next.answered = round;
        *state = next;
        Ok(upload.message)
    }

    /// Applies the messages, each to the model that it changes.
    fn receive(&self, state: &mut ClientState, messages: &[Vec<u8>]) -> Result<(), String> {
        let schema = &self.shared.schema;
        let mut values = vec![0.0; schema.len()];
        state.model.resize(schema.len(), 0.0);
        for message in messages {
            let read = wire::decode(schema, message, &mut values);
            let (header, _) = read.map_err(|error| error.to_string())?;
            state.round = match header.kind {
                // The start is the model of the first round, whenever it is sent.
                Kind::Seed(_) => 1,
                Kind::Model => header.round,
                Kind::Update if header.base == state.round => header.round,
                Kind::Update => {
                    return Err(format!(
                        "holds the model of round {}, the message changes that of round {}",
                        state.round, header.base
                    ));
                }
            };
            if let Kind::Seed(_) = header.kind {
                state.model = self.shared.fresh();
            }
            wire::apply(schema, header.kind, &values, &mut state.model);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
