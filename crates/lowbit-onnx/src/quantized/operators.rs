//! Operators on integers as float operators between DequantizeLinear and QuantizeLinear: what they are defined to compute.

use crate::error::Fault;
use crate::model::{Attribute, Model, Node};
use crate::names::Names;

/// What ONNX Runtime's own operators are called here.
const OWN: &str = "com.microsoft.";

/// Brings all of a model's operators on integers to that form.
pub(crate) fn normalize(model: &mut Model) -> Result<(), Fault> {
    let mut names = model.names();
    let mut nodes = Vec::with_capacity(model.nodes.len());
    for node in std::mem::take(&mut model.nodes) {
        Expansion::of(node, model.opset, &mut nodes, &mut names)?;
    }
    model.nodes = nodes;
    Ok(())
}

/// The nodes that one becomes.
struct Expansion<'a> {
    node: Node,
    into: &'a mut Vec<Node>,
    names: &'a mut Names,
}

impl<'a> Expansion<'a> {
    fn of(
        mut node: Node,
        opset: i64,
        into: &'a mut Vec<Node>,
        names: &'a mut Names,
    ) -> Result<(), Fault> {
        let op = node.op.clone();
        let plain = op.strip_prefix(OWN).unwrap_or(&op);
        let mut this = match plain {
            // The same in its domain, where it came first.
            "QuantizeLinear" | "DequantizeLinear" => {
                plain.clone_into(&mut node.op);
                into.push(node);
                return Ok(());
            }
            _ => Self { node, into, names },
        };
        match plain {
            "QLinearConv" => this.conv(),
            "QLinearMatMul" => {
                let a = this.dequantized("a", 0)?;
                let b = this.dequantized_along(1, "b", 3)?;
                this.operator("MatMul", vec![a, b], 6)
            }
            "QGemm" => this.gemm(),
            "QLinearAdd" | "QLinearMul" => {
                let inputs = vec![this.dequantized("a", 0)?, this.dequantized("b", 3)?];
                let name = if plain == "QLinearAdd" { "Add" } else { "Mul" };
                this.operator(name, inputs, 6)
            }
            "QLinearConcat" => this.concat(),
            "QLinearGlobalAveragePool" => this.unary("GlobalAveragePool"),
            "QLinearAveragePool" => this.unary("AveragePool"),
            "QLinearReduceMean" => this.unary("ReduceMean"),
            "QLinearSigmoid" => this.unary("Sigmoid"),
            "QLinearLeakyRelu" => this.unary("LeakyRelu"),
            "QLinearSoftmax" => {
                // Over one axis since opset 13, over all from it on before: as the node says, not the file.
                if let Some(of_node) = this.node.attributes.remove("opset")
                    && let Attribute::Int(of_node) = of_node
                    && (of_node < 13) != (opset < 13)
                {
                    let reason = format!(
                        "its opset is {of_node} and the file's {opset}, which mean different sums: export the file with opset {}",
                        of_node.max(13)
                    );
                    return Err(this.node.wrong(reason));
                }
                this.unary("Softmax")
            }
            _ => {
                this.into.push(this.node);
                Ok(())
            }
        }
    }

    /// A name for a part of what the node computes.
    fn name(&mut self, part: &str) -> String {
        self.names.take(&format!("{}:{part}", self.node.output()))
    }

    fn input(&self, index: usize) -> String {
        self.node.input(index).unwrap_or_default().to_owned()
    }

    /// The input `at` as real numbers: its scale and zero point stand behind it.
    fn dequantized(&mut self, part: &str, at: usize) -> Result<String, Fault> {
        self.dequantized_along(0, part, at)
    }

    /// The same of weights with a scale for each index of `axis`.
    fn dequantized_along(&mut self, axis: i64, part: &str, at: usize) -> Result<String, Fault> {
        let output = self.name(part);
        let (x, scale) = (self.node.need(at)?, self.node.need(at + 1)?);
        let inputs = [x, scale, &self.input(at + 2)];
        let node = Node::new(&self.node.name, "DequantizeLinear", &inputs, &output);
        self.into.push(node.with("axis", Attribute::Int(axis)));
        Ok(output)
    }

    /// A bias in steps of input times weight.
    fn bias(&mut self, at: usize, [x, w]: [usize; 2]) -> Result<String, Fault> {
        let (scale, output) = (self.name("bias_scale"), self.name("bias"));
        let factors = [self.node.need(x)?, self.node.need(w)?];
        let factors = Node::new(&self.node.name, "Mul", &factors, &scale);
        self.into.push(factors);
        let inputs = [self.node.need(at)?, &scale];
        let node = Node::new(&self.node.name, "DequantizeLinear", &inputs, &output);
        self.into.push(node.with("axis", Attribute::Int(0)));
        Ok(output)
    }

    /// The float operator, and its result rounded to the grid whose scale is the input `at`; not rounded where there is none.
    fn operator(&mut self, op: &str, inputs: Vec<String>, at: usize) -> Result<(), Fault> {
        let rounded = self.node.input(at).is_some();
        let output = self.node.output().to_owned();
        let real = if rounded {
            self.name("real")
        } else {
            output.clone()
        };
        self.into.push(Node {
            name: self.node.name.clone(),
            op: op.to_owned(),
            attributes: std::mem::take(&mut self.node.attributes),
            inputs,
            outputs: vec![real.clone()],
        });
        if rounded {
            let inputs = [&real, self.node.need(at)?, &self.input(at + 1)];
            self.into.push(Node::new(
                &self.node.name,
                "QuantizeLinear",
                &inputs,
                &output,
            ));
        }
        Ok(())
    }

    fn unary(&mut self, op: &str) -> Result<(), Fault> {
        if self.node.int_or("channels_last", 0)? != 0 {
            return Err(self.node.wrong("channels_last=1: only 0 is supported"));
        }
        self.node.attributes.remove("channels_last");
        let x = self.dequantized("x", 0)?;
        self.operator(op, vec![x], 3)
    }

    fn conv(&mut self) -> Result<(), Fault> {
        let mut inputs = vec![self.dequantized("x", 0)?, self.dequantized("w", 3)?];
        if self.node.input(8).is_some() {
            inputs.push(self.bias(8, [1, 4])?);
        }
        self.operator("Conv", inputs, 6)
    }

    fn gemm(&mut self) -> Result<(), Fault> {
        let turned = self.node.int_or("transB", 0)? != 0;
        let mut inputs = vec![
            self.dequantized("a", 0)?,
            self.dequantized_along((!turned).into(), "b", 3)?,
        ];
        if self.node.input(6).is_some() {
            inputs.push(self.bias(6, [1, 4])?);
        }
        self.operator("Gemm", inputs, 7)
    }

    /// Scale and zero point of the result come first here.
    fn concat(&mut self) -> Result<(), Fault> {
        let values = self.node.inputs.len().saturating_sub(2) / 3;
        let inputs = (0..values).map(|i| self.dequantized(&i.to_string(), 2 + 3 * i));
        let inputs = inputs.collect::<Result<Vec<String>, Fault>>()?;
        self.operator("Concat", inputs, 0)
    }
}
