//! Model files, whoever made them: lowbit's own, and ONNX.

use crate::{Config, LabError};
use lowbit::exec::RuntimeError;
use lowbit::format::{StoredModel, TrainingRecord, load_with_record};
use lowbit::graph::Normalization;
pub use lowbit_onnx::Input as ExportInput;
pub use lowbit_onnx::{ExportError, Exported, Fault, OnnxError};
use lowbit_onnx::{Options, Preprocessing};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A model from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile {
    /// What the file holds.
    pub stored: StoredModel,
    /// What it was trained on, where the file says so.
    pub record: Option<TrainingRecord>,
    /// What is known of a model that another program made; none of lowbit's own.
    pub foreign: Option<Foreign>,
}

/// What is known of a model that another program made.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    /// Its file.
    pub file: PathBuf,
    /// Whether its classes have names; if not, they are the data's, in their order.
    pub has_class_names: bool,
    /// Whether it is known how pixels become its input: it was said, the file says it, or the model takes pixels.
    pub has_preprocessing: bool,
    /// Who wrote it, and what was found and done when it was read.
    pub notes: Vec<String>,
}

/// Preprocessings that have a name: what most models were trained with.
pub const PREPROCESSINGS: [&str; 5] = ["imagenet", "half", "unit", "none", "none:bgr"];

