//! A batch that goes through a model layer by layer, so that a pass can look at what a layer reads, change the layer, and
//! let the layers behind it read what the changed one gives.

use super::engine::Engine;
use super::float_model;
use super::integer_model::{self, Kernels};
use super::workspace::Workspace;
use super::{RuntimeError, f32, u8};
use crate::graph::Graph;
use crate::lower::{ExecProgram, Layout, Mode, Numbers, Plan, Step, Work};
use crate::ops::Op;
use crate::quant::{ActivationQuant, QuantizedLayer, QuantizedModel};
use lowbit_kernels::{Isa, random};

/// A model with a batch in it.
pub(crate) struct Layerwise {
    engine: Engine,
    form: Form,
    workspace: Option<Workspace>,
    count: usize,
    /// The first executed step that has not run.
    next: usize,
    logits: Vec<f32>,
}

enum Form {
    Float(Isa),
    Integer(Kernels),
}

impl Layerwise {
    /// A model in f32; `folded` gives the kernel and the bias of a step with weights.
    ///
    /// # Errors
    /// [`RuntimeError`] where the graph cannot be run.
    pub(crate) fn float(
        graph: &Graph,
        isa: Isa,
        folded: impl Fn(&Step, usize) -> (Vec<f32>, Vec<f32>),
    ) -> Result<Self, RuntimeError> {
        let exec = ExecProgram::float(graph.program()?);
        let plan = Plan::new(exec)?.step_by_step();
        let engine = float_model::engine_of(graph, plan, isa, folded);
        Ok(Self::of(engine, Form::Float(isa)))
    }

    /// A static or weight-only quantized model.
    ///
    /// # Errors
    /// [`RuntimeError`] where it cannot be run.
    pub(crate) fn quantized(model: &QuantizedModel, isa: Isa) -> Result<Self, RuntimeError> {
        model.validate()?;
        if model.method == ActivationQuant::WeightOnly {
            return Self::float(&model.graph, isa, |_, index| {
                model.real_layer(index).expect("validated")
            });
        }
        let exec = integer_model::exec_program(model, Mode::Static)?;
        let plan = Plan::new(exec)?.step_by_step();
        let kernels = Kernels::new(model, Mode::Static, isa, true);
        let engine = integer_model::engine_of(model, plan, &kernels);
        Ok(Self::of(engine, Form::Integer(kernels)))
    }

    fn of(engine: Engine, form: Form) -> Self {
        Self {
            engine,
            form,
            workspace: None,
            count: 0,
            next: 0,
            logits: Vec::new(),
        }
    }

    /// Bytes that each image of the batch takes.
    pub(crate) fn bytes_per_image(&self) -> usize {
        self.engine.bytes_per_image()
    }

    /// Takes whole `images` as its batch.
    pub(crate) fn begin(&mut self, images: &[u8], graph: &Graph) {
        self.count = images.len() / graph.input().len();
        self.logits = vec![0.0; self.count * graph.classes()];
        self.workspace = Some(self.engine.begin_batch(images, self.count));
        self.next = 0;
    }

    /// The executed step that is a layer's operator.
    fn operator(&self, layer: usize) -> usize {
        let mut steps = self.engine.plan().exec.steps.iter();
        let found =
            steps.position(|step| step.layer == layer && matches!(step.work, Work::Operator(_)));
        found.expect("every layer has its operator")
    }

    /// Runs everything before a layer, and shows what the layer reads.
    ///
    /// # Panics
    /// If no batch was begun, or the layer has run.
    pub(crate) fn before(&mut self, layer: usize) -> Patches<'_> {
        let index = self.operator(layer);
        assert!(self.next <= index, "layers are taken in their order");
        let workspace = self.workspace.as_mut().expect("a batch was begun");
        for step in self.next..index {
            self.engine
                .batch_step(workspace, step, self.count, &mut self.logits);
        }
        self.next = index;
        let plan = self.engine.plan();
        let step = &plan.exec.steps[index];
        let form = plan.exec.values[step.inputs[0]];
        let inputs = self.engine.inputs(workspace, index, 0);
        let (elements, scale, zero) = match (&self.form, form.numbers) {
            (Form::Integer(kernels), Numbers::U8) => {
                let input = kernels.params(form.value);
                let zero = f64::from(input.params.zero_point) - input.residual;
                let scale = f64::from(input.params.scale);
                (Elements::U8(inputs.u8(0)), scale, zero)
            }
            _ => (Elements::F32(inputs.f32(0)), 1.0, 0.0),
        };
        Patches::new(plan, index, self.count, elements, scale, zero)
    }

    /// Takes other integers for a layer of a quantized model.
    pub(crate) fn replace(&mut self, layer: usize, integers: &QuantizedLayer) {
        let index = self.operator(layer);
        let plan = self.engine.plan();
        let kernel = match &self.form {
            Form::Integer(kernels) => kernels.kernel(plan, index, Some(integers)),
            Form::Float(isa) => {
                let weights = (integers.dequantized(), integers.bias.clone());
                f32::kernel(plan, index, Some(weights), *isa)
            }
        };
        self.engine.replace(index, kernel);
    }
}

