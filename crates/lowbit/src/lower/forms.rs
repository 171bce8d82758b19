//! A program for one kind of model: which kind of number each step computes with, and the conversions in between.
//!
//! In f32 nothing is converted. With static quantization every value is u8, and a step without an integer form stands between
//! a dequantization and a quantization; what the last step gives are the logits, in f32. With dynamic quantization values
//! are f32, and the input of each product is quantized at run time, over the whole batch.

use super::program::{Program, Step, ValueId};
use crate::shape::Shape;

/// Kinds of numbers that a step computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Numbers {
    /// 32-bit floats.
    F32,
    /// Unsigned bytes with a scale and a zero point.
    U8,
}

impl Numbers {
    /// Bytes of one.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::U8 => 1,
        }
    }
}

/// The kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Float,
    Static,
    Dynamic,
}

/// What an executed step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Its layer's operator, with these numbers.
    Operator(Numbers),
    /// u8 to f32.
    Dequantize,
    /// f32 to u8, with parameters found before.
    Quantize,
    /// f32 to u8, with parameters found in the batch.
    QuantizeDynamic,
}

/// A step of an [`ExecProgram`].
#[derive(Clone, Debug)]
pub(crate) struct ExecStep {
    /// Index of the step of the [`Program`] that it belongs to.
    pub(crate) layer: usize,
    pub(crate) work: Work,
    /// Indices of [`ExecProgram::values`].
    pub(crate) inputs: Vec<usize>,
    pub(crate) output: usize,
}

/// A value as one kind of number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExecValue {
    /// The value of the [`Program`] that it holds.
    pub(crate) value: ValueId,
    pub(crate) numbers: Numbers,
    pub(crate) shape: Shape,
}

/// Steps and values in execution order; value 0 is the image, the last step's output the logits.
#[derive(Clone, Debug)]
pub(crate) struct ExecProgram {
    pub(crate) program: Program,
    pub(crate) steps: Vec<ExecStep>,
    pub(crate) values: Vec<ExecValue>,
}

struct Builder {
    steps: Vec<ExecStep>,
    values: Vec<ExecValue>,
    mode: Mode,
}

impl ExecProgram {
    /// A program whose steps all compute in f32.
    pub(crate) fn float(program: Program) -> Self {
        Self::new(program, Mode::Float, |_, _| false, |_| false)
    }

    /// `has_integer_form` says which steps, by their index, can compute in u8; `is_rounded` which values of a static program are.
    pub(crate) fn new(
        program: Program,
        mode: Mode,
        has_integer_form: impl Fn(usize, &Step) -> bool,
        is_rounded: impl Fn(ValueId) -> bool,
    ) -> Self {
        let image = match mode {
            Mode::Static if !is_rounded(0) => Numbers::F32,
            Mode::Float => Numbers::F32,
            Mode::Static | Mode::Dynamic => Numbers::U8,
        };
        let mut builder = Builder {
            steps: Vec::new(),
            values: Vec::new(),
            mode,
        };
        builder.value(&program, 0, image);
        for (layer, step) in program.steps().iter().enumerate() {
            let is_last = layer + 1 == program.steps().len();
            let is_rounded_result = !is_last && is_rounded(layer + 1);
            let reads_integers = step.inputs.iter().all(|&value| is_rounded(value));
            // A product alone may give floats.
            let is_integer = has_integer_form(layer, step)
                && (mode != Mode::Static || reads_integers)
                && (step.has_weights() || is_rounded_result);
            let numbers = match mode {
                Mode::Float => Numbers::F32,
                Mode::Static if is_integer => Numbers::U8,
                Mode::Static => Numbers::F32,
                Mode::Dynamic if is_integer && step.has_weights() => Numbers::U8,
                Mode::Dynamic => Numbers::F32,
            };
            let result = match mode {
                Mode::Static if is_integer && is_rounded_result => Numbers::U8,
                Mode::Float | Mode::Static | Mode::Dynamic => Numbers::F32,
            };
            let inputs = step.inputs.iter();
            let inputs = inputs
                .map(|&value| {
                    let form = (value, numbers, is_rounded(value));
                    builder.value_as(&program, layer, form)
                })
                .collect();
            let output = builder.value(&program, layer + 1, result);
            builder.push(layer, Work::Operator(numbers), inputs, output);
            if mode == Mode::Static && result == Numbers::F32 && is_rounded_result {
                let quantized = builder.value(&program, layer + 1, Numbers::U8);
                builder.push(layer, Work::Quantize, vec![output], quantized);
            }
        }
        Self {
            program,
            steps: builder.steps,
            values: builder.values,
        }
    }

