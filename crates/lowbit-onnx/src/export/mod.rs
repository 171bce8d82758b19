//! ONNX out: models as files that ONNX Runtime, OpenVINO and others run.
//!
//! A quantized model becomes its float graph with pairs of QuantizeLinear and DequantizeLinear (QDQ): engines that know the
//! pattern run integers, and what they compute is what [`IntegerModel`](lowbit::exec::IntegerModel) computes. `product.rs`,
//! `pool.rs`, `activation.rs`, `channels.rs`, `tokens.rs` and `binary.rs` have a function per operator, `grid.rs` the pairs, `input.rs`
//! what stands between pixels and the first layer.

mod activation;
mod binary;
mod channels;
mod grid;
mod input;
mod pool;
mod product;
mod tokens;
mod writer;

use crate::proto::tensor_proto::DataType;
use lowbit::format::{FormatError, write_atomically};
use lowbit::graph::{Op, Program, Step, ValueId};
use lowbit::quant::{ActivationQuant, Arithmetic, QuantizedModel};
use lowbit::{Graph, GraphError, Shape, Weights, WeightsError};
use std::path::Path;
use writer::{Attribute, Elements, Writer};

/// Kind of input that an exported model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// Normalized pixels, f32 `[N, C, H, W]`: what the model's training took them for.
    #[default]
    Normalized,
    /// Pixels, u8 `[N, C, H, W]`: their normalization is part of the model.
    Pixels,
}

/// Reason why a model was not exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A layer that has no form in ONNX.
    #[error("layer {layer}: {reason}")]
    Layer {
        /// Its name.
        layer: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The model as a whole has none.
    #[error("{0}")]
    Model(String),
    /// The graph is unusable.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The weights do not fit the graph.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The model's parts do not make one.
    #[error(transparent)]
    Quantized(#[from] lowbit::quant::QuantizedModelError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FormatError),
}

/// A model as the bytes of an ONNX file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Bytes of the file.
    pub bytes: Vec<u8>,
    /// Opset that the file needs.
    pub opset: i64,
    /// Notes for a person, a line each.
    pub notes: Vec<String>,
}

impl Exported {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`ExportError::Write`] with the path and the system's reason.
    pub fn write(&self, path: &Path) -> Result<u64, ExportError> {
        Ok(write_atomically(path, &self.bytes)?)
    }
}

/// What is exported.
#[derive(Clone, Copy)]
enum Source<'a> {
    Float(&'a Weights),
    Quantized(&'a QuantizedModel),
}

/// Walks over the steps of a program.
struct Exporter<'a> {
    graph: &'a Graph,
    source: Source<'a>,
    writer: Writer,
    /// Whether the image is rounded to a grid.
    rounds_image: bool,
    /// The f32 tensor that holds each value so far.
    values: Vec<String>,
    notes: Vec<String>,
}

/// What protobuf allows, and ONNX Runtime reads.
const MAX_BYTES: usize = (1 << 31) - 1;

/// Exports a model of f32 weights, batch-norm folded in.
///
/// # Errors
/// [`ExportError`] naming the first layer that has no form in ONNX.
pub fn export_float(
    graph: &Graph,
    weights: &Weights,
    input: Input,
) -> Result<Exported, ExportError> {
    weights.check(graph)?;
    export(graph, Source::Float(weights), input)
}

/// Exports a quantized model: as QDQ, or, where its activations are f32, with packed weights alone. Biases of 8-bit layers are
/// whole steps in ONNX; a model whose biases are not is given such first
/// ([`QuantizedModel::with_integer_biases`]), and a note says so.
///
/// # Errors
/// [`ExportError`] naming the first layer that has no form in ONNX.
pub fn export_quantized(model: &QuantizedModel, input: Input) -> Result<Exported, ExportError> {
    model.validate()?;
    let exported = match model.method {
        ActivationQuant::Dynamic => Err(ExportError::Model(
            "its ranges are found at run time, and ONNX Runtime has no such convolution for signed weights: quantize with --method static"
                .into(),
        )),
        ActivationQuant::Static if model.arithmetic == Arithmetic::RealBias => {
            let model = model.clone().with_integer_biases()?;
            let mut exported = export(&model.graph, Source::Quantized(&model), input)?;
            exported.notes.push(
                "its biases were rounded to whole steps of input times weight, as ONNX has them: single answers may differ from those of the model file"
                    .into(),
            );
            Ok(exported)
        }
        _ => export(&model.graph, Source::Quantized(model), input),
    };
    let mut exported = exported?;
    let about = [about_grid(model), about_widths(model)];
    let about = about.into_iter().flatten().map(str::to_owned);
    exported.notes.extend(about);
    Ok(exported)
}

