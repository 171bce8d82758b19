//! What a file holds, node by node, as it was written: for those who look at a model without running it. Nothing is folded,
//! rewritten or refused here but what cannot be decoded.

use crate::constant::{Constant, Data};
use crate::error::{Fault, OnnxError};
use crate::file::{graph, name_and_op, opset, parse, producer, read_bytes};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::{NodeProto, TensorProto};
use crate::tensor::{Tensors, dims};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// Floats of so many bits, as IEEE 754 has them.
    Float(u8),
    /// Floats of 16 bits with the exponents of those of 32.
    BFloat16,
    /// Signed integers of so many bits.
    Int(u8),
    /// Unsigned integers of so many bits.
    Uint(u8),
    /// A type that nobody here reads.
    Other,
}

/// The values of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Floats of any width, as f32.
    Floats(Arc<Vec<f32>>),
    /// Integers of any width, as i64.
    Ints(Arc<Vec<i64>>),
    /// Values of a type that nobody here reads.
    Unread,
}

/// A constant of the file: an initializer, what a `Constant` node holds, or an `Identity` of one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoredTensor {
    /// Type of its elements.
    pub element: ElementType,
    /// Extents of its axes; none of a single number.
    pub dims: Vec<usize>,
    /// Values of its elements, row by row.
    pub values: Values,
}

/// A node of the file.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StoredNode {
    /// Name of the node, or one made of its operator and place.
    pub name: String,
    /// Name of the operator, with its domain before it where that is not ONNX's.
    pub op: String,
    /// Names of the values it reads; empty where an optional one is left out.
    pub inputs: Vec<String>,
    /// Names of the values it makes.
    pub outputs: Vec<String>,
    /// Attributes that are an integer, or integers, by name.
    pub ints: BTreeMap<String, Vec<i64>>,
    /// Attributes that are a number, by name.
    pub floats: BTreeMap<String, f32>,
}

/// A model file as it was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Contents {
    /// Version of ONNX's operators that it uses.
    pub opset: i64,
    /// Program that wrote the file, with its version.
    pub producer: String,
    /// Nodes in the order of the file.
    pub nodes: Vec<StoredNode>,
    /// Constants by name.
    pub tensors: HashMap<String, StoredTensor>,
    /// Names of the inputs that are no constants.
    pub inputs: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Bytes of the file and of tensors that stand in others beside it.
    pub bytes: u64,
    makers: HashMap<String, usize>,
    readers: HashMap<String, Vec<usize>>,
}

/// Returns the files beside a model that hold weights of it, in order and each once.
///
/// # Errors
/// [`OnnxError`] saying what cannot be decoded, is not there, or lies outside the model's folder.
pub fn external_files(path: &Path) -> Result<Vec<PathBuf>, OnnxError> {
    let fail = |fault: Fault| OnnxError {
        path: path.to_owned(),
        fault,
    };
    let files = || {
        let (bytes, folder) = read_bytes(path)?;
        let proto = parse(bytes)?;
        let graph = graph(&proto)?;
        let reader = Tensors {
            folder: Some(folder),
        };
        let attributes = graph.node.iter().flat_map(|node| &node.attribute);
        let of_nodes = attributes.filter_map(|attribute| attribute.t.as_ref());
        let mut files = BTreeSet::new();
        for tensor in graph.initializer.iter().chain(of_nodes) {
            files.extend(reader.external_file(tensor)?);
        }
        Ok(files.into_iter().collect())
    };
    files().map_err(fail)
}

impl ElementType {
    fn of(kind: DataType) -> Self {
        match kind {
            DataType::Double => Self::Float(64),
            DataType::Float => Self::Float(32),
            DataType::Float16 => Self::Float(16),
            DataType::Bfloat16 => Self::BFloat16,
            DataType::Int64 => Self::Int(64),
            DataType::Int32 => Self::Int(32),
            DataType::Int16 => Self::Int(16),
            DataType::Int8 => Self::Int(8),
            DataType::Int4 => Self::Int(4),
            DataType::Int2 => Self::Int(2),
            DataType::Uint64 => Self::Uint(64),
            DataType::Uint32 => Self::Uint(32),
            DataType::Uint16 => Self::Uint(16),
            DataType::Uint8 => Self::Uint(8),
            DataType::Uint4 => Self::Uint(4),
            DataType::Uint2 => Self::Uint(2),
            _ => Self::Other,
        }
    }

