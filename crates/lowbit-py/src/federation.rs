//! Federations: both sides of lowbit's own, and the codec for anybody's.

use crate::arrays;
use crate::dataset::PyInput;
use crate::errors::{self, Class};
use crate::settings::{self, Pairs};
use crate::threads::work;
use lowbit::{Isa, WeightBits};
use lowbit_fed::codec::{Dither, MessageBits};
use lowbit_fed::screen::{self, ClientFailure, Failure};
use lowbit_fed::wire::{self, Encoding, Header, Kind, Report};
use lowbit_fed::{Role, Schema, TensorSpec};
use lowbit_lab::config::Area;
use lowbit_lab::config::areas::Federating;
use lowbit_lab::experiments::federate::{self as lab, ClientState, FederateConfig, Resume};
use lowbit_lab::{Config, LabError};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Arc, Mutex, PoisonError};

type Flat<'py> = Bound<'py, PyArrayDyn<f32>>;

/// A federation's own settings over the others, by the names of the command line.
fn federation(pairs: &Pairs, config: &Config) -> PyResult<FederateConfig> {
    let mut bits = WeightBits::B8.into();
    // Its clients are processes of their own.
    let mut own: Pairs = vec![("at_a_time".into(), "1".into())];
    let refuse = |key: &str, text: &str, reason: &str| {
        Err(Class::Setting.error(format!("{key}={text}: {reason}")))
    };
    for (key, text) in pairs {
        let known = |key: &str| Federating::GROUP.settings.iter().any(|one| one.key == key);
        match key.as_str() {
            "bits" => match text.parse() {
                Ok(given) => bits = given,
                Err(_) => return refuse(key, text, "use 32, 16, 8, 4, 2 or 1"),
            },
            "rotate" => own.push(("rotation".into(), text.clone())),
            key if known(key) => own.push((key.into(), text.clone())),
            _ => return refuse(key, text, "unknown setting of a federation"),
        }
    }
    let config = settings::over(config.clone(), &own)?;
    Ok(FederateConfig::of(&config, bits, Resume::No))
}

/// The server's side of a federation whose clients are elsewhere.
#[pyclass(frozen, name = "FederationServer", module = "lowbit._lowbit")]
pub(crate) struct PyServer {
    /// None after the end.
    server: Mutex<Option<lab::Server>>,
}

impl PyServer {
    fn with<R>(&self, then: impl FnOnce(&mut lab::Server) -> R) -> PyResult<R> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.as_mut();
        let ended = || Class::Wire.error("the federation has ended: begin another");
        Ok(then(server.ok_or_else(ended)?))
    }
}

#[pymethods]
impl PyServer {
    #[new]
    fn new(py: Python<'_>, input: &PyInput, settings: Pairs, own: Pairs) -> PyResult<Self> {
        let config = settings::config(&settings)?;
        let federate = federation(&own, &config)?;
        let input = Arc::clone(&input.input);
        let isa = Isa::current().map_err(errors::of)?;
        let server = work(py, || lab::Server::new(config, federate, input, isa))?;
        Ok(Self {
            server: Mutex::new(Some(server)),
        })
    }

    /// Begins the next round; returns it and its clients.
    fn open(&self, py: Python<'_>) -> PyResult<(u32, Vec<u32>)> {
        py.detach(|| self.with(lab::Server::open))
    }

