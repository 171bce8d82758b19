//! From models to the bytes of a safetensors file and back.

use super::{Checkpoint, FORMAT_VERSION, FormatError, StoredModel, TrainingRecord};
use super::{pack_bits, packed_len, unpack_bits};
use crate::bits::{ActivationBits, WeightBits};
use crate::graph::{Graph, Step};
use crate::quant::{
    ActivationParams, ActivationQuant, Arithmetic, FloatLayer, FloatParts, QuantizedLayer,
    QuantizedModel, QuantizedModelError,
};
use crate::{Tensor, Weights};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Prefix of the optimizer's tensors in a checkpoint.
const OPTIMIZER: &str = "optimizer.";

/// The JSON under the metadata key `lowbit`.
#[derive(Serialize, Deserialize)]
struct Header {
    format_version: u32,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    graph: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quantization: Option<Quantization>,
    /// Files of before it was kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    training: Option<TrainingRecord>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Quantization {
    method: ActivationQuant,
    /// Files of before version 4 have none.
    #[serde(default, skip_serializing_if = "is_real_bias")]
    arithmetic: Arithmetic,
    activation_bits: ActivationBits,
    /// Bits per weight of each layer, by name.
    weight_bits: BTreeMap<String, WeightBits>,
    /// Parameters of each layer's result, by name.
    activations: BTreeMap<String, ActivationParams>,
    /// Layers whose weights are f32, and values that are not rounded, by name; files of before version 5 have none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    float_layers: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    float_values: BTreeSet<String>,
    provenance: BTreeMap<String, String>,
}

fn is_real_bias(arithmetic: &Arithmetic) -> bool {
    *arithmetic == Arithmetic::RealBias
}

struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

pub(super) fn float(graph: &Graph, weights: &Weights, record: Option<&TrainingRecord>) -> Vec<u8> {
    let header = Header {
        format_version: graph.format_version(),
        kind: "float".into(),
        graph: Some(graph_json(graph)),
        quantization: None,
        training: record.cloned(),
        metadata: BTreeMap::new(),
    };
    document(&header, float_entries(weights, ""))
}

pub(super) fn checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    let header = Header {
        format_version: checkpoint.graph.format_version(),
        kind: "checkpoint".into(),
        graph: Some(graph_json(&checkpoint.graph)),
        quantization: None,
        training: checkpoint.record.clone(),
        metadata: checkpoint.metadata.clone(),
    };
    let mut entries = float_entries(&checkpoint.weights, "");
    entries.extend(float_entries(&checkpoint.optimizer, OPTIMIZER));
    document(&header, entries)
}

fn float_entries(weights: &Weights, prefix: &str) -> Vec<Entry> {
    weights
        .iter()
        .map(|(name, tensor)| {
            let name = format!("{prefix}{name}");
            f32_entry(name, tensor.shape().to_vec(), tensor.data())
        })
        .collect()
}

