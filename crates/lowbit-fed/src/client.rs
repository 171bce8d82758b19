//! What a client does in a round: it trains, and says what changed.

use crate::codec::Dither;
use crate::schema::Schema;
use crate::wire::{self, Encoding, Header, Kind, Report};
use lowbit::exec::{FloatModel, IntegerModel, Model, predicted};
use lowbit::graph::Graph;
use lowbit::train::{Augment, Optimizer, QatConfig, Schedule, Trainer, epoch_order};
use lowbit_kernels::{Isa, random};
use std::borrow::Cow;
use std::fmt;

/// Training on a client's own images.
pub trait Local: Sync {
    /// Trains from `model` (a flat vector of the schema) and the client's `own` tensors in `round` and returns new ones.
    ///
    /// # Errors
    /// One line saying why there is none.
    fn train(&self, client: u32, round: u32, model: &[f32], own: &[f32])
    -> Result<Trained, String>;

    /// Images that client `client` trains on.
    fn images(&self, client: u32) -> u32;
}

/// What training came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The new model, as a flat vector.
    pub model: Vec<f32>,
    /// The client's own tensors after it; empty where all travel.
    pub own: Vec<f32>,
    /// Loss and accuracies.
    pub report: Report,
}

/// The images of one client, as places in a set that all share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// To train on.
    pub train: Vec<usize>,
    /// Kept apart: what the client's own model is measured on.
    pub held: Vec<usize>,
}

/// Images that clients share.
pub trait Images: Sync + fmt::Debug {
    /// Image `index`, `[h, w, c]`.
    ///
    /// # Errors
    /// One line saying why it cannot be read.
    fn image(&self, index: usize) -> Result<Cow<'_, [u8]>, String>;
}

/// Training with lowbit's own trainer.
#[derive(Debug)]
pub struct LocalTraining<'a> {
    /// What is trained.
    pub graph: &'a Graph,
    /// Its tensors that travel.
    pub schema: &'a Schema,
    /// Those that stay with each client.
    pub own: &'a Schema,
    /// Quantization-aware training; none for f32.
    pub qat: Option<QatConfig>,
    /// Begun anew in each round.
    pub optimizer: Optimizer,
    /// Base learning rate.
    pub lr: f32,
    /// How it falls over the whole federation.
    pub schedule: Schedule,
    /// Random changes to the images that clients train on; those that they keep apart stay as they are.
    pub augment: Augment,
    /// Images per step.
    pub batch_size: usize,
    /// Passes over the client's images in a round.
    pub local_epochs: u32,
    /// Rounds in all: what the schedule's end is.
    pub rounds: u32,
    /// FedProx's μ; 0 for none.
    pub proximal: f32,
    /// Of the order of images.
    pub seed: u64,
    /// Of the kernels.
    pub isa: Isa,
    /// All images.
    pub images: Box<dyn Images + 'a>,
    /// Their labels.
    pub labels: &'a [u32],
    /// Whose they are.
    pub shards: &'a [Shard],
}

/// Images that a model is measured on at once.
const BATCH: usize = 64;

