//! Functions of one element.

use super::{Attribute, ExportError, Exporter};
use lowbit::graph::{Step, Unary};

impl Exporter<'_> {
    pub(super) fn unary(
        &mut self,
        step: &Step,
        unary: Unary,
        x: &str,
    ) -> Result<String, ExportError> {
        let name = step.name.as_str();
        let float = |key, value| [(key, Attribute::Float(value))];
        Ok(match unary {
            Unary::Clip { min, max } => self.clip(name, x, [min, max]),
            Unary::HardSigmoid { alpha, beta } => {
                let attributes = [
                    ("alpha", Attribute::Float(alpha)),
                    ("beta", Attribute::Float(beta)),
                ];
                self.writer.node(name, "HardSigmoid", &[x], &attributes)
            }
            Unary::HardSwish => {
                self.writer.need_opset(14);
                self.writer.node(name, "HardSwish", &[x], &[])
            }
            Unary::Silu => {
                let sigmoid = format!("{name}.sigmoid");
                let sigmoid = self.writer.node(&sigmoid, "Sigmoid", &[x], &[]);
                self.writer.node(name, "Mul", &[x, &sigmoid], &[])
            }
            Unary::Tanh => self.writer.node(name, "Tanh", &[x], &[]),
            Unary::LeakyRelu { slope } => {
                self.writer
                    .node(name, "LeakyRelu", &[x], &float("alpha", slope))
            }
            Unary::Elu { alpha } => self.writer.node(name, "Elu", &[x], &float("alpha", alpha)),
            Unary::Gelu { tanh } => {
                self.writer.need_opset(20);
                let approximate = if tanh { "tanh" } else { "none" };
                let attributes = [("approximate", Attribute::Text(approximate))];
                self.writer.node(name, "Gelu", &[x], &attributes)
            }
            other => {
                return Err(ExportError::Layer {
                    layer: name.to_owned(),
                    reason: format!("{other:?} has no form in ONNX"),
                });
            }
        })
    }
}
