//! Arguments of the commands that send experiments away.

use crate::failure::Failure;
use crate::federate_args::only_federated;
use crate::settings::{Flags, Given, hidden, of};
use clap::builder::Resettable;
use clap::{Arg, Args, Subcommand, ValueHint};
use lowbit::ModelBits;
use lowbit_data::Partition;
use lowbit_jobs::site::{Text, Wishes};
use std::path::PathBuf;

/// Where to, with what, and which experiment.
#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(subcommand)]
    pub(crate) experiment: Experiment,
    /// slurm, or local for this machine's own queue [default: slurm if its sbatch is on the PATH, else local]
    #[arg(long, global = true, value_name = "WHERE", help_heading = "Where to")]
    on: Option<String>,
    /// Slurm partition
    #[arg(long, global = true, value_name = "NAME", help_heading = "Where to")]
    partition: Option<String>,
    /// Slurm quality of service
    #[arg(long, global = true, value_name = "NAME", help_heading = "Where to")]
    qos: Option<String>,
    /// Slurm account
    #[arg(long, global = true, value_name = "NAME", help_heading = "Where to")]
    account: Option<String>,
    /// Time of one attempt; a task whose time is up goes on from its checkpoint: minutes, h:mm:ss or d-hh:mm
    #[arg(
        long,
        global = true,
        allow_hyphen_values = true,
        value_name = "TIME",
        help_heading = "Resources of a task"
    )]
    time: Option<String>,
    /// Memory [default: 4G]
    #[arg(
        long,
        global = true,
        allow_hyphen_values = true,
        value_name = "SIZE",
        help_heading = "Resources of a task"
    )]
    mem: Option<String>,
    /// Cores [default: 4, or all there are]
    #[arg(
        long,
        global = true,
        value_name = "N",
        help_heading = "Resources of a task"
    )]
    cpus: Option<u32>,
    /// GPUs [default: 0]
    #[arg(
        long,
        global = true,
        value_name = "N",
        help_heading = "Resources of a task"
    )]
    gpus: Option<u32>,
    /// Tasks at once [default: as many as there is room for]
    #[arg(
        long,
        global = true,
        value_name = "N",
        help_heading = "Resources of a task"
    )]
    max_parallel: Option<u32>,
    /// How often a task goes on after a time-out, a preemption or a kill [default: 10]
    #[arg(
        long,
        global = true,
        value_name = "N",
        help_heading = "Resources of a task"
    )]
    max_restarts: Option<u32>,
    /// Let tasks that measure speeds share their node
    #[arg(long, global = true, help_heading = "Resources of a task")]
    no_exclusive: bool,
    /// What the first tasks wait for, in Slurm's words, such as afterok:123
    #[arg(long, global = true, value_name = "WORDS", help_heading = "Site")]
    dependency: Option<String>,
    /// Who hears when an array ends or fails
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Site")]
    email: Option<String>,
    /// More options of sbatch, as they stand
    #[arg(
        long,
        global = true,
        allow_hyphen_values = true,
        value_name = "OPTIONS",
        help_heading = "Site"
    )]
    extra: Option<String>,
    /// A shell line before the program, such as 'module load x'
    #[arg(long, global = true, value_name = "LINE", help_heading = "Site")]
    setup: Option<String>,
    /// A site's own submit line, which sees CMD, NAME, LOG, CPUS, MEM, TIME, GPUS: 'submit-job.sh "$CMD" --name "$NAME"'
    #[arg(long, global = true, value_name = "LINE", help_heading = "Site")]
    template: Option<String>,
    /// Site defaults [default: $LOWBIT_SITE, or ~/.config/lowbit/site.toml]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Site")]
    pub(crate) site: Option<PathBuf>,
    /// Print the batch scripts and the manifest, and send nothing
    #[arg(long, global = true, help_heading = "Manners")]
    pub(crate) dry_run: bool,
}

impl Submit {
    /// Whether `--partition` was meant for the images of a federation.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match &self.partition {
            Some(name)
                if self.experiment.is_federation()
                    && (name.starts_with('@') || name.parse::<Partition>().is_ok()) =>
            {
                Err(Failure::Input(format!(
                    "--partition {name}: it names a partition of Slurm here; use --deal {name} to spread the images"
                )))
            }
            _ => Ok(()),
        }
    }

    /// What the flags ask for.
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes {
            on: self.on.clone(),
            partition: self.partition.clone(),
            qos: self.qos.clone(),
            account: self.account.clone(),
            time: self.time.clone().map(Text::Text),
            mem: self.mem.clone().map(Text::Text),
            cpus: self.cpus,
            gpus: self.gpus,
            max_parallel: self.max_parallel,
            max_restarts: self.max_restarts,
            dependency: self.dependency.clone(),
            email: self.email.clone(),
            extra: self.extra.clone(),
            setup: self.setup.clone(),
            template: self.template.clone(),
            exclusive: self.no_exclusive.then_some(false),
        }
    }
}

