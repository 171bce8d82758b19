//! A graph in the making: lowbit's operators with their weights, and affine maps of channels, which are folded into the
//! products beside them before the graph is built.

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

    /// A draft without items, whose names differ from those of this one.
    pub(crate) fn emptied(&self) -> Self {
        Self {
            items: Vec::with_capacity(self.items.len()),
            names: self.names.clone(),
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

    fn readers(&self) -> Vec<usize> {
        let mut readers = vec![0; self.items.len()];
        for &input in self.items.iter().flat_map(|item| &item.inputs) {
            readers[input] += 1;
        }
        readers
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

    /// Folds affine maps into each other and into the products before them, and those of the image into `normalization`.
    pub(crate) fn fold_affine(&mut self, normalization: &mut Normalization) {
        let mut index = 1;
        while index < self.items.len() {
            if !self.fold_backward(index, normalization) {
                index += 1;
            }
        }
        let mut index = 1;
        while index < self.items.len() {
            self.scale_before_relu(index);
            if !self.fold_forward(index) {
                index += 1;
            }
        }
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

    fn fold_backward(&mut self, index: usize, normalization: &mut Normalization) -> bool {
        let Work::Affine { scale, shift } = &self.items[index].work else {
            return false;
        };
        let (scale, shift) = (scale.clone(), shift.clone());
        let from = self.items[index].inputs[0];
        let changes_nothing = scale.iter().all(|&x| x == 1.0) && shift.iter().all(|&x| x == 0.0);
        // The last item gives the logits, and may stand behind the image alone.
        if changes_nothing && from > 0 {
            self.replace(index, from);
            return true;
        }
        if self.readers()[from] != 1 {
            return false;
        }
        let before = &mut self.items[from];
        match &mut before.work {
            Work::Affine {
                scale: first,
                shift: offset,
            } => {
                for c in 0..first.len() {
                    offset[c] = offset[c] * scale[c] + shift[c];
                    first[c] *= scale[c];
                }
            }
            // The pixels of an image that is integers are those of its grid.
            Work::Op(Op::Input) if before.grid.is_some() => return false,
            Work::Op(Op::Input) => match normalized(normalization, &scale, &shift) {
                Some(changed) => *normalization = changed,
                None => return false,
            },
            // What was rounded stays as it is.
            Work::Op(op @ (Op::Conv(_) | Op::Linear(_))) if before.codes.is_none() => {
                let Some(weight) = &mut before.weight else {
                    return false;
                };
                let row = weight.data().len() / scale.len();
                for (c, row) in weight.data_mut().chunks_exact_mut(row.max(1)).enumerate() {
                    for w in row {
                        *w = (f64::from(*w) * scale[c]) as f32;
                    }
                }
                let bias = before.bias.get_or_insert_with(|| vec![0.0; scale.len()]);
                for (c, b) in bias.iter_mut().enumerate() {
                    *b = (f64::from(*b) * scale[c] + shift[c]) as f32;
                }
                if let Op::Conv(conv) = op {
                    conv.bias = true;
                }
            }
            Work::Op(_) | Work::Grid(_) => return false,
        }
        self.replace(index, from);
        true
    }

    /// Moves the factors of a map into the product before the ReLUs and max-pools in front of it, which keep what is multiplied
    /// by a positive number; their signs and the summands stay.
    ///
    /// In the columns of the product behind, factors of different sizes would cost its integers most of their bits; in the rows
    /// of the one before, whose scales are their own, they cost none, and its channels come into one range (as in Nagel et al.
    /// 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1).
    fn scale_before_relu(&mut self, index: usize) {
        let Work::Affine { scale, .. } = &self.items[index].work else {
            return;
        };
        let sizes: Vec<f64> = scale
            .iter()
            .map(|&scale| if scale == 0.0 { 1.0 } else { scale.abs() })
            .collect();
        let readers = self.readers();
        let mut from = self.items[index].inputs[0];
        loop {
            if readers[from] != 1 {
                return;
            }
            match self.items[from].work {
                Work::Op(Op::Relu | Op::MaxPool(_)) => from = self.items[from].inputs[0],
                Work::Op(Op::Conv(_) | Op::Linear(_)) => break,
                _ => return,
            }
        }
        let product = &mut self.items[from];
        let Some(weight) = product.weight.as_mut().filter(|_| product.codes.is_none()) else {
            return;
        };
        if weight.shape()[0] != sizes.len() {
            return;
        }
        let row = weight.data().len() / sizes.len();
        for (row, size) in weight.data_mut().chunks_exact_mut(row.max(1)).zip(&sizes) {
            for w in row {
                *w = (f64::from(*w) * size) as f32;
            }
        }
        for (b, size) in product.bias.iter_mut().flatten().zip(&sizes) {
            *b = (f64::from(*b) * size) as f32;
        }
        if let Work::Affine { scale, .. } = &mut self.items[index].work {
            for (scale, size) in scale.iter_mut().zip(sizes) {
                *scale /= size;
            }
        }
    }

    /// Into the product behind: right where it pads nothing, or what it pads would be zero before the map as well.
    fn fold_forward(&mut self, index: usize) -> bool {
        let Work::Affine { scale, shift } = &self.items[index].work else {
            return false;
        };
        let (scale, shift) = (scale.clone(), shift.clone());
        let mut after = (0..self.items.len()).filter(|&i| self.items[i].inputs.contains(&index));
        let (Some(next), None) = (after.next(), after.next()) else {
            return false;
        };
        let is_shifted = shift.iter().any(|&shift| shift != 0.0);
        let item = &mut self.items[next];
        if item.codes.is_some() {
            return false;
        }
        let groups = match &mut item.work {
            Work::Op(Op::Conv(conv)) if !is_shifted || conv.padding == [0; 4] => {
                conv.bias = true;
                conv.groups
            }
            Work::Op(Op::Linear(_)) => 1,
            _ => return false,
        };
        let Some(weight) = &mut item.weight else {
            return false;
        };
        let (out, channels) = (weight.shape()[0], weight.shape()[weight.shape().len() - 1]);
        if channels * groups != scale.len() {
            return false;
        }
        let row = weight.data().len() / out.max(1);
        let bias = item.bias.get_or_insert_with(|| vec![0.0; out]);
        for (o, row) in weight.data_mut().chunks_exact_mut(row.max(1)).enumerate() {
            let first = o / (out / groups) * channels;
            let mut sum = f64::from(bias[o]);
            for (i, w) in row.iter_mut().enumerate() {
                let c = first + i % channels;
                sum += f64::from(*w) * shift[c];
                *w = (f64::from(*w) * scale[c]) as f32;
            }
            bias[o] = sum as f32;
        }
        self.replace(index, self.items[index].inputs[0]);
        true
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

/// `(x / 255 − mean) / std`, then `· scale + shift`, as one normalization; none where a scale is not positive.
fn normalized(before: &Normalization, scale: &[f64], shift: &[f64]) -> Option<Normalization> {
    if scale
        .iter()
        .any(|&scale| !scale.is_finite() || scale <= 0.0)
    {
        return None;
    }
    let (mean, std) = (before.mean(), before.std());
    let channels = scale.len();
    let mut means = Vec::with_capacity(channels);
    let mut stds = Vec::with_capacity(channels);
    for c in 0..channels {
        let (mean, std) = (
            f64::from(mean[c % mean.len()]),
            f64::from(std[c % std.len()]),
        );
        means.push((mean - shift[c] * std / scale[c]) as f32);
        stds.push((std / scale[c]) as f32);
    }
    Some(Normalization::per_channel(&means, &stds))
}

#[cfg(test)]
mod tests;
