//! The commands: one file each, and what they share.

mod analyze;
mod bench;
mod cancel;
mod collect;
mod compare;
mod data;
mod doctor;
mod eval;
mod export;
pub(crate) mod federate;
mod flower;
mod inspect;
mod jobs;
mod logs;
mod manual;
mod qat_vs_ptq;
mod quantize;
mod recipes;
pub(crate) mod recommend;
mod serve;
mod submit;
mod sweep;
mod task;
mod train;

use crate::args::{Cli, Command, Manners};
use crate::failure::Failure;
use crate::federate_args;
use crate::output::Output;
use crate::progress::Progress;
use crate::settings::Given;
use crate::which_images::Beginning;
use lowbit::Shape;
use lowbit::format::StoredModel;
use lowbit_data::{Dataset, LoadOptions};
use lowbit_kernels::Isa;
use lowbit_lab::Config;
use lowbit_lab::experiments::inputs::{self, FloatFile, Input};
use lowbit_lab::experiments::preprocessing::check_preprocessing;
use lowbit_lab::experiments::unseen::{
    Choice, Chosen, Measured, Purpose, images_for, images_for_new_head,
};
use lowbit_lab::models::{self, Foreign, ModelFile, is_onnx};
use std::path::Path;

/// What every command works with.
pub(crate) struct Context {
    pub(crate) config: Config,
    /// What of it the command was told by flags and pairs.
    pub(crate) said: Given,
    pub(crate) output: Output,
    pub(crate) progress: Progress,
    pub(crate) isa: Isa,
    pub(crate) resume: bool,
}

pub(crate) fn run(cli: Cli) -> Result<u8, Failure> {
    let Cli { command, manners } = cli;
    let output = Output {
        json: manners.json,
        quiet: manners.quiet,
    };
    let done = match &command {
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man { command, into } => manual::manual(command.as_deref(), into.as_deref()),
        Command::Recipes { name } => recipes::run(output, name.as_deref()),
        Command::Submit(arguments) => submit::run(output, arguments),
        Command::Jobs { which, watch } => jobs::run(output, which, *watch),
        Command::Logs {
            which,
            task,
            follow,
        } => logs::run(which, task, *follow),
        Command::Cancel { which, tasks } => cancel::run(output, which, tasks),
        Command::Collect { which } => collect::run(output, which),
        Command::Queue => task::queue(),
        Command::Flower { .. } => Err(flower::needs_python()),
        Command::Task(arguments) => return task::run(arguments),
        _ => experiment(command, &manners, output),
    };
    done.map(|()| 0)
}