/// # Errors
/// [`QuantizedModelError`] when the model's parts do not make one.
pub(super) fn quantized(
    model: &QuantizedModel,
    record: Option<&TrainingRecord>,
) -> Result<Vec<u8>, QuantizedModelError> {
    model.validate()?;
    let program = model.graph.program()?;
    let mut entries = Vec::new();
    let mut weight_bits = BTreeMap::new();
    let mut activations = BTreeMap::new();
    if let Some(params) = model.activations[0] {
        activations.insert(model.graph.nodes()[0].name.clone(), params);
    }
    for (index, step) in program.steps().iter().enumerate() {
        if let Some(params) = model.activations[index + 1] {
            activations.insert(step.name.clone(), params);
        }
        if let Some(float) = model.float.layers.get(&index) {
            let channels = float.bias.len();
            let shape = vec![channels, float.weights.len() / channels.max(1)];
            let name = |suffix: &str| format!("{}.{suffix}", step.name);
            entries.push(f32_entry(name("weight"), shape, &float.weights));
            entries.push(f32_entry(name("bias"), vec![channels], &float.bias));
        }
        let Some(layer) = &model.layers[index] else {
            continue;
        };
        weight_bits.insert(step.name.clone(), layer.bits);
        let channels = layer.scale.len();
        let name = |suffix: &str| format!("{}.{suffix}", step.name);
        entries.push(weight_entry(name("weight"), layer, channels));
        entries.push(f32_entry(
            name("weight_scale"),
            vec![channels],
            &layer.scale,
        ));
        entries.push(f32_entry(name("bias"), vec![channels], &layer.bias));
    }
    let of_arithmetic = match model.arithmetic {
        Arithmetic::RealBias => 1,
        Arithmetic::IntegerBias => 4,
    };
    let of_parts = if model.float.is_empty() { 1 } else { 5 };
    let of_weights = if weight_bits.values().any(|bits| bits.is_odd()) {
        7
    } else {
        1
    };
    let names = |steps: &mut dyn Iterator<Item = usize>| -> BTreeSet<String> {
        steps
            .map(|step| program.steps()[step].name.clone())
            .collect()
    };
    let header = Header {
        format_version: model
            .graph
            .format_version()
            .max(of_arithmetic)
            .max(of_parts)
            .max(of_weights),
        kind: "quantized".into(),
        graph: Some(graph_json(&model.graph)),
        quantization: Some(Quantization {
            method: model.method,
            arithmetic: model.arithmetic,
            activation_bits: model.activation_bits,
            weight_bits,
            activations,
            float_layers: names(&mut model.float.layers.keys().copied()),
            float_values: names(&mut model.float.values.iter().map(|value| value - 1)),
            provenance: model.provenance.clone(),
        }),
        training: record.cloned(),
        metadata: BTreeMap::new(),
    };
    Ok(document(&header, entries))
}

fn graph_json(graph: &Graph) -> serde_json::Value {
    serde_json::to_value(graph).expect("a graph is plain data")
}

fn f32_entry(name: String, shape: Vec<usize>, data: &[f32]) -> Entry {
    let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    Entry {
        name,
        dtype: Dtype::F32,
        shape,
        bytes,
    }
}

/// 16 bits as I16 and 8 bits as I8, `[out, fan_in]`; fewer as packed U8, `[out, bytes per row]`.
fn weight_entry(name: String, layer: &QuantizedLayer, channels: usize) -> Entry {
    let fan_in = layer.weights.len() / channels;
    let (dtype, per_element) = dtype(layer.bits);
    let rows = layer.weights.chunks_exact(fan_in);
    Entry {
        name,
        dtype,
        shape: vec![channels, packed_len(fan_in, layer.bits) / per_element],
        bytes: rows.flat_map(|row| pack_bits(row, layer.bits)).collect(),
    }
}

/// The type of a tensor of packed weights, and its size in bytes.
fn dtype(bits: WeightBits) -> (Dtype, usize) {
    match bits {
        WeightBits::B16 => (Dtype::I16, 2),
        WeightBits::B8 => (Dtype::I8, 1),
        WeightBits::B4
        | WeightBits::Odd4
        | WeightBits::Ternary
        | WeightBits::B2
        | WeightBits::B1 => (Dtype::U8, 1),
    }
}

fn document(header: &Header, entries: Vec<Entry>) -> Vec<u8> {
    let json = serde_json::to_string(header).expect("a header is plain data");
    // One key alone, so that the bytes do not depend on a hash map's order.
    let metadata = HashMap::from([("lowbit".to_owned(), json)]);
    let views = entries.iter().map(|entry| {
        let view = TensorView::new(entry.dtype, entry.shape.clone(), &entry.bytes);
        (entry.name.as_str(), view.expect("bytes fill their shape"))
    });
    safetensors::serialize(views, Some(metadata)).expect("tensors of known types")
}

/// A file taken apart, but not yet understood.
struct Opened<'a> {
    path: &'a Path,
    header: Header,
    tensors: SafeTensors<'a>,
}

