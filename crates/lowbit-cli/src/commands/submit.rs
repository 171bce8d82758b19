//! `lowbit submit`: an experiment as tasks of a cluster or of this machine's queue.

use super::jobs::open;
use super::{federate, flower, sweep};
use crate::failure::Failure;
use crate::federate_args;
use crate::jobs_args::{Experiment, Submit, Transport};
use crate::output::{Output, print};
use crate::settings::shown;
use lowbit::ModelBits;
use lowbit::graph::zoo;
use lowbit_jobs::data_mark::DataMark;
use lowbit_jobs::scheduler::Engine;
use lowbit_jobs::site::Wishes;
use lowbit_jobs::submit::{Sent, preview, submit};
use lowbit_jobs::{Manifest, Task};
use lowbit_lab::Config;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf, absolute};

pub(super) fn run(output: Output, arguments: &Submit) -> Result<(), Failure> {
    arguments.check()?;
    let wishes = arguments
        .wishes()
        .over(Wishes::of_site(arguments.site.as_deref())?);
    let engine = wishes.engine()?;
    let resources = wishes.resources(engine)?;
    if wishes.on.is_none() && engine == Engine::Local {
        output.note("no sbatch on the PATH: the tasks go to this machine's own queue (--on local)");
    }
    let config = config(&arguments.experiment)?;
    if arguments.experiment.on_flower() {
        flower::check(engine, &resources, &config.federation)?;
    }
    let manifest = freeze(&arguments.experiment, config)?;
    if arguments.dry_run {
        let text = preview(&manifest, engine, &resources)?;
        let value = serde_json::json!({
            "job": manifest.header.name,
            "header": manifest.header,
            "tasks": manifest.tasks,
            "text": text,
        });
        return match output.json {
            true => output.results(&value, String::new),
            false => print(&format!("{}\n", text.trim_end())),
        };
    }
    let sent = submit(manifest, engine, resources, &open)?;
    let name = sent.job.folder.name();
    let report = Report {
        job: &name,
        folder: sent.job.folder.path(),
        sent: &sent.sent,
        done: sent.done,
        under_way: sent.under_way,
        arrays: arrays(&sent),
    };
    output.results(&report, || summary(&sent, engine))?;
    output.written(sent.job.folder.path())
}

/// What was sent, for programs.
#[derive(Serialize)]
struct Report<'a> {
    job: &'a str,
    folder: &'a Path,
    sent: &'a [u32],
    done: usize,
    under_way: usize,
    arrays: Vec<String>,
}

fn arrays(sent: &Sent) -> Vec<String> {
    let last = sent
        .job
        .submissions
        .last()
        .filter(|_| !sent.sent.is_empty());
    last.map_or(vec![], |last| {
        last.arrays.iter().map(|array| array.id.clone()).collect()
    })
}

fn summary(sent: &Sent, engine: Engine) -> String {
    let name = sent.job.folder.name();
    let all = sent.job.manifest.tasks.len();
    let left = format!("{} done, {} under way", sent.done, sent.under_way);
    if sent.sent.is_empty() {
        return format!("{name}: nothing to send: of {all} tasks {left}");
    }
    let mut ids = arrays(sent);
    ids.dedup();
    let to = match engine {
        Engine::Slurm => format!("Slurm as {}", ids.join(", ")),
        Engine::Local => "this machine's queue".into(),
    };
    format!(
        "{name}: sent {} of {all} tasks to {to}; {left}\nlowbit jobs --watch shows them, lowbit collect waits for them",
        sent.sent.len()
    )
}

/// The settings of an experiment.
fn config(experiment: &Experiment) -> Result<Config, Failure> {
    let given = experiment.given();
    let config = given.over(defaults(experiment))?;
    match federate_args::keys().find(|key| given.sets(key)) {
        Some(key) if !experiment.is_federation() => Err(federate_args::needs_federated(key)),
        _ => Ok(config),
    }
}

