//! Sums and products of two values.

use super::{Attribute, Exporter};
use lowbit::graph::Step;

impl Exporter<'_> {
    /// The second value may have one number per channel of the first; it gets extents of 1 for rows and columns then.
    pub(super) fn binary(&mut self, step: &Step, op: &str, inputs: &[String]) -> String {
        let [a, b] = [step.in_shapes[0], step.in_shapes[1]];
        let mut second = inputs[1].clone();
        if a.rank() != b.rank() {
            let name = format!("{}.channels", step.name);
            second = match a.rank() {
                1 => {
                    let axis = [("axis", Attribute::Int(1))];
                    self.writer.node(&name, "Flatten", &[&second], &axis)
                }
                _ => self.reshaped(&name, &second, &[0, b.c() as i64, 1, 1]),
            };
            second = self.requantized(&name, second, step.inputs[1]);
        }
        self.writer
            .node(&step.name, op, &[&inputs[0], &second], &[])
    }
}
