//! Pairs of QuantizeLinear and DequantizeLinear as one rounding: afterwards a QuantizeLinear gives real numbers on its grid.
//!
//! Operators that move integers between the two move those numbers. A pair that rounds to a grid what lies on it already is
//! taken away.

use crate::codes;
use crate::constant::Byte;
use crate::error::Fault;
use crate::fold::is_float;
use crate::model::{Model, Node};
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
    /// Values that are integers: the grid and the type.
    integers: HashMap<String, (ActivationParams, Byte)>,
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
    let mut pairs = Pairs::default();
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
        let (grid, byte) = codes::grid(model, &node, None)?;
        let output = node.output().to_owned();
        self.integers.insert(output.clone(), (grid, byte));
        let from = node.need(0)?.to_owned();
        if self.on_grid.get(&from) == Some(&grid) {
            self.instead.insert(output, from);
            return Ok(());
        }
        self.on_grid.insert(output.clone(), grid);
        model.grids.insert(output, grid);
        model.nodes.push(node);
        Ok(())
    }

    fn dequantize(&mut self, model: &mut Model, node: &Node, read: &str) -> Result<(), Fault> {
        let (from, output) = (node.need(0)?.to_owned(), node.output().to_owned());
        let byte = match self.integers.get(read) {
            Some(&(grid, byte)) => {
                if codes::grid(model, node, Some(byte))?.0 != grid {
                    return Err(node.wrong(
                        "it takes integers for other numbers than those that they were made of",
                    ));
                }
                self.instead.insert(output, from);
                return Ok(());
            }
            None if self.pixels.contains(read) => model.input_byte,
            None => None,
        };
        let Some(byte) = byte else {
            return Err(node.wrong("what it reads was not quantized by QuantizeLinear"));
        };
        let (grid, _) = codes::grid(model, node, Some(byte))?;
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
        let of_first = read
            .first()
            .and_then(|name| self.integers.get(name))
            .copied();
        let is_moved = moves(node);
        let are_integers = |name: &String| self.integers.contains_key(name);
        if read.iter().any(are_integers) {
            let are_alike = read[..values]
                .iter()
                .all(|name| self.integers.get(name).copied() == of_first);
            match of_first.filter(|_| is_moved && are_alike) {
                Some(known) => {
                    self.integers
                        .extend(results(node).map(|output| (output, known)));
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
