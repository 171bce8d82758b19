//! One round: who takes part, what is sent, who answers, what is made of it.

use crate::aggregate::{Aggregator, WeightedMean};
use crate::client::{Trained, Upload, upload};
use crate::schema::Schema;
use crate::screen::{self, ClientFailure, Failure};
use crate::server::Server;
use crate::simulate::{Fault, FedError, Federation, Settings};
use crate::wire::{Parts, Report};
use lowbit_kernels::random;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What a round came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundSummary {
    /// From 1.
    pub round: u32,
    /// Clients that were chosen.
    pub selected: Vec<u32>,
    /// Clients whose updates count.
    pub accepted: Vec<u32>,
    /// The others, and why.
    pub failures: Vec<ClientFailure>,
    /// Means over the accepted clients, weighted by images.
    pub report: Report,
    /// To the clients, catching up included.
    pub down: Parts,
    /// Of these, what clients needed that had missed rounds.
    pub catch_up: Parts,
    /// From the clients; messages that were refused are counted as well.
    pub up: Parts,
    /// Seconds of the clients' training and measuring, all together.
    pub client_seconds: f64,
    /// Seconds that passed in the part where clients train.
    pub training_seconds: f64,
    /// Seconds of everything else in the round: choosing, encoding, decoding, averaging.
    pub other_seconds: f64,
}

/// What came of one client's training.
struct Answer {
    client: u32,
    seconds: f64,
    encoding_seconds: f64,
    /// What leaves the client, and its own tensors after training.
    upload: Result<(Upload, Vec<f32>), Failure>,
}

/// A listener to a federation.
pub trait FedEvents: Sync {
    /// A round begins with these clients.
    fn round_started(&self, _round: u32, _clients: &[u32]) {}

    /// A client is done, or failed.
    fn client_done(&self, _client: u32, _failure: Option<&Failure>) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl FedEvents for Silent {}

/// The clients of `round`, in rising order.
pub(crate) fn selected(settings: &Settings, round: u32) -> Vec<u32> {
    let wanted = (settings.fraction * f64::from(settings.clients)).round() as usize;
    let wanted = wanted
        .max(settings.min_clients as usize)
        .clamp(1, settings.clients as usize);
    let mut clients: Vec<u32> = (0..settings.clients).collect();
    if wanted < clients.len() {
        let mut rng = random::stream(settings.seed, "clients of a round", u64::from(round));
        random::shuffle(&mut rng, &mut clients);
        clients.truncate(wanted);
        clients.sort_unstable();
    }
    clients
}

/// The clients of `selected` that drop out of `round` after they received the model.
fn dropouts(settings: &Settings, round: u32, selected: &[u32]) -> Vec<u32> {
    let mut rng = random::stream(settings.seed, "dropouts", u64::from(round));
    let mut drops = || f64::from(random::uniform(&mut rng)) < settings.dropout;
    selected.iter().copied().filter(|_| drops()).collect()
}

impl Federation<'_> {
    /// Runs the next round.
    ///
    /// # Errors
    /// [`FedError::TooFew`] when fewer clients answered than must.
    pub fn run_round(&mut self, events: &dyn FedEvents) -> Result<RoundSummary, FedError> {
        let start = Instant::now();
        self.server.begin();
        let round = self.server.round;
        let selected = selected(&self.settings, round);
        events.round_started(round, &selected);
        let (mut down, mut catch_up) = (Parts::default(), Parts::default());
        for &client in &selected {
            let packet = self.server.send(client);
            down += packet.parts;
            catch_up += packet.catch_up;
        }
        let dropped = dropouts(&self.settings, round, &selected);
        let present: Vec<u32> = selected
            .iter()
            .copied()
            .filter(|c| !dropped.contains(c))
            .collect();
        let training = Instant::now();
        let answers = self.train(round, &present, events);
        let training_seconds = training.elapsed().as_secs_f64();
        let mut failures: Vec<ClientFailure> = dropped
            .iter()
            .map(|&client| {
                events.client_done(client, Some(&Failure::DroppedOut));
                ClientFailure {
                    client,
                    failure: Failure::DroppedOut,
                }
            })
            .collect();
        let client_seconds = answers.iter().map(|answer| answer.seconds).sum();
        let encoding_seconds: f64 = answers.iter().map(|answer| answer.encoding_seconds).sum();
        let mut up = Parts::default();
        let mut uploads = Vec::new();
        let mut owns = BTreeMap::new();
        for answer in answers {
            let client = answer.client;
            match answer.upload {
                Ok((upload, own)) => {
                    uploads.push((client, answer.seconds, upload));
                    owns.insert(client, own);
                }
                Err(failure) => failures.push(ClientFailure { client, failure }),
            }
        }
        let arrived: Vec<Arrived<'_>> = uploads
            .iter()
            .map(|(client, seconds, upload)| Arrived {
                client: *client,
                seconds: *seconds,
                message: &upload.message,
            })
            .collect();
        let (schema, settings) = (self.server.schema(), &self.settings);
        let taken = screen(schema, settings, round, &arrived, &mut up, &mut failures);
        enough(settings, round, taken.len(), &failures)?;
        let messages = taken.iter().map(|&place| arrived[place].message);
        let report = combine(&mut self.server, settings, messages);
        let accepted = taken.iter().map(|&place| arrived[place].client).collect();
        for place in taken {
            let (client, _, upload) = &mut uploads[place];
            if let Some(own) = owns.remove(client).filter(|own| !own.is_empty()) {
                self.own.insert(*client, own);
            }
            if !upload.residual.is_empty() {
                let residual = std::mem::take(&mut upload.residual);
                self.residuals.insert(*client, residual);
            }
        }
        failures.sort_by_key(|failed| failed.client);
        // Clients encode side by side: what of that the round waited for is their share of the time.
        let workers = self.settings.at_a_time.max(1).min(present.len().max(1)) as f64;
        let waited = encoding_seconds / workers;
        Ok(RoundSummary {
            round,
            selected,
            accepted,
            failures,
            report,
            down,
            catch_up,
            up,
            client_seconds,
            training_seconds: training_seconds - waited,
            other_seconds: start.elapsed().as_secs_f64() - training_seconds + waited,
        })
    }