/// What becomes of weights without a zero.
fn about_grid(model: &QuantizedModel) -> Option<&'static str> {
    let mut layers = model.layers.iter().flatten();
    layers.any(|layer| layer.bits.is_odd()).then_some(
        "weights without a zero take twice their bits in the file, as ONNX's integers have one: --weight-grid mid-tread makes others",
    )
}

/// What becomes of weights of other than 8 bits.
fn about_widths(model: &QuantizedModel) -> Option<&'static str> {
    let bits = model.layers.iter().flatten().map(|layer| layer.bits.get());
    let [narrowest, widest] = [bits.clone().min()?, bits.max()?];
    let is_static = model.method == ActivationQuant::Static;
    match (narrowest, widest, is_static) {
        (1 | 2, _, true) => Some(
            "weights of 1 and 2 bits take 4 in the file, as ONNX Runtime does not load narrower ones beside u8 activations; it computes such layers in f32",
        ),
        (1, _, false) => Some("weights of 1 bit take 2 in the file: ONNX has no type of 1 bit"),
        (4, _, true) | (_, 16, true) => Some(
            "ONNX Runtime has integer products of 8-bit weights alone: it computes other layers in f32, near to lowbit's answers but not equal",
        ),
        _ => None,
    }
}

fn export(graph: &Graph, source: Source<'_>, input: Input) -> Result<Exported, ExportError> {
    let program = graph.program()?;
    let mut exporter = Exporter {
        graph,
        source,
        writer: Writer::default(),
        rounds_image: match source {
            Source::Quantized(model) => model.rounds_image(&program),
            Source::Float(_) => false,
        },
        values: Vec::new(),
        notes: Vec::new(),
    };
    let kind = exporter.input(input)?;
    for index in 0..program.steps().len() {
        exporter.step(&program, index)?;
    }
    let shape = graph.input();
    let extents = [shape.c(), shape.h(), shape.w()].map(|extent| extent as i64);
    let Exporter { writer, notes, .. } = exporter;
    let opset = writer.opset();
    let metadata = metadata(graph, input);
    let name = match kind {
        DataType::Uint8 => input::PIXELS,
        _ => input::IMAGE,
    };
    let input = (name, kind, extents);
    let bytes = writer.finish(graph.name(), input, (LOGITS, graph.classes()), &metadata);
    if bytes.len() > MAX_BYTES {
        return Err(ExportError::Model(format!(
            "it takes {} bytes: ONNX files of more than 2 GB are not written",
            bytes.len()
        )));
    }
    Ok(Exported {
        bytes,
        opset,
        notes,
    })
}

/// The name of the model's result.
const LOGITS: &str = "logits";

/// The names of the classes, and how pixels become the model's input.
fn metadata(graph: &Graph, input: Input) -> Vec<(&'static str, String)> {
    let names = graph.class_names();
    // Numbers are what classes without names are called.
    let is_numbered = names
        .iter()
        .enumerate()
        .all(|(class, name)| *name == class.to_string());
    let is_plain = |name: &String| !name.contains([',', '"', '\'', '[', ']', '\\', '\n']);
    let names = match names.iter().all(is_plain) {
        true => format!("[\"{}\"]", names.join("\", \"")),
        false => names.join("\n"),
    };
    let list = |values: &[f32]| {
        let values: Vec<String> = values.iter().map(f32::to_string).collect();
        values.join(", ")
    };
    let mut metadata = Vec::new();
    if !is_numbered {
        metadata.push(("class_names", names));
    }
    if input == Input::Normalized {
        metadata.push(("image_mean", list(graph.normalization().mean())));
        metadata.push(("image_std", list(graph.normalization().std())));
    }
    metadata
}

