//! The server's model, the clients' copy of it, and what each client needs to be in step.

use crate::codec::Dither;
use crate::schema::Schema;
use crate::strategy::{Memory, Strategy};
use crate::wire::{self, Encoding, Header, Kind, Parts, Report, SERVER};
use std::collections::BTreeMap;

/// Where a federation starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Fresh weights, which every client makes of this seed.
    Seed(u64),
    /// A model that clients must be sent.
    Model,
}

/// A message that went to the clients in some round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broadcast {
    pub(crate) round: u32,
    pub(crate) bytes: Vec<u8>,
}

/// What the server knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    schema: Schema,
    encoding: Encoding,
    seed: u64,
    start: Start,
    /// The model itself, never rounded.
    pub(crate) global: Vec<f32>,
    /// The model as every client in step holds it. What it lacks of `global` goes with the next message: that difference is
    /// the downlink's error feedback.
    pub(crate) reference: Vec<f32>,
    pub(crate) memory: Memory,
    /// Rounds whose message is out.
    pub(crate) round: u32,
    /// The latest messages; together no longer than a whole model.
    pub(crate) log: Vec<Broadcast>,
    /// The round of each client's model.
    pub(crate) in_step: BTreeMap<u32, u32>,
}

/// What a client is sent in a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// The messages, in order.
    pub messages: Vec<Vec<u8>>,
    /// Their bytes.
    pub parts: Parts,
    /// Messages beyond the one that clients in step get.
    pub catch_up: Parts,
}

impl Server {
    /// Starts from the flat vector `model`.
    ///
    /// # Panics
    /// If it has another length than the schema.
    #[must_use]
    pub fn new(
        schema: Schema,
        model: Vec<f32>,
        start: Start,
        encoding: Encoding,
        seed: u64,
    ) -> Self {
        assert_eq!(model.len(), schema.len(), "a model of this schema");
        Self {
            schema,
            encoding,
            seed,
            start,
            reference: model.clone(),
            global: model,
            memory: Memory::default(),
            round: 0,
            log: Vec::new(),
            in_step: BTreeMap::new(),
        }
    }

    /// The model, as one flat vector.
    #[must_use]
    pub fn global(&self) -> &[f32] {
        &self.global
    }

    /// The model as the clients hold it after this round's message.
    #[must_use]
    pub fn reference(&self) -> &[f32] {
        &self.reference
    }

    /// What its messages hold.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Begins round `self.round + 1`: makes the message that brings clients in step to it. The first round has none: clients
    /// get the start.
    pub fn begin(&mut self) {
        self.round += 1;
        if self.round == 1 {
            return;
        }
        let trained = self.schema.trained().end;
        let mut values = self.global.clone();
        for (value, reference) in values[..trained].iter_mut().zip(&self.reference) {
            *value -= reference;
        }
        let bytes = self.message(Kind::Update, self.round - 1, &values);
        // What the clients make of it, not what was meant.
        let (header, _) = wire::decode(&self.schema, &bytes, &mut values).expect("its own message");
        wire::apply(&self.schema, header.kind, &values, &mut self.reference);
        self.log.push(Broadcast {
            round: self.round,
            bytes,
        });
        let whole = 4 * self.schema.len();
        while self.log.iter().map(|sent| sent.bytes.len()).sum::<usize>() > whole
            && self.log.len() > 1
        {
            self.log.remove(0);
        }
    }

    fn message(&self, kind: Kind, base: u32, values: &[f32]) -> Vec<u8> {
        let header = Header {
            kind,
            round: self.round,
            base,
            sender: SERVER,
            images: 0,
            report: Report::default(),
        };
        let mut dither = Dither::new(self.seed, "downlink", u64::from(self.round));
        wire::encode(&self.schema, &header, values, self.encoding, &mut dither)
    }

    /// The messages that bring `client` to this round's model, the cheaper of two ways: all that it missed, or the model as
    /// it stands. It is in step from now on.
    pub fn send(&mut self, client: u32) -> Packet {
        let known = self.in_step.insert(client, self.round);
        let kind = match self.start {
            Start::Seed(seed) => Kind::Seed(seed),
            Start::Model => Kind::Model,
        };
        let mut messages = Vec::new();
        // The start, where it still is the model of round 1 and the log reaches back to it.
        if known.is_none() && (self.round == 1 || kind != Kind::Model) {
            let values = if kind == Kind::Model {
                &self.reference[..]
            } else {
                &[]
            };
            messages.push(self.message(kind, 0, values));
        }
        let from = known.unwrap_or(1) + 1;
        let missed = self.log.iter().filter(|sent| sent.round >= from);
        messages.extend(missed.map(|sent| sent.bytes.clone()));
        let chain: usize = messages.iter().map(Vec::len).sum();
        let started = known.is_some() || self.round == 1 || kind != Kind::Model;
        let unbroken = from > self.round || self.log.first().is_some_and(|sent| sent.round <= from);
        if !started || !unbroken || chain > 4 * self.schema.len() + 256 {
            messages = vec![self.message(Kind::Model, self.round, &self.reference)];
        }
        let regular = usize::from(known == Some(self.round.wrapping_sub(1)) || self.round == 1);
        let mut packet = Packet {
            parts: Parts::default(),
            catch_up: Parts::default(),
            messages,
        };
        let mut scratch = vec![0.0; self.schema.len()];
        for (index, bytes) in packet.messages.iter().enumerate() {
            let (_, parts) =
                wire::decode(&self.schema, bytes, &mut scratch).expect("its own message");
            packet.parts += parts;
            if index >= regular {
                packet.catch_up += parts;
            }
        }
        packet
    }