    /// Trains the clients `present`, as many at a time as the settings say; answers come in the clients' order.
    fn train(&self, round: u32, present: &[u32], events: &dyn FedEvents) -> Vec<Answer> {
        let work = |client: u32| {
            let answer = self.answer(round, client);
            events.client_done(client, answer.upload.as_ref().err());
            answer
        };
        let workers = self.settings.at_a_time.min(present.len());
        if workers <= 1 {
            return present.iter().map(|&client| work(client)).collect();
        }
        let threads = (rayon::current_num_threads() / workers).max(1);
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<Answer>> = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    let one = |client| match &pool {
                        Ok(pool) => pool.install(|| work(client)),
                        // No more threads to be had: the caller's own does.
                        Err(_) => work(client),
                    };
                    while let Some(&client) = present.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let answer = one(client);
                        done.lock()
                            .expect("nothing panics while it holds the lock")
                            .push(answer);
                    }
                });
            }
        });
        let mut done = done
            .into_inner()
            .expect("nothing panics while it holds the lock");
        done.sort_by_key(|answer| answer.client);
        done
    }

    fn answer(&self, round: u32, client: u32) -> Answer {
        let start = Instant::now();
        let model = self.server.reference();
        let own = self.own(client);
        let trained = self.local.train(client, round, model, own);
        let seconds = start.elapsed().as_secs_f64();
        let encoding = Instant::now();
        let upload = trained
            .and_then(finite)
            .map(|mut trained| {
                let own = std::mem::take(&mut trained.own);
                (self.upload(round, client, trained), own)
            })
            .map_err(|text| Failure::Training { text });
        Answer {
            client,
            seconds,
            encoding_seconds: encoding.elapsed().as_secs_f64(),
            upload,
        }
    }

    fn upload(&self, round: u32, client: u32, mut trained: Trained) -> Upload {
        let schema = self.server.schema();
        let received = self.server.reference();
        let fault = self
            .settings
            .faults
            .iter()
            .find(|fault| fault.client == client);
        match fault.map(|fault| fault.kind) {
            Some(Fault::Nan) => trained.model[0] = f32::NAN,
            Some(Fault::Scaled(factor)) => {
                for (x, received) in trained.model[schema.trained()].iter_mut().zip(received) {
                    *x = received + factor * (*x - received);
                }
            }
            Some(Fault::CutOff) | None => {}
        }
        let residual = self.residuals.get(&client).map_or(&[][..], Vec::as_slice);
        let sender = (client, round, self.local.images(client), self.settings.seed);
        let mut upload = upload(
            schema,
            sender,
            received,
            &trained,
            residual,
            self.settings.up,
        );
        if fault.is_some_and(|fault| fault.kind == Fault::CutOff) {
            upload.message.truncate(upload.message.len() / 2);
        }
        upload
    }
}

/// What stays with a client no server can refuse: it must not keep what is no number.
fn finite(trained: Trained) -> Result<Trained, String> {
    match trained.own.iter().all(|x| x.is_finite()) {
        true => Ok(trained),
        false => Err("its batch-norm is not finite after training".into()),
    }
}

/// A message of a client, and the seconds that it took.
struct Arrived<'a> {
    client: u32,
    seconds: f64,
    message: &'a [u8],
}