impl LocalTraining<'_> {
    /// An image of the set, `[h, w, c]`, and its label.
    fn image(&self, index: usize) -> Result<(Cow<'_, [u8]>, u32), String> {
        Ok((self.images.image(index)?, self.labels[index]))
    }

    fn fit(&self, client: u32, round: u32, trainer: &mut Trainer) -> Result<Report, String> {
        let shard = &self.shards[client as usize].train;
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        let (mut loss, mut correct) = (0.0, 0);
        let epochs = u64::from(self.local_epochs);
        let steps = shard.len().div_ceil(self.batch_size) as u64;
        let total = steps * epochs * u64::from(self.rounds);
        let mut step = steps * epochs * u64::from(round - 1);
        // Every client has an order of its own.
        let seed = self.seed ^ (u64::from(client) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for epoch in 0..epochs {
            (loss, correct) = (0.0, 0);
            let order = epoch_order(seed, epochs * u64::from(round - 1) + epoch, shard.len());
            for batch in order.chunks(self.batch_size) {
                images.clear();
                labels.clear();
                let mut rng = random::stream(seed, "augment", step);
                for &at in batch {
                    let (image, label) = self.image(shard[at as usize])?;
                    let shape = self.graph.input();
                    self.augment.apply(&mut rng, &image, shape, &mut images);
                    labels.push(label);
                }
                let lr = self.schedule.lr(self.lr, step, total);
                let metrics = trainer
                    .step(&images, &labels, lr)
                    .map_err(|error| error.to_string())?;
                loss += metrics.loss * batch.len() as f64;
                correct += metrics.correct;
                step += 1;
            }
        }
        let count = shard.len().max(1) as f64;
        Ok(Report {
            train_loss: (loss / count) as f32,
            train_accuracy: (correct as f64 / count) as f32,
            local_test_accuracy: 0.0,
        })
    }

    /// Accuracy of the client's model as it would be deployed, on the images that it keeps apart.
    fn measure(&self, client: u32, trainer: &mut Trainer) -> Result<f32, String> {
        let line = |error: lowbit::exec::RuntimeError| error.to_string();
        let held = &self.shards[client as usize].held;
        let model: Box<dyn Model> = match trainer.quantized_model() {
            Some(model) => Box::new(IntegerModel::compile(&model, self.isa).map_err(line)?),
            None => Box::new(
                FloatModel::compile(self.graph, &trainer.weights(), self.isa).map_err(line)?,
            ),
        };
        let classes = self.graph.classes();
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        let mut logits = vec![0.0; BATCH * classes];
        let mut correct = 0;
        for batch in held.chunks(BATCH) {
            images.clear();
            labels.clear();
            for &index in batch {
                let (image, label) = self.image(index)?;
                images.extend_from_slice(&image);
                labels.push(label);
            }
            let logits = &mut logits[..batch.len() * classes];
            model.run(&images, logits).map_err(line)?;
            for (row, &label) in logits.chunks_exact(classes).zip(&labels) {
                correct += usize::from(predicted(row) == Some(label as usize));
            }
        }
        Ok(correct as f32 / held.len().max(1) as f32)
    }
}

impl Local for LocalTraining<'_> {
    fn train(
        &self,
        client: u32,
        round: u32,
        model: &[f32],
        own: &[f32],
    ) -> Result<Trained, String> {
        let mut weights = self.schema.unflatten(model);
        self.own.write(own, &mut weights);
        let mut trainer =
            Trainer::compile(self.graph, &weights, self.optimizer, self.qat, self.isa)
                .map_err(|error| error.to_string())?;
        if self.proximal > 0.0 {
            trainer.pull_back(self.proximal);
        }
        let mut report = self.fit(client, round, &mut trainer)?;
        report.local_test_accuracy = self.measure(client, &mut trainer)?;
        let weights = trainer.weights();
        let changed = "training changed the model's tensors";
        Ok(Trained {
            model: self.schema.flatten(&weights).ok_or(changed)?,
            own: self.own.flatten(&weights).ok_or(changed)?,
            report,
        })
    }

    fn images(&self, client: u32) -> u32 {
        self.shards[client as usize].train.len() as u32
    }
}

/// What leaves a client: a message, and what it could not say.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// To the server.
    pub message: Vec<u8>,
    /// What was meant and did not fit, to be added next time; empty where nothing is lost.
    pub residual: Vec<f32>,
}

/// Encodes what training changed in the model of `round`.
///
/// # Panics
/// If lengths are not the schema's.
#[must_use]
pub fn upload(
    schema: &Schema,
    (client, round, images, seed): (u32, u32, u32, u64),
    received: &[f32],
    trained: &Trained,
    residual: &[f32],
    encoding: Encoding,
) -> Upload {
    let end = schema.trained().end;
    let mut values = trained.model.clone();
    for (value, received) in values[..end].iter_mut().zip(received) {
        *value -= received;
    }
    for (value, residual) in values[..end].iter_mut().zip(residual) {
        *value += residual;
    }
    let header = Header {
        kind: Kind::Update,
        round,
        base: round,
        sender: client,
        images,
        report: trained.report,
    };
    let step = u64::from(round) << 32 | u64::from(client);
    let mut dither = Dither::new(seed, "uplink", step);
    let message = wire::encode(schema, &header, &values, encoding, &mut dither);
    let residual = if encoding.feedback && encoding.bits.loses() {
        let mut arrives = vec![0.0; schema.len()];
        // A message that cannot be read (a diverged client's) leaves nothing to keep: the server refuses it.
        match wire::decode(schema, &message, &mut arrives) {
            Ok(_) => {
                values.truncate(end);
                values
                    .iter_mut()
                    .zip(&arrives)
                    .for_each(|(value, arrives)| *value -= arrives);
                values
            }
            Err(_) => Vec::new(),
        }
    } else {
        Vec::new()
    };
    Upload { message, residual }
}
