//! The command line.

use clap::{Args, Parser, Subcommand};
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
  lowbit bench outputs/real_quantization_comparison/model_int8.safetensors

Exit codes: 0 done, 1 the run failed, 2 wrong flag or bad input.
Environment: LOWBIT_ISA=portable|avx2|avxvnni|avx512|amx forces an instruction set; NO_COLOR turns colors off."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) shared: Shared,
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

Writes OUT/real_quantization_comparison/: comparison_results.json, model_fp32.safetensors, model_int8.safetensors.")]
    Compare {
        /// Take trained FP32 weights from this file instead of training
        #[arg(long, value_name = "MODEL", conflicts_with = "resume")]
        from: Option<PathBuf>,
    },
    /// Train a model in FP32
    #[command(
        after_help = "Example: lowbit train --data photos/ --epochs 20 --out run1
Writes OUT/train/: model_fp32.safetensors, training_results.json, checkpoint.safetensors."
    )]
    Train,
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
        #[arg(long, value_name = "MODEL")]
        from: Option<PathBuf>,
        /// Take trainings that a sweep has finished with the same settings from its folder
        #[arg(long, value_name = "DIR", conflicts_with = "from")]
        runs: Option<PathBuf>,
    },
    /// Train one model per width, 32 to 1 bit, each a real file and a real kernel
    #[command(after_help = "Examples:
  lowbit sweep                                     six widths on the built-in synthetic data, one seed
  lowbit sweep --quick                             the same in a few minutes, to see how it looks
  lowbit sweep --widths 32,8,2 --seeds 3 --data EuroSAT_RGB.zip
  lowbit sweep --jobs 4                            four runs at a time

Writes OUT/<b>bit/run_<time>_seed<n>/, then OUT/report.html, roofline.svg and tables as `lowbit analyze` does. A width that is finished with the same settings is not run again, a stopped one goes on.")]
    Sweep {
        /// Bits per weight
        #[arg(long, value_delimiter = ',', default_values_t = [32, 16, 8, 4, 2, 1], value_name = "LIST")]
        widths: Vec<u8>,
        /// 3 epochs on 1,500 images per split, one seed
        #[arg(long)]
        quick: bool,
        /// Runs at a time, which share the threads; speeds are measured at the end, one by one
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
        jobs: u16,
    },
    /// Tables and a page with charts of what the runs of a sweep came to
    #[command(after_help = "Example: lowbit analyze outputs --max-drop 0.5
Writes results_summary.csv, results_summary.json and report.html into the folder.")]
    Analyze {
        /// Folder of the runs [default: --out]
        folder: Option<PathBuf>,
        /// Points that the sweet spot may lose against 32 bits
        #[arg(long, default_value_t = 1.0, value_name = "POINTS")]
        max_drop: f64,
    },
    /// Quantize a trained model
    #[command(after_help = "Examples:
  lowbit quantize model_fp32.safetensors --data photos/
  lowbit quantize model_fp32.safetensors --method dynamic -o model_dynamic.safetensors")]
    Quantize {
        /// A model file with FP32 weights
        #[arg(value_name = "MODEL")]
        file: PathBuf,
        /// Where to write the quantized model [default: MODEL with _int8 in its name]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Accuracy of a model file, FP32 or quantized, on the test split
    #[command(after_help = "Example: lowbit eval model_int8.safetensors --data photos/")]
    Eval {
        /// A model file
        #[arg(value_name = "MODEL")]
        file: PathBuf,
    },
    /// Speed of a model file, or of a model of the zoo with random weights: FP32 against INT8, or --bits
    #[command(after_help = "Examples:
  lowbit bench                                     eurosat-cnn, 64×64×3
  lowbit bench model_fp32.safetensors --threads 4
  lowbit bench --model resnet8 --image-size 32
  lowbit bench --peak                              what this machine's arithmetic units can do
  lowbit bench --roofline                          how near every layer comes to that, 32 to 1 bit")]
    Bench {
        /// A model file with FP32 weights [default: a model of the zoo with random weights]
        #[arg(value_name = "MODEL")]
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
    },
    /// Graph, parameters, quantization and bytes of a model file
    #[command(after_help = "Example: lowbit inspect model_int8.safetensors")]
    Inspect {
        /// A model file
        #[arg(value_name = "MODEL")]
        file: PathBuf,
    },
    /// Images per class and split, and a contact sheet
    #[command(after_help = "Examples:
  lowbit data photos/
  lowbit data EuroSAT_RGB.zip --sheet classes.png")]
    Data {
        /// `landcover`, `eurosat`, or a path [default: --data]
        path: Option<String>,
        /// Write a PNG with a row of images per class
        #[arg(long, value_name = "FILE")]
        sheet: Option<PathBuf>,
        /// Images per class on the contact sheet
        #[arg(long, default_value_t = 10)]
        per_class: usize,
    },
}