/// Freezes an experiment: every setting of every task stands in its arguments.
fn freeze(experiment: &Experiment, mut config: Config) -> Result<Manifest, Failure> {
    let folder = std::env::current_dir()
        .map_err(|error| Failure::Run(format!("no current folder: {error}")))?;
    if experiment.is_federation() {
        federate::check(&config)?;
    }
    if let Experiment::Sweep { .. } = experiment {
        sweep::check_bits(&config)?;
    }
    config.results.out = full(&config.results.out)?;
    config.images.data_dir = full(&config.images.data_dir)?;
    let data = mark(&mut config)?;
    refuse_results_in(&data, &config.results.out)?;
    let files = files(&mut config, experiment)?;
    // A federation on Flower has names of its own for what makes it.
    let own = experiment.is_federation() && !experiment.on_flower();
    let used = experiment.given().used().iter().copied();
    let frozen = Frozen {
        config: &config,
        used: used
            .filter(|key| own || federate_args::keys().all(|other| other != *key))
            .collect(),
    };
    let (name, tasks) = match experiment {
        Experiment::Sweep {
            widths, federated, ..
        } => ("sweep", frozen.sweep(widths, *federated)?),
        Experiment::Federate {
            bits,
            transport: Transport::Process,
            ..
        } => (
            "federate",
            vec![frozen.federate(federate_args::bits(*bits, &config))],
        ),
        Experiment::Federate { bits, .. } => {
            let bits = federate_args::bits(*bits, &config);
            let shown = frozen.shown(&config, &[("bits", bits.to_string())]);
            let settings = frozen.values(&config);
            let tasks = flower::tasks(bits, &config.federation, settings, &shown)?;
            ("federate", tasks)
        }
        Experiment::Compare { from, .. } => (
            "compare",
            vec![frozen.whole("compare", &[("--from", from)])?],
        ),
        Experiment::QatVsPtq { from, runs, .. } => {
            let flags = [("--from", from), ("--runs", runs)];
            ("qat-vs-ptq", vec![frozen.whole("qat-vs-ptq", &flags)?])
        }
    };
    Ok(Manifest::freeze(
        name,
        folder,
        config.results.out.clone(),
        data,
        files,
        tasks,
    )?)
}

fn defaults(experiment: &Experiment) -> Config {
    let mut config = Config::default();
    if let Experiment::Federate { .. }
    | Experiment::Sweep {
        federated: true, ..
    } = experiment
    {
        crate::defaults::federated_defaults(&mut config);
    }
    if let Experiment::Sweep { quick, .. } = experiment {
        crate::defaults::sweep_defaults(&mut config, *quick);
    }
    config
}

fn full(path: &Path) -> Result<PathBuf, Failure> {
    absolute(path).map_err(|error| Failure::Input(format!("{}: {error}", path.display())))
}

/// Makes the data's path absolute and looks at them. Generated data have no path.
fn mark(config: &mut Config) -> Result<Option<DataMark>, Failure> {
    let spec = config.images.data.clone();
    match spec.as_str() {
        "landcover" => Ok(None),
        "eurosat" => {
            // Tasks that begin together would all fetch it.
            let folder = &config.images.data_dir;
            let names = [
                "EuroSAT_RGB",
                "EuroSAT",
                "2750",
                "EuroSAT_RGB.zip",
                "EuroSAT.zip",
            ];
            let Some(path) = names
                .iter()
                .map(|name| folder.join(name))
                .find(|path| path.exists())
            else {
                let text = format!(
                    "eurosat is not in {} yet: fetch it once with `lowbit data eurosat`",
                    folder.display()
                );
                return Err(Failure::Input(text));
            };
            Ok(Some(DataMark::of(&path)?))
        }
        path => {
            let path = full(Path::new(path))?;
            config.images.data = path.display().to_string();
            Ok(Some(DataMark::of(&path)?))
        }
    }
}

/// Results among the data would make other data of them.
fn refuse_results_in(data: &Option<DataMark>, out: &Path) -> Result<(), Failure> {
    let Some(mark) = data else {
        return Ok(());
    };
    let real = |path: &Path| {
        let known = path.ancestors().find_map(|above| {
            let rest = path.strip_prefix(above).ok()?;
            Some(above.canonicalize().ok()?.join(rest))
        });
        known.unwrap_or_else(|| path.to_owned())
    };
    match real(out).starts_with(real(&mark.path)) {
        true => Err(Failure::Input(format!(
            "--out {}: it lies in the data, which would be other data with it; give an --out beside {}",
            out.display(),
            mark.path.display()
        ))),
        false => Ok(()),
    }
}

