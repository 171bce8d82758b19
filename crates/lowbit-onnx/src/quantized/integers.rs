//! From a draft whose roundings are settled to a quantized model.

use crate::draft::{Draft, Item, LayerCodes, Work};
use crate::error::Fault;
use lowbit::graph::{Normalization, Op, Program};
use lowbit::quant::{
    ActivationParams, ActivationQuant, Arithmetic, FloatLayer, FloatParts, QuantizedLayer,
    QuantizedModel,
};
use lowbit::{ActivationBits, Shape, Tensor, WeightBits, Weights};
use std::collections::{BTreeMap, HashMap};

/// How far the size of a bias's steps may lie from input times weight: it is rounded in more than one way.
const NEAR: f64 = 1e-5;

/// Builds the model, and the weights that its integers stand for.
pub(crate) fn finish(
    mut draft: Draft,
    name: &str,
    normalization: Normalization,
    classes: &[String],
    producer: &str,
    notes: &mut Vec<String>,
) -> Result<(Weights, QuantizedModel), Fault> {
    let method = match draft.items.iter().any(|item| item.grid.is_some()) {
        true => ActivationQuant::Static,
        false => ActivationQuant::WeightOnly,
    };
    for item in &mut draft.items {
        as_product(item);
    }
    let grids: Vec<Option<ActivationParams>> = draft.items.iter().map(|item| item.grid).collect();
    let mut products: HashMap<String, Item> = HashMap::new();
    for item in draft.items.iter().filter(|item| item.weight.is_some()) {
        products.insert(item.name.clone(), item.clone());
    }
    let (graph, weights) = draft.finish(name, normalization, classes)?;
    let program = graph.program()?;
    let activations = activations(&program, &grids);
    let mut biases = Biases::default();
    let mut layers = Vec::new();
    let mut float = FloatParts::default();
    if method == ActivationQuant::Static {
        let inner = 1..program.values() - 1;
        float.values = inner
            .filter(|&value| activations[value].is_none())
            .collect();
    }
    for (index, step) in program.steps().iter().enumerate() {
        if !step.has_weights() {
            layers.push(None);
            continue;
        }
        let item = products
            .remove(&step.name)
            .ok_or_else(|| Fault::Model(format!("layer {} has no weights", step.name)))?;
        if item.codes.is_none() {
            let weights = item
                .weight
                .map_or(Vec::new(), |weight| weight.data().to_vec());
            let bias = item.bias.unwrap_or_else(|| vec![0.0; step.main_shape.c()]);
            float.layers.insert(index, FloatLayer { weights, bias });
            layers.push(None);
            continue;
        }
        let input = activations[step.inputs[0]];
        layers.push(Some(layer(item, method, input, &mut biases)?));
    }
    notes.extend(biases.notes());
    notes.extend(about_floats(&program, &float));
    let (arithmetic, activation_bits) = match method {
        ActivationQuant::Static => (Arithmetic::IntegerBias, ActivationBits::B8),
        _ => (Arithmetic::RealBias, ActivationBits::Float),
    };
    let producer = producer.trim();
    let provenance = [("quantized", "in another format"), ("producer", producer)];
    let provenance = provenance.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let model = QuantizedModel {
        graph,
        method,
        arithmetic,
        layers,
        activations,
        activation_bits,
        float,
        provenance: BTreeMap::from(provenance),
    };
    model
        .validate()
        .map_err(|error| Fault::Model(error.to_string()))?;
    Ok((weights, model))
}