impl Exporter<'_> {
    fn step(&mut self, program: &Program, index: usize) -> Result<(), ExportError> {
        let step = &program.steps()[index];
        let is_last = index + 1 == program.steps().len();
        for shape in step.in_shapes.iter().chain([&step.out_shape]) {
            rank(step, *shape)?;
        }
        let inputs: Vec<String> = (0..step.inputs.len())
            .map(|which| self.operand(program, step, which))
            .collect();
        let result = self.operator(program, index, &inputs)?;
        let result = match self.params(index + 1) {
            Some(params) if !is_last => self.cut_and_quantize(step, result, params),
            _ => {
                let result = self.cut(step, result);
                self.pooled(step, result)
            }
        };
        self.values.push(result);
        if is_last {
            if step.out_shape.rank() != 1 {
                let last = self.values[index + 1].clone();
                let flat = [("axis", Attribute::Int(1))];
                self.writer.node("logits", "Flatten", &[&last], &flat);
            }
            self.writer.rename_last(LOGITS);
        }
        Ok(())
    }

    /// What a step reads, in the shape that the step sees. A linear layer takes a flattened image's elements in ONNX's order;
    /// its weights are brought into that.
    fn operand(&mut self, program: &Program, step: &Step, which: usize) -> String {
        let value = step.inputs[which];
        let (name, from, to) = (
            self.values[value].clone(),
            program.value_shape(value),
            step.in_shapes[which],
        );
        if from == to || matches!(step.op, Op::Linear(_)) {
            return name;
        }
        self.reordered(&format!("{}.flatten", step.name), name, (from, to), value)
    }

    /// Elements in lowbit's order under another shape.
    fn reordered(
        &mut self,
        base: &str,
        x: String,
        (from, to): (Shape, Shape),
        value: ValueId,
    ) -> String {
        let mut flat = x;
        if !from.is_vector() {
            let order = [("perm", Attribute::Ints(vec![0, 2, 3, 1]))];
            flat = self.writer.node(base, "Transpose", &[&flat], &order);
        }
        let axis = [("axis", Attribute::Int(1))];
        let flat = self.writer.node(base, "Flatten", &[&flat], &axis);
        let flat = self.requantized(base, flat, value);
        let [h, w, c] = [to.h(), to.w(), to.c()].map(|extent| extent as i64);
        if to.rank() == 1 {
            return flat;
        }
        let mut image = flat;
        if !to.is_vector() {
            image = self.reshaped(&format!("{base}.image"), &image, &[0, h, w, c]);
            let order = [("perm", Attribute::Ints(vec![0, 3, 1, 2]))];
            image = self.writer.node(base, "Transpose", &[&image], &order);
        } else {
            image = self.reshaped(base, &image, &[0, c, 1, 1]);
        }
        self.requantized(base, image, value)
    }

    fn operator(
        &mut self,
        program: &Program,
        index: usize,
        inputs: &[String],
    ) -> Result<String, ExportError> {
        let step = &program.steps()[index];
        let x = inputs[0].as_str();
        Ok(match step.op {
            Op::Conv(conv) => self.conv(step, index, conv, x)?,
            Op::Linear(_) => self.linear(program, index, x)?,
            Op::Relu => self.writer.node(&step.name, "Relu", &[x], &[]),
            Op::Sigmoid => self.writer.node(&step.name, "Sigmoid", &[x], &[]),
            Op::Unary(unary) => self.unary(step, unary, x)?,
            Op::MaxPool(pool) => self.max_pool(&step.name, pool, x),
            Op::AvgPool(pool) => self.average_pool(step, pool, x),
            Op::GlobalAvgPool => self.global_average_pool(step, x),
            Op::Add => self.binary(step, "Add", inputs),
            Op::Mul => self.binary(step, "Mul", inputs),
            Op::Concat => self.concat(step, inputs),
            Op::ChannelShuffle(shuffle) => self.shuffle(step, shuffle, x),
            Op::Slice(slice) => self.slice(step, slice, x),
            Op::Softmax => {
                let axis = [("axis", Attribute::Int(1))];
                self.writer.node(&step.name, "Softmax", &[x], &axis)
            }
            Op::LayerNorm(norm) => self.layer_norm(step, norm, x),
            Op::Attention(attention) => self.attention(step, attention, inputs),
            Op::Reshape(_) => {
                let shapes = (step.in_shapes[0], step.out_shape);
                self.reordered(&step.name, x.to_owned(), shapes, step.inputs[0])
            }
            Op::Prefix(prefix) => self.prefix(step, prefix, x),
            Op::Transpose => self.transpose(step, x),
            op => {
                return Err(ExportError::Layer {
                    layer: step.name.clone(),
                    reason: format!("{op:?} has no form in ONNX"),
                });
            }
        })
    }

    /// Brings a tensor into a shape whose zeros stand for the extents that are there.
    fn reshaped(&mut self, name: &str, x: &str, shape: &[i64]) -> String {
        let shape = self.writer.tensor(
            &format!("{name}.shape"),
            &[shape.len()],
            &Elements::I64(shape),
        );
        self.writer.node(name, "Reshape", &[x, &shape], &[])
    }
}

/// Whether a value has a form in ONNX that all operators know.
fn rank(step: &Step, shape: Shape) -> Result<(), ExportError> {
    match shape.rank() {
        1 | 3 => Ok(()),
        rank => Err(ExportError::Layer {
            layer: step.name.clone(),
            reason: format!("{shape} has {rank} extents: images and vectors are exported alone"),
        }),
    }
}
