//! The settings, by what they are for. Each stands here once: its key, its type, its default, what it takes and what the
//! help says of it. The command line, TOML files, completions and the manual are made of these tables.

use lowbit::graph::zoo;
use lowbit::quant::{ActivationQuant, Observer};
use lowbit::quantize::{LayerBits, Passes};
use lowbit::train::{ActivationQuantizer, Augment, Optimizer, Schedule, WeightQuantizer};
use lowbit::{ActivationBits, WeightBits, WeightGrid};
use lowbit_data::{Partition, Resize, SplitRule};
use lowbit_fed::codec::MessageBits;
use lowbit_fed::simulate::ClientFault;
use lowbit_fed::{Aggregator, Norm, Strategy};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// One setting, as the help and the command line need it.
#[derive(Debug)]
pub struct Setting {
    /// Key in TOML files and of `--set`.
    pub key: &'static str,
    /// What the help says.
    pub help: &'static str,
    /// What it takes.
    pub values: Values,
}

/// What a setting takes.
#[derive(Debug)]
pub enum Values {
    /// Any text or number; the help calls it by this name.
    Any(&'static str),
    /// A file or a folder; the help calls it by this name.
    Path(&'static str),
    /// One of these.
    OneOf(fn() -> Vec<&'static str>),
    /// These and others of their kind.
    Like(&'static str, &'static [&'static str]),
    /// Several, with commas; the flag may be repeated. The help calls one of them by this name.
    List(&'static str),
    /// It is on; the flag `--no-KEY` turns it off, and the help of that flag says this.
    Off(&'static str),
    /// It is off; the flag `--KEY` turns it on.
    On,
}

/// The settings of one area, under one heading of the help.
#[derive(Debug)]
pub struct Group {
    /// Heading of the help.
    pub heading: &'static str,
    /// The settings.
    pub settings: &'static [Setting],
}

impl Setting {
    /// The flag, without the leading dashes.
    #[must_use]
    pub fn flag(&self) -> String {
        let name = self.key.replace('_', "-");
        match self.values {
            Values::Off(_) => format!("no-{name}"),
            _ => name,
        }
    }
}

/// A struct of settings that knows how it is described.
pub trait Area {
    /// Its heading and settings.
    const GROUP: &'static Group;
}

/// Defines an area: a struct with serde's and `Default`'s implementations, and its [`Group`].
macro_rules! area {
    (
        $(#[doc = $about:literal])+
        $area:ident, $heading:literal {
            $(
                $(#[doc = $help:literal])+
                $(#[serde($($serde:tt)+)])?
                $key:ident: $kind:ty = $default:expr, $values:expr;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $area {
            $(
                $(#[doc = $help])+
                $(#[serde($($serde)+)])?
                pub $key: $kind,
            )+
        }

        impl Default for $area {
            fn default() -> Self {
                Self { $($key: $default),+ }
            }
        }

        impl Area for $area {
            const GROUP: &'static Group = &Group {
                heading: $heading,
                settings: &[$(Setting {
                    key: stringify!($key),
                    help: concat!($($help),+),
                    values: $values,
                }),+],
            };
        }
    };
}

use Values::{Any, Like, Off, OneOf, Path};

area! {
    /// Which model is trained or timed.
    Network, "Model" {
        /// Model of the zoo; compare and bench take an .onnx file too
        model: String = "eurosat-cnn".into(), OneOf(|| zoo::names().collect());
    }
}

area! {
    /// Which images, and how many of them.
    Images, "Data" {
        /// landcover (synthetic, built in), eurosat, or a folder, .zip, .parquet, IDX or CIFAR-10 path
        data: String = "landcover".into(), Path("DATA");
        /// Most images per split, 0 for all
        limit: usize = 0, Any("N");
        /// How images are told apart: auto (as shipped, or 80/20), val:10 (and 10 % of the training images for validation,
        /// which chooses the epoch), 60/20/20 (training, validation, test), spatial (EuroSAT's published one), or lists of
        /// names: TRAIN,VAL,TEST
        #[serde(with = "super::text")]
        split: SplitRule = SplitRule::Auto, Like("HOW", &["auto", "val:10", "60/20/20", "spatial"]);
        /// Folder where data sets lie that have a name
        data_dir: PathBuf = "data".into(), Path("DIR");
        /// Keep decoded images for the next run; those of more than 1 GiB are read from there
        cache: bool = true, Off("Do not keep decoded images for the next run; more than 1 GiB of them then need memory");
    }
}

area! {
    /// How large the images are that the model sees, and which way up.
    Input, "Data" {
        /// Bring images to N×N, 0 for their own size
        image_size: usize = 0, Any("N");
        /// How: stretch, or short:256, which brings the shorter side to 256 pixels and cuts the middle N×N out
        #[serde(with = "super::text")]
        resize: Resize = Resize::Stretch, Like("HOW", &["stretch", "short:256"]);
        /// Turn images as their EXIF orientation says; without it, pixels are taken as they are stored
        exif: bool = false, Values::On;
    }
}

area! {
    /// How a model that another program made is read.
    Onnx, "ONNX models" {
        /// How pixels become the input of an ONNX model: imagenet, half (-1..1), unit (0..1), none (0..255), with :bgr behind
        /// it for models that take BGR, or a .toml file with mean and std
        preprocess: String = String::new(), Like("NAME", &["imagenet", "half", "unit", "none", "none:bgr"]);
        /// A file with the names of an ONNX model's classes, one a line [default: the model's own, or the folders' names]
        labels: PathBuf = PathBuf::new(), Path("FILE");
    }
}

area! {
    /// How a model is trained.
    Training, "Training" {
        /// Passes over the training images
        epochs: usize = 10, Any("N");
        /// Images per training step
        batch_size: usize = 64, Any("N");
        /// Base learning rate
        lr: f32 = 1e-3, Any("RATE");
        /// Optimizer
        #[serde(with = "super::text")]
        optimizer: Optimizer = Optimizer::default(), OneOf(|| vec!["adam", "sgd", "nesterov"]);
        /// How the learning rate goes on from its base
        #[serde(with = "super::text")]
        schedule: Schedule = Schedule::default(), OneOf(|| vec!["cosine", "constant", "onecycle"]);
        /// Random changes to training images: none, flip, dihedral (flips and quarter turns), shift:4 (pixels),
        /// rotate:15 (degrees), color:20 (per cent of brightness, contrast, saturation), cutout:8 (a gray square), or several as flip,shift:4
        #[serde(with = "super::text")]
        augment: Augment = Augment::default(), Like("LIST", &["none", "flip", "dihedral", "shift:4", "rotate:15", "color:20", "cutout:8", "flip,shift:4"]);
    }
}

area! {
    /// What makes long trainings generalize, and narrow weights learn.
    Recipe, "Training" {
        /// Weight decay (L2) of convolutions' and linear layers' weights
        weight_decay: f32 = 0.0, Any("LAMBDA");
        /// Share of each label that is spread over all classes
        label_smoothing: f32 = 0.0, Any("SHARE");
        /// Largest norm of all gradients together, 0 for any
        clip_norm: f32 = 0.0, Any("NORM");
        /// First epochs, in which the learning rate climbs to its base
        warmup_epochs: usize = 0, Any("N");
        /// Mix pairs of images and their labels with shares from Beta(A, A), 0 for not
        mixup: f32 = 0.0, Any("A");
        /// Paste rectangles of images into others, with areas from Beta(A, A), 0 for not
        cutmix: f32 = 0.0, Any("A");
        /// Evaluate and ship a moving average of the weights that keeps this share in each step, e.g. 0.999; 0 for the last
        /// weights
        ema: f32 = 0.0, Any("SHARE");
        /// Measure batch-norm's statistics anew over so many batches before a model is evaluated and shipped, 0 for the running
        /// averages of training
        bn_reestimation: usize = 0, Any("BATCHES");
        /// Weights to begin with: a model file with FP32 weights of the same network [default: fresh ones]
        start_from: PathBuf = PathBuf::new(), Path("FILE");
        /// Learn the answers of this model too (distillation): a model file with FP32 weights; fp32 in sweep and qat-vs-ptq:
        /// their own FP32 model [default: none]
        teacher: PathBuf = PathBuf::new(), Path("FILE");
        /// Share of the loss that is the teacher's
        teacher_weight: f32 = 0.5, Any("SHARE");
        /// Temperature that softens both answers
        temperature: f32 = 4.0, Any("T");
    }
}

/// The value of `teacher` that means an experiment's own FP32 model.
pub const OWN_TEACHER: &str = "fp32";

impl Recipe {
    /// Whether an experiment's own FP32 model teaches the quantized ones.
    #[must_use]
    pub fn own_teacher(&self) -> bool {
        self.teacher.as_os_str() == OWN_TEACHER
    }
}

area! {
    /// What the runs of a sweep give each other.
    Chain, "Training" {
        /// Begin each width with the trained weights of the next wider width of the same seed
        warm_start: bool = false, Values::On;
    }
}

area! {
    /// How many bits a quantized model has.
    Widths, "Quantization" {
        /// Bits per weight of a quantized model
        #[serde(with = "super::number")]
        bits: WeightBits = WeightBits::B8, OneOf(|| vec!["16", "8", "4", "2", "1"]);
    }
}

area! {
    /// How many bits those parts of it have that are no weights, or weights at its ends.
    OtherWidths, "Quantization" {
        /// Bits per activation; float quantizes weights only
        #[serde(deserialize_with = "super::activation_bits")]
        act_bits: ActivationBits = ActivationBits::B8, OneOf(|| vec!["8", "4", "2", "1", "float"]);
        /// Which integers weights of 4 and 2 bits are: whole steps with a zero, odd half steps without one (one value more), or
        /// what measured best
        #[serde(with = "super::text")]
        weight_grid: WeightGrid = WeightGrid::default(), OneOf(|| vec!["auto", "mid-tread", "mid-rise"]);
        /// Bits per weight of the first and the last layer, at least --bits
        #[serde(with = "super::number")]
        edge_bits: WeightBits = WeightBits::B8, OneOf(|| vec!["16", "8", "4", "2", "1"]);
    }
}

area! {
    /// How a trained model is quantized.
    Ptq, "Quantization after training" {
        /// Activation ranges set once from training images (static), or anew for every image (dynamic)
        #[serde(with = "super::text")]
        method: ActivationQuant = ActivationQuant::Static, OneOf(|| vec!["static", "dynamic"]);
        /// How activation ranges are found: minmax, percentile, percentile:99.9 or mse
        #[serde(with = "super::text")]
        observer: Observer = Observer::MinMax, Like("NAME", &["minmax", "percentile", "percentile:99.9", "mse"]);
        /// What repairs the rounding, several with commas: bias-correction; mse-weights (below 8 bits, with bias-correction);
        /// gptq (each weight makes good what those before it have spoilt); adaround, adaround:1000 (learned rounding, in so many steps);
        /// reconstruct, reconstruct:1000 (after those: blocks learn to give what they give in f32, in so many steps each)
        #[serde(with = "super::text")]
        passes: Passes = Passes::default(), Like("LIST", &["none", "bias-correction", "mse-weights,bias-correction", "mse-weights,gptq,bias-correction", "mse-weights,adaround,bias-correction", "mse-weights,adaround,bias-correction,reconstruct"]);
        /// Layers that stay f32, several with commas; * stands for any text (inspect lists their names)
        exclude: String = String::new(), Any("NAMES");
        /// Layers with bits of their own: NAME=BITS with commas, or @FILE with one a line
        #[serde(serialize_with = "super::text::serialize", deserialize_with = "super::layer_bits")]
        layer_bits: LayerBits = LayerBits::default(), Any("LIST");
    }
}

area! {
    /// What activation ranges are set from.
    Calibration, "Quantization after training" {
        /// Training images that set the activation ranges
        calibration_images: usize = 512, Any("N");
    }
}

area! {
    /// How a model is trained with quantization.
    Qat, "Quantization-aware training" {
        /// Steps of the weights; auto: absmax for --bits 8 and 16, lsq below
        #[serde(with = "super::text")]
        quantizer: WeightQuantizer = WeightQuantizer::default(), OneOf(|| vec!["auto", "lsq", "absmax", "dorefa"]);
        /// Steps of the activations; auto: ema for 8-bit ones with --bits 8 and 16, lsq else
        #[serde(with = "super::text")]
        act_quantizer: ActivationQuantizer = ActivationQuantizer::default(), OneOf(|| vec!["auto", "lsq", "pact", "ema"]);
        /// Pass gradients straight through rounding
        ste: bool = true, Off("Round without a straight-through gradient, to see what that mistake costs");
        /// Last epochs that leave batch-norm statistics and moving activation ranges as they are
        freeze_bn_epochs: usize = 0, Any("N");
    }
}

area! {
    /// Who takes part in a federation, what they send each other, and what may fail.
    Federating, "Federation" {
        /// Clients that hold the training images
        clients: u32 = 10, Any("N");
        /// Rounds: clients train, the server averages
        rounds: u32 = 5, Any("N");
        /// Passes of a client over its images in a round
        local_epochs: u32 = 2, Any("N");
        /// Share of the clients that is chosen for a round
        fraction: f64 = 1.0, Any("SHARE");
        /// Bits per weight of messages from the clients: 32, 16, 8, 4, 2, 1, or ternary:1 for the largest 1 percent
        #[serde(serialize_with = "super::text::serialize", deserialize_with = "super::text_or_number")]
        up_bits: MessageBits = MessageBits::Uniform(8), Like("N", &["32", "16", "8", "4", "2", "1", "ternary:1"]);
        /// The same for messages to the clients
        #[serde(serialize_with = "super::text::serialize", deserialize_with = "super::text_or_number")]
        down_bits: MessageBits = MessageBits::Uniform(8), Like("N", &["32", "16", "8", "4", "2", "1", "ternary:1"]);
        /// How images are spread over clients: iid, dirichlet:0.3, dirichlet:0.3:balanced (no further class for
        /// clients that have a fair share of all images), shards:2, or @FILE, a table of images per client and class as
        /// --show-partitions --json prints it
        #[serde(serialize_with = "super::text::serialize", deserialize_with = "super::partition")]
        partition: Partition = Partition::Iid, Like("HOW", &["iid", "dirichlet:0.3", "dirichlet:0.3:balanced", "shards:2"]);
        /// Share of its images that a client keeps apart, to measure its own model on; 0 for none
        local_test: f64 = Partition::HELD, Any("SHARE");
        /// What the server does with the mean update: fedavg, fedprox:0.01, fedavgm:0.9 or fedadam:0.01
        #[serde(with = "super::text")]
        strategy: Strategy = Strategy::FedAvg, Like("NAME", &["fedavg", "fedprox:0.01", "fedavgm:0.9", "fedadam:0.01"]);
        /// How updates become one: mean, median, trimmed-mean:0.1 or krum:1
        #[serde(with = "super::text")]
        aggregator: Aggregator = Aggregator::Mean, Like("NAME", &["mean", "median", "trimmed-mean:0.1", "krum:1"]);
        /// Whose batch-norm is: server (averaged), or local (each client keeps its own, and its own model is measured)
        #[serde(with = "super::text")]
        norm: Norm = Norm::Server, Like("WHOSE", &["server", "local"]);
        /// Probability that a client drops out of a round after it received the model
        dropout: f64 = 0.0, Any("SHARE");
        /// Time after which a client's answer does not count, e.g. 30s; with it, runs do not repeat to the bit
        #[serde(serialize_with = "super::text::serialize", deserialize_with = "super::text_or_number")]
        deadline: AnswerTime = AnswerTime::default(), Any("TIME");
        /// Fewest clients that must answer in a round
        min_clients: u32 = 2, Any("N");
        /// A client that misbehaves in every round: 3=nan, 3=x100 or 3=cut (may be repeated)
        #[serde(with = "super::text")]
        fault: Faults = Faults::default(), Values::List("CLIENT=WHAT");
        /// Send what rounding lost with the next message
        feedback: bool = true, Off("Forget what rounding lost instead of sending it with the next message");
        /// Rotate messages below 4 bits
        rotation: bool = true, Off("Do not rotate messages below 4 bits");
        /// Clients that train at the same time, each on its share of the threads; 0 for as many as there are threads
        at_a_time: usize = 0, Any("N");
    }
}

/// Seconds after which an answer does not count, if any; written `30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AnswerTime(pub Option<f64>);

impl fmt::Display for AnswerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(seconds) => write!(f, "{seconds}s"),
            None => Ok(()),
        }
    }
}

impl FromStr for AnswerTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let seconds = text.strip_suffix('s').unwrap_or(text).parse();
        let seconds = seconds.map_err(|_| format!("{text}: use seconds, e.g. 30s"))?;
        Ok(Self(Some(seconds)))
    }
}

/// Clients that misbehave, with commas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults(pub Vec<ClientFault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let faults = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        faults.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

area! {
    /// What every computation depends on.
    Run, "Run" {
        /// Seed of initial weights, shuffling, splits and generated data
        seed: u64 = 1, Any("N");
        /// Threads, 0 for all cores
        threads: usize = 0, Any("N");
    }
}

area! {
    /// How often an experiment is repeated.
    Repeats, "Run" {
        /// Seeds of the experiment: --seed, --seed + 1, ...
        seeds: usize = 3, Any("N");
    }
}

area! {
    /// Where results go.
    Results, "Run" {
        /// Folder for results
        out: PathBuf = "outputs".into(), Path("DIR");
    }
}

area! {
    /// Where learning curves go, beside the results.
    Curves, "Run" {
        /// Folder for TensorBoard's event files: loss, accuracy, learning rate and images per second of each epoch [default: none]
        tensorboard: PathBuf = PathBuf::new(), Path("DIR");
    }
}

impl OtherWidths {
    /// Whether activations stay in f32.
    #[must_use]
    pub fn float_activations(&self) -> bool {
        self.act_bits == ActivationBits::Float
    }
}
