//! A graph in the making: lowbit's operators with their weights, and affine maps of channels, which are folded into the
//! products beside them before the graph is built.

mod affine;

use crate::error::Fault;
use crate::names::{Names, one_line};
use lowbit::graph::{GraphBuilder, Normalization, Op};
use lowbit::quant::ActivationParams;
use lowbit::{Graph, Shape, Tensor, WeightBits, Weights};

/// What an item computes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    /// An operator.
    Op(Op),
    /// `x · scale[c] + shift[c]`.
    Affine { scale: Vec<f64>, shift: Vec<f64> },
    /// Rounds to a grid.
    Grid(ActivationParams),
}

/// The integers of a product's weights and bias, in the order of its weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerCodes {
    pub(crate) bits: WeightBits,
    pub(crate) weights: Vec<i16>,
    /// Per output channel.
    pub(crate) scale: Vec<f32>,
    /// The bias as steps of a size per output channel, where the file has it so.
    pub(crate) bias: Option<(Vec<i32>, Vec<f32>)>,
}

/// A value and how it is computed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) inputs: Vec<usize>,
    /// Weights of a product, its outputs first.
    pub(crate) weight: Option<Tensor>,
    pub(crate) bias: Option<Vec<f32>>,
    /// The integers of weights and bias in a quantized model.
    pub(crate) codes: Option<LayerCodes>,
    /// What the result is rounded to in a quantized model.
    pub(crate) grid: Option<ActivationParams>,
    pub(crate) shape: Shape,
}

/// Items in execution order; the first is the image.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) items: Vec<Item>,
    names: Names,
}

impl Draft {
    pub(crate) fn new(input: Shape) -> Self {
        let image = Item {
            name: "input".into(),
            work: Work::Op(Op::Input),
            inputs: vec![],
            weight: None,
            bias: None,
            codes: None,
            grid: None,
            shape: input,
        };
        Self {
            names: [image.name.as_str()].into_iter().collect(),
            items: vec![image],
        }
    }

    /// Adds an item under a name of its own.
    pub(crate) fn push(&mut self, mut item: Item) -> usize {
        let plain = one_line(item.name.trim_start_matches('/'));
        item.name = match plain.as_str() {
            "" => self.names.take("node"),
            plain => self.names.take(plain),
        };
        self.items.push(item);
        self.items.len() - 1
    }

    /// Adds an operator without weights.
    pub(crate) fn op(&mut self, name: &str, op: Op, inputs: &[usize], shape: Shape) -> usize {
        self.push(Item {
            name: name.to_owned(),
            work: Work::Op(op),
            inputs: inputs.to_vec(),
            weight: None,
            bias: None,
            codes: None,
            grid: None,
            shape,
        })
    }

    /// Whether weights or values of it are integers.
    pub(crate) fn is_quantized(&self) -> bool {
        let items = self.items.iter();
        items
            .filter(|item| !item.inputs.is_empty())
            .any(|item| item.codes.is_some() || item.grid.is_some())
    }

    /// Lets what reads `old` read `new`, and drops `old`, which nobody reads then.
    fn replace(&mut self, old: usize, new: usize) {
        for item in &mut self.items {
            for input in &mut item.inputs {
                if *input == old {
                    *input = new;
                }
                if *input > old {
                    *input -= 1;
                }
            }
        }
        self.items.remove(old);
    }

    /// Lets the convolutions that read the image take its channels from the last to the first.
    ///
    /// # Errors
    /// [`Fault::Model`] where something else reads it.
    pub(crate) fn reverse_channels(
        &mut self,
        normalization: &mut Normalization,
    ) -> Result<(), Fault> {
        for item in self
            .items
            .iter_mut()
            .filter(|item| item.inputs.contains(&0))
        {
            let weight = match (&item.work, &mut item.weight) {
                (Work::Op(Op::Conv(conv)), Some(weight)) if conv.groups == 1 => weight,
                _ => {
                    return Err(Fault::Model(format!(
                        "channels are taken as BGR where convolutions of all channels read the image, and {} is none: export the model with its channels turned",
                        item.name
                    )));
                }
            };
            let channels = weight.shape()[3].max(1);
            for taps in weight.data_mut().chunks_exact_mut(channels) {
                taps.reverse();
            }
            if let Some(codes) = &mut item.codes {
                for taps in codes.weights.chunks_exact_mut(channels) {
                    taps.reverse();
                }
            }
        }
        let reversed = |values: &[f32]| values.iter().rev().copied().collect::<Vec<f32>>();
        let (mean, std) = (
            reversed(normalization.mean()),
            reversed(normalization.std()),
        );
        *normalization = match (&mean[..], &std[..]) {
            (&[mean], &[std]) => Normalization::uniform(mean, std),
            _ => {
                let channels = mean.len().max(std.len());
                let each = |values: Vec<f32>| match values[..] {
                    [one] => vec![one; channels],
                    _ => values,
                };
                Normalization::per_channel(&each(mean), &each(std))
            }
        };
        Ok(())
    }

    /// Builds the graph; what is left of affine maps becomes a depthwise convolution of one pixel.
    pub(crate) fn finish(
        self,
        name: &str,
        normalization: Normalization,
        classes: &[String],
    ) -> Result<(Graph, Weights), Fault> {
        let mut weights = Weights::new();
        let mut graph =
            GraphBuilder::new(name, self.items[0].shape, classes).normalization(normalization);
        for item in self.items.into_iter().skip(1) {
            let (op, weight, bias) = match item.work {
                Work::Op(op) => (op, item.weight, item.bias),
                Work::Affine { scale, shift } => {
                    let channels = scale.len();
                    let single =
                        |values: &[f64]| -> Vec<f32> { values.iter().map(|&x| x as f32).collect() };
                    let weight = Tensor::new(vec![channels, 1, 1, 1], single(&scale));
                    (Op::affine(channels), Some(weight), Some(single(&shift)))
                }
                Work::Grid(_) => {
                    return Err(Fault::Model(format!(
                        "its value {} is rounded where lowbit does not round",
                        item.name
                    )));
                }
            };
            if let Some(weight) = weight {
                weights.insert(format!("{}.weight", item.name), weight);
            }
            if let Some(bias) = bias {
                weights.insert(
                    format!("{}.bias", item.name),
                    Tensor::new(vec![bias.len()], bias),
                );
            }
            graph.add(&item.name, op, &item.inputs);
        }
        let graph = graph.finish()?;
        weights
            .check(&graph)
            .map_err(|error| Fault::Model(error.to_string()))?;
        Ok((graph, weights))
    }
}

#[cfg(test)]
mod tests;
