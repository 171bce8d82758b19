//! The command line.

use crate::doctor_args::Doctor;
use crate::federate_args::{Federate, only_federated};
use crate::jobs_args::{Submit, TaskArgs, Which};
use crate::recommend_args::Recommend;
use crate::settings::{Flags, Given, hidden, of};
use crate::which_images::{Beginning, WhichImages, WhichOfFrom};
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use lowbit::ModelBits;
use std::path::PathBuf;

/// What does quantization do to your image model: size, speed, accuracy?
#[derive(Debug, Parser)]
#[command(
    name = "lowbit",
    version,
    about = "What does quantization do to your image model: size, speed, accuracy?",
    after_help = "Examples:
  lowbit compare                                   train on the built-in synthetic data, FP32 against INT8
  lowbit compare --data EuroSAT_RGB.zip            the same on your images
  lowbit compare --data photos/ --image-size 64 --epochs 20 --out results
  lowbit quantize model_fp32.safetensors --data photos/ --observer mse
  lowbit bench outputs/real_quantization_comparison/model_fp32.safetensors

Exit codes: 0 done, 1 the run failed, or doctor found an error, 2 wrong flag or bad input, 3 nothing fits (recommend).
Environment: LOWBIT_ISA=portable|avx2|avxvnni|avx512|amx forces an instruction set; NO_COLOR turns colors off."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) manners: Manners,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train in FP32, make a real INT8 model of it, measure both
    #[command(after_help = "Examples:
  lowbit compare
  lowbit compare --data EuroSAT_RGB.zip --epochs 10 --seed 3
  lowbit compare --data cifar10.zip --model resnet8 --observer percentile:99.9
  lowbit compare --resume                          go on with a run that was killed
  lowbit compare --from model_fp32.safetensors     skip the training
  lowbit compare --model mobilenet_v2.onnx --preprocess imagenet --data photos/

Writes OUT/real_quantization_comparison/: comparison_results.json, model_fp32.safetensors, model_int8.safetensors.")]
    Compare {
        /// Take trained FP32 weights from this file instead of training
        #[arg(long, value_name = "MODEL", value_hint = ValueHint::FilePath, conflicts_with = "resume")]
        from: Option<PathBuf>,
        #[command(flatten)]
        which: WhichOfFrom,
        /// Go on with a run that was stopped
        #[arg(long)]
        resume: bool,
        #[command(flatten)]
        settings: Flags<of::Compare>,
    },
    /// Train a model in FP32
    #[command(after_help = "Examples:
  lowbit train --data photos/ --epochs 20 --out run1
  lowbit train --from mobilenet_v2.onnx --preprocess imagenet --data photos/ --lr 1e-4 --epochs 3
  lowbit train --from imagenet.onnx --new-head --preprocess imagenet --data photos/ --lr 1e-4

Writes OUT/train/: model_fp32.safetensors, training_results.json, checkpoint.safetensors.")]
    Train {
        #[command(flatten)]
        beginning: Beginning,
        /// Go on with a run that was stopped
        #[arg(long)]
        resume: bool,
        #[command(flatten)]
        settings: Flags<of::Train>,
    },
    /// Train with quantization or quantize after: which is better for your data?
    #[command(
        name = "qat-vs-ptq",
        after_help = "Examples:
  lowbit qat-vs-ptq                                8 bits, three seeds, built-in synthetic data
  lowbit qat-vs-ptq --bits 2 --data EuroSAT_RGB.zip --seeds 3
  lowbit qat-vs-ptq --from model_fp32.safetensors  QAT as fine-tuning of a trained model
  lowbit qat-vs-ptq --bits 4 --runs outputs        with the trainings of a finished `lowbit sweep`

