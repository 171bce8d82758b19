//! One width of one seed: found finished, or trained.

use super::order::Needs;
use super::results::timestamp;
use super::{BeganWith, CompressionMetrics, Finished, RunId, RunResults, Subject, SweepEvents};
use crate::decisive::{Decisive, Inherited};
use crate::experiments::artifacts::{
    CHECKPOINT, FP32, Held, TRAINING_RESULTS, make_folder, packed, write_json,
};
use crate::experiments::inputs::{Input, float_model};
use crate::experiments::learning::Outcome;
use crate::experiments::results::DataResults;
use crate::machine::Machine;
use crate::training::{Plan, StartWeights, Trained, train};
use crate::{Config, Events, LabError, timing};
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit::format::{self, StoredModel};
use lowbit::{Graph, ModelBits, WeightBits, Weights};
use lowbit_kernels::Isa;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// What decides the result, beside it.
const DECISIVE: &str = "decisive.json";

/// What wider runs of the seed gave a run.
#[derive(Default)]
pub(super) struct Given {
    /// Widths whose weights came before, the folder of the last of them, and its weights.
    wider: Option<(Vec<u8>, PathBuf, StartWeights)>,
    /// The 32-bit run's model file.
    teacher: Option<PathBuf>,
}

impl Given {
    /// Takes from the runs that are done.
    pub(super) fn of(needs: &Needs, done: &[Option<Finished>]) -> Result<Self, LabError> {
        let run = |index: usize| {
            let run = done.get(index).and_then(Option::as_ref);
            run.ok_or_else(|| LabError::Mismatch("a wider run is not finished".into()))
        };
        let Some(&last) = needs.wider.last() else {
            let teacher = needs.teacher.map(run).transpose()?;
            return Ok(Self {
                wider: None,
                teacher: teacher.map(|run| run.folder.join(FP32)),
            });
        };
        let widths = needs.wider.iter();
        let widths = widths.map(|&index| Ok(run(index)?.results.bit_width));
        let folder = run(last)?.folder.clone();
        let model = float_model(&folder.join(FP32), &Config::default())?;
        let start = StartWeights {
            weights: model.weights,
            record: model.record,
        };
        let teacher = needs.teacher.map(run).transpose()?;
        Ok(Self {
            wider: Some((widths.collect::<Result<_, LabError>>()?, folder, start)),
            teacher: teacher.map(|run| run.folder.join(FP32)),
        })
    }
}

