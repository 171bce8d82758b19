//! A whole federation in one process: its settings, its state between rounds, and what can be wrong with either.

use crate::aggregate::Aggregator;
use crate::client::Local;
use crate::codec::MessageBits;
use crate::norm::Norm;
use crate::schema::Schema;
use crate::screen::ClientFailure;
use crate::server::{Server, Start};
use crate::strategy::Strategy;
use crate::wire::Encoding;
use std::collections::BTreeMap;
use std::str::FromStr;

/// How a federation runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Clients in all.
    pub clients: u32,
    /// Share of them that is chosen for a round.
    pub fraction: f64,
    /// From the clients.
    pub up: Encoding,
    /// To the clients.
    pub down: Encoding,
    /// How the mean update changes the model.
    pub strategy: Strategy,
    /// How updates become one.
    pub aggregator: Aggregator,
    /// Whose batch-norm is.
    pub norm: Norm,
    /// Probability that a chosen client drops out after it received the model.
    pub dropout: f64,
    /// Seconds after which a client's answer does not count. By the clock: with it, runs do not repeat to the bit.
    pub deadline: Option<f64>,
    /// Fewest clients that must count in a round.
    pub min_clients: u32,
    /// Of choosing clients, dropouts, and rounding.
    pub seed: u64,
    /// Clients that misbehave, to see what that does.
    pub faults: Vec<ClientFault>,
    /// Clients that train at the same time, each on its share of the threads; 1 gives all threads to one after the other.
    pub at_a_time: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let encoding = Encoding {
            bits: MessageBits::Uniform(8),
            feedback: true,
            rotate: true,
        };
        Self {
            clients: 10,
            fraction: 1.0,
            up: encoding,
            down: encoding,
            strategy: Strategy::FedAvg,
            aggregator: Aggregator::Mean,
            norm: Norm::Server,
            dropout: 0.0,
            deadline: None,
            min_clients: 2,
            seed: 1,
            faults: Vec::new(),
            at_a_time: 1,
        }
    }
}

/// What a client does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It sends a number that is none.
    Nan,
    /// It sends its update times this.
    Scaled(f32),
    /// Its message ends in the middle.
    CutOff,
}

/// A client that does something wrong in every round, written `3=nan`, `3=x100` or `3=cut`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientFault {
    /// The client.
    pub client: u32,
    /// What it does.
    pub kind: Fault,
}

impl std::fmt::Display for ClientFault {
    /// As it is read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Fault::Nan => write!(f, "{}=nan", self.client),
            Fault::CutOff => write!(f, "{}=cut", self.client),
            Fault::Scaled(factor) => write!(f, "{}=x{factor}", self.client),
        }
    }
}

impl FromStr for ClientFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (client, kind) = text.split_once('=')?;
            let kind = match kind {
                "nan" => Fault::Nan,
                "cut" => Fault::CutOff,
                _ => Fault::Scaled(kind.strip_prefix('x')?.parse().ok()?),
            };
            let client = client.parse().ok()?;
            Some(Self { client, kind })
        };
        parse().ok_or_else(|| format!("fault {text}: use CLIENT=nan, CLIENT=x100 or CLIENT=cut"))
    }
}

/// Why a federation cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FedError {
    /// A setting that makes no sense.
    #[error("{name} is {value}: {expected}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// Too few clients answered.
    #[error(
        "round {round}: {accepted} clients count, at least {needed} must{}; lower --min-clients, or look at why they failed",
        first(failures)
    )]
    TooFew {
        /// The round.
        round: u32,
        /// Clients that counted.
        accepted: usize,
        /// Clients that must.
        needed: u32,
        /// The others.
        failures: Vec<ClientFailure>,
    },
    /// A file that is no checkpoint of this federation.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Format(#[from] lowbit::format::FormatError),
}

fn first(failures: &[ClientFailure]) -> String {
    failures.first().map_or(String::new(), |failed| {
        format!(" (client {}: {})", failed.client, failed.failure)
    })
}

impl Settings {
    /// Looks for settings that make no sense.
    ///
    /// # Errors
    /// [`FedError::Setting`] naming the first.
    pub fn check(&self) -> Result<(), FedError> {
        let refuse = |name, value: String, expected: String| {
            Err(FedError::Setting {
                name,
                value,
                expected,
            })
        };
        if self.clients == 0 || self.clients > 100_000 {
            return refuse(
                "clients",
                self.clients.to_string(),
                "use 1 to 100,000".into(),
            );
        }
        if !(self.fraction > 0.0 && self.fraction <= 1.0) {
            let expected = "use more than 0 and at most 1".into();
            return refuse("fraction", self.fraction.to_string(), expected);
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let expected = "use at least 0 and less than 1".into();
            return refuse("dropout", self.dropout.to_string(), expected);
        }
        if self.min_clients > self.clients {
            let expected = format!("there are {} clients", self.clients);
            return refuse("min-clients", self.min_clients.to_string(), expected);
        }
        if let Some(deadline) = self
            .deadline
            .filter(|&seconds| seconds.is_nan() || seconds <= 0.0)
        {
            return refuse(
                "deadline",
                deadline.to_string(),
                "use seconds above 0".into(),
            );
        }
        if let Some(fault) = self
            .faults
            .iter()
            .find(|fault| fault.client >= self.clients)
        {
            let expected = format!("there are clients 0 to {}", self.clients - 1);
            return refuse("fault of client", fault.client.to_string(), expected);
        }
        Ok(())
    }
}

/// A federation between two rounds.
pub struct Federation<'a> {
    pub(crate) settings: Settings,
    pub(crate) server: Server,
    pub(crate) local: &'a dyn Local,
    /// What clients could not say so far: with `own`, all that an idle client costs.
    pub(crate) residuals: BTreeMap<u32, Vec<f32>>,
    /// The tensors that stay with a client, before it trained; empty where all travel.
    pub(crate) fresh: Vec<f32>,
    /// The same of each client whose training counted.
    pub(crate) own: BTreeMap<u32, Vec<f32>>,
}

impl<'a> Federation<'a> {
    /// Starts from the flat vector `model`, and the tensors `fresh` that stay with each client.
    ///
    /// # Errors
    /// [`FedError::Setting`] for settings that make no sense.
    ///
    /// # Panics
    /// If `model` has another length than the schema.
    pub fn new(
        settings: Settings,
        schema: Schema,
        model: Vec<f32>,
        fresh: Vec<f32>,
        start: Start,
        local: &'a dyn Local,
    ) -> Result<Self, FedError> {
        settings.check()?;
        let server = Server::new(schema, model, start, settings.down, settings.seed);
        Ok(Self {
            settings,
            server,
            local,
            residuals: BTreeMap::new(),
            fresh,
            own: BTreeMap::new(),
        })
    }

    /// The server's side.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// How it runs.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The tensors that stay with `client`, as its last training that counted left them.
    #[must_use]
    pub fn own(&self, client: u32) -> &[f32] {
        self.own.get(&client).unwrap_or(&self.fresh)
    }

    /// Clients that have tensors of their own, other than those that all begin with.
    pub fn with_own(&self) -> impl Iterator<Item = u32> + '_ {
        self.own.keys().copied()
    }

    /// Bytes of what clients could not say so far.
    #[must_use]
    pub fn residual_bytes(&self) -> usize {
        self.residuals
            .values()
            .map(|residual| 4 * residual.len())
            .sum()
    }
}

#[cfg(test)]
mod tests;