Writes OUT/qat_vs_ptq_comparison/: comparison_results.json, model_qat_<b>bit, model_ptq_int<b>, model_baseline_fp32.
A run that was stopped goes on with --resume; a finished seed is not run again."
    )]
    QatVsPtq {
        /// Start quantization-aware training from this FP32 model instead of from scratch
        #[arg(long, value_name = "MODEL", value_hint = ValueHint::FilePath)]
        from: Option<PathBuf>,
        /// Take trainings that a sweep has finished with the same settings from its folder
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "from")]
        runs: Option<PathBuf>,
        /// Go on with a run that was stopped
        #[arg(long)]
        resume: bool,
        #[command(flatten)]
        which: WhichOfFrom,
        #[command(flatten)]
        settings: Flags<of::QatVsPtq>,
    },
    /// Train one model per width, 32 to 1 bit, each a real file and a real kernel
    #[command(mut_arg("seeds", |arg| arg.default_value("1")), mut_args(only_federated), mut_arg("bits", hidden), after_help = "Examples:
  lowbit sweep                                     six widths on the built-in synthetic data, one seed
  lowbit sweep --quick                             the same in a few minutes, to see how it looks
  lowbit sweep --widths 32,8,2 --seeds 3 --data EuroSAT_RGB.zip
  lowbit sweep --jobs 4                            four runs at a time
  lowbit sweep --from mobilenet_v2.onnx --preprocess imagenet --data photos/ --lr 1e-4
  lowbit sweep --federated --up-bits 4 --down-bits 4    every width across ten clients

Writes OUT/<b>bit/run_<hash of what decides>_seed<n>/, then OUT/report.html, roofline.svg and tables as `lowbit analyze` does. A width that is finished with the same settings is not run again, a stopped one goes on.")]
    Sweep {
        /// Bits per weight
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "32,16,8,4,2,1",
            value_name = "LIST"
        )]
        widths: Vec<ModelBits>,
        /// 3 epochs on 1,500 images per split, one seed
        #[arg(long)]
        quick: bool,
        /// Runs at a time, which share the threads; speeds are measured at the end, one by one
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
        jobs: u16,
        /// Train without measuring, or measure what is trained: the parts of a submitted sweep
        #[arg(long, hide = true, value_enum)]
        part: Option<Part>,
        /// With --part train: this one of the seeds, on the split that the first of them draws for all
        #[arg(long, hide = true, value_name = "N", requires = "part")]
        of_seed: Option<u64>,
        #[command(flatten)]
        beginning: Beginning,
        /// Train every width in a federation (see `lowbit federate`)
        #[arg(long, conflicts_with_all = ["jobs", "from"])]
        federated: bool,
        #[command(flatten)]
        settings: Flags<of::Sweep>,
    },
    /// Train across clients that keep their images: rounds, packed messages, every byte counted
    #[command(mut_arg("schedule", |arg| arg.default_value("constant")), mut_arg("epochs", hidden), mut_arg("freeze_bn_epochs", hidden), after_help = "Examples:
  lowbit federate                                  ten clients, five rounds, 8 bits each way, synthetic data
  lowbit federate --data EuroSAT_RGB.zip --up-bits 1 --down-bits 4
  lowbit federate --partition dirichlet:0.3 --show-partitions
  lowbit federate --strategy fedavgm --dropout 0.2 --rounds 20
  lowbit federate --fault 3=nan --aggregator median    what a client that lies does

Writes OUT/<b>bit/run_<settings>/: training_results.json, model files, a checkpoint while it runs. docs/federation.md explains.")]
    Federate(Box<Federate>),
    /// Tables and a page with charts of what the runs of a sweep came to
    #[command(after_help = "Example: lowbit analyze outputs --max-drop 0.5