    /// The step of the program that an executed step belongs to.
    pub(crate) fn layer(&self, step: &ExecStep) -> &Step {
        &self.program.steps()[step.layer]
    }
}

impl Builder {
    fn push(&mut self, layer: usize, work: Work, inputs: Vec<usize>, output: usize) {
        self.steps.push(ExecStep {
            layer,
            work,
            inputs,
            output,
        });
    }

    fn value(&mut self, program: &Program, value: ValueId, numbers: Numbers) -> usize {
        self.values.push(ExecValue {
            value,
            numbers,
            shape: program.value_shape(value),
        });
        self.values.len() - 1
    }

    /// The value as these numbers; where a layer with other numbers wrote it, a conversion comes first. The last form of a
    /// value is what later layers read: what a fallback computed in f32 is rounded as every other value is.
    fn value_as(
        &mut self,
        program: &Program,
        layer: usize,
        (value, numbers, is_rounded): (ValueId, Numbers, bool),
    ) -> usize {
        let is_form = |form: &ExecValue| form.value == value && form.numbers == numbers;
        let rounded = |form: &ExecValue| form.value == value && form.numbers == Numbers::U8;
        // In a static program an f32 form may be one that was not rounded yet.
        let known = match (self.mode, numbers) {
            (Mode::Static, Numbers::F32) if is_rounded => None,
            _ => self.values.iter().position(is_form),
        };
        if let Some(known) = known {
            return known;
        }
        let (from, work) = match numbers {
            Numbers::F32 => (self.values.iter().position(rounded), Work::Dequantize),
            Numbers::U8 => (
                self.values.iter().rposition(|form| form.value == value),
                Work::QuantizeDynamic,
            ),
        };
        let from = from.expect("values are written before they are read");
        let output = self.value(program, value, numbers);
        self.push(layer, work, vec![from], output);
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphBuilder, Op};

    fn works(mode: Mode) -> Vec<Work> {
        let classes = ["a".to_owned(), "b".to_owned()];
        let mut graph = GraphBuilder::new("test", Shape::new(6, 6, 2), &classes);
        let x = graph.conv("conv1", 0, 4, 3, (1, 1), true);
        let y = graph.add("sigmoid", Op::Sigmoid, &[x]);
        let z = graph.add("mul", Op::Mul, &[y, x]);
        let z = graph.add("mean", Op::GlobalAvgPool, &[z]);
        graph.add("fc", Op::linear(2), &[z]);
        let program = graph.finish().unwrap().program().unwrap();
        let integer = |_, step: &Step| step.op != Op::Sigmoid;
        let steps = ExecProgram::new(program, mode, integer, |_| true).steps;
        steps.iter().map(|step| step.work).collect()
    }

    #[test]
    fn a_step_without_an_integer_form_stands_between_conversions() {
        let (f, u) = (Work::Operator(Numbers::F32), Work::Operator(Numbers::U8));
        let fallback = [Work::Dequantize, f, Work::Quantize];
        assert_eq!(
            works(Mode::Static),
            [&[u], &fallback[..], &[u, u, u]].concat()
        );
        assert_eq!(works(Mode::Float), [f; 5]);
        let d = Work::QuantizeDynamic;
        assert_eq!(works(Mode::Dynamic), [u, f, f, f, d, u]);
    }

    #[test]
    fn a_value_that_is_not_rounded_is_read_as_it_was_computed() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let mut graph = GraphBuilder::new("test", Shape::new(6, 6, 2), &classes);
        let x = graph.conv("a", 0, 2, 3, (1, 1), true); // value 1, f32 from integers
        let x = graph.conv("b", x, 2, 3, (1, 1), true); // 2, f32
        let x = graph.conv("c", x, 2, 3, (1, 1), true); // 3, u8 from f32
        let x = graph.add("mean", Op::GlobalAvgPool, &[x]); // 4
        graph.add("fc", Op::linear(2), &[x]);
        let program = graph.finish().unwrap().program().unwrap();
        let integer = |layer, _: &Step| !matches!(layer, 1 | 2);
        let rounded = |value| !matches!(value, 1 | 2);
        let exec = ExecProgram::new(program, Mode::Static, integer, rounded);
        let works: Vec<Work> = exec.steps.iter().map(|step| step.work).collect();
        let (f, u) = (Work::Operator(Numbers::F32), Work::Operator(Numbers::U8));
        assert_eq!(works, [u, f, f, Work::Quantize, u, u]);
        assert_eq!(exec.values[exec.steps[0].output].numbers, Numbers::F32);
        assert_eq!(exec.steps[1].inputs, [exec.steps[0].output]);
    }
}