    /// Returns the bits of an element; none of types that nobody here reads.
    #[must_use]
    pub fn bits(self) -> Option<u8> {
        match self {
            Self::Float(bits) | Self::Int(bits) | Self::Uint(bits) => Some(bits),
            Self::BFloat16 => Some(16),
            Self::Other => None,
        }
    }

    /// Returns whether its elements are floats.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float(_) | Self::BFloat16)
    }

    /// Returns the smallest and the largest integer of its kind; none of floats and others.
    #[must_use]
    pub fn limits(self) -> Option<[i64; 2]> {
        match self {
            Self::Int(bits) => Some([i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)]),
            Self::Uint(bits @ ..=63) => Some([0, (1 << bits) - 1]),
            _ => None,
        }
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float(bits) => write!(f, "f{bits}"),
            Self::BFloat16 => f.write_str("bf16"),
            Self::Int(bits) => write!(f, "s{bits}"),
            Self::Uint(bits) => write!(f, "u{bits}"),
            Self::Other => f.write_str("another type"),
        }
    }
}

impl StoredTensor {
    /// Returns the number of its elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Returns its floats; none where it holds others.
    #[must_use]
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.values {
            Values::Floats(values) => Some(values),
            _ => None,
        }
    }

    /// Returns its integers; none where it holds others.
    #[must_use]
    pub fn ints(&self) -> Option<&[i64]> {
        match &self.values {
            Values::Ints(values) => Some(values),
            _ => None,
        }
    }
}

impl StoredNode {
    /// Returns the name of the value that it reads at `index`, where there is one.
    #[must_use]
    pub fn input(&self, index: usize) -> Option<&str> {
        let name = self.inputs.get(index).map(String::as_str);
        name.filter(|name| !name.is_empty())
    }

    /// Returns the name of the first value that it makes.
    #[must_use]
    pub fn output(&self) -> &str {
        self.outputs.first().map_or("", String::as_str)
    }

    /// Returns an attribute that is one integer, or `otherwise` where it is not there.
    #[must_use]
    pub fn int_or(&self, key: &str, otherwise: i64) -> i64 {
        match self.ints.get(key).map(Vec::as_slice) {
            Some(&[value]) => value,
            _ => otherwise,
        }
    }

    /// Returns an attribute that is a number, or `otherwise` where it is not there.
    #[must_use]
    pub fn float_or(&self, key: &str, otherwise: f32) -> f32 {
        self.floats.get(key).copied().unwrap_or(otherwise)
    }
}

impl Contents {
    /// Reads a file; external data are read from the file's folder.
    ///
    /// # Errors
    /// [`OnnxError`] saying what cannot be decoded.
    pub fn read(path: &Path) -> Result<Self, OnnxError> {
        let fail = |fault: Fault| OnnxError {
            path: path.to_owned(),
            fault,
        };
        let (bytes, folder) = read_bytes(path).map_err(fail)?;
        Self::decode(bytes, Some(folder)).map_err(fail)
    }

    /// Reads the bytes of a file; external data are read from `folder`.
    ///
    /// # Errors
    /// [`Fault`] saying what cannot be decoded.
    pub fn decode(bytes: Vec<u8>, folder: Option<&Path>) -> Result<Self, Fault> {
        let mut size = bytes.len() as u64;
        let proto = parse(bytes)?;
        let (graph, opset) = (graph(&proto)?, opset(&proto)?);
        let reader = Tensors { folder };
        let mut tensors = HashMap::new();
        for proto in &graph.initializer {
            let tensor = stored(proto, &reader)?;
            if proto.data_location() == DataLocation::External {
                size += bytes_of(&tensor);
            }
            tensors.insert(proto.name().to_owned(), tensor);
        }
        let mut nodes = Vec::new();
        for (index, proto) in graph.node.iter().enumerate() {
            let (node, constant) = self::node(proto, index, &reader)?;
            // Exporters give equal constants to several by Identity.
            let same = (node.op == "Identity").then(|| node.input(0)).flatten();
            let constant = constant.or_else(|| tensors.get(same?).cloned());
            if let Some(constant) = constant {
                tensors.insert(node.output().to_owned(), constant);
            }
            nodes.push(node);
        }
        let names = |infos: &[crate::proto::ValueInfoProto]| {
            let names = infos.iter().map(|info| info.name().to_owned());
            names.collect::<Vec<String>>()
        };
        let mut inputs = names(&graph.input);
        inputs.retain(|name| !tensors.contains_key(name));
        let (mut makers, mut readers) = (HashMap::new(), HashMap::<String, Vec<usize>>::new());
        for (index, node) in nodes.iter().enumerate() {
            for output in node.outputs.iter().filter(|output| !output.is_empty()) {
                makers.insert(output.clone(), index);
            }
            for input in node.inputs.iter().filter(|input| !input.is_empty()) {
                readers.entry(input.clone()).or_default().push(index);
            }
        }
        Ok(Self {
            opset,
            producer: producer(&proto),
            outputs: names(&graph.output),
            inputs,
            bytes: size,
            nodes,
            tensors,
            makers,
            readers,
        })
    }