Writes results_summary.csv, results_summary.json and report.html into the folder.")]
    Analyze {
        /// Folder of the runs [default: --out]
        #[arg(value_hint = ValueHint::DirPath)]
        folder: Option<PathBuf>,
        /// Points that the sweet spot may lose against 32 bits
        #[arg(long, default_value_t = 1.0, value_name = "POINTS", value_parser = points, allow_negative_numbers = true)]
        max_drop: f64,
        /// What a megabyte costs that federations send, in any currency: the report says what each run cost
        #[arg(long, value_name = "PRICE", value_parser = price, allow_negative_numbers = true)]
        cost_per_mb: Option<f64>,
        #[command(flatten)]
        settings: Flags<of::Analyze>,
    },
    /// Quantize a trained model
    #[command(after_help = "Examples:
  lowbit quantize model_fp32.safetensors --data photos/
  lowbit quantize model_fp32.safetensors --method dynamic -o model_dynamic.safetensors")]
    Quantize {
        /// A model file with FP32 weights
        #[arg(value_name = "MODEL", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Where to write the quantized model [default: MODEL with _intN in its name]
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
        #[command(flatten)]
        which: WhichImages,
        #[command(flatten)]
        settings: Flags<of::Quantize>,
    },
    /// Which model to ship: FP32, or one of the quantized ones that are tried on your images
    #[command(after_help = "Examples:
  lowbit recommend model.onnx --data photos/
  lowbit recommend model_fp32.safetensors --data photos/ --max-drop 0.5 --target size
  lowbit recommend model.onnx --data photos/ --time 20m --resume    take what an earlier run has made
  lowbit recommend model.onnx --data photos/ --train 30m            also train widths that rounding spoils

Writes OUT/recommend/: recommendation.json, report.html; the model to ship and those of the front, also as ONNX.
Exit code 3 if no quantized model is shown to stay within --max-drop. docs/recommend.md explains.")]
    Recommend(Box<Recommend>),
    /// What is wrong with a model, or will be: evidence, cost, remedy
    #[command(after_help = "Examples:
  lowbit doctor model_int8.onnx
  lowbit doctor model.onnx --data photos/ --preprocess imagenet --json

Exit code 1 if it finds an error. docs/doctor.md has the list of rules.")]
    Doctor(Box<Doctor>),
    /// Accuracy of a model file, FP32 or quantized, on images that it has not learned from
    #[command(after_help = "Examples:
  lowbit eval model_int8.safetensors --data photos/      the data of its training: the test images of then, whatever --seed
  lowbit eval model_int8.safetensors --data held_out/    other images: all of them, if none was a training image")]
    Eval {
        /// A model file
        #[arg(value_name = "MODEL", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        which: WhichImages,
        #[command(flatten)]
        settings: Flags<of::Eval>,
    },
    /// Speed of a model file, or of a model of the zoo with random weights: FP32 against --bits
    #[command(after_help = "Examples:
  lowbit bench                                     eurosat-cnn, 64×64×3
  lowbit bench model_fp32.safetensors --threads 4
  lowbit bench --model resnet8 --image-size 32
  lowbit bench --peak                              what this machine's arithmetic units can do
  lowbit bench --roofline                          how near every layer comes to that, 32 to 1 bit")]
    Bench {
        /// A model file with FP32 weights [default: a model of the zoo with random weights]
        #[arg(value_name = "MODEL", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// Answer `fp32|int8|train|qat BATCH ITERATIONS` lines on standard input with seconds per iteration
        #[arg(long, hide_short_help = true)]
        serve: bool,
        /// Measure the machine's register-only peaks as well
        #[arg(long)]
        peak: bool,
        /// Per layer and weight width: GMAC/s, share of the machine's peak, bytes moved, what bounds it; into
        /// OUT/roofline.json and OUT/roofline.svg
        #[arg(long, conflicts_with = "serve")]
        roofline: bool,
        #[command(flatten)]
        settings: Flags<of::Bench>,
    },
    /// Graph, parameters, quantization and bytes of a model file
    #[command(after_help = "Example: lowbit inspect model_int8.safetensors")]
    Inspect {
        /// A model file
        #[arg(value_name = "MODEL", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        settings: Flags<of::Inspect>,
    },
    /// Write a model file as ONNX, for ONNX Runtime, OpenVINO and others
    #[command(after_help = "Examples:
  lowbit export model_int8.safetensors --to model_int8.onnx
  lowbit export model_fp32.safetensors --to model_fp32.onnx
  lowbit export model_int8.safetensors --to camera.onnx --input pixels    takes u8 pixels as they are