fn open<'a>(path: &'a Path, bytes: &'a [u8]) -> Result<Opened<'a>, FormatError> {
    let damaged = |reason: String| FormatError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let unread = |error: SafeTensorError| {
        damaged(match error {
            SafeTensorError::HeaderTooSmall
            | SafeTensorError::InvalidHeaderLength
            | SafeTensorError::MetadataIncompleteBuffer => {
                "it is cut off, or no safetensors file; fetch or copy it again".into()
            }
            error => error.to_string(),
        })
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(unread)?;
    let json = metadata
        .metadata()
        .as_ref()
        .and_then(|map| map.get("lowbit"))
        .ok_or_else(|| FormatError::Foreign {
            path: path.to_owned(),
        })?;
    #[derive(Deserialize)]
    struct VersionOnly {
        format_version: u32,
    }
    let version: VersionOnly = serde_json::from_str(json)
        .map_err(|error| damaged(format!("its `lowbit` metadata: {error}")))?;
    if !(1..=FORMAT_VERSION).contains(&version.format_version) {
        let found = version.format_version;
        return Err(FormatError::Version {
            path: path.to_owned(),
            found,
        });
    }
    let header: Header = serde_json::from_str(json)
        .map_err(|error| damaged(format!("its `lowbit` metadata: {error}")))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(unread)?;
    Ok(Opened {
        path,
        header,
        tensors,
    })
}

impl Opened<'_> {
    fn damaged(&self, reason: impl Into<String>) -> FormatError {
        FormatError::Damaged {
            path: self.path.to_owned(),
            reason: reason.into(),
        }
    }

    fn graph(&self) -> Result<Graph, FormatError> {
        let json = self
            .header
            .graph
            .as_ref()
            .ok_or_else(|| self.damaged("it has no graph"))?;
        let graph: Graph = serde_json::from_value(json.clone())
            .map_err(|error| self.damaged(format!("its graph: {error}")))?;
        graph.program().map_err(|source| FormatError::Graph {
            path: self.path.to_owned(),
            source,
        })?;
        Ok(graph)
    }

    fn tensor(&self, name: &str, dtype: Dtype, elements: usize) -> Result<Vec<u8>, FormatError> {
        let view = self
            .tensors
            .tensor(name)
            .map_err(|_| self.damaged(format!("tensor {name} is missing")))?;
        let found = view.shape().iter().product::<usize>();
        if view.dtype() != dtype || found != elements {
            return Err(self.damaged(format!(
                "tensor {name} has {found} elements of {:?}, expected {elements} of {dtype:?}",
                view.dtype()
            )));
        }
        Ok(view.data().to_vec())
    }

    fn floats(&self, name: &str, elements: usize) -> Result<Vec<f32>, FormatError> {
        Ok(f32_values(&self.tensor(name, Dtype::F32, elements)?))
    }

    /// All f32 tensors, split into the graph's and the optimizer's.
    fn weights(&self, graph: &Graph) -> Result<(Weights, Weights), FormatError> {
        let (mut weights, mut optimizer) = (Weights::new(), Weights::new());
        for (name, view) in self.tensors.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(self.damaged(format!("tensor {name} is {:?}, not F32", view.dtype())));
            }
            let tensor = Tensor::new(view.shape().to_vec(), f32_values(view.data()));
            match name.strip_prefix(OPTIMIZER) {
                Some(name) => optimizer.insert(name, tensor),
                None => weights.insert(name, tensor),
            }
        }
        weights
            .check(graph)
            .map_err(|source| FormatError::Weights {
                path: self.path.to_owned(),
                source,
            })?;
        Ok((weights, optimizer))
    }

    fn quantized(&self) -> Result<QuantizedModel, FormatError> {
        let graph = self.graph()?;
        let program = graph.program().map_err(|source| FormatError::Graph {
            path: self.path.to_owned(),
            source,
        })?;
        let quantization = self
            .header
            .quantization
            .as_ref()
            .ok_or_else(|| self.damaged("it has no quantization parameters"))?;
        self.check_float_names(quantization, program.steps())?;
        let mut layers = Vec::new();
        let image = graph.nodes().first().map(|node| node.name.as_str());
        let of_image = image.and_then(|name| quantization.activations.get(name));
        let mut activations = vec![of_image.copied()];
        let mut float = FloatParts::default();
        for (index, step) in program.steps().iter().enumerate() {
            if quantization.float_values.contains(&step.name) {
                float.values.insert(index + 1);
            }
            activations.push(quantization.activations.get(&step.name).copied());
            let Some(shape) = step.weight_shape() else {
                layers.push(None);
                continue;
            };
            if quantization.float_layers.contains(&step.name) {
                let name = |suffix: &str| format!("{}.{suffix}", step.name);
                let layer = FloatLayer {
                    weights: self.floats(&name("weight"), shape.len())?,
                    bias: self.floats(&name("bias"), shape.out_channels)?,
                };
                float.layers.insert(index, layer);
                layers.push(None);
                continue;
            }
            let bits = *quantization
                .weight_bits
                .get(&step.name)
                .ok_or_else(|| self.damaged(format!("layer {} has no width", step.name)))?;
            let name = |suffix: &str| format!("{}.{suffix}", step.name);
            layers.push(Some(QuantizedLayer {
                bits,
                weights: self.integers(
                    &name("weight"),
                    bits,
                    shape.out_channels,
                    shape.fan_in(),
                )?,
                scale: self.floats(&name("weight_scale"), shape.out_channels)?,
                bias: self.floats(&name("bias"), shape.out_channels)?,
            }));
        }
        let model = QuantizedModel {
            graph,
            method: quantization.method,
            arithmetic: quantization.arithmetic,
            layers,
            activations,
            activation_bits: quantization.activation_bits,
            float,
            provenance: quantization.provenance.clone(),
        };
        // Everything that an executor relies on is checked here, at the border.
        model
            .validate()
            .map_err(|error| self.damaged(error.to_string()))?;
        Ok(model)
    }

    /// Parts that stay f32 are those of the graph: a name that is none of its would leave what was meant rounded.
    fn check_float_names(
        &self,
        quantization: &Quantization,
        steps: &[Step],
    ) -> Result<(), FormatError> {
        let all: BTreeSet<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        let layers = steps.iter().filter(|step| step.has_weights());
        let layers: BTreeSet<&str> = layers.map(|step| step.name.as_str()).collect();
        for (key, names, known) in [
            ("float_layers", &quantization.float_layers, layers),
            ("float_values", &quantization.float_values, all),
        ] {
            if let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) {
                return Err(self.damaged(format!("its {key} name {name:?}, which its graph lacks")));
            }
        }
        Ok(())
    }

    fn integers(
        &self,
        name: &str,
        bits: WeightBits,
        rows: usize,
        fan_in: usize,
    ) -> Result<Vec<i16>, FormatError> {
        let row_len = packed_len(fan_in, bits);
        let (dtype, per_element) = dtype(bits);
        let bytes = self.tensor(name, dtype, rows * row_len / per_element)?;
        let rows = bytes.chunks_exact(row_len.max(1));
        Ok(rows
            .flat_map(|row| unpack_bits(row, fan_in, bits))
            .collect())
    }
}

fn f32_values(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect()
}

pub(super) fn parse(
    path: &Path,
    bytes: &[u8],
) -> Result<(StoredModel, Option<TrainingRecord>), FormatError> {
    let opened = open(path, bytes)?;
    let model = match opened.header.kind.as_str() {
        "float" | "checkpoint" => {
            let graph = opened.graph()?;
            let (weights, _) = opened.weights(&graph)?;
            StoredModel::Float { graph, weights }
        }
        "quantized" => StoredModel::Quantized(opened.quantized()?),
        other => return Err(opened.damaged(format!("unknown kind {other}"))),
    };
    Ok((model, opened.header.training))
}

pub(super) fn parse_checkpoint(path: &Path, bytes: &[u8]) -> Result<Checkpoint, FormatError> {
    let opened = open(path, bytes)?;
    if opened.header.kind != "checkpoint" {
        return Err(FormatError::Kind {
            path: path.to_owned(),
            found: format!("{} model", opened.header.kind),
            expected: "checkpoint",
        });
    }
    let graph = opened.graph()?;
    let (weights, optimizer) = opened.weights(&graph)?;
    Ok(Checkpoint {
        graph,
        weights,
        optimizer,
        metadata: opened.header.metadata,
        record: opened.header.training,
    })
}
