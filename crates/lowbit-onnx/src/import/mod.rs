//! From a normalized model to lowbit's graph, node by node. Whatever is not computed as ONNX defines it is refused here.

mod activation;
mod attention;
pub(crate) mod axes;
mod channels;
mod elementwise;
mod factors;
mod layout;
mod pad;
mod pool;
mod product;
mod quantize;
pub(crate) mod table;
mod tokens;

use crate::constant::Constant;
use crate::draft::{Draft, Item, Work};
use crate::error::Fault;
use crate::model::{Model, Node};
use axes::{Axis, NCHW, NHWC, matches, shape};
use lowbit::Shape;
use lowbit::graph::Op;
use std::collections::HashMap;

/// A value of the model: the item that computes it and what its axes are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) item: usize,
    pub(crate) axes: Vec<Axis>,
    pub(crate) dims: Vec<usize>,
    /// What a Pad has put around it, for the convolution or pool that reads it.
    pub(crate) frame: Option<Frame>,
}

/// Rows and columns around an image that are not in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Frame {
    /// Above, left, below, right.
    pub(crate) pads: [usize; 4],
    pub(crate) value: f32,
}

/// The graph as far as it has come.
pub(crate) struct Importer<'a> {
    pub(crate) model: &'a Model,
    pub(crate) draft: Draft,
    values: HashMap<String, Value>,
}

/// Imports a normalized model; the last item gives the logits.
pub(crate) fn import(model: &Model) -> Result<Draft, Fault> {
    let dims = model.shape(&model.input).to_vec();
    let axes = if is_nhwc(model) { NHWC } else { NCHW };
    let mut importer = Importer {
        model,
        draft: Draft::new(shape(&axes, &dims)),
        values: HashMap::new(),
    };
    let input = Value {
        item: 0,
        axes: axes.to_vec(),
        dims,
        frame: None,
    };
    importer.draft.items[0].grid = model.grids.get(&model.input).copied();
    importer.values.insert(model.input.clone(), input);
    for node in &model.nodes {
        let Some(operator) = table::find(&node.op) else {
            return Err(node.wrong(format!(
                "lowbit has {} only as a part of patterns that it rewrites, and this is none of them (docs/onnx.md)",
                node.op
            )));
        };
        node.only(
            &operator
                .attributes
                .iter()
                .map(|attribute| attribute.0)
                .collect::<Vec<_>>(),
        )?;
        (operator.import)(&mut importer, node)?;
    }
    importer.finish()
}

/// Rows and columns that an image has at least, where an axis of a few could be its columns or its channels.
pub(crate) const LEAST_ROWS: usize = 8;

/// Whether the input's channels are its last axis: few, or turned to the front by what reads it.
fn is_nhwc(model: &Model) -> bool {
    let dims = model.shape(&model.input);
    let few = |dim: usize| matches!(dim, 1 | 3);
    let reader = model
        .nodes
        .iter()
        .find(|node| node.inputs.contains(&model.input));
    match (few(dims[1]), few(dims[3])) {
        (true, false) => false,
        // A handful of rows is no image, but channels.
        (false, true) if dims[1].min(dims[2]) >= LEAST_ROWS => true,
        _ => reader.is_some_and(|node| {
            node.op == "Transpose"
                && node
                    .ints("perm")
                    .is_ok_and(|perm| perm == Some(&[0, 3, 1, 2]))
        }),
    }
}