/// What can be sent away.
#[derive(Debug, Subcommand)]
pub(crate) enum Experiment {
    /// Train one model per width and seed, a task each; then measure their speeds, then analyze
    #[command(mut_arg("seeds", |arg| arg.default_value("1")), mut_args(only_federated), mut_arg("bits", hidden), mut_arg("deal", deal))]
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
        /// Train every width in a federation
        #[arg(long)]
        federated: bool,
        #[command(flatten)]
        settings: Flags<of::Sweep>,
    },
    /// Train across clients that keep their images: as one task, or with a task for each client
    #[command(mut_arg("schedule", |arg| arg.default_value("constant")), mut_arg("epochs", hidden), mut_arg("freeze_bn_epochs", hidden), mut_arg("deal", deal))]
    Federate {
        /// Bits per weight of the model that clients train and the server deploys: 32, 16, 8, 4, 2 or 1 [default: 8]
        #[arg(long, value_name = "N", help_heading = "Federation")]
        bits: Option<ModelBits>,
        /// process: all clients in one task; flower: a task for the server, one for each client, joined by Flower (Slurm only)
        #[arg(long, value_enum, default_value_t = Transport::Process, help_heading = "Federation")]
        transport: Transport,
        #[command(flatten)]
        settings: Flags<of::Federate>,
    },
    /// Train in FP32, make a real INT8 model of it, measure both, as one task
    Compare {
        /// Take trained FP32 weights from this file instead of training
        #[arg(long, value_name = "MODEL", value_hint = ValueHint::FilePath)]
        from: Option<PathBuf>,
        #[command(flatten)]
        settings: Flags<of::Compare>,
    },
    /// Train with quantization or quantize after, as one task
    QatVsPtq {
        /// Start quantization-aware training from this FP32 model instead of from scratch
        #[arg(long, value_name = "MODEL", value_hint = ValueHint::FilePath)]
        from: Option<PathBuf>,
        /// Take trainings that a sweep has finished with the same settings from its folder
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "from")]
        runs: Option<PathBuf>,
        #[command(flatten)]
        settings: Flags<of::QatVsPtq>,
    },
}

/// What carries the messages of a federation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    /// Nothing: the clients are in one process.
    #[value(help = None)]
    Process,
    /// Flower, between tasks.
    #[value(help = None)]
    Flower,
}

impl Experiment {
    /// Whether it is a federation whose clients are tasks of their own.
    pub(crate) fn on_flower(&self) -> bool {
        matches!(
            self,
            Self::Federate {
                transport: Transport::Flower,
                ..
            }
        )
    }

    /// The settings that a user gave.
    pub(crate) fn given(&self) -> &Given {
        match self {
            Self::Sweep { settings, .. } => &settings.given,
            Self::Compare { settings, .. } => &settings.given,
            Self::QatVsPtq { settings, .. } => &settings.given,
            Self::Federate { settings, .. } => &settings.given,
        }
    }

    /// Whether it is a federation.
    pub(crate) fn is_federation(&self) -> bool {
        matches!(
            self,
            Self::Sweep {
                federated: true,
                ..
            } | Self::Federate { .. }
        )
    }
}

/// `--partition` is Slurm's here.
fn deal(arg: Arg) -> Arg {
    arg.long("deal").visible_alias(Resettable::Reset)
}

/// Which job.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Name of the job [default: the newest one]
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<String>,
    /// Folder of the experiment's results
    #[arg(long, value_name = "DIR", default_value = "outputs", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
}

/// One task as its scheduler runs it.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// The manifest
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) manifest: PathBuf,
    /// Index of the task [default: $SLURM_ARRAY_TASK_ID]
    pub(crate) index: Option<u32>,
    /// Seconds that one attempt may take
    #[arg(long, value_name = "S")]
    pub(crate) time_limit_s: Option<u64>,
    /// How often it goes on
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) max_restarts: u32,
    /// Cores
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<u32>,
    /// MiB that it may hold
    #[arg(long, value_name = "N")]
    pub(crate) mem_mib: Option<u64>,
}