pub(super) struct Run<'a> {
    /// As they were asked for, with its seed and width.
    asked: Config,
    /// The same, with its teacher's file.
    config: Config,
    given: Given,
    id: RunId,
    subject: &'a Subject<'a>,
    graph: &'a Graph,
    input: &'a Input,
    isa: Isa,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        config: &Config,
        id: RunId,
        subject: &'a Subject<'a>,
        given: Given,
        isa: Isa,
    ) -> Self {
        let mut asked = config.with_seed(id.seed);
        asked.widths.bits = id.bits.packed().unwrap_or(WeightBits::B16);
        let mut config = asked.clone();
        if config.recipe.own_teacher() {
            config.recipe.teacher = given.teacher.clone().unwrap_or_default();
        }
        Self {
            asked,
            config,
            given,
            id,
            subject,
            graph: &subject.graph,
            input: subject.input,
            isa,
        }
    }

    fn plan(&self) -> Plan<'static> {
        let bits = self.id.bits.packed();
        Plan {
            start: match &self.given.wider {
                Some((.., start)) => Some(start.clone()),
                None => self.subject.start.clone(),
            },
            inherited: Inherited {
                wider: self
                    .given
                    .wider
                    .as_ref()
                    .map_or(vec![], |(widths, ..)| widths.clone()),
                first: self.subject.start.as_ref().map(StartWeights::name),
                taught: self.given.teacher.is_some(),
            },
            qat: bits.map(|bits| self.config.qat(bits)),
            frozen_norm_epochs: bits.map_or(0, |_| self.config.qat.freeze_bn_epochs),
            resume: true,
            ..Plan::default()
        }
    }

    /// The run, if an earlier call has finished it and its models are still there.
    pub(super) fn finished(&self) -> Option<Finished> {
        let decisive = self.plan().decisive(&self.config, self.input, self.graph);
        let folder = self.parent().join(decisive.folder());
        let found: Decisive = read_json(&folder.join(DECISIVE))?;
        let results: RunResults = read_json(&folder.join(TRAINING_RESULTS))?;
        let is_whole = found == decisive && results.lost(&folder).is_none();
        is_whole.then_some(Finished {
            folder,
            results,
            earlier: true,
        })
    }

    pub(super) fn finish(&self, events: &dyn SweepEvents) -> Result<Finished, LabError> {
        let plan = self.plan();
        let decisive = plan.decisive(&self.config, self.input, self.graph);
        let folder = self.folder(&decisive)?;
        let found: Option<RunResults> = read_json(&folder.join(TRAINING_RESULTS));
        let lost = found.as_ref().and_then(|found| found.lost(folder.path()));
        let done = found.filter(|_| lost.is_none());
        let earlier = done.is_some();
        let results = match done {
            Some(results) => results,
            None => {
                let events = events.run(self.id);
                if let Some(lost) = lost {
                    events.note(&format!("{lost}: the run is made again"));
                }
                self.train(&folder, &plan, decisive, &*events)?
            }
        };
        events.finished(self.id, &results, earlier);
        Ok(Finished {
            folder: folder.path().to_owned(),
            results,
            earlier,
        })
    }

    /// The folder of all runs of this width.
    fn parent(&self) -> PathBuf {
        self.config.results.out.join(format!("{}bit", self.id.bits))
    }

    /// The folder whose name says what decides the result; new, or that of such a run.
    fn folder(&self, decisive: &Decisive) -> Result<Held, LabError> {
        let parent = self.parent();
        make_folder(&parent)?;
        let path = parent.join(decisive.folder());
        let folder = Held::take(path.clone())?;
        let list = folder.join(DECISIVE);
        match read_json::<Decisive>(&list) {
            // The name is a hash: that it is the same run stands in the list.
            Some(found) => match decisive.first_difference(&found) {
                None => Ok(folder),
                Some(difference) => Err(LabError::OtherRun {
                    path,
                    key: difference.key,
                    found: difference.found,
                    expected: difference.expected,
                }),
            },
            None => {
                write_json(&list, decisive)?;
                Ok(folder)
            }
        }
    }

    fn train(
        &self,
        folder: &Held,
        plan: &Plan<'_>,
        decisive: Decisive,
        events: &dyn Events,
    ) -> Result<RunResults, LabError> {
        write_json(&folder.join("config.json"), &self.asked)?;
        let checkpoint = folder.join(CHECKPOINT);
        let plan = Plan {
            checkpoint: Some(&checkpoint),
            ..plan.clone()
        };
        let trained = train(
            &self.config,
            &plan,
            self.graph,
            self.input,
            self.isa,
            events,
        )?;
        let metrics = self.save(folder, &trained)?;
        write_json(&folder.join("compression_metrics.json"), &metrics)?;
        let results = self.results(&trained, metrics, decisive);
        // Last: its presence says that the run is whole.
        write_json(&folder.join(TRAINING_RESULTS), &results)?;
        Ok(results)
    }

    /// Writes the models.
    fn save(&self, folder: &Held, trained: &Trained) -> Result<CompressionMetrics, LabError> {
        let weights = deployable(self.graph, &trained.weights);
        let record = trained.record.as_ref();
        let original = format::save_float(&folder.join(FP32), self.graph, &weights, record)?;
        let compressed = match &trained.quantized {
            None => original,
            Some(model) => {
                format::save_quantized(&folder.join(packed(self.id.bits.get())), model, record)?
            }
        };
        Ok(CompressionMetrics::of(self.id.bits, original, compressed))
    }

    /// All results but the speed.
    fn results(
        &self,
        trained: &Trained,
        metrics: CompressionMetrics,
        decisive: Decisive,
    ) -> RunResults {
        let last = trained.last();
        let classes = self.graph.classes();
        let test = &self.input.data.test;
        let found = trained.test_score();
        let (accuracy, loss) = (found.accuracy, Some(last.train_loss));
        let outcome = Outcome::of(accuracy, test, classes, loss, &self.config.recipe);
        RunResults {
            bit_width: self.id.bits.get(),
            num_rounds: trained.epochs.len(),
            fraction_train: 1.0,
            local_epochs: 1,
            batch_size: self.config.training.batch_size,
            learning_rate: self.config.training.lr,
            training_time_seconds: Some(trained.train_seconds()),
            final_test_accuracy: found.accuracy,
            final_test_loss: Some(found.loss),
            chosen_epoch: Some(trained.chosen_epoch),
            results_per_round: trained.epochs.iter().map(Into::into).collect(),
            compression_metrics: Some(metrics),
            timestamp: timestamp(),
            seed: self.config.run.seed,
            model: self.graph.name().into(),
            data: self.input.data.name.clone(),
            synthetic: self.input.data.synthetic,
            img_per_s: None,
            speedup: None,
            learning: Some(outcome.learning()),
            images: Some(DataResults::of(self.input)),
            evaluated: self.subject.evaluated.clone(),
            began_with: self
                .given
                .wider
                .as_ref()
                .map(|(widths, folder, _)| BeganWith {
                    widths: widths.clone(),
                    run: folder
                        .file_name()
                        .map_or_else(String::new, |name| name.to_string_lossy().into()),
                }),
            decisive: Some(decisive),
            machine: Some(Machine::here(self.isa)),
            config: Some(self.asked.clone()),
        }
    }
}

/// What a file holds; none where it is not there or not whole.
fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Measures the speed of a finished run's model against FP32 and adds it to the run's results.
pub(super) fn time(run: &mut Finished, input: &Input, isa: Isa) -> Result<(), LabError> {
    let float = float_model(&run.folder.join(FP32), &Config::default())?;
    let fp32 = FloatModel::compile(&float.graph, &float.weights, isa)?;
    let test = &input.data.test;
    let images = &test.first(64)?;
    let bits = run.results.bit_width;
    let speed = if bits == ModelBits::Fp32.get() {
        timing::one_thread(&fp32, &fp32, images)
    } else {
        let file = run.folder.join(packed(bits));
        let StoredModel::Quantized(model) = format::load(&file)? else {
            let text = format!("{}: is not quantized", file.display());
            return Err(LabError::Mismatch(text));
        };
        let packed = IntegerModel::compile(&model, isa)?;
        timing::one_thread(&fp32, &packed, images)
    };
    // Of the speeds: a submitted sweep measures on another node than it trains on.
    run.results.machine = Some(Machine::here(isa));
    run.results.img_per_s = Some(speed.quantized_img_per_s());
    run.results.speedup = Some(speed.speedup.median);
    write_json(&run.folder.join(TRAINING_RESULTS), &run.results)
}

/// Returns the graph's own tensors: without those that quantization-aware training adds.
#[must_use]
pub fn deployable(graph: &Graph, weights: &Weights) -> Weights {
    let mut own = Weights::new();
    for parameter in graph.parameters() {
        if let Some(tensor) = weights.get(&parameter.name) {
            own.insert(parameter.name, tensor.clone());
        }
    }
    own
}