    /// The messages for a client, and the last round in which an answer of it counted.
    fn send<'py>(&self, py: Python<'py>, client: u32) -> PyResult<(Vec<Bound<'py, PyBytes>>, u32)> {
        let (messages, counted) =
            py.detach(|| self.with(|server| (server.send(client), server.counted(client))))?;
        let messages = messages.iter().map(|message| PyBytes::new(py, message));
        Ok((messages.collect(), counted))
    }

    /// Ends the round with the answers that came (client, seconds, bytes) and the clients that sent none (client, reason);
    /// returns its record as JSON.
    fn close(
        &self,
        py: Python<'_>,
        answers: Vec<(u32, f64, Vec<u8>)>,
        lost: Vec<(u32, String)>,
    ) -> PyResult<String> {
        let lost = lost.into_iter().map(|(client, text)| ClientFailure {
            client,
            failure: Failure::Training { text },
        });
        let lost = lost.collect();
        let round = work(py, || {
            let round = self.with(|server| server.close(answers, lost));
            Ok::<_, LabError>(round)
        })?;
        let round = round?.map_err(errors::of)?;
        Ok(serde_json::to_string(&round).expect("plain data"))
    }

    /// Writes models and results; returns their folder.
    fn finish(&self, py: Python<'_>) -> PyResult<std::path::PathBuf> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.take();
        let server = server.ok_or_else(|| Class::Wire.error("the federation has ended already"))?;
        Ok(work(py, || server.finish())?.folder)
    }
}

/// A client's side of a federation.
#[pyclass(frozen, name = "FederationClient", module = "lowbit._lowbit")]
pub(crate) struct PyClient {
    client: lab::Client,
}

/// What a client keeps, as Python keeps it: model, round, residual, pending residual, last answered round.
type Kept<'py> = (Flat<'py>, u32, Flat<'py>, Flat<'py>, u32);

#[pymethods]
impl PyClient {
    #[new]
    fn new(
        py: Python<'_>,
        input: &PyInput,
        settings: Pairs,
        own: Pairs,
        client: u32,
        own_images: bool,
    ) -> PyResult<Self> {
        let config = settings::config(&settings)?;
        let federate = federation(&own, &config)?;
        let input = Arc::clone(&input.input);
        let isa = Isa::current().map_err(errors::of)?;
        let client = work(py, || {
            lab::Client::new(config, federate, input, client, own_images, isa)
        })?;
        Ok(Self { client })
    }

    /// Training images of the client.
    fn images(&self) -> u32 {
        self.client.images()
    }

    /// Takes a round's messages and trains; returns the answer, and what to keep.
    fn answer<'py>(
        &self,
        py: Python<'py>,
        kept: Option<Kept<'py>>,
        round: u32,
        counted: u32,
        messages: Vec<Vec<u8>>,
    ) -> PyResult<(Bound<'py, PyBytes>, Kept<'py>)> {
        let mut state = match kept {
            None => ClientState::default(),
            Some((model, held, residual, pending, answered)) => ClientState {
                model: arrays::copied(&model, "model")?,
                round: held,
                residual: arrays::copied(&residual, "residual")?,
                pending: arrays::copied(&pending, "pending")?,
                answered,
            },
        };
        let (answer, state) = work(py, || -> Result<_, LabError> {
            let answer = self
                .client
                .answer(&mut state, (round, counted), &messages)?;
            Ok((answer, state))
        })?;
        let flat = |values: Vec<f32>| {
            let len = values.len();
            arrays::owned(py, values, &[len])
        };
        let kept = (
            flat(state.model)?,
            state.round,
            flat(state.residual)?,
            flat(state.pending)?,
            state.answered,
        );
        Ok((PyBytes::new(py, &answer), kept))
    }
}

/// Encodes and decodes differences of anybody's tensors.
#[pyclass(frozen, name = "Codec", module = "lowbit._lowbit")]
pub(crate) struct PyCodec {
    schema: Schema,
    encoding: Encoding,
    seed: u64,
}

#[pymethods]
impl PyCodec {
    /// Of tensors by name and shape; `statistics` are sent as they are.
    #[new]
    fn new(
        tensors: Vec<(String, Vec<usize>, bool)>,
        bits: &str,
        feedback: bool,
        seed: u64,
    ) -> PyResult<Self> {
        let refuse = |line: String| Class::Setting.error(format!("bits={bits}: {line}"));
        let bits: MessageBits = bits.parse().map_err(refuse)?;
        let spec = |(name, shape, statistic): (String, Vec<usize>, bool)| TensorSpec {
            role: match (statistic, shape.len()) {
                (true, _) => Role::Statistic,
                (false, 0 | 1) => Role::Vector,
                (false, _) => Role::Matrix,
            },
            name,
            shape,
        };
        Ok(Self {
            schema: Schema::new(tensors.into_iter().map(spec).collect()),
            encoding: Encoding {
                bits,
                feedback,
                rotate: true,
            },
            seed,
        })
    }