/// Runs a command that works on models and data.
fn experiment(command: Command, manners: &Manners, output: Output) -> Result<(), Failure> {
    let said = command.given();
    let config = said.over(command.defaults())?;
    let isa = Isa::current()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.run.threads)
        .build()
        .map_err(|error| {
            Failure::Run(format!(
                "cannot start {} threads: {error}",
                config.run.threads
            ))
        })?;
    let resume = command.resumes();
    let progress = Progress::new(manners.quiet);
    let context = Context {
        config,
        said,
        output,
        progress,
        isa,
        resume,
    };
    pool.install(|| match command {
        Command::Compare { from, which, .. } => compare::run(&context, from, which),
        Command::Train { beginning, .. } => train::run(&context, &beginning),
        Command::QatVsPtq {
            from, runs, which, ..
        } => qat_vs_ptq::run(&context, from, runs, which),
        Command::Sweep {
            widths,
            federated: true,
            part,
            of_seed,
            ..
        } => {
            let part = part.map(|part| (part, of_seed));
            federate::sweep(&context, &widths, part)
        }
        Command::Sweep {
            widths,
            jobs,
            part,
            of_seed,
            beginning,
            settings,
            ..
        } => {
            if let Some(key) = federate_args::keys().find(|key| settings.given.sets(key)) {
                return Err(federate_args::needs_federated(key));
            }
            let part = part.map(|part| (part, of_seed));
            sweep::run(&context, &widths, jobs, part, &beginning)
        }
        Command::Federate(args) => federate::run(&context, &args),
        Command::Analyze {
            folder,
            max_drop,
            cost_per_mb,
            ..
        } => {
            let terms = analyze::Terms {
                max_drop,
                cost_per_mb,
            };
            analyze::run(&context, folder, terms)
        }
        Command::Quantize {
            file,
            output,
            which,
            ..
        } => quantize::run(&context, &file, output, which.into()),
        Command::Recommend(args) => recommend::run(&context, &args),
        Command::Doctor(args) => doctor::run(&context, &args),
        Command::Eval { file, which, .. } => eval::run(&context, &file, which.into()),
        Command::Bench {
            file,
            serve,
            peak,
            roofline,
            ..
        } => {
            let what = bench::What {
                serve,
                peak,
                roofline,
            };
            bench::run(&context, file.as_deref(), what)
        }
        Command::Inspect { file, .. } => inspect::run(&context, &file),
        Command::Export {
            file,
            to,
            input,
            reduce_range,
            ..
        } => export::run(&context, &file, &to, input.into(), reduce_range),
        Command::Data {
            path,
            sheet,
            per_class,
            ..
        } => data::run(&context, path.as_deref(), sheet.as_deref(), per_class),
        Command::Completions { .. }
        | Command::Man { .. }
        | Command::Recipes { .. }
        | Command::Submit(_)
        | Command::Jobs { .. }
        | Command::Logs { .. }
        | Command::Cancel { .. }
        | Command::Collect { .. }
        | Command::Task(_)
        | Command::Queue
        | Command::Flower { .. } => unreachable!("they need no context"),
    })
}

impl Context {
    /// Reads a model file, and says what is to be known of one that another program made.
    pub(crate) fn open(&self, file: &Path) -> Result<ModelFile, Failure> {
        let model = models::open(file, &self.config)?;
        let input = match &model.stored {
            StoredModel::Float { graph, .. } => graph.input(),
            StoredModel::Quantized(model) => model.graph.input(),
        };
        self.refuse_said_again(file, Some(input))?;
        self.describe_foreign(model.foreign.as_ref());
        Ok(model)
    }

    /// Reads a model file that must hold FP32 weights.
    pub(crate) fn float_model(&self, file: &Path) -> Result<FloatFile, Failure> {
        let model = inputs::float_model(file, &self.config)?;
        // A teacher may be ONNX's, and is read the same way.
        if !is_onnx(&self.config.recipe.teacher) {
            self.refuse_said_again(file, None)?;
        }
        self.describe_foreign(model.foreign.as_ref());
        Ok(model)
    }

    /// Refuses what this command was told of pixels, classes and sizes where the model says it itself: only of models that another
    /// program made it would be taken. What stands in a file of settings serves other models.
    pub(crate) fn refuse_said_again(
        &self,
        file: &Path,
        input: Option<Shape>,
    ) -> Result<(), Failure> {
        let size = self.config.input.image_size;
        let is_other = input.is_some_and(|input| [input.h(), input.w()] != [size, size]);
        let refused = [
            (
                "preprocess",
                true,
                "says itself how pixels become its input".to_owned(),
            ),
            (
                "labels",
                true,
                "says itself which classes it has".to_owned(),
            ),
            (
                "image_size",
                size > 0 && is_other,
                input.map_or(String::new(), |input| {
                    format!("takes images of {input} alone")
                }),
            ),
        ];
        let found = refused
            .iter()
            .find(|(key, is_refused, _)| *is_refused && self.said.sets(key));
        match found {
            Some((key, _, what)) if !is_onnx(file) => Err(Failure::Input(format!(
                "{}: {what}: leave --{} out",
                file.display(),
                key.replace('_', "-")
            ))),
            _ => Ok(()),
        }
    }

    fn describe_foreign(&self, foreign: Option<&Foreign>) {
        for note in foreign.iter().flat_map(|foreign| &foreign.notes) {
            self.output.note(note);
        }
    }

    /// Loads the images that the settings name, to train on, and says what they are.
    pub(crate) fn input(&self) -> Result<Input, Failure> {
        let input = Input::load(&self.config, &self.progress)?;
        self.say(&describe(&input.data), &input.data);
        Ok(input)
    }