/// Makes the paths of all other files that an experiment reads absolute, and looks at them: tasks that begin with others would
/// come to something else.
fn files(config: &mut Config, experiment: &Experiment) -> Result<Vec<DataMark>, Failure> {
    use lowbit_data::SplitRule;
    let mut marks = Vec::new();
    let mut look = |flag: &str, path: &mut PathBuf| {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let here = full(path)?;
        if !here.is_file() {
            let line = format!("{flag} {}: there is no such file", path.display());
            return Err(Failure::Input(line));
        }
        marks.push(DataMark::of(&here)?);
        for beside in lowbit_lab::models::files_beside(&here)? {
            marks.push(DataMark::of(&beside)?);
        }
        *path = here;
        Ok(())
    };
    let model = &mut config.network.model;
    let mut file = PathBuf::from(&*model);
    if lowbit_lab::models::is_onnx(&file) && matches!(experiment, Experiment::Compare { .. }) {
        look("--model", &mut file)?;
        *model = file.display().to_string();
    } else if !zoo::names().any(|name| name == model) {
        let names: Vec<&str> = zoo::names().collect();
        return Err(Failure::Input(format!(
            "--model {model}: no model of the zoo; use {}",
            names.join(", ")
        )));
    }
    if !config.recipe.own_teacher() {
        look("--teacher", &mut config.recipe.teacher)?;
    }
    look("--start-from", &mut config.recipe.start_from)?;
    look("--labels", &mut config.onnx.labels)?;
    let mut preprocess = PathBuf::from(&config.onnx.preprocess);
    if preprocess.extension().is_some_and(|end| end == "toml") {
        look("--preprocess", &mut preprocess)?;
        config.onnx.preprocess = preprocess.display().to_string();
    }
    if let SplitRule::Lists {
        train,
        validation,
        test,
    } = &mut config.images.split
    {
        for list in [Some(train), validation.as_mut(), Some(test)]
            .into_iter()
            .flatten()
        {
            look("--split", list)?;
            if list.display().to_string().contains(',') {
                return Err(Failure::Input(format!(
                    "--split {}: a comma parts the lists, so none may stand in the path of one",
                    list.display()
                )));
            }
        }
    }
    if let Experiment::Compare { from, .. } | Experiment::QatVsPtq { from, .. } = experiment {
        let mut from = from.clone().unwrap_or_default();
        look("--from", &mut from)?;
    }
    Ok(marks)
}

/// Floats from here on are written with an exponent: without one they would be whole numbers larger than TOML has.
const WITH_EXPONENT: f64 = 1e16;

/// `1e30`. Most settings are f32: as f64 they have digits that nobody wrote.
fn exponential(number: f64) -> String {
    let short = number as f32;
    match f64::from(short) == number {
        true => format!("{short:?}"),
        false => format!("{number:?}"),
    }
}

struct Frozen<'a> {
    config: &'a Config,
    used: Vec<&'static str>,
}

