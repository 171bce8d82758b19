//! ONNX in and out: reads image classifiers that other frameworks export, and makes lowbit's graphs of them; writes lowbit's
//! models, quantized or not, as files that other engines run.
//!
//! ```no_run
//! use lowbit::exec::{FloatModel, Model};
//! use lowbit_onnx::{Options, read};
//!
//! let imported = read("mobilenet_v2.onnx".as_ref(), &Options::default())?;
//! let model = FloatModel::new(&imported.graph, &imported.weights)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A file goes through four stages: `file.rs` decodes it (with limits before anything is allocated), `fold/` infers shapes and
//! computes what is constant, `rewrite/` brings what exporters write to few operators, `import/` makes the graph. What lowbit
//! does not compute as ONNX defines it is refused, by the name of the node, its operator and the attribute.

mod codes;
mod constant;
mod contents;
mod draft;
mod error;
mod export;
mod file;
mod fold;
mod import;
mod metadata;
mod model;
mod names;
#[allow(clippy::all, clippy::pedantic, missing_docs, dead_code)]
mod proto;
mod quantized;
mod rewrite;
mod tensor;
mod window;
mod wire;

pub use contents::{Contents, ElementType, StoredNode, StoredTensor, Values, external_files};
pub use error::{Fault, OnnxError};
pub use export::{ExportError, Exported, Input, export_float, export_quantized};

#[cfg(test)]
mod tests;

use lowbit::graph::Normalization;
use lowbit::quant::QuantizedModel;
use lowbit::{Graph, Weights};
use names::one_line;
use std::path::Path;

/// Choices of who reads a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Normalization by which pixels become what the model's input expects: `(x / 255 − mean) / std`. Where it is left out, what
    /// the file's metadata say, else pixels between 0 and 1.
    pub normalization: Option<Normalization>,
    /// Order of the channels: true if the model takes blue, green and red instead of RGB; the normalization's numbers are then in
    /// that order too. Where the metadata or the model itself say how pixels become its input, it has no effect.
    pub bgr: bool,
    /// Height and width of images where the model leaves them open.
    pub image_size: Option<usize>,
    /// Names of the classes, where the file does not have them or they are to be others.
    pub class_names: Option<Vec<String>>,
    /// Name of the output that holds the logits, where there are several.
    pub output: Option<String>,
}

impl Default for Options {
    /// Returns options that take everything as the model has it.
    fn default() -> Self {
        Self {
            normalization: None,
            bgr: false,
            image_size: None,
            class_names: None,
            output: None,
        }
    }
}

/// A model that was read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// Graph of what it computes.
    pub graph: Graph,
    /// Weights of the graph. Of a quantized model those that its integers stand for; with them alone it is another function: where
    /// a grid begins at zero, such models have no ReLU.
    pub weights: Weights,
    /// Integers of a model that is quantized already, as they stand in the file.
    pub quantized: Option<QuantizedModel>,
    /// Source of what is known of its preprocessing.
    pub preprocessing: Preprocessing,
    /// True if the names of its classes are known; they are numbers else.
    pub has_class_names: bool,
    /// Program that wrote the file, with its version.
    pub producer: String,
    /// Version of ONNX's operators that it uses.
    pub opset: i64,
    /// Notes for a person, a line each, of what was found and done; warnings begin so.
    pub notes: Vec<String>,
}

/// Who says how pixels become a model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preprocessing {
    /// The [`Options`] say it.
    Given,
    /// The file's metadata say it.
    Metadata,
    /// The model itself takes pixels of 8 bits; options have no say.
    Model,
    /// Nobody says it: pixels between 0 and 1 are a guess.
    Unknown,
}

/// Reads a model from its file; external data are read from the file's folder.
///
/// # Errors
/// [`OnnxError`] saying what is wrong with the file, or what lowbit does not run.
pub fn read(path: &Path, options: &Options) -> Result<Imported, OnnxError> {
    let fail = |fault: Fault| OnnxError {
        path: path.to_owned(),
        fault,
    };
    let (bytes, folder) = file::read_bytes(path).map_err(fail)?;
    let name = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    decoded(bytes, Some(folder), name, options).map_err(fail)
}

