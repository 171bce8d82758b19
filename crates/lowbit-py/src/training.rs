//! Training: on the pool, while the calling thread listens to Python's signals and calls back.

use crate::dataset::PyInput;
use crate::errors::{self, Class};
use crate::model::PyModel;
use crate::settings::{self, Pairs};
use crate::state::State;
use crate::threads;
use lowbit::format::{StoredModel, TrainingRecord, load_checkpoint};
use lowbit::{Graph, Isa, ModelBits, Weights};
use lowbit_lab::experiments::inputs::Input;
use lowbit_lab::experiments::sweep::deployable;
use lowbit_lab::records::EpochRecord;
use lowbit_lab::training::{Plan, StartWeights, Trained, start_weights, train as run};
use lowbit_lab::{Config, Events, LabError};
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often Python is asked whether somebody wants to stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// What a checkpoint calls the weights that its training began with.
const START: &str = "start";

/// What a training tells.
enum Told {
    Epoch(EpochRecord),
    Batch {
        images: usize,
        of: usize,
        loss: f64,
        accuracy: f64,
    },
}

/// The training's end of the line.
struct Teller<'a> {
    tell: Mutex<Sender<Told>>,
    /// Comes back when the callback has returned.
    heard: Mutex<Receiver<()>>,
    stop: &'a AtomicBool,
    /// Whether anybody wants to hear of batches.
    batches: bool,
    images: Mutex<usize>,
}

impl Teller<'_> {
    fn say(&self, what: Told) {
        let lock = PoisonError::into_inner;
        if self.tell.lock().unwrap_or_else(lock).send(what).is_ok() {
            let _ = self
                .heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
        }
    }
}

impl Events for Teller<'_> {
    fn epoch_started(&self, _epoch: usize, _epochs: usize, images: usize) {
        *self.images.lock().unwrap_or_else(PoisonError::into_inner) = images;
    }

    fn batch_done(&self, images: usize, loss: f64, accuracy: f64) {
        if self.batches {
            let of = *self.images.lock().unwrap_or_else(PoisonError::into_inner);
            self.say(Told::Batch {
                images,
                of,
                loss,
                accuracy,
            });
        }
    }

    fn epoch_done(&self, record: &EpochRecord, _epochs: usize) {
        self.say(Told::Epoch(*record));
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Trains `model`, which has the last whole epoch's weights afterwards, also where it was stopped; returns the records of the
/// epochs, which one was chosen and its test accuracy as JSON, and the integer model of a training with fewer than 32 `bits`.
#[pyfunction]
#[pyo3(signature = (model, input, settings, bits, checkpoint, resume, on_epoch, on_batch))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn train(
    py: Python<'_>,
    model: &PyModel,
    input: &PyInput,
    settings: Pairs,
    bits: u8,
    checkpoint: PathBuf,
    resume: bool,
    on_epoch: Option<Py<PyAny>>,
    on_batch: Option<Py<PyAny>>,
) -> PyResult<(String, Option<PyModel>)> {
    let config = settings::config(&settings)?;
    let state = model.state();
    state.float()?;
    // Callbacks may call lowbit: on the shared pool they would wait for the training, which waits for them.
    let pool = threads::own_pool()?;
    let isa = Isa::current().map_err(errors::of)?;
    let bits =
        ModelBits::try_from(bits).map_err(|error| Class::Setting.error(error.to_string()))?;
    let packed = bits.packed();
    let plan_of = |prepared: &Prepared| Plan {
        qat: packed.map(|bits| config.qat(bits)),
        start: prepared.start.clone(),
        frozen_norm_epochs: packed.map_or(0, |_| config.qat.freeze_bn_epochs),
        checkpoint: Some(&checkpoint),
        resume,
        ..Plan::default()
    };
    let begun = threads::work(py, || -> Result<_, LabError> {
        // A training that was stopped goes on from what it began with, if the checkpoint is its own.
        if let Some(before) = state
            .before
            .as_ref()
            .filter(|_| resume && checkpoint.exists())
        {
            let prepared = Prepared::new(before, &input.input, &config)?;
            let saved = load_checkpoint(&checkpoint)?;
            let ours = plan_of(&prepared).decisive(&config, &prepared.input, &prepared.graph);
            if ours.get(START) == saved.metadata.get(START).map(String::as_str) {
                return Ok((Arc::clone(before), prepared));
            }
        }
        let prepared = Prepared::new(&state, &input.input, &config)?;
        Ok((Arc::clone(&state), prepared))
    });
    let (begun, prepared) = begun?;
    let plan = plan_of(&prepared);
    let (tell, told) = channel();
    let (hear, heard) = channel();
    let stop = AtomicBool::new(false);
    let teller = Teller {
        tell: Mutex::new(tell),
        heard: Mutex::new(heard),
        stop: &stop,
        batches: on_batch.is_some(),
        images: Mutex::new(0),
    };
    let (with, calls) = ((&prepared, &config, &plan, &stop), [&on_epoch, &on_batch]);
    let (done, raised) = py.detach(move || {
        std::thread::scope(|scope| {
            let (prepared, config, plan, stop) = with;
            let worker = scope.spawn(move || {
                let work = || run(config, plan, &prepared.graph, &prepared.input, isa, &teller);
                let done = catch_unwind(AssertUnwindSafe(|| pool.install(work)));
                // The line ends with it.
                drop(teller);
                done
            });
            let raised = listen(&told, &hear, stop, calls.map(Option::as_ref));
            (worker.join().unwrap_or_else(Err), raised)
        })
    });
    let done = done.map_err(|panic| threads::internal(&*panic))?;
    let name = state.name.clone();
    let kept = |weights: &Weights, record: Option<TrainingRecord>, stopped: bool| {
        let graph = prepared.graph.clone();
        let weights = deployable(&graph, weights);
        model.replace(State {
            record,
            before: stopped.then(|| Arc::new(begun.bare())),
            ..State::new(name.clone(), StoredModel::Float { graph, weights })
        });
    };
    match done {
        Ok(trained) => {
            let Trained {
                weights,
                epochs,
                chosen_epoch,
                test,
                quantized,
                record,
            } = trained;
            let record = prepared.record(record, &config);
            kept(&weights, record.clone(), raised.is_some());
            if let Some(error) = raised {
                return Err(error);
            }
            let told = serde_json::json!({
                "epochs": epochs,
                "chosen_epoch": chosen_epoch,
                "test_accuracy": test.map(|score| score.accuracy),
            });
            let json = told.to_string();
            let quantized = quantized.map(|packed| {
                PyModel::of(State {
                    record,
                    ..State::new(name.clone(), StoredModel::Quantized(packed))
                })
            });
            Ok((json, quantized))
        }
        Err(LabError::Stopped { kept: epochs }) => {
            if epochs > 0 {
                let saved = load_checkpoint(&checkpoint).map_err(errors::of)?;
                let record = prepared.record(saved.record, &config);
                kept(&saved.weights, record, true);
            }
            let line = LabError::Stopped { kept: epochs }.to_string();
            Err(raised.unwrap_or_else(|| Class::Training.error(line)))
        }
        Err(error) => Err(raised.unwrap_or_else(|| match &error {
            LabError::OtherRun { key, .. } if key == START => Class::Training.error(format!(
                "{error}; give the model as it was before that training"
            )),
            _ => errors::of(error),
        })),
    }
}

