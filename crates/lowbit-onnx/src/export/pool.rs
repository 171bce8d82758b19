//! Pools.

use super::{Attribute, Elements, Exporter};
use lowbit::graph::{AvgPool, MaxPool, Step};

fn ints(values: &[usize]) -> Attribute<'static> {
    Attribute::Ints(values.iter().map(|&x| x as i64).collect())
}

impl Exporter<'_> {
    pub(super) fn max_pool(&mut self, name: &str, pool: MaxPool, x: &str) -> String {
        let attributes = [
            ("kernel_shape", ints(&pool.kernel)),
            ("pads", ints(&pool.padding)),
            ("strides", ints(&pool.stride)),
        ];
        self.writer.node(name, "MaxPool", &[x], &attributes)
    }

    /// A mean; padding that counts is zeros of its own where other padding does not.
    pub(super) fn average_pool(&mut self, step: &Step, pool: AvgPool, x: &str) -> String {
        let counts_all = pool.counted_padding == pool.padding;
        let mut image = x.to_owned();
        let mut pads = pool.padding;
        if !counts_all && pool.counted_padding != [0; 4] {
            let [top, left, bottom, right] = pool.counted_padding.map(|pad| pad as i64);
            let widths = [0, 0, top, left, 0, 0, bottom, right];
            let name = format!("{}.pad", step.name);
            let widths = Elements::I64(&widths);
            let widths = self.writer.tensor(&format!("{name}.pads"), &[8], &widths);
            image = self.writer.node(&name, "Pad", &[x, &widths], &[]);
            for (pad, counted) in pads.iter_mut().zip(pool.counted_padding) {
                *pad -= counted;
            }
        }
        let attributes = [
            ("count_include_pad", Attribute::Int(counts_all.into())),
            ("kernel_shape", ints(&pool.kernel)),
            ("pads", ints(&pads)),
            ("strides", ints(&pool.stride)),
        ];
        let inputs = [image.as_str()];
        self.writer
            .node(&step.name, "AveragePool", &inputs, &attributes)
    }

    pub(super) fn global_average_pool(&mut self, step: &Step, x: &str) -> String {
        match step.in_shapes[0].rank() {
            // The mean of one pixel.
            1 => self.reshaped(&step.name, x, &[0, step.in_shapes[0].c() as i64, 1, 1]),
            _ => self.writer.node(&step.name, "GlobalAveragePool", &[x], &[]),
        }
    }
}