8-bit models give the same bits in ONNX Runtime as here. docs/onnx.md says what each width becomes.")]
    Export {
        /// A model file, quantized or not
        #[arg(value_name = "MODEL", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Where to write the ONNX file
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        to: PathBuf,
        /// What the exported model reads: f32 that are normalized as in training, or u8 pixels
        #[arg(long, value_enum, default_value_t = ExportInput::Normalized)]
        input: ExportInput,
        /// Weights of 7 bits in layers whose sums CPUs without VNNI may cut to 16 bits in ONNX Runtime
        #[arg(long)]
        reduce_range: bool,
        #[command(flatten)]
        settings: Flags<of::Export>,
    },
    /// Images per class and split, and a contact sheet
    #[command(after_help = "Examples:
  lowbit data photos/
  lowbit data EuroSAT_RGB.zip --sheet classes.png")]
    Data {
        /// `landcover`, `eurosat`, or a path [default: --data]
        #[arg(value_hint = ValueHint::AnyPath)]
        path: Option<String>,
        /// Write a PNG with a row of images per class
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        sheet: Option<PathBuf>,
        /// Images per class on the contact sheet
        #[arg(long, default_value_t = 10)]
        per_class: usize,
        #[command(flatten)]
        settings: Flags<of::Data>,
    },
    /// Completions for a shell, on standard output
    #[command(after_help = "Examples:
  lowbit completions bash > ~/.local/share/bash-completion/completions/lowbit
  lowbit completions zsh > ~/.zfunc/_lowbit                 with ~/.zfunc in fpath
  lowbit completions fish > ~/.config/fish/completions/lowbit.fish")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// The manual page of lowbit or of one of its commands, on standard output
    #[command(after_help = "Examples:
  lowbit man | man -l -
  lowbit man sweep | man -l -
  lowbit man --into ~/.local/share/man/man1")]
    Man {
        /// A command [default: lowbit itself]
        command: Option<String>,
        /// Write the pages of all commands into this folder
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "command")]
        into: Option<PathBuf>,
    },
    /// Trainings that are worth repeating: their settings, and what they reached
    #[command(after_help = "Examples:
  lowbit recipes cifar10-resnet8 > mine.toml             its settings, as --config takes them
  lowbit train --recipe cifar10-resnet8 --data cifar10.zip --epochs 20")]
    Recipes {
        /// Print the settings of this one
        name: Option<String>,
    },
    /// Send an experiment to a Slurm cluster or to this machine's own queue
    #[command(after_help = "Examples:
  lowbit submit sweep --data EuroSAT_RGB.zip --seeds 3                    a Slurm array, a task per width and seed
  lowbit submit sweep --data EuroSAT_RGB.zip --on local --max-parallel 2  the same on this machine, behind the terminal
  lowbit submit sweep --seeds 3 --partition short --time 1:00:00 --mem 8G
  lowbit submit compare --data photos/ --dry-run                          print what would be sent