    /// Names and shapes in the order of the flat vector, and how many numbers are differences.
    fn layout(&self) -> (Vec<(String, Vec<usize>)>, usize) {
        let tensors = self.schema.tensors().iter();
        let layout = tensors.map(|tensor| (tensor.name.clone(), tensor.shape.clone()));
        (layout.collect(), self.schema.trained().end)
    }

    /// The bytes of a flat vector: whole (`base` is 0) or differences to the model of round `base`.
    fn encode<'py>(
        &self,
        py: Python<'py>,
        values: Flat<'py>,
        round: u32,
        base: u32,
        sender: u32,
        images: u32,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let values = arrays::copied(&values, "values")?;
        if values.len() != self.schema.len() {
            let (found, expected) = (values.len(), self.schema.len());
            return Err(Class::Wire.error(format!("{found} numbers, the tensors have {expected}")));
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let (name, value) = (self.schema.name_at(index), values[index]);
            return Err(Class::Wire.error(format!("tensor {name} holds {value}")));
        }
        let header = Header {
            kind: if base == 0 { Kind::Model } else { Kind::Update },
            round,
            base,
            sender,
            images,
            report: Report::default(),
        };
        let bytes = work(py, || -> Result<_, LabError> {
            let step = u64::from(round) << 32 | u64::from(sender);
            let purpose = if sender == wire::SERVER {
                "downlink"
            } else {
                "uplink"
            };
            let mut dither = Dither::new(self.seed, purpose, step);
            Ok(wire::encode(
                &self.schema,
                &header,
                &values,
                self.encoding,
                &mut dither,
            ))
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// A message's flat vector, round, base (0 of a whole model), sender and images.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        message: &[u8],
    ) -> PyResult<(Flat<'py>, u32, u32, u32, u32)> {
        let read = py.detach(|| {
            let mut values = vec![0.0; self.schema.len()];
            wire::decode(&self.schema, message, &mut values).map(|(header, _)| (values, header))
        });
        let (values, header) = read.map_err(|error| Class::Wire.error(error.to_string()))?;
        let base = match header.kind {
            Kind::Update => header.base,
            Kind::Model => 0,
            Kind::Seed(_) => {
                return Err(Class::Wire.error("the message is a seed, expected tensors"));
            }
        };
        let len = values.len();
        let values = arrays::owned(py, values, &[len])?;
        Ok((values, header.round, base, header.sender, header.images))
    }

    /// The differences of a node's answer to the model of `round`, after the checks of a federation's server, and their length.
    fn open<'py>(
        &self,
        py: Python<'py>,
        message: &[u8],
        sender: u32,
        round: u32,
    ) -> PyResult<(Flat<'py>, f64)> {
        let read = py.detach(|| {
            let mut values = vec![0.0; self.schema.len()];
            screen::open(&self.schema, (sender, round), message, &mut values)?;
            let norm = screen::norm(&self.schema, &values);
            Ok((values, norm))
        });
        let read: Result<_, Failure> = read;
        let (values, norm) = read.map_err(|failure| Class::Wire.error(failure.to_string()))?;
        let len = values.len();
        Ok((arrays::owned(py, values, &[len])?, norm))
    }
}

/// For each length of an update, why it does not count beside the others; none where it does.
#[pyfunction]
pub(crate) fn too_large(norms: Vec<f64>) -> Vec<Option<String>> {
    let found = screen::too_large(&norms).into_iter();
    found
        .map(|failure| failure.map(|failure| failure.to_string()))
        .collect()
}
