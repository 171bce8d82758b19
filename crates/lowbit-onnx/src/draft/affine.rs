//! Affine maps of channels, folded into the normalization of pixels and into the products beside them.

use super::{Draft, Item, Work};
use lowbit::graph::{Normalization, Op, Unary};

impl Draft {
    fn readers(&self) -> Vec<usize> {
        let mut readers = vec![0; self.items.len()];
        for &input in self.items.iter().flat_map(|item| &item.inputs) {
            readers[input] += 1;
        }
        readers
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
            let is_gone = (self.scale_before_relu(index) && self.fold_nothing(index))
                || self.fold_forward(index);
            if !is_gone {
                index += 1;
            }
        }
    }

    /// Drops a map that changes nothing.
    fn fold_nothing(&mut self, index: usize) -> bool {
        let Work::Affine { scale, shift } = &self.items[index].work else {
            return false;
        };
        let changes_nothing = scale.iter().all(|&x| x == 1.0) && shift.iter().all(|&x| x == 0.0);
        let from = self.items[index].inputs[0];
        // The last item gives the logits, and may stand behind the image alone.
        if changes_nothing && from > 0 {
            self.replace(index, from);
            return true;
        }
        false
    }

    fn fold_backward(&mut self, index: usize, normalization: &mut Normalization) -> bool {
        let Work::Affine { scale, shift } = &self.items[index].work else {
            return false;
        };
        let (scale, shift) = (scale.clone(), shift.clone());
        let from = self.items[index].inputs[0];
        if self.fold_nothing(index) {
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
            // What was rounded stays as it is; its scales may change.
            Work::Op(Op::Conv(_) | Op::Linear(_)) if before.codes.is_some() => {
                if !are_positive(&scale) || shift.iter().any(|&shift| shift != 0.0) {
                    return false;
                }
                before.scale_rows(&scale);
            }
            Work::Op(op @ (Op::Conv(_) | Op::Linear(_))) => {
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
    fn scale_before_relu(&mut self, index: usize) -> bool {
        let Work::Affine { scale, .. } = &self.items[index].work else {
            return false;
        };
        let sizes: Vec<f64> = scale
            .iter()
            .map(|&scale| if scale == 0.0 { 1.0 } else { scale.abs() })
            .collect();
        let readers = self.readers();
        let mut from = self.items[index].inputs[0];
        let mut clips = Vec::new();
        loop {
            if readers[from] != 1 {
                return false;
            }
            match self.items[from].work {
                Work::Op(Op::Relu | Op::MaxPool(_)) => {}
                Work::Op(Op::Unary(Unary::Clip { min: 0.0, max }))
                    if self.is_cut_behind(index, max) =>
                {
                    clips.push(from);
                }
                Work::Op(Op::Conv(_) | Op::Linear(_)) => break,
                _ => return false,
            }
            from = self.items[from].inputs[0];
        }
        let product = &mut self.items[from];
        let rows = product.weight.as_ref().map(|weight| weight.shape()[0]);
        if rows != Some(sizes.len()) {
            return false;
        }
        product.scale_rows(&sizes);
        for clip in clips {
            self.items[clip].work = Work::Op(Op::Relu);
        }
        if let Work::Affine { scale, .. } = &mut self.items[index].work {
            for (scale, size) in scale.iter_mut().zip(sizes) {
                *scale /= size;
            }
        }
        true
    }

    /// Whether the grid behind a map ends where its channels reach what `ceiling` becomes, so that there is no need to cut before.
    fn is_cut_behind(&self, index: usize, ceiling: f32) -> bool {
        let Work::Affine { scale, shift } = &self.items[index].work else {
            return false;
        };
        if !are_positive(scale) || shift.iter().any(|&shift| shift != 0.0) {
            return false;
        }
        let mut readers = self
            .items
            .iter()
            .filter(|item| item.inputs.contains(&index));
        let (
            Some(Item {
                work: Work::Grid(grid),
                ..
            }),
            None,
        ) = (readers.next(), readers.next())
        else {
            return false;
        };
        let level = |scale: &f64| {
            let steps = f64::from(ceiling) * scale / f64::from(grid.scale);
            steps.round_ties_even() + f64::from(grid.zero_point)
        };
        scale.iter().all(|scale| level(scale) >= f64::from(u8::MAX))
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
            // Each filter of a depthwise convolution reads one channel.
            let is_depthwise = matches!(
                (&item.work, &item.weight),
                (Work::Op(Op::Conv(conv)), Some(weight))
                    if conv.groups == scale.len() && weight.shape()[3] == 1
            );
            if is_shifted || !is_depthwise || !are_positive(&scale) {
                return false;
            }
            item.scale_filters(&scale);
            self.replace(index, self.items[index].inputs[0]);
            return true;
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
}

impl Item {
    /// Multiplies the results of a product, per channel, by positive numbers: weights, bias, and the scales of their integers.
    fn scale_rows(&mut self, factors: &[f64]) {
        self.scale_weights(factors);
        let scaled = |x: f32, factor: f64| (f64::from(x) * factor) as f32;
        for (b, &factor) in self.bias.iter_mut().flatten().zip(factors) {
            *b = scaled(*b, factor);
        }
        if let Some((_, sizes)) = self.codes.as_mut().and_then(|codes| codes.bias.as_mut()) {
            for (size, &factor) in sizes.iter_mut().zip(factors) {
                *size = scaled(*size, factor);
            }
        }
    }

    /// Multiplies the filters of a depthwise convolution by what its channels are multiplied with before it.
    fn scale_filters(&mut self, factors: &[f64]) {
        let filters = self.weight.as_ref().map_or(0, |weight| weight.shape()[0]);
        let each = filters / factors.len().max(1);
        let of_filters = (0..filters).map(|filter| factors[filter / each.max(1)]);
        self.scale_weights(&of_filters.collect::<Vec<f64>>());
    }

    fn scale_weights(&mut self, factors: &[f64]) {
        let scaled = |x: f32, factor: f64| (f64::from(x) * factor) as f32;
        if let Some(weight) = &mut self.weight {
            let row = weight.data().len() / factors.len().max(1);
            for (row, &factor) in weight.data_mut().chunks_exact_mut(row.max(1)).zip(factors) {
                for w in row {
                    *w = scaled(*w, factor);
                }
            }
        }
        if let Some(codes) = &mut self.codes {
            for (scale, &factor) in codes.scale.iter_mut().zip(factors) {
                *scale = scaled(*scale, factor);
            }
        }
    }
}

fn are_positive(factors: &[f64]) -> bool {
    factors
        .iter()
        .all(|&factor| factor > 0.0 && factor.is_finite())
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