/// Calls back and looks for signals until the training's end; returns what Python raised, after which the training stops.
fn listen(
    told: &Receiver<Told>,
    hear: &Sender<()>,
    stop: &AtomicBool,
    [on_epoch, on_batch]: [Option<&Py<PyAny>>; 2],
) -> Option<PyErr> {
    let mut raised: Option<PyErr> = None;
    loop {
        let told = told.recv_timeout(PATIENCE);
        let called = Python::attach(|py| -> PyResult<()> {
            match &told {
                Ok(Told::Epoch(record)) if raised.is_none() => {
                    if let Some(call) = on_epoch {
                        let json = serde_json::to_string(record).expect("plain data");
                        call.call1(py, (json,))?;
                    }
                }
                Ok(Told::Batch {
                    images,
                    of,
                    loss,
                    accuracy,
                }) if raised.is_none() => {
                    if let Some(call) = on_batch {
                        call.call1(py, (*images, *of, *loss, *accuracy))?;
                    }
                }
                _ => {}
            }
            py.check_signals()
        });
        if let Err(error) = called {
            stop.store(true, Ordering::Relaxed);
            raised.get_or_insert(error);
        }
        match told {
            Ok(_) => {
                let _ = hear.send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return raised,
        }
    }
}

/// What a training begins with.
struct Prepared {
    graph: Graph,
    input: Arc<Input>,
    start: Option<StartWeights>,
    /// Whether the start's weights are fresh, and no training was before.
    fresh: bool,
}

impl Prepared {
    fn new(state: &State, input: &Arc<Input>, config: &Config) -> Result<Self, LabError> {
        let StoredModel::Float { graph, weights } = &state.stored else {
            unreachable!("it was looked at before");
        };
        // Names of classes that nobody gave are the data's.
        let fresh = state.fresh.is_some();
        let mut graph = graph.clone();
        if state.is_unnamed() {
            graph = graph.with_class_names(&input.data.class_names)?;
        }
        let named = State {
            record: state.record.clone(),
            foreign: state.foreign.clone(),
            ..State::new(
                state.name.clone(),
                StoredModel::Float {
                    graph: graph.clone(),
                    weights: Weights::new(),
                },
            )
        };
        let input = named.fitted(input)?;
        let start = match start_weights(config, &graph)? {
            Some(start) => Some(start),
            None => (state.fresh != Some(config.run.seed)).then(|| StartWeights {
                weights: weights.clone(),
                record: state.record.clone(),
            }),
        };
        // What the named weights were trained on, their file says, or nobody knows.
        let fresh = fresh && config.recipe.start_from.as_os_str().is_empty();
        Ok(Self {
            graph,
            input,
            start,
            fresh,
        })
    }

    /// What the model was trained on: fresh weights of another seed have seen nothing before.
    fn record(&self, found: Option<TrainingRecord>, config: &Config) -> Option<TrainingRecord> {
        match found {
            None if self.fresh => Some(self.input.record(config.run.seed)),
            found => found,
        }
    }
}
