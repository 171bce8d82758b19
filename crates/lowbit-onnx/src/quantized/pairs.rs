//! Pairs of QuantizeLinear and DequantizeLinear as one rounding: afterwards a QuantizeLinear gives real numbers on its grid.
//!
//! Operators that move integers between the two move those numbers. A pair that rounds to a grid what lies on it already is
//! taken away.

use crate::codes::{self, ChannelScales, Grid};
use crate::constant::Constant;
use crate::error::Fault;
use crate::fold::is_float;
use crate::model::{Model, Node};
use crate::names::Names;
use lowbit::quant::ActivationParams;
use std::collections::{HashMap, HashSet};

/// Operators whose results hold elements of their inputs, and nothing else.
const MOVES: [&str; 10] = [
    "Concat",
    "Flatten",
    "GlobalMaxPool",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
];

/// The same of which the second input is no value.
fn moves(node: &Node) -> bool {
    MOVES.contains(&node.op.as_str()) || node.op == "Unsqueeze"
}

/// Those of a node's inputs that are values, of a node that moves them.
fn values<'a>(node: &Node, read: &'a [String]) -> &'a [String] {
    match node.op.as_str() {
        "Concat" => read,
        _ => &read[..read.len().min(1)],
    }
}

/// The names of a node's results that are there.
fn results(node: &Node) -> impl Iterator<Item = String> {
    let outputs = node.outputs.iter().filter(|output| !output.is_empty());
    outputs.cloned()
}

#[derive(Default)]
struct Pairs {
    /// Names of values, to which others are added.
    names: Names,
    /// Values that are integers: the grid and the type.
    integers: HashMap<String, Grid>,
    /// Values of real numbers that lie on a grid.
    on_grid: HashMap<String, ActivationParams>,
    /// What is read instead of a value.
    instead: HashMap<String, String>,
    /// Values that are the image's pixels of 8 bits, as they are or moved.
    pixels: HashSet<String>,
    /// A node that takes those for numbers from 0 to 255.
    counts: Option<Node>,
    /// A node that puts zeros beside them.
    pads: Option<Node>,
}

/// Joins the pairs of a model whose constants are folded.
pub(crate) fn join(model: &mut Model) -> Result<(), Fault> {
    let mut pairs = Pairs {
        names: model.names(),
        ..Pairs::default()
    };
    if model.input_byte.is_some() {
        pairs.pixels.insert(model.input.clone());
    }
    let nodes = std::mem::take(&mut model.nodes);
    for mut node in nodes {
        let read = node.inputs.clone();
        for input in &mut node.inputs {
            if let Some(instead) = pairs.instead.get(input) {
                input.clone_from(instead);
            }
        }
        match node.op.as_str() {
            "QuantizeLinear" => pairs.quantize(model, node, &read[0])?,
            "DequantizeLinear" => pairs.dequantize(model, &node, &read[0])?,
            _ => {
                if !pairs.reads_pixels(&node, &read)? {
                    pairs.pass_on(&node, &read)?;
                }
                model.nodes.push(node);
            }
        }
    }
    pairs.check_pixels(model)?;
    if pairs.integers.contains_key(&model.output) {
        let note = format!(
            "its output {} are integers of 8 bits: taken are the real numbers that they stand for",
            model.output
        );
        model.notes.push(note);
    }
    if let Some(instead) = pairs.instead.get(&model.output) {
        model.output.clone_from(instead);
    }
    model.prune();
    Ok(())
}

impl Pairs {
    fn quantize(&mut self, model: &mut Model, node: Node, read: &str) -> Result<(), Fault> {
        if self.integers.contains_key(read) || self.pixels.contains(read) {
            return Err(node.wrong("it quantizes integers"));
        }
        let mut node = node;
        let grid = codes::grid(model, &node, None)?;
        let params = grid.params;
        let output = node.output().to_owned();
        self.integers.insert(output.clone(), grid.clone());
        let from = node.need(0)?.to_owned();
        if let Some(channels) = &grid.channels {
            let scaled = self.names.take(&format!("{output}:scaled"));
            let factor = |scale: f32| params.scale / scale;
            self.scale(model, &node, (&from, &scaled), channels, factor);
            node.inputs[0] = scaled;
        } else if self.on_grid.get(&from) == Some(&params) {
            self.instead.insert(output, from);
            return Ok(());
        } else {
            self.on_grid.insert(output.clone(), params);
        }
        model.grids.insert(output, params);
        model.nodes.push(node);
        Ok(())
    }

    /// Adds a node that multiplies each channel: channels of different scales are on one grid where they are scaled first. The
    /// factors go into the weights of the products before and behind ([`crate::draft::Draft::fold_affine`]).
    fn scale(
        &mut self,
        model: &mut Model,
        node: &Node,
        (from, to): (&str, &str),
        channels: &ChannelScales,
        factor: impl Fn(f32) -> f32,
    ) {
        let dims = model.shape(from).to_vec();
        let mut around = vec![1; dims.len() - channels.axis];
        around[0] = channels.scale.len();
        let factors = channels.scale.iter().map(|&scale| factor(scale)).collect();
        let name = self.names.take(&format!("{to}:factors"));
        model.shapes.insert(to.to_owned(), dims);
        model.shapes.insert(name.clone(), around.clone());
        let factors = Constant::float(around, factors);
        model.constants.insert(name.clone(), factors);
        let scaled = Node::new(&node.name, "Mul", &[from, &name], to);
        model.nodes.push(scaled);
    }