/// Reads every message; returns the places of those that can be trusted.
fn screen(
    schema: &Schema,
    settings: &Settings,
    round: u32,
    arrived: &[Arrived<'_>],
    up: &mut Parts,
    failures: &mut Vec<ClientFailure>,
) -> Vec<usize> {
    let mut values = vec![0.0; schema.len()];
    let mut read = Vec::new();
    for (place, one) in arrived.iter().enumerate() {
        let client = one.client;
        let mut refuse = |failure| failures.push(ClientFailure { client, failure });
        match screen::open(schema, (client, round), one.message, &mut values) {
            Ok((_, parts)) => {
                *up += parts;
                let seconds = one.seconds;
                if settings.deadline.is_some_and(|deadline| seconds > deadline) {
                    refuse(Failure::Late { seconds });
                } else {
                    read.push((place, screen::norm(schema, &values)));
                }
            }
            Err(failure) => {
                // It went over the wire all the same; what is in it is not known.
                up.codes += one.message.len() as u64;
                refuse(failure);
            }
        }
    }
    let norms: Vec<f64> = read.iter().map(|(_, norm)| *norm).collect();
    let mut taken = Vec::new();
    for ((place, _), failure) in read.into_iter().zip(screen::too_large(&norms)) {
        let client = arrived[place].client;
        match failure {
            None => taken.push(place),
            Some(failure) => failures.push(ClientFailure { client, failure }),
        }
    }
    taken
}

/// Averages and steps; the clients' mean report.
fn combine<'a>(
    server: &mut Server,
    settings: &Settings,
    taken: impl Iterator<Item = &'a [u8]>,
) -> Report {
    let schema = server.schema();
    let mut values = vec![0.0; schema.len()];
    let mut mean = WeightedMean::new(schema.len());
    let mut reports = WeightedMean::new(3);
    let mut all = Vec::new();
    for message in taken {
        let read = crate::wire::decode(schema, message, &mut values);
        let (header, _) = read.expect("it was read before");
        let Report {
            train_loss,
            train_accuracy,
            local_test_accuracy,
        } = header.report;
        reports.add(
            &[train_loss, train_accuracy, local_test_accuracy],
            header.images,
        );
        match settings.aggregator {
            Aggregator::Mean => mean.add(&values, header.images),
            _ => all.push(values.clone()),
        }
    }
    let combined = match settings.aggregator {
        Aggregator::Mean => mean.finish(),
        other => other.combine(&all),
    };
    server.step(settings.strategy, &combined);
    let reports = reports.finish();
    Report {
        train_loss: reports[0] as f32,
        train_accuracy: reports[1] as f32,
        local_test_accuracy: reports[2] as f32,
    }
}

/// Whether enough clients count.
fn enough(
    settings: &Settings,
    round: u32,
    accepted: usize,
    failures: &[ClientFailure],
) -> Result<(), FedError> {
    let needed = settings.min_clients.max(1);
    match accepted < needed as usize {
        false => Ok(()),
        true => Err(FedError::TooFew {
            round,
            accepted,
            needed,
            failures: failures.to_vec(),
        }),
    }
}

/// What the messages of a round came to, whose clients are elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// Clients whose updates count.
    pub accepted: Vec<u32>,
    /// The others, and why.
    pub failures: Vec<ClientFailure>,
    /// Means over the accepted clients, weighted by images.
    pub report: Report,
    /// From the clients; messages that were refused are counted as well.
    pub up: Parts,
}

/// Begins a round whose clients are elsewhere; returns it and its clients. Each is to be sent what [`Server::send`] gives.
pub fn open(server: &mut Server, settings: &Settings) -> (u32, Vec<u32>) {
    server.begin();
    (server.round, selected(settings, server.round))
}

/// Ends a round with the messages that came, by client in whatever order, and those `lost` that sent none. What a model
/// becomes does not depend on the order, nor on where the clients are.
///
/// # Errors
/// [`FedError::TooFew`] when fewer clients answered than must.
pub fn close(
    server: &mut Server,
    settings: &Settings,
    messages: &mut [(u32, f64, Vec<u8>)],
    lost: Vec<ClientFailure>,
) -> Result<Closed, FedError> {
    messages.sort_by_key(|(client, _, _)| *client);
    let arrived: Vec<Arrived<'_>> = messages
        .iter()
        .map(|(client, seconds, message)| Arrived {
            client: *client,
            seconds: *seconds,
            message,
        })
        .collect();
    let round = server.round;
    let (mut up, mut failures) = (Parts::default(), lost);
    let taken = screen(
        server.schema(),
        settings,
        round,
        &arrived,
        &mut up,
        &mut failures,
    );
    enough(settings, round, taken.len(), &failures)?;
    let report = combine(
        server,
        settings,
        taken.iter().map(|&place| arrived[place].message),
    );
    failures.sort_by_key(|failed| failed.client);
    Ok(Closed {
        accepted: taken.iter().map(|&place| arrived[place].client).collect(),
        failures,
        report,
        up,
    })
}