/// Reads a model from the bytes of a file without external data.
///
/// # Errors
/// [`Fault`] saying what is wrong with it, or what lowbit does not run.
pub fn decode(bytes: Vec<u8>, options: &Options) -> Result<Imported, Fault> {
    decoded(bytes, None, None, options)
}

fn decoded(
    bytes: Vec<u8>,
    folder: Option<&Path>,
    name: Option<String>,
    options: &Options,
) -> Result<Imported, Fault> {
    let (mut model, about) = file::decode(bytes, folder, options)?;
    quantized::normalize(&mut model)?;
    fold::fold(&mut model)?;
    quantized::join(&mut model)?;
    rewrite::normalize(&mut model)?;
    let mut draft = import::import(&model)?;
    let (given, bgr, preprocessing) = preprocessing(&mut model, &about, &draft, options);
    let mut normalization = given.clone();
    draft.fold_affine(&mut normalization);
    quantized::settle(&mut draft);
    if normalization != given {
        model.notes.push(
            "the model scales its input itself: that became part of its normalization".into(),
        );
    }
    if bgr {
        draft.reverse_channels(&mut normalization)?;
    }
    let classes = draft.items.last().map_or(0, |item| item.shape.c());
    let known = match &options.class_names {
        Some(names) => Some(names.clone()),
        None => about.class_names(),
    };
    let known = known.map(|names| names.iter().map(|name| one_line(name)).collect::<Vec<_>>());
    let has_class_names = known.is_some();
    let names = match known {
        Some(names) if names.len() == classes => names,
        Some(names) => {
            let found = names.len();
            return Err(Fault::Model(format!(
                "it has {classes} classes, and {found} names for them"
            )));
        }
        None => (0..classes).map(|class| class.to_string()).collect(),
    };
    let name = name.unwrap_or_else(|| one_line(&model.name));
    let is_quantized = draft.is_quantized();
    let (graph, weights, quantized) = match is_quantized {
        true => {
            let (weights, integers) = quantized::finish(
                draft,
                &name,
                normalization,
                &names,
                &about.producer,
                &mut model.notes,
            )?;
            (integers.graph.clone(), weights, Some(integers))
        }
        false => {
            let (graph, weights) = draft.finish(&name, normalization, &names)?;
            (graph, weights, None)
        }
    };
    Ok(Imported {
        graph,
        weights,
        quantized,
        preprocessing,
        has_class_names,
        producer: about.producer,
        opset: model.opset,
        notes: model.notes.iter().map(|note| one_line(note)).collect(),
    })
}

/// How pixels become the model's input, whether in the order BGR, and who says so.
fn preprocessing(
    model: &mut model::Model,
    about: &metadata::About,
    draft: &draft::Draft,
    options: &Options,
) -> (Normalization, bool, Preprocessing) {
    if model.input_byte.is_some() {
        let normalization = match model.grids.get(&model.input) {
            // Pixels are integers of the grid.
            Some(grid) => {
                let std = 1.0 / (255.0 * grid.scale);
                Normalization::uniform(f32::from(grid.zero_point) / 255.0, std)
            }
            None => Normalization::uniform(0.0, 1.0 / 255.0),
        };
        if options.normalization.is_some() || options.bgr {
            let note =
                "its input are pixels as they are: what is said of preprocessing has no effect";
            model.notes.push(note.into());
        }
        return (normalization, false, Preprocessing::Model);
    }
    if let Some(given) = &options.normalization {
        return (given.clone(), options.bgr, Preprocessing::Given);
    }
    let channels = draft.items[0].shape.c();
    match about.preprocessing(channels) {
        Some(found) => {
            let list = |values: &[f32]| {
                let values: Vec<String> = values.iter().map(f32::to_string).collect();
                values.join(", ")
            };
            let (mean, std) = (found.normalization.mean(), found.normalization.std());
            let order = if found.bgr { ", of BGR" } else { "" };
            model.notes.push(format!(
                "preprocessing from its metadata ({}): (x/255 − mean) / std with mean {}, std {}{order}",
                found.keys,
                list(mean),
                list(std)
            ));
            (found.normalization, found.bgr, Preprocessing::Metadata)
        }
        None => {
            let unit = Normalization::uniform(0.0, 1.0);
            (unit, options.bgr, Preprocessing::Unknown)
        }
    }
}