    /// Returns the node that makes a value.
    #[must_use]
    pub fn maker(&self, value: &str) -> Option<&StoredNode> {
        self.makers.get(value).map(|&index| &self.nodes[index])
    }

    /// Returns the nodes that read a value; one that reads it twice comes twice.
    pub fn readers(&self, value: &str) -> impl Iterator<Item = &StoredNode> {
        let readers = self.readers.get(value).into_iter().flatten();
        readers.map(|&index| &self.nodes[index])
    }

    /// Returns whether a value is one of the model's outputs.
    #[must_use]
    pub fn is_output(&self, value: &str) -> bool {
        self.outputs.iter().any(|output| output == value)
    }

    /// Returns the constant that a node reads at `index`, where it reads one.
    #[must_use]
    pub fn constant(&self, node: &StoredNode, index: usize) -> Option<&StoredTensor> {
        self.tensors.get(node.input(index)?)
    }
}

fn bytes_of(tensor: &StoredTensor) -> u64 {
    let bits = tensor.element.bits().unwrap_or(8);
    (tensor.elements() as u64 * u64::from(bits)).div_ceil(8)
}

fn stored(proto: &TensorProto, reader: &Tensors<'_>) -> Result<StoredTensor, Fault> {
    let kind = DataType::try_from(proto.data_type()).unwrap_or(DataType::Undefined);
    let element = ElementType::of(kind);
    if element.bits().is_none() {
        let (dims, _) = dims(proto)?;
        let values = Values::Unread;
        return Ok(StoredTensor {
            element,
            dims,
            values,
        });
    }
    let Constant { dims, data, .. } = reader.read(proto)?;
    let values = match data {
        Data::Float(values) => Values::Floats(values),
        Data::Int(values) => Values::Ints(values),
    };
    Ok(StoredTensor {
        element,
        dims,
        values,
    })
}

/// A node, and the constant that it holds.
fn node(
    proto: &NodeProto,
    index: usize,
    reader: &Tensors<'_>,
) -> Result<(StoredNode, Option<StoredTensor>), Fault> {
    let [name, op] = name_and_op(proto, index);
    let mut node = StoredNode {
        name,
        inputs: proto.input.clone(),
        outputs: proto.output.clone(),
        op,
        ..StoredNode::default()
    };
    let mut constant = None;
    for attribute in &proto.attribute {
        let key = attribute.name().to_owned();
        match attribute.r#type() {
            AttributeType::Int => drop(node.ints.insert(key, vec![attribute.i()])),
            AttributeType::Ints => drop(node.ints.insert(key, attribute.ints.clone())),
            AttributeType::Float => drop(node.floats.insert(key, attribute.f())),
            AttributeType::Tensor if node.op == "Constant" => {
                let tensor = attribute.t.as_ref();
                constant = tensor.map(|tensor| stored(tensor, reader)).transpose()?;
            }
            _ => {}
        }
    }
    if node.op == "Constant" && constant.is_none() {
        constant = number(&node);
    }
    Ok((node, constant))
}

/// What a `Constant` node holds that has numbers instead of a tensor.
fn number(node: &StoredNode) -> Option<StoredTensor> {
    if let Some(&value) = node.floats.get("value_float") {
        return Some(StoredTensor {
            element: ElementType::Float(32),
            dims: vec![],
            values: Values::Floats(Arc::new(vec![value])),
        });
    }
    let (key, values) = node
        .ints
        .iter()
        .find(|(key, _)| key.starts_with("value_int"))?;
    Some(StoredTensor {
        element: ElementType::Int(64),
        dims: match key.as_str() {
            "value_int" => vec![],
            _ => vec![values.len()],
        },
        values: Values::Ints(Arc::new(values.clone())),
    })
}