/// Whether a file is one of ONNX's, by its name.
#[must_use]
pub fn is_onnx(file: &Path) -> bool {
    file.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// Returns the files beside a model's own that hold weights of it, which only ONNX's have.
///
/// # Errors
/// [`LabError::Onnx`] saying what is wrong with the file, or what is not there.
pub fn files_beside(file: &Path) -> Result<Vec<PathBuf>, LabError> {
    match is_onnx(file) {
        true => Ok(lowbit_onnx::external_files(file)?),
        false => Ok(vec![]),
    }
}

/// Reads a model file.
///
/// # Errors
/// [`LabError`] saying what is wrong with it.
pub fn open(file: &Path, config: &Config) -> Result<ModelFile, LabError> {
    if is_onnx(file) {
        return open_onnx(file, config, &config.onnx.preprocess);
    }
    let (stored, record) = load_with_record(file)?;
    Ok(ModelFile {
        stored,
        record,
        foreign: None,
    })
}

/// Makes an ONNX file of a model that was read from `file`; `reduce_range` gives weights of 7 bits to layers that may
/// saturate elsewhere ([`QuantizedModel::saturating_layers`](lowbit::quant::QuantizedModel::saturating_layers)).
///
/// # Errors
/// [`LabError::Mismatch`] naming the layer that has no form in ONNX.
pub fn export(
    stored: &StoredModel,
    input: ExportInput,
    reduce_range: bool,
    file: &Path,
) -> Result<Exported, LabError> {
    let failed = |error: ExportError| match error {
        ExportError::Write(_) => error.into(),
        other => LabError::Mismatch(format!("{}: {other}", file.display())),
    };
    let model = match stored {
        StoredModel::Float { .. } if reduce_range => {
            return Err(LabError::Mismatch(format!(
                "{}: has FP32 weights, whose range is not reduced: leave --reduce-range out, or quantize it first",
                file.display()
            )));
        }
        StoredModel::Float { graph, weights } => {
            return lowbit_onnx::export_float(graph, weights, input).map_err(failed);
        }
        StoredModel::Quantized(model) => model,
    };
    let layers = model.saturating_layers().map_err(RuntimeError::from)?;
    if layers.is_empty() {
        return lowbit_onnx::export_quantized(model, input).map_err(failed);
    }
    let names = some_of(&layers);
    let (exported, note) = match reduce_range {
        true => (
            lowbit_onnx::export_quantized(
                &model
                    .clone()
                    .with_reduced_range()
                    .map_err(RuntimeError::from)?,
                input,
            ),
            format!(
                "weights of 7 bits in {names}: the answers are not quite those of {}",
                file.display()
            ),
        ),
        false => (
            lowbit_onnx::export_quantized(model, input),
            format!(
                "on CPUs with AVX2 and without VNNI, ONNX Runtime may cut sums of {names} to 16 bits: set session.x64quantprecision=1 there, or export with --reduce-range"
            ),
        ),
    };
    let mut exported = exported.map_err(failed)?;
    exported.notes.push(note);
    Ok(exported)
}

/// `a, b, c and 4 other layers`.
fn some_of(layers: &[String]) -> String {
    let shown = layers.len().min(3);
    let names = layers[..shown].join(", ");
    match layers.len() - shown {
        0 => names,
        1 => format!("{names} and another layer"),
        more => format!("{names} and {more} other layers"),
    }
}

/// Reads an ONNX file as if `--preprocess` had been `preprocess`.
///
/// # Errors
/// [`LabError`] saying what is wrong with it.
pub(crate) fn open_onnx(
    file: &Path,
    config: &Config,
    preprocess: &str,
) -> Result<ModelFile, LabError> {
    let labels = &config.onnx.labels;
    let (normalization, bgr) = normalization(preprocess)?;
    let options = Options {
        normalization,
        bgr,
        image_size: (config.input.image_size > 0).then_some(config.input.image_size),
        class_names: match labels.as_os_str().is_empty() {
            true => None,
            false => Some(names_in(labels)?),
        },
        output: None,
    };
    let imported = lowbit_onnx::read(file, &options)?;
    let channels = imported.graph.input().c();
    if !matches!(channels, 1 | 3) {
        return Err(LabError::Mismatch(format!(
            "{}: takes images of {channels} channels; lowbit reads gray ones and RGB",
            file.display()
        )));
    }
    let mut notes = vec![format!(
        "{}: opset {}, {}",
        file.display(),
        imported.opset,
        imported.producer
    )];
    notes.extend(imported.notes);
    Ok(ModelFile {
        stored: match imported.quantized {
            Some(model) => StoredModel::Quantized(model),
            None => StoredModel::Float {
                graph: imported.graph,
                weights: imported.weights,
            },
        },
        record: None,
        foreign: Some(Foreign {
            file: file.to_owned(),
            has_class_names: imported.has_class_names,
            has_preprocessing: imported.preprocessing != Preprocessing::Unknown,
            notes,
        }),
    })
}

fn names_in(file: &Path) -> Result<Vec<String>, LabError> {
    let text = std::fs::read_to_string(file).map_err(|source| LabError::Io {
        path: file.to_owned(),
        source,
    })?;
    Ok(text
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect())
}

/// A preprocessing in a file: `(x · scale − mean) / std`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InFile {
    /// What pixels are multiplied with; 1/255 where it is not said.
    scale: Option<f64>,
    #[serde(deserialize_with = "one_or_more")]
    mean: Vec<f64>,
    #[serde(deserialize_with = "one_or_more")]
    std: Vec<f64>,
    /// Order of the channels, `rgb` where it is not said; mean and std are in the same.
    #[serde(default)]
    channels: Channels,
}

/// A number, or one per channel.
fn one_or_more<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "expected a number, or a list of one per channel"
    )]
    enum Numbers {
        One(f64),
        Each(Vec<f64>),
    }
    Ok(match Numbers::deserialize(d)? {
        Numbers::One(number) => vec![number],
        Numbers::Each(numbers) => numbers,
    })
}

#[derive(Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Channels {
    #[default]
    Rgb,
    Bgr,
}

