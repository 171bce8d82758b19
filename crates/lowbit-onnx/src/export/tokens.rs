//! Attention, and what moves pixels.

use super::{Attribute, Elements, Exporter};
use lowbit::graph::{Attention, Prefix, Step};

/// The order of axes.
fn order(axes: &[i64]) -> [(&'static str, Attribute<'static>); 1] {
    [("perm", Attribute::Ints(axes.to_vec()))]
}

impl Exporter<'_> {
    /// An image `[N, c, h, w]` in parts of these extents, in another order of axes, under a shape.
    fn rearranged(
        &mut self,
        name: &str,
        x: &str,
        (parts, axes): (&[i64], &[i64]),
        shape: Option<&[i64]>,
    ) -> String {
        let mut x = self.reshaped(&format!("{name}.split"), x, parts);
        if !axes.is_sorted() {
            let name = format!("{name}.transpose");
            x = self.writer.node(&name, "Transpose", &[&x], &order(axes));
        }
        match shape {
            Some(shape) => self.reshaped(name, &x, shape),
            None => x,
        }
    }

    /// Two products with a Softmax between, over heads `[N, heads, tokens, channels]`; with patches, each place of them is like a
    /// head of its own.
    pub(super) fn attention(
        &mut self,
        step: &Step,
        attention: Attention,
        inputs: &[String],
    ) -> String {
        let name = step.name.as_str();
        let heads = attention.heads as i64;
        let [patch_h, patch_w] = attention.patch.map(|extent| extent as i64);
        let is_global = attention.patch == [1, 1];
        let groups = heads * patch_h * patch_w;
        let operand = |exporter: &mut Self, which: usize, label: &str, turned: bool| {
            let shape = step.in_shapes[which];
            let channels = shape.c() as i64 / heads;
            let (h, w) = (shape.h() as i64, shape.w() as i64);
            let name = format!("{name}.{label}");
            if is_global {
                let parts = [0, heads, channels, h * w];
                let axes: [i64; 4] = if turned { [0, 1, 2, 3] } else { [0, 1, 3, 2] };
                return exporter.rearranged(&name, &inputs[which], (&parts, &axes), None);
            }
            let parts = [
                0,
                heads,
                channels,
                h / patch_h,
                patch_h,
                w / patch_w,
                patch_w,
            ];
            let tokens = (h / patch_h) * (w / patch_w);
            let (axes, shape): ([i64; 7], [i64; 4]) = match turned {
                true => ([0, 4, 6, 1, 2, 3, 5], [0, groups, channels, tokens]),
                false => ([0, 4, 6, 1, 3, 5, 2], [0, groups, tokens, channels]),
            };
            exporter.rearranged(&name, &inputs[which], (&parts, &axes), Some(&shape))
        };
        let queries = operand(self, 0, "queries", false);
        let keys = operand(self, 1, "keys", true);
        let values = operand(self, 2, "values", false);
        let scores = format!("{name}.scores");
        let mut scores = self.writer.node(&scores, "MatMul", &[&queries, &keys], &[]);
        if attention.scale != 1.0 {
            let label = format!("{name}.scale");
            let scale = Elements::F32(&[attention.scale]);
            let scale = self.writer.tensor(&label, &[], &scale);
            scores = self.writer.node(&label, "Mul", &[&scores, &scale], &[]);
        }
        let softmax = format!("{name}.softmax");
        let axis = [("axis", Attribute::Int(-1))];
        let weights = self.writer.node(&softmax, "Softmax", &[&scores], &axis);
        let mixed = format!("{name}.mixed");
        let mixed = self
            .writer
            .node(&mixed, "MatMul", &[&weights, &values], &[]);
        let shape = step.main_shape;
        let [h, w, c] = [shape.h(), shape.w(), shape.c()].map(|extent| extent as i64);
        let whole = [0, c, h, w];
        let joined = format!("{name}.joined");
        if is_global {
            let axes = order(&[0, 1, 3, 2]);
            let turned = self.writer.node(&joined, "Transpose", &[&mixed], &axes);
            return self.reshaped(name, &turned, &whole);
        }
        let parts = [
            0,
            patch_h,
            patch_w,
            heads,
            h / patch_h,
            w / patch_w,
            c / heads,
        ];
        let axes = [0, 3, 6, 4, 1, 5, 2];
        self.rearranged(&joined, &mixed, (&parts, &axes), Some(&whole))
    }

    /// Zeros to the left of one row of pixels.
    pub(super) fn prefix(&mut self, step: &Step, prefix: Prefix, x: &str) -> String {
        let name = step.name.as_str();
        let shape = step.in_shapes[0];
        let pixels = (shape.h() * shape.w()) as i64;
        let row = match shape.h() {
            1 if shape.rank() == 3 => x.to_owned(),
            _ => {
                let name = format!("{name}.row");
                let row = self.reshaped(&name, x, &[0, shape.c() as i64, 1, pixels]);
                self.requantized(&name, row, step.inputs[0])
            }
        };
        let widths = [0, 0, 0, prefix.tokens as i64, 0, 0, 0, 0];
        let widths = Elements::I64(&widths);
        let widths = self.writer.tensor(&format!("{name}.pads"), &[8], &widths);
        self.writer.node(name, "Pad", &[&row, &widths], &[])
    }

    /// Pixels as channels, and channels as pixels of one row.
    pub(super) fn transpose(&mut self, step: &Step, x: &str) -> String {
        let name = step.name.as_str();
        let shape = step.in_shapes[0];
        let pixels = (shape.h() * shape.w()) as i64;
        let row = self.reshaped(&format!("{name}.row"), x, &[0, shape.c() as i64, 1, pixels]);
        let row = self.requantized(name, row, step.inputs[0]);
        let axes = order(&[0, 3, 2, 1]);
        self.writer.node(name, "Transpose", &[&row], &axes)
    }
}