    fn dequantize(&mut self, model: &mut Model, node: &Node, read: &str) -> Result<(), Fault> {
        let (from, output) = (node.need(0)?.to_owned(), node.output().to_owned());
        let byte = match self.integers.get(read).cloned() {
            Some(known) => {
                if codes::grid(model, node, Some(known.byte))? != known {
                    return Err(node.wrong(
                        "it takes integers for other numbers than those that they were made of",
                    ));
                }
                let scale = known.params.scale;
                match known.channels {
                    None => drop(self.instead.insert(output, from)),
                    Some(channels) => {
                        let factor = |own: f32| own / scale;
                        self.scale(model, node, (&from, &output), &channels, factor);
                    }
                }
                return Ok(());
            }
            None if self.pixels.contains(read) => model.input_byte,
            None => None,
        };
        let Some(byte) = byte else {
            return Err(node.wrong("what it reads was not quantized by QuantizeLinear"));
        };
        let grid = codes::grid(model, node, Some(byte))?;
        if grid.channels.is_some() {
            return Err(node.wrong("it has a scale per channel: pixels have one for all here"));
        }
        let grid = grid.params;
        if model
            .grids
            .insert(model.input.clone(), grid)
            .is_some_and(|known| known != grid)
        {
            return Err(node.wrong("the image has another scale elsewhere"));
        }
        self.on_grid.insert(from.clone(), grid);
        self.instead.insert(output, from);
        Ok(())
    }

    /// Whether a node reads pixels of 8 bits; it must move them, or make floats of them: sums of such integers wrap.
    fn reads_pixels(&mut self, node: &Node, read: &[String]) -> Result<bool, Fault> {
        let is_read = |name: &String| self.pixels.contains(name);
        if !read.iter().any(is_read) {
            return Ok(false);
        }
        let are_all = values(node, read).iter().all(is_read);
        match node.op.as_str() {
            "Cast" if is_float(node.int_or("to", 0)?) => {
                self.counts.get_or_insert_with(|| node.clone());
                return Ok(true);
            }
            "Pad" => self.pads = Some(node.clone()),
            _ if moves(node) && are_all => {}
            _ => {
                return Err(node.wrong(
                    "it computes with pixels of 8 bits: lowbit does so behind a Cast to floats or a DequantizeLinear",
                ));
            }
        }
        self.pixels.extend(results(node));
        Ok(true)
    }

    /// Pixels stand for the same numbers wherever they are read.
    fn check_pixels(&self, model: &Model) -> Result<(), Fault> {
        let Some(grid) = model.grids.get(&model.input) else {
            return Ok(());
        };
        let is_count = grid.scale == 1.0 && grid.zero_point == 0;
        if let Some(node) = self.counts.as_ref().filter(|_| !is_count) {
            return Err(node.wrong(
                "it takes pixels for numbers from 0 to 255, and a DequantizeLinear takes them for others: let both read the same",
            ));
        }
        if let Some(node) = self.pads.as_ref().filter(|_| grid.zero_point != 0) {
            return Err(node.wrong(
                "it puts zeros around pixels whose zero is another number: pad behind DequantizeLinear",
            ));
        }
        Ok(())
    }

    /// What moves elements leaves them on their grid; nothing else may see integers.
    fn pass_on(&mut self, node: &Node, read: &[String]) -> Result<(), Fault> {
        let values = values(node, read).len();
        let of_first = read.first().and_then(|name| self.integers.get(name));
        let of_first = of_first.cloned();
        let is_moved = moves(node);
        let are_integers = |name: &String| self.integers.contains_key(name);
        if read.iter().any(are_integers) {
            let are_alike = read[..values]
                .iter()
                .all(|name| self.integers.get(name) == of_first.as_ref());
            // Which axis the channels are afterwards is not looked at.
            let has_one_scale = |known: &Grid| known.channels.is_none();
            match of_first.filter(|known| is_moved && are_alike && has_one_scale(known)) {
                Some(known) => {
                    self.integers
                        .extend(results(node).map(|output| (output, known.clone())));
                }
                None => {
                    return Err(node.wrong(
                        "it computes with a value's integers: lowbit reads operators between DequantizeLinear and QuantizeLinear",
                    ));
                }
            }
        }
        let grid = node
            .inputs
            .first()
            .and_then(|name| self.on_grid.get(name))
            .copied();
        let inputs = &node.inputs[..values];
        if let Some(grid) = grid.filter(|_| is_moved)
            && inputs
                .iter()
                .all(|name| self.on_grid.get(name) == Some(&grid))
        {
            self.on_grid
                .extend(results(node).map(|output| (output, grid)));
        }
        Ok(())
    }
}