/// What a preprocessing of that name, or in that file, makes of pixels, and whether of BGR; no name leaves it to the model.
fn normalization(preprocess: &str) -> Result<(Option<Normalization>, bool), LabError> {
    if preprocess.ends_with(".toml") {
        let (normalization, bgr) = in_file(Path::new(preprocess))?;
        return Ok((Some(normalization), bgr));
    }
    let (name, bgr) = match preprocess.strip_suffix(":bgr") {
        Some(name) => (name, true),
        None => (preprocess, false),
    };
    let normalization = match name {
        "imagenet" => {
            let order = |mut values: [f32; 3]| {
                if bgr {
                    values.reverse();
                }
                values
            };
            let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
            Normalization::per_channel(&order(mean), &order(std))
        }
        "half" => Normalization::uniform(0.5, 0.5),
        "unit" => Normalization::uniform(0.0, 1.0),
        "" if !bgr => return Ok((None, false)),
        "none" => Normalization::uniform(0.0, 1.0 / 255.0),
        _ => {
            return Err(LabError::Mismatch(format!(
                "--preprocess {preprocess}: use imagenet, half, unit or none, with :bgr behind it for models that take BGR, or a .toml file with mean and std"
            )));
        }
    };
    Ok((Some(normalization), bgr))
}

fn in_file(path: &Path) -> Result<(Normalization, bool), LabError> {
    let text = std::fs::read_to_string(path).map_err(|source| LabError::Io {
        path: path.to_owned(),
        source,
    })?;
    let wrong = |reason: &str| LabError::Mismatch(format!("{}: {reason}", path.display()));
    let InFile {
        scale,
        mean,
        std,
        channels,
    } = toml::from_str(&text).map_err(|error| wrong(error.message()))?;
    // (x · scale − mean) / std = (x / 255 − mean · s) / (std · s), where s is 1 / (255 · scale).
    let s = 1.0 / (255.0 * scale.unwrap_or(1.0 / 255.0));
    if !s.is_finite() || mean.is_empty() || mean.len() != std.len() {
        return Err(wrong(
            "it needs as many numbers in mean as in std, and a scale other than 0",
        ));
    }
    let scaled = |values: &[f64]| values.iter().map(|x| (x * s) as f32).collect::<Vec<f32>>();
    let (mean, std) = (scaled(&mean), scaled(&std));
    let normalization = match (&mean[..], &std[..]) {
        (&[mean], &[std]) => Normalization::uniform(mean, std),
        _ => Normalization::per_channel(&mean, &std),
    };
    Ok((normalization, channels == Channels::Bgr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_scale_pixels_as_it_likes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        std::fs::write(
            &path,
            "scale = 1\nmean = [127.5, 51, 0]\nstd = [127.5, 255, 51]",
        )
        .unwrap();
        let (found, bgr) = normalization(path.to_str().unwrap()).unwrap();
        let found = found.unwrap();
        assert!(!bgr);
        for (found, expected) in [
            (found.mean(), [0.5, 0.2, 0.0]),
            (found.std(), [0.5, 1.0, 0.2]),
        ] {
            assert!(
                found
                    .iter()
                    .zip(expected)
                    .all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6),
                "{found:?}"
            );
        }
        std::fs::write(&path, "mean = [0.5]\nstd = [0.5, 1]").unwrap();
        assert!(
            normalization(path.to_str().unwrap())
                .unwrap_err()
                .to_string()
                .contains("as many numbers")
        );
        std::fs::write(&path, "mean = [0, 0.5, 1]\nstd = [1]\nchannels = \"bgr\"").unwrap();
        assert!(normalization(path.to_str().unwrap()).is_err());
        std::fs::write(&path, "mean = [0.5]\nstd = [1]\nchannels = \"bgr\"").unwrap();
        assert!(normalization(path.to_str().unwrap()).unwrap().1);
        let (turned, bgr) = normalization("imagenet:bgr").unwrap();
        let turned = turned.unwrap();
        assert_eq!((turned.mean(), bgr), (&[0.406, 0.456, 0.485][..], true));
        assert!(normalization(":bgr").is_err());
        assert!(
            normalization("caffe")
                .unwrap_err()
                .to_string()
                .contains("--preprocess caffe")
        );
    }
}