impl Frozen<'_> {
    /// Every setting that the command uses, in TOML.
    fn values(&self, config: &Config) -> Vec<(String, String)> {
        let all = toml::Table::try_from(config).expect("settings are plain data");
        let value = |key: &&str| {
            let value = &all[*key];
            let text = match value {
                // With TOML's quotes, so that no text is taken for a number.
                toml::Value::String(_) => value.to_string(),
                toml::Value::Float(number) if number.abs() >= WITH_EXPONENT => exponential(*number),
                _ => shown(value),
            };
            ((*key).to_owned(), text)
        };
        self.used.iter().map(value).collect()
    }

    /// The same as `--set key=value`.
    fn settings(&self, config: &Config) -> Vec<String> {
        let values = self.values(config).into_iter();
        values
            .flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")])
            .collect()
    }

    fn shown(&self, config: &Config, more: &[(&str, String)]) -> BTreeMap<String, String> {
        let images = &config.images;
        let mut settings = BTreeMap::from([
            ("model".to_owned(), config.network.model.clone()),
            ("data".to_owned(), images.data.clone()),
            ("epochs".to_owned(), config.training.epochs.to_string()),
        ]);
        settings.extend(
            more.iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone())),
        );
        settings
    }

    /// A training per width and seed, or, where widths need others, per seed; then all speeds, with the machine to themselves; then the analysis of what there is.
    /// A federated sweep measures no speeds.
    fn sweep(&self, widths: &[ModelBits], federated: bool) -> Result<Vec<Task>, Failure> {
        let mut unique: Vec<ModelBits> = Vec::new();
        for &width in widths {
            if !unique.contains(&width) {
                unique.push(width);
            }
        }
        let widths = unique;
        let first = self.config.run.seed;
        let seeds: Vec<u64> = (first..first + self.config.repeats.seeds as u64).collect();
        let argv = |widths: &str, part: &str, config: &Config| {
            let mut argv: Vec<String> = ["sweep", "--widths", widths, "--part", part]
                .map(ToOwned::to_owned)
                .into();
            if federated {
                argv.push("--federated".into());
            }
            argv.extend(self.settings(config));
            argv
        };
        let list: Vec<String> = widths.iter().map(ModelBits::to_string).collect();
        let list = list.join(",");
        let parts = match self.config.chain.warm_start || self.config.recipe.own_teacher() {
            // Widths that need others of their seed are one task.
            true => vec![(list.clone(), "widths".to_owned())],
            false => widths
                .iter()
                .map(|bits| (bits.to_string(), format!("{bits}bit")))
                .collect(),
        };
        let mut tasks = Vec::new();
        for &seed in &seeds {
            // All seeds are measured on one split, so that each task has the settings of the whole.
            for (bits, name) in &parts {
                let mut argv = argv(bits, "train", self.config);
                argv.extend(["--of-seed".to_owned(), seed.to_string()]);
                tasks.push(Task {
                    index: 0,
                    stage: 0,
                    exclusive: false,
                    name: format!("{name}_seed{seed}"),
                    settings: self.shown(
                        self.config,
                        &[("bits", bits.clone()), ("seed", seed.to_string())],
                    ),
                    argv,
                });
            }
        }
        let settings = self.shown(
            self.config,
            &[("bits", list.clone()), ("seeds", seeds.len().to_string())],
        );
        if !federated {
            tasks.push(Task {
                index: 0,
                stage: 1,
                exclusive: true,
                name: "speeds".into(),
                settings: settings.clone(),
                argv: argv(&list, "measure", self.config),
            });
        }
        tasks.push(Task {
            index: 0,
            stage: 2,
            exclusive: false,
            name: "analysis".into(),
            settings,
            argv: vec![
                "analyze".into(),
                self.config.results.out.display().to_string(),
            ],
        });
        Ok(tasks)
    }

    /// A federation, which goes on behind its last round.
    fn federate(&self, bits: ModelBits) -> Task {
        let mut argv = vec!["federate".to_owned(), format!("--bits={bits}")];
        argv.push("--resume".into());
        argv.extend(self.settings(self.config));
        Task {
            index: 0,
            stage: 0,
            exclusive: false,
            name: format!("{bits}bit_federation"),
            settings: self.shown(self.config, &[("bits", bits.to_string())]),
            argv,
        }
    }

    /// An experiment as one task, which goes on where it stopped. It measures speeds, so it asks for a node of its own.
    fn whole(&self, command: &str, paths: &[(&str, &Option<PathBuf>)]) -> Result<Task, Failure> {
        let mut argv = vec![command.to_owned()];
        for (flag, path) in paths {
            if let Some(path) = path {
                argv.extend([(*flag).to_owned(), full(path)?.display().to_string()]);
            }
        }
        if !argv.contains(&"--from".to_owned()) || command != "compare" {
            argv.push("--resume".into());
        }
        argv.extend(self.settings(self.config));
        Ok(Task {
            index: 0,
            stage: 0,
            exclusive: true,
            name: command.into(),
            settings: self.shown(self.config, &[]),
            argv,
        })
    }
}