impl Importer<'_> {
    /// The value that a node reads, with nothing around it.
    pub(crate) fn value(&self, node: &Node, index: usize) -> Result<Value, Fault> {
        let value = self.framed(node, index)?;
        match value.frame {
            None => Ok(value),
            Some(_) => {
                Err(node
                    .wrong("it reads the result of a Pad: only convolutions and pools may do so"))
            }
        }
    }

    /// The value that a node reads, with what a Pad has put around it.
    pub(crate) fn framed(&self, node: &Node, index: usize) -> Result<Value, Fault> {
        let name = node.need(index)?;
        match self.values.get(name) {
            // Constants with more axes than the value beside them add some.
            Some(value) if value.axes.len() != value.dims.len() => Err(node.wrong(format!(
                "its input {} has the shape {:?}, with {} axes of the image: only as many are supported",
                index + 1,
                value.dims,
                value.axes.len()
            ))),
            Some(value) => Ok(value.clone()),
            None if self.model.constants.contains_key(name) => Err(node.wrong(format!(
                "its input {} is constant: only values of the image are supported",
                index + 1
            ))),
            None => Err(node.wrong(format!("its input {name:?} is not computed"))),
        }
    }

    /// Whether a node reads a value of the image there.
    pub(crate) fn is_value(&self, node: &Node, index: usize) -> bool {
        node.input(index)
            .is_some_and(|name| self.values.contains_key(name))
    }

    /// An image, channels second, with what a Pad has put around it: its extents are those within.
    pub(crate) fn image(&mut self, node: &Node, index: usize) -> Result<Value, Fault> {
        let value = self.framed(node, index)?;
        if matches(&value.axes, &value.dims, &NCHW) {
            return Ok(value);
        }
        let turned = |importer: &mut Self| {
            let turned = importer
                .turned(node, &value)
                .filter(|_| value.frame.is_none())?;
            matches(&turned.axes, &turned.dims, &NCHW).then_some(turned)
        };
        match self.unfolded(node, &value).or_else(|| turned(self)) {
            Some(image) => Ok(image),
            None => Err(node.wrong(format!(
                "it reads {:?} with channels elsewhere than in its second axis",
                value.dims
            ))),
        }
    }

    /// An image, channels second, with nothing around it.
    pub(crate) fn bare_image(&mut self, node: &Node) -> Result<Value, Fault> {
        self.value(node, 0)?;
        self.image(node, 0)
    }

    /// lowbit's shape of an item.
    pub(crate) fn shape(&self, value: &Value) -> Shape {
        self.draft.items[value.item].shape
    }

    /// Says that a node's first result is `item`, with these axes.
    pub(crate) fn set(&mut self, node: &Node, item: usize, axes: Vec<Axis>) {
        self.set_output(node, 0, item, axes);
    }

    /// Says that one of a node's results is `item`, with these axes.
    pub(crate) fn set_output(&mut self, node: &Node, index: usize, item: usize, axes: Vec<Axis>) {
        let Some(name) = node.outputs.get(index) else {
            return;
        };
        let dims = self.model.shape(name).to_vec();
        let frame = None;
        self.values.insert(
            name.clone(),
            Value {
                item,
                axes,
                dims,
                frame,
            },
        );
    }

    /// The constant that a node reads there.
    pub(crate) fn constant(&self, node: &Node, index: usize) -> Option<&Constant> {
        self.model.constant(node, index)
    }

    /// Adds an operator of one value that leaves its shape.
    pub(crate) fn unary(&mut self, node: &Node, op: Op) -> Result<(), Fault> {
        let value = self.value(node, 0)?;
        let shape = self.shape(&value);
        let item = self.draft.op(&node.name, op, &[value.item], shape);
        self.set(node, item, value.axes);
        Ok(())
    }

    /// Adds `x · scale[c] + shift[c]`.
    pub(crate) fn affine(&mut self, node: &Node, value: &Value, scale: Vec<f64>, shift: Vec<f64>) {
        let item = self.draft.push(Item {
            name: node.name.clone(),
            work: Work::Affine { scale, shift },
            inputs: vec![value.item],
            weight: None,
            bias: None,
            codes: None,
            grid: None,
            shape: self.shape(value),
        });
        self.set(node, item, value.axes.clone());
    }

    /// Says that a node's result is `value`, whose extents are those within its frame.
    pub(crate) fn set_framed(&mut self, node: &Node, value: Value) {
        self.values.insert(node.output().to_owned(), value);
    }

    fn finish(mut self) -> Result<Draft, Fault> {
        let output = &self.model.output;
        let Some(logits) = self.values.get(output) else {
            return Err(Fault::Model(format!(
                "its output {output} does not depend on the image"
            )));
        };
        let shape = self.draft.items[logits.item].shape;
        let classes = shape.c();
        if !shape.is_vector() || classes < 2 {
            return Err(Fault::Model(format!(
                "its output {output} has the shape {:?}: lowbit runs image classifiers, which give one number for each of two or more classes",
                logits.dims
            )));
        }
        if logits
            .axes
            .iter()
            .any(|axis| matches!(axis, Axis::Flat(_) | Axis::Mixed(_)))
        {
            return Err(Fault::Model(format!(
                "its output {output} is an image, flattened"
            )));
        }
        // The last item gives the logits, also where something else was computed after it or nothing was computed at all.
        let last = logits.item;
        if last == 0 {
            return Err(Fault::Model("it computes nothing".into()));
        }
        self.draft.items.truncate(last + 1);
        Ok(self.draft)
    }
}