/// Settings and manners that mean the same in every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings (also keys of --config and --set)")]
pub(crate) struct Shared {
    /// Model of the zoo: eurosat-cnn, resnet8, mlp [default: eurosat-cnn]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// landcover (synthetic, built in), eurosat, or a folder, .zip, .parquet, IDX or CIFAR-10 path [default: landcover]
    #[arg(long, global = true, value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// Passes over the training images [default: 10]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) epochs: Option<u32>,
    /// Images per training step [default: 64]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) batch_size: Option<u32>,
    /// Base learning rate [default: 0.001]
    #[arg(
        long,
        global = true,
        value_name = "RATE",
        allow_negative_numbers = true
    )]
    pub(crate) lr: Option<f64>,
    /// adam or sgd [default: adam]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) optimizer: Option<String>,
    /// cosine or constant [default: cosine]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) schedule: Option<String>,
    /// Random changes to training images: flip, dihedral (flips and quarter turns), shift:4, or flip,shift:4 [default: none]
    #[arg(long, global = true, value_name = "LIST")]
    pub(crate) augment: Option<String>,
    /// Of weights, shuffling, splits and generated data [default: 1]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) seed: Option<u32>,
    /// Threads, 0 for all cores [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<u32>,
    /// Most images per split, 0 for all [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) limit: Option<u32>,
    /// Resize images to N×N, 0 for their own size [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) image_size: Option<u32>,
    /// Quantization: static or dynamic [default: static]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) method: Option<String>,
    /// Activation ranges: minmax, percentile, percentile:99.9 or mse [default: minmax]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) observer: Option<String>,
    /// Training images that set the activation ranges [default: 512]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) calibration_images: Option<u32>,
    /// Bits per weight of a quantized model: 16, 8, 4, 2 or 1 [default: 8]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) bits: Option<u32>,
    /// Bits per activation: 8, 4, 2, 1, or float to quantize weights only [default: 8]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) act_bits: Option<String>,
    /// Bits per weight of the first and the last layer, at least --bits [default: 8]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) edge_bits: Option<u32>,
    /// Weights in quantization-aware training: lsq, absmax, dorefa, or auto: absmax for --bits 8 and 16,
    /// lsq below [default: auto]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) quantizer: Option<String>,
    /// Activations in quantization-aware training: lsq, pact, ema, or auto: 8-bit ones for --bits 8 and 16
    /// ema, lsq else [default: auto]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) act_quantizer: Option<String>,
    /// Round without a straight-through gradient, to see what that mistake costs
    #[arg(long, global = true)]
    pub(crate) no_ste: bool,
    /// Last epochs of quantization-aware training with frozen batch-norm statistics and activation ranges
    /// [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) freeze_bn_epochs: Option<u32>,
    /// Seeds of an experiment over seeds: --seed, --seed + 1, ... [default: 3]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) seeds: Option<u32>,
    /// Folder for results [default: outputs]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Where data sets lie that have a name [default: data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A TOML file with settings
    #[arg(long, global = true, value_name = "FILE", help_heading = "Manners")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, e.g. --set epochs=3 (may be repeated)
    #[arg(
        long,
        global = true,
        value_name = "KEY=VALUE",
        help_heading = "Manners"
    )]
    pub(crate) set: Vec<String>,
    /// Go on with a run that was stopped
    #[arg(long, global = true, help_heading = "Manners")]
    pub(crate) resume: bool,
    /// Print the results as JSON; everything else goes to standard error
    #[arg(long, global = true, help_heading = "Manners")]
    pub(crate) json: bool,
    /// Print nothing but errors and where the results are
    #[arg(short, long, global = true, help_heading = "Manners")]
    pub(crate) quiet: bool,
}

impl Shared {
    /// The settings that were given as flags.
    pub(crate) fn table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let texts = [
            ("model", self.model.clone()),
            ("data", self.data.clone()),
            ("optimizer", self.optimizer.clone()),
            ("schedule", self.schedule.clone()),
            ("augment", self.augment.clone()),
            ("method", self.method.clone()),
            ("observer", self.observer.clone()),
            ("quantizer", self.quantizer.clone()),
            ("act_quantizer", self.act_quantizer.clone()),
            ("out", path(&self.out)),
            ("data_dir", path(&self.data_dir)),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                table.insert(key.into(), value.into());
            }
        }
        let numbers = [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("seed", self.seed),
            ("threads", self.threads),
            ("limit", self.limit),
            ("image_size", self.image_size),
            ("calibration_images", self.calibration_images),
            ("bits", self.bits),
            ("edge_bits", self.edge_bits),
            ("freeze_bn_epochs", self.freeze_bn_epochs),
            ("seeds", self.seeds),
        ];
        for (key, value) in numbers {
            if let Some(value) = value {
                table.insert(key.into(), i64::from(value).into());
            }
        }
        if let Some(bits) = &self.act_bits {
            let number = bits.parse::<i64>().map(toml::Value::from);
            table.insert(
                "act_bits".into(),
                number.unwrap_or_else(|_| bits.clone().into()),
            );
        }
        if self.no_ste {
            table.insert("ste".into(), false.into());
        }
        if let Some(lr) = self.lr {
            table.insert("lr".into(), lr.into());
        }
        table
    }
}
