//! Operators over the channels.

use super::{Attribute, Elements, Exporter};
use lowbit::graph::{ChannelShuffle, LayerNorm, Slice, Step};

impl Exporter<'_> {
    pub(super) fn concat(&mut self, step: &Step, inputs: &[String]) -> String {
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let axis = [("axis", Attribute::Int(1))];
        self.writer.node(&step.name, "Concat", &inputs, &axis)
    }

    pub(super) fn shuffle(&mut self, step: &Step, shuffle: ChannelShuffle, x: &str) -> String {
        let shape = step.in_shapes[0];
        let [h, w, c] = [shape.h(), shape.w(), shape.c()].map(|extent| extent as i64);
        let groups = shuffle.groups as i64;
        let name = step.name.as_str();
        let split = format!("{name}.split");
        let parts = self.reshaped(&split, x, &[0, groups, c / groups, h, w]);
        let order = [("perm", Attribute::Ints(vec![0, 2, 1, 3, 4]))];
        let turned = format!("{name}.transpose");
        let turned = self.writer.node(&turned, "Transpose", &[&parts], &order);
        match shape.rank() {
            1 => self.reshaped(name, &turned, &[0, c]),
            _ => self.reshaped(name, &turned, &[0, c, h, w]),
        }
    }

    pub(super) fn slice(&mut self, step: &Step, slice: Slice, x: &str) -> String {
        let name = step.name.as_str();
        let end = (slice.first + slice.channels) as i64;
        let numbers = [("starts", slice.first as i64), ("ends", end), ("axes", 1)];
        let [starts, ends, axes] = numbers.map(|(which, number)| {
            let number = Elements::I64(&[number]);
            self.writer
                .tensor(&format!("{name}.{which}"), &[1], &number)
        });
        let inputs = [x, &starts, &ends, &axes];
        self.writer.node(name, "Slice", &inputs, &[])
    }

    /// ONNX normalizes over last axes: the channels go there and back.
    pub(super) fn layer_norm(&mut self, step: &Step, norm: LayerNorm, x: &str) -> String {
        self.writer.need_opset(17);
        let name = step.name.as_str();
        let channels = step.in_shapes[0].c();
        let ones = Elements::F32(&vec![1.0; channels]);
        let ones = self
            .writer
            .tensor(&format!("{name}.ones"), &[channels], &ones);
        let attributes = || {
            [
                ("axis", Attribute::Int(-1)),
                ("epsilon", Attribute::Float(norm.eps)),
            ]
        };
        if step.in_shapes[0].rank() == 1 {
            let inputs = [x, &ones];
            return self
                .writer
                .node(name, "LayerNormalization", &inputs, &attributes());
        }
        let to_last = [("perm", Attribute::Ints(vec![0, 2, 3, 1]))];
        let last = format!("{name}.last");
        let last = self.writer.node(&last, "Transpose", &[x], &to_last);
        let inputs = [last.as_str(), &ones];
        let normal = self
            .writer
            .node(name, "LayerNormalization", &inputs, &attributes());
        let to_second = [("perm", Attribute::Ints(vec![0, 3, 1, 2]))];
        let second = format!("{name}.second");
        self.writer
            .node(&second, "Transpose", &[&normal], &to_second)
    }
}