    /// The round whose message is out; 0 before the first.
    #[must_use]
    pub fn round(&self) -> u32 {
        self.round
    }

    /// Forgets what `client` holds: it began anew, and is sent all of the model next time.
    pub fn forget(&mut self, client: u32) {
        self.in_step.remove(&client);
    }

    /// Changes the model by the clients' mean update; `combined` is as long as the schema, statistics as they are.
    pub fn step(&mut self, strategy: Strategy, combined: &[f64]) {
        let trained = self.schema.trained().end;
        let (global, statistics) = self.global.split_at_mut(trained);
        strategy.step(self.round, &combined[..trained], &mut self.memory, global);
        for (x, &mean) in statistics.iter_mut().zip(&combined[trained..]) {
            *x = mean as f32;
        }
    }
}

/// What a client that receives `messages` holds after them; it held `model` before.
///
/// # Errors
/// [`wire::WireError`] for a message that cannot be read.
pub fn receive(
    schema: &Schema,
    messages: &[Vec<u8>],
    fresh: impl Fn(u64) -> Vec<f32>,
    model: &mut Vec<f32>,
) -> Result<(), wire::WireError> {
    let mut values = vec![0.0; schema.len()];
    model.resize(schema.len(), 0.0);
    for bytes in messages {
        let (header, _) = wire::decode(schema, bytes, &mut values)?;
        if let Kind::Seed(seed) = header.kind {
            *model = fresh(seed);
        }
        wire::apply(schema, header.kind, &values, model);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::MessageBits;
    use crate::schema::tests::small;

    fn server(bits: MessageBits) -> Server {
        let schema = small();
        let encoding = Encoding {
            bits,
            feedback: true,
            rotate: true,
        };
        let model = fresh(schema.len(), 1);
        Server::new(schema, model, Start::Seed(1), encoding, 1)
    }

    fn fresh(len: usize, seed: u64) -> Vec<f32> {
        (0..len)
            .map(|at| ((at as u64 * 7 + seed) % 13) as f32 * 0.1)
            .collect()
    }

    fn drift(server: &mut Server) {
        let update: Vec<f64> = (0..server.schema.len())
            .map(|at| ((at * 31 + server.round as usize * 17) % 23) as f64 * 0.01)
            .collect();
        server.step(Strategy::FedAvg, &update);
    }

    #[test]
    fn clients_that_missed_rounds_end_with_the_same_bits_as_those_in_step() {
        for bits in [
            MessageBits::Float,
            MessageBits::Uniform(8),
            MessageBits::Uniform(1),
            MessageBits::Ternary(0.05),
        ] {
            let mut server = server(bits);
            let mut models: BTreeMap<u32, Vec<f32>> = BTreeMap::new();
            for round in 1..=12u32 {
                server.begin();
                // Client 0 always, client 1 every third round, client 2 late, client 3 at the end.
                let present = [true, round % 3 == 1, round == 6, round == 12];
                for client in (0..4).filter(|&client| present[client as usize]) {
                    let packet = server.send(client);
                    let counted: usize = packet.messages.iter().map(Vec::len).sum();
                    assert_eq!(packet.parts.total(), counted as u64);
                    assert!(
                        counted <= 4 * server.schema.len() + 256 || round == 1,
                        "{bits} {round} {counted}"
                    );
                    let model = models.entry(client).or_default();
                    let len = server.schema.len();
                    receive(
                        &server.schema,
                        &packet.messages,
                        |seed| fresh(len, seed),
                        model,
                    )
                    .unwrap();
                    assert_eq!(
                        *model, server.reference,
                        "{bits} round {round} client {client}"
                    );
                    let late = client > 0 && round > 1;
                    assert_eq!(
                        packet.catch_up.total() > 0,
                        late,
                        "{bits} round {round} client {client}"
                    );
                }
                drift(&mut server);
            }
        }
    }

    #[test]
    fn what_a_coarse_downlink_loses_comes_later() {
        let mut server = server(MessageBits::Uniform(1));
        for _ in 0..3 {
            server.begin();
            drift(&mut server);
        }
        // The model stands still: the clients' copy closes in on it.
        let distance = |server: &Server| -> f64 {
            let trained = server.schema.trained();
            let pairs = server.global[trained.clone()]
                .iter()
                .zip(&server.reference[trained]);
            pairs
                .map(|(a, b)| f64::from(a - b).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let before = distance(&server);
        for _ in 0..30 {
            server.begin();
        }
        assert!(
            distance(&server) < 0.01 * before,
            "{before} {}",
            distance(&server)
        );
    }

    #[test]
    fn a_model_that_is_no_seeds_is_sent_once() {
        let mut server = server(MessageBits::Uniform(8));
        server.start = Start::Model;
        server.begin();
        assert!(server.send(0).parts.codes >= 4 * 340);
        drift(&mut server);
        server.begin();
        assert_eq!(server.send(0).parts.codes, 340);
        // A latecomer gets the model of this round, not that of the first.
        let packet = server.send(1);
        let mut model = vec![0.0; server.schema.len()];
        receive(&server.schema, &packet.messages, |_| vec![], &mut model).unwrap();
        assert_eq!(model, server.reference);
    }
}