The same command again sends exactly what is missing or failed. Then: lowbit jobs, lowbit logs TASK, lowbit collect.")]
    Submit(Box<Submit>),
    /// Submitted tasks: state, node, time, epoch, accuracy
    #[command(after_help = "Examples:
  lowbit jobs
  lowbit jobs --watch
  lowbit jobs --job sweep-1a2b3c4d --json")]
    Jobs {
        #[command(flatten)]
        which: Which,
        /// Look again until every task has ended
        #[arg(long)]
        watch: bool,
    },
    /// What a submitted task printed
    #[command(after_help = "Examples:
  lowbit logs 3
  lowbit logs 8bit_seed2 -f                        go on until it ends")]
    Logs {
        /// Number or name of the task
        task: String,
        /// Go on until the task ends
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Take submitted tasks back, waiting or running
    #[command(after_help = "Examples:
  lowbit cancel                                    all tasks of the newest job
  lowbit cancel 3 8bit_seed2")]
    Cancel {
        /// Numbers or names of tasks [default: all]
        tasks: Vec<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Wait for a submitted experiment, analyze what there is, and list what failed
    #[command(after_help = "Example: lowbit collect
Exit code 1 if a task is not done; the tables hold what there is.")]
    Collect {
        #[command(flatten)]
        which: Which,
    },
    /// One task of a manifest, as its scheduler runs it
    #[command(hide = true)]
    Task(TaskArgs),
    /// Serve this machine's own queue until it is empty
    #[command(hide = true)]
    Queue,
    /// A part of a federation on Flower, as a task; the Python package runs it
    #[command(hide = true)]
    Flower {
        /// Which part, and its settings
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        part: Vec<String>,
    },
}

/// A part of a sweep that a task of its own does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Training.
    Train,
    /// Speeds of what is trained.
    Measure,
}

/// What an exported model reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportInput {
    /// f32, normalized.
    Normalized,
    /// u8 pixels.
    Pixels,
}

impl From<ExportInput> for lowbit_lab::models::ExportInput {
    fn from(input: ExportInput) -> Self {
        match input {
            ExportInput::Normalized => Self::Normalized,
            ExportInput::Pixels => Self::Pixels,
        }
    }
}

/// Manners, which mean the same in every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Manners")]
pub(crate) struct Manners {
    /// Print the results as JSON; everything else goes to standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but errors and where the results are
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// A price: finite, and not negative.
fn price(text: &str) -> Result<f64, String> {
    not_negative(text).ok_or_else(|| "use a number that is not negative, e.g. 0.05".into())
}

fn points(text: &str) -> Result<f64, String> {
    not_negative(text).ok_or_else(|| "use points that are not negative, e.g. 0.5".into())
}

fn not_negative(text: &str) -> Option<f64> {
    let number = text.parse().ok();
    number.filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

impl Command {
    /// The settings that a user gave, for commands that have any.
    pub(crate) fn given(&self) -> Given {
        match self {
            Self::Compare { settings, .. } => settings.given.clone(),
            Self::Train { settings, .. } => settings.given.clone(),
            Self::QatVsPtq { settings, .. } => settings.given.clone(),
            Self::Sweep { settings, .. } => settings.given.clone(),
            Self::Federate(federate) => federate.settings.given.clone(),
            Self::Analyze { settings, .. } => settings.given.clone(),
            Self::Quantize { settings, .. } => settings.given.clone(),
            Self::Recommend(recommend) => recommend.settings.given.clone(),
            Self::Doctor(doctor) => doctor.settings.given.clone(),
            Self::Eval { settings, .. } => settings.given.clone(),
            Self::Bench { settings, .. } => settings.given.clone(),
            Self::Inspect { settings, .. } => settings.given.clone(),
            Self::Data { settings, .. } => settings.given.clone(),
            Self::Export { settings, .. } => settings.given.clone(),
            Self::Submit(submit) => submit.experiment.given().clone(),
            Self::Completions { .. }
            | Self::Man { .. }
            | Self::Recipes { .. }
            | Self::Jobs { .. }
            | Self::Logs { .. }
            | Self::Cancel { .. }
            | Self::Collect { .. }
            | Self::Task(_)
            | Self::Queue
            | Self::Flower { .. } => Given::default(),
        }
    }

    /// Whether to go on with a run that was stopped.
    pub(crate) fn resumes(&self) -> bool {
        match self {
            Self::Compare { resume, .. }
            | Self::Train { resume, .. }
            | Self::QatVsPtq { resume, .. } => *resume,
            Self::Recommend(recommend) => recommend.resume,
            _ => false,
        }
    }
}