/// What is left of maps per channel, as a depthwise product whose integers are as good as its floats.
fn as_product(item: &mut Item) {
    let Work::Affine { scale, shift } = &item.work else {
        return;
    };
    let channels = scale.len();
    let highest = f64::from(i16::MAX);
    let steps = scale
        .iter()
        .map(|scale| match (scale.abs() / highest) as f32 {
            step if step > 0.0 => step,
            _ => 1.0,
        });
    let steps: Vec<f32> = steps.collect();
    let levels = scale
        .iter()
        .zip(&steps)
        .map(|(scale, &step)| (scale / f64::from(step)).round() as i16);
    item.codes = Some(LayerCodes {
        bits: WeightBits::B16,
        weights: levels.collect(),
        scale: steps,
        bias: None,
    });
    let single = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    item.weight = Some(Tensor::new(vec![channels, 1, 1, 1], single(scale)));
    item.bias = Some(single(shift));
    item.work = Work::Op(Op::affine(channels));
    debug_assert_eq!(item.shape, Shape::with_channels(item.shape, channels));
}

/// Which layers the file leaves in f32.
fn about_floats(program: &Program, float: &FloatParts) -> Option<String> {
    let names = float
        .layers
        .keys()
        .map(|&step| program.steps()[step].name.as_str());
    let names: Vec<&str> = names.collect();
    match (names.len(), float.values.len()) {
        (0, 0) => None,
        (0, values) => Some(format!(
            "{values} of its values are not rounded: they stay f32"
        )),
        (1, _) => Some(format!("its layer {} is f32", names[0])),
        (layers, _) => Some(format!(
            "{layers} of its layers are f32: {}",
            names.join(", ")
        )),
    }
}

/// The grid of each value; logits have none.
fn activations(
    program: &Program,
    grids: &[Option<ActivationParams>],
) -> Vec<Option<ActivationParams>> {
    let mut activations = vec![None; program.values()];
    for (node, &grid) in grids.iter().enumerate() {
        if grid.is_some() {
            activations[program.value_of(node)] = grid;
        }
    }
    activations
}

fn layer(
    item: Item,
    method: ActivationQuant,
    input: Option<ActivationParams>,
    biases: &mut Biases,
) -> Result<QuantizedLayer, Fault> {
    let Some(LayerCodes {
        bits,
        weights,
        scale,
        bias: steps,
    }) = item.codes
    else {
        return Err(Fault::Model(format!("layer {} has no integers", item.name)));
    };
    let mut bias = item.bias.unwrap_or_else(|| vec![0.0; scale.len()]);
    let is_whole = method == ActivationQuant::Static && bits == WeightBits::B8;
    match (steps, input) {
        (Some((steps, sizes)), Some(input)) if is_whole => {
            for (c, bias) in bias.iter_mut().enumerate() {
                let step = f64::from(input.scale) * f64::from(scale[c]);
                let size = f64::from(sizes[c]);
                if (size / step - 1.0).abs() > NEAR {
                    biases.other_sizes.push(item.name.clone());
                    *bias = (f64::from(steps[c]) * size) as f32;
                    continue;
                }
                *bias = (f64::from(steps[c]) * step) as f32;
                let found = (f64::from(*bias) / step).round_ties_even();
                if found != f64::from(steps[c]) {
                    biases.large.push(item.name.clone());
                }
            }
        }
        (None, Some(_)) if is_whole && bias.iter().any(|&b| b != 0.0) => {
            biases.reals.push(item.name);
        }
        _ => {}
    }
    Ok(QuantizedLayer {
        bits,
        weights,
        scale,
        bias,
    })
}

/// Layers whose biases are not quite those of the file.
#[derive(Default)]
struct Biases {
    reals: Vec<String>,
    other_sizes: Vec<String>,
    large: Vec<String>,
}

impl Biases {
    fn notes(mut self) -> Vec<String> {
        let of = |layers: &mut Vec<String>, what: &str| {
            layers.dedup();
            let first = layers.first()?;
            let others = match layers.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            Some(format!("the bias of {first}{others} {what}"))
        };
        let notes = [
            of(
                &mut self.reals,
                "is f32 in the file: rounded to whole steps of input times weight, as ONNX Runtime does",
            ),
            of(
                &mut self.other_sizes,
                "has steps of another size than input times weight: rounded to those",
            ),
            of(
                &mut self.large,
                "has more than 2^24 steps: rounded to the nearest f32",
            ),
        ];
        notes.into_iter().flatten().collect()
    }
}
