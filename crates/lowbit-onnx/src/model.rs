//! The model between file and graph: nodes in ONNX's terms, constants with their values, shapes for a batch of one.

use crate::constant::{Byte, Codes, Constant};
use crate::error::Fault;
use crate::names::Names;
use lowbit::quant::ActivationParams;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attribute {
    Float(f32),
    Int(i64),
    Text(String),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Tensor(Constant),
    /// A subgraph, a type, several texts: nothing that an operator which lowbit runs has.
    Other,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) op: String,
    pub(crate) attributes: BTreeMap<String, Attribute>,
    /// Names of values; empty where an optional one is left out.
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
}

/// A model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) opset: i64,
    /// Nodes in an order in which each reads what is there.
    pub(crate) nodes: Vec<Node>,
    pub(crate) constants: HashMap<String, Constant>,
    /// The integers of constants that a quantized model has as such.
    pub(crate) codes: HashMap<String, Codes>,
    /// What each QuantizeLinear rounds to, by the value that it gives; also the image's, where that is given as integers.
    pub(crate) grids: HashMap<String, ActivationParams>,
    /// The integers of the input, where it holds such.
    pub(crate) input_byte: Option<Byte>,
    /// Shapes of all values, the batch as an extent of 1.
    pub(crate) shapes: HashMap<String, Vec<usize>>,
    pub(crate) input: String,
    pub(crate) output: String,
    /// What was found and done that a person may want to know.
    pub(crate) notes: Vec<String>,
}

impl Node {
    /// A node of operator `op` that computes `output`.
    pub(crate) fn new(name: &str, op: &str, inputs: &[&str], output: &str) -> Self {
        Self {
            name: name.to_owned(),
            op: op.to_owned(),
            attributes: BTreeMap::new(),
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            outputs: vec![output.to_owned()],
        }
    }

    /// The same with an attribute.
    pub(crate) fn with(mut self, key: &str, value: Attribute) -> Self {
        self.attributes.insert(key.to_owned(), value);
        self
    }

    /// What is wrong with it.
    pub(crate) fn wrong(&self, reason: impl Into<String>) -> Fault {
        Fault::Node {
            node: self.name.clone(),
            op: self.op.clone(),
            reason: reason.into(),
        }
    }

    /// The name of an input that is there.
    pub(crate) fn input(&self, index: usize) -> Option<&str> {
        let name = self.inputs.get(index).map(String::as_str);
        name.filter(|name| !name.is_empty())
    }

    /// The name of an input that must be there.
    pub(crate) fn need(&self, index: usize) -> Result<&str, Fault> {
        self.input(index)
            .ok_or_else(|| self.wrong(format!("it lacks its input {}", index + 1)))
    }

    /// Its first result.
    pub(crate) fn output(&self) -> &str {
        self.outputs.first().map_or("", String::as_str)
    }

    fn mistyped(&self, key: &str, expected: &str) -> Fault {
        self.wrong(format!("its attribute {key} is no {expected}"))
    }

    /// An attribute that is an integer.
    pub(crate) fn int(&self, key: &str) -> Result<Option<i64>, Fault> {
        match self.attributes.get(key) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(*value)),
            Some(_) => Err(self.mistyped(key, "integer")),
        }
    }

    /// An attribute that is an integer, or what it is where it is not there.
    pub(crate) fn int_or(&self, key: &str, otherwise: i64) -> Result<i64, Fault> {
        Ok(self.int(key)?.unwrap_or(otherwise))
    }

    /// An attribute that is a number, or what it is where it is not there.
    pub(crate) fn float_or(&self, key: &str, otherwise: f32) -> Result<f32, Fault> {
        match self.attributes.get(key) {
            None => Ok(otherwise),
            Some(Attribute::Float(value)) => Ok(*value),
            Some(_) => Err(self.mistyped(key, "number")),
        }
    }

    /// An attribute that is a list of integers.
    pub(crate) fn ints(&self, key: &str) -> Result<Option<&[i64]>, Fault> {
        match self.attributes.get(key) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(self.mistyped(key, "list of integers")),
        }
    }

    /// An attribute that is a text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Fault> {
        match self.attributes.get(key) {
            None => Ok(None),
            Some(Attribute::Text(value)) => Ok(Some(value)),
            Some(_) => Err(self.mistyped(key, "text")),
        }
    }

    /// Refuses attributes that are not among `known`: one that nobody looks at could change what the operator computes.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Fault> {
        match self
            .attributes
            .keys()
            .find(|key| !known.contains(&key.as_str()))
        {
            None => Ok(()),
            Some(key) => Err(self.wrong(format!("lowbit does not know its attribute {key}"))),
        }
    }
}

impl Model {
    /// The shape of a value.
    pub(crate) fn shape(&self, value: &str) -> &[usize] {
        self.shapes.get(value).map_or(&[], Vec::as_slice)
    }

    /// The constant that a node reads, where it reads one.
    pub(crate) fn constant(&self, node: &Node, index: usize) -> Option<&Constant> {
        self.constants.get(node.input(index)?)
    }

    /// The names of all values: a file may have any, and what is made of it must have others.
    pub(crate) fn names(&self) -> Names {
        let nodes = self.nodes.iter();
        let values = nodes.flat_map(|node| node.inputs.iter().chain(&node.outputs));
        let values = values.chain(self.constants.keys());
        let values = values.chain([&self.input, &self.output]);
        values.map(String::as_str).collect()
    }

    /// Number of times that each value is read; the output counts as read.
    pub(crate) fn readers(&self) -> HashMap<&str, usize> {
        let mut readers: HashMap<&str, usize> = HashMap::from([(self.output.as_str(), 1)]);
        for input in self.nodes.iter().flat_map(|node| &node.inputs) {
            *readers.entry(input).or_default() += 1;
        }
        readers
    }

    /// Index of the node that computes each value.
    pub(crate) fn makers(&self) -> HashMap<&str, usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .flat_map(|(index, node)| {
                node.outputs
                    .iter()
                    .map(move |output| (output.as_str(), index))
            })
            .filter(|(output, _)| !output.is_empty())
            .collect()
    }

    /// Lets everything that reads `old` read `new`.
    pub(crate) fn redirect(&mut self, old: &str, new: &str) {
        for input in self.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
            if input == old {
                new.clone_into(input);
            }
        }
        if self.output == old {
            new.clone_into(&mut self.output);
        }
    }

    /// Drops nodes whose results nobody reads, and constants.
    pub(crate) fn prune(&mut self) {
        let mut wanted: HashSet<String> = HashSet::from([self.output.clone()]);
        let mut kept = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if node.outputs.iter().any(|output| wanted.contains(output)) {
                kept[index] = true;
                wanted.extend(node.inputs.iter().cloned());
            }
        }
        let mut kept = kept.into_iter();
        self.nodes.retain(|_| kept.next() == Some(true));
        self.constants.retain(|name, _| wanted.contains(name));
        self.codes.retain(|name, _| wanted.contains(name));
    }
}