enum Elements<'a> {
    F32(&'a [f32]),
    U8(&'a [u8]),
}

/// What a convolution or linear layer reads for each pixel of its result, in a whole batch: `taps` numbers per group.
pub(crate) struct Patches<'a> {
    elements: Elements<'a>,
    /// A number is `scale · (element − zero)`.
    scale: f64,
    zero: f64,
    pub(crate) images: usize,
    /// Pixels of the result before a fused pool: rows and columns.
    pub(crate) extents: [usize; 2],
    pub(crate) groups: usize,
    /// Where the taps of one group lie behind a pixel's first, in the order of the weights.
    offsets: Vec<usize>,
    /// Elements from one image, row and column of the result, and from one group's channels to the next.
    strides: [usize; 4],
    first: usize,
}

impl<'a> Patches<'a> {
    fn new(
        plan: &Plan,
        index: usize,
        images: usize,
        elements: Elements<'a>,
        scale: f64,
        zero: f64,
    ) -> Self {
        let layout: Layout = plan.input(index, 0);
        let layer = plan.exec.layer(&plan.exec.steps[index]);
        let (groups, extents, offsets, steps, first) = match layer.op {
            Op::Conv(conv) => {
                let [kernel_h, kernel_w] = conv.kernel;
                let channels = layout.c / conv.groups;
                let at = |y: usize, x: usize, c: usize| {
                    y * conv.dilation[0] * layout.row_stride + x * conv.dilation[1] * layout.c + c
                };
                let mut offsets = Vec::with_capacity(kernel_h * kernel_w * channels);
                for y in 0..kernel_h {
                    for x in 0..kernel_w {
                        offsets.extend((0..channels).map(|c| at(y, x, c)));
                    }
                }
                let steps = [
                    conv.stride[0] * layout.row_stride,
                    conv.stride[1] * layout.c,
                    channels,
                ];
                let extents = [layer.main_shape.h(), layer.main_shape.w()];
                let [top, left, ..] = conv.padding;
                (
                    conv.groups,
                    extents,
                    offsets,
                    steps,
                    layout.border(top, left),
                )
            }
            _ => {
                let offsets = (0..layout.dense_len()).collect();
                (1, [1, 1], offsets, [0; 3], layout.first())
            }
        };
        Self {
            elements,
            scale,
            zero,
            images,
            extents,
            groups,
            offsets,
            strides: [layout.image_len, steps[0], steps[1], steps[2]],
            first,
        }
    }

    /// Numbers that one output channel reads for each pixel.
    pub(crate) fn taps(&self) -> usize {
        self.offsets.len()
    }

    /// Pixels of the result, over all images.
    pub(crate) fn pixels(&self) -> usize {
        self.images * self.extents[0] * self.extents[1]
    }

    /// The mean of what stands at each tap, over all pixels: `[groups, taps]`.
    pub(crate) fn means(&self) -> Vec<f64> {
        let [image_len, row, column, channels] = self.strides;
        // A mean of sums is the sum of means: first over the images, then over the pixels.
        let mut sums = vec![0.0f64; image_len];
        for image in 0..self.images {
            let range = image * image_len..(image + 1) * image_len;
            match self.elements {
                Elements::F32(elements) => {
                    let elements = &elements[range];
                    sums.iter_mut()
                        .zip(elements)
                        .for_each(|(sum, &x)| *sum += f64::from(x));
                }
                Elements::U8(elements) => {
                    let elements = &elements[range];
                    sums.iter_mut()
                        .zip(elements)
                        .for_each(|(sum, &x)| *sum += f64::from(x));
                }
            }
        }
        let count = self.pixels() as f64;
        let mut means = Vec::with_capacity(self.groups * self.taps());
        for group in 0..self.groups {
            for &offset in &self.offsets {
                let first = self.first + group * channels + offset;
                let mut sum = 0.0;
                for y in 0..self.extents[0] {
                    for x in 0..self.extents[1] {
                        sum += sums[first + y * row + x * column];
                    }
                }
                means.push(self.scale * (sum / count - self.zero));
            }
        }
        means
    }

    /// Draws so many pixels, or all if there are no more, by the counted stream of a pass and of a layer's number.
    pub(crate) fn draw(&self, pass: &'static str, layer: usize, most: usize) -> Vec<usize> {
        let mut drawn: Vec<usize> = (0..self.pixels()).collect();
        random::shuffle(&mut random::stream(0, pass, layer as u64), &mut drawn);
        drawn.truncate(most);
        drawn
    }

    /// Writes what one group reads for these pixels (counted over images, rows, columns): `[pixels, taps]`.
    pub(crate) fn gather(&self, group: usize, pixels: &[usize], out: &mut [f32]) {
        let [image_len, row, column, channels] = self.strides;
        let [h, w] = self.extents;
        let (scale, zero) = (self.scale as f32, self.zero as f32);
        for (&pixel, out) in pixels.iter().zip(out.chunks_exact_mut(self.taps())) {
            let (image, y, x) = (pixel / (h * w), pixel / w % h, pixel % w);
            let at = self.first + image * image_len + y * row + x * column + group * channels;
            let taps = out.iter_mut().zip(&self.offsets);
            match self.elements {
                Elements::F32(elements) => {
                    taps.for_each(|(out, &offset)| *out = elements[at + offset]);
                }
                Elements::U8(elements) => taps.for_each(|(out, &offset)| {
                    *out = scale * (f32::from(elements[at + offset]) - zero);
                }),
            }
        }
    }
}