    /// Loads the images that the settings name, as a trained model may be measured on them, and says which they are.
    pub(crate) fn input_for(
        &self,
        model: &Measured<'_>,
        purpose: Purpose,
        choice: Choice,
    ) -> Result<Chosen, Failure> {
        let chosen = images_for(model, purpose, choice, &self.config, &self.progress)?;
        if let Some(foreign) = model.foreign {
            check_preprocessing(foreign, &chosen.input, &self.config, self.isa)?;
        }
        let data = &chosen.input.data;
        let line = match purpose {
            Purpose::Calibrate => describe(data),
            _ => format!("{}: {}", data.name, chosen.describe()),
        };
        self.say(&line, data);
        Ok(chosen)
    }

    /// Reads an FP32 model to begin from, and the images that it wants for that; its classes have the data's names then.
    pub(crate) fn begin_from(
        &self,
        file: &Path,
        purpose: Purpose,
        choice: Choice,
    ) -> Result<(FloatFile, Chosen), Failure> {
        let mut model = self.float_model(file)?;
        let measured = Measured {
            file,
            graph: &model.graph,
            record: model.record.as_ref(),
            foreign: model.foreign.as_ref(),
        };
        let chosen = self.input_for(&measured, purpose, choice)?;
        model.graph = model
            .graph
            .with_class_names(&chosen.input.data.class_names)?;
        Ok((model, chosen))
    }

    /// Reads the model that a training begins with, where there is one, and the images for it; its last layer is a fresh one for
    /// their classes where that was asked for.
    pub(crate) fn beginning(
        &self,
        asked: &Beginning,
    ) -> Result<Option<(FloatFile, Chosen)>, Failure> {
        let Some(file) = &asked.from else {
            return Ok(None);
        };
        if !self.config.recipe.start_from.as_os_str().is_empty() {
            return Err(Failure::Input(
                "start_from: a model that is given with --from brings its own weights; leave one of them out".into(),
            ));
        }
        if !asked.new_head {
            let found = self.begin_from(file, Purpose::FineTune, asked.choice())?;
            return Ok(Some(found));
        }
        let (config, progress) = (&self.config, &self.progress);
        let model = self.float_model(file)?;
        let (model, chosen) = images_for_new_head(file, model, asked.choice(), config, progress)?;
        let data = &chosen.input.data;
        self.say(&format!("{}: {}", data.name, chosen.describe()), data);
        Ok(Some((model, chosen)))
    }

    /// Loads the data set that the settings name, and says what it is.
    pub(crate) fn load_data(&self, spec: Option<&str>) -> Result<Dataset, Failure> {
        let config = &self.config;
        let some = |number: usize| (number > 0).then_some(number);
        let options = LoadOptions {
            split: config.images.split.clone(),
            limit: some(config.images.limit),
            image_size: some(config.input.image_size),
            resize: config.input.resize,
            exif: config.input.exif,
            data_dir: config.images.data_dir.clone(),
            cache_dir: config
                .images
                .cache
                .then(lowbit_data::default_cache_dir)
                .flatten(),
            progress: &self.progress,
            ..LoadOptions::new(config.run.seed)
        };
        let data = lowbit_data::load(spec.unwrap_or(&config.images.data), &options)?;
        self.say(&describe(&data), &data);
        Ok(data)
    }

    /// Says a line about the data, and after it what was left out of them and why.
    fn say(&self, line: &str, data: &Dataset) {
        self.output.note(line);
        for note in &data.notes {
            self.output.note(&format!("note: {note}"));
        }
    }
}

/// One line about a data set.
fn describe(data: &Dataset) -> String {
    format!(
        "{}{}: {} train{} and {} test images of {}×{}×{}, {} classes, {}",
        data.name,
        if data.synthetic { " (synthetic)" } else { "" },
        data.train.len(),
        match data.validation.len() {
            0 => String::new(),
            count => format!(", {count} validation"),
        },
        data.test.len(),
        data.height,
        data.width,
        data.channels,
        data.class_names.len(),
        data.split,
    )
}
