//! The file that is being written: nodes, tensors, the opset that they need.

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto::{Tensor, Value};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};
use prost::Message;
use std::collections::{HashMap, HashSet};

/// The lowest opset that has per-channel quantization; files say a higher one where an operator or a type needs it.
const OPSET: i64 = 13;

/// The version of the file format that came with an opset: the oldest engines that know the opset read it.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=14 => 7,
        15..=18 => 8,
        19 | 20 => 9,
        21 | 22 => 10,
        23 => 11,
        24 => 12,
        _ => 13,
    }
}

/// Bytes from which a tensor is not written twice. Signed bytes are: where ONNX Runtime makes unsigned ones of them for
/// processors without VNNI, it takes each for one layer's own, and refuses a model with a shared one.
const SHARED: usize = 256;

/// An attribute of a node.
pub(super) enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Text(&'a str),
}

/// Constants of a tensor's elements, as they stand in a file.
pub(super) enum Elements<'a> {
    F32(&'a [f32]),
    I64(&'a [i64]),
    I32(&'a [i32]),
    U8(&'a [u8]),
    /// Signed integers of 16, 8, 4 or 2 bits; the last two several to a byte, the first in the lowest bits.
    Bits(u8, &'a [i16]),
}

#[derive(Default)]
pub(super) struct Writer {
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
    /// Tensors by a hash of what is in them, so that none is written twice.
    known: HashMap<u64, Vec<usize>>,
    names: HashSet<String>,
    /// Names of nodes, which ONNX Runtime wants to differ.
    of_nodes: HashSet<String>,
    opset: i64,
}

impl Elements<'_> {
    fn bytes(&self) -> (DataType, Vec<u8>) {
        match *self {
            Self::F32(data) => (
                DataType::Float,
                data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
            Self::I64(data) => (
                DataType::Int64,
                data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
            Self::I32(data) => (
                DataType::Int32,
                data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
            Self::U8(data) => (DataType::Uint8, data.to_vec()),
            Self::Bits(16, data) => (
                DataType::Int16,
                data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
            Self::Bits(8, data) => (DataType::Int8, data.iter().map(|&x| x as u8).collect()),
            Self::Bits(bits, data) => {
                let per_byte = usize::from(8 / bits);
                let mask = (1u8 << bits) - 1;
                let byte = |part: &[i16]| {
                    let codes = part.iter().enumerate();
                    codes.fold(0, |byte, (i, &x)| {
                        byte | (x as u8 & mask) << (i * usize::from(bits))
                    })
                };
                let kind = match bits {
                    4 => DataType::Int4,
                    _ => DataType::Int2,
                };
                (kind, data.chunks(per_byte).map(byte).collect())
            }
        }
    }
}

fn hash(kind: DataType, dims: &[i64], bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (kind as i32, dims, bytes).hash(&mut hasher);
    hasher.finish()
}

impl Writer {
    /// Says that the file needs at least this opset.
    pub(super) fn need_opset(&mut self, opset: i64) {
        self.opset = self.opset.max(opset);
    }

    pub(super) fn opset(&self) -> i64 {
        self.opset.max(OPSET)
    }

    /// A name that nothing has yet.
    pub(super) fn name(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}_{number}");
        }
        name
    }

    /// Adds a node; returns the name of its result.
    pub(super) fn node(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
    ) -> String {
        let output = self.name(&format!("{name}.out"));
        let attribute = |(key, value): &(&str, Attribute<'_>)| {
            let mut proto = AttributeProto {
                name: Some((*key).to_owned()),
                ..AttributeProto::default()
            };
            let kind = match value {
                Attribute::Int(value) => {
                    proto.i = Some(*value);
                    AttributeType::Int
                }
                Attribute::Float(value) => {
                    proto.f = Some(*value);
                    AttributeType::Float
                }
                Attribute::Ints(values) => {
                    proto.ints.clone_from(values);
                    AttributeType::Ints
                }
                Attribute::Text(value) => {
                    proto.s = Some(value.as_bytes().to_vec());
                    AttributeType::String
                }
            };
            proto.r#type = Some(kind as i32);
            proto
        };
        let mut own = name.to_owned();
        let mut number = 1;
        while !self.of_nodes.insert(own.clone()) {
            number += 1;
            own = format!("{name}_{number}");
        }
        self.nodes.push(NodeProto {
            name: Some(own),
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.clone()],
            attribute: attributes.iter().map(attribute).collect(),
            ..NodeProto::default()
        });
        output
    }

    /// Adds a constant; returns its name, or that of a large one with the same contents.
    pub(super) fn tensor(&mut self, name: &str, dims: &[usize], elements: &Elements<'_>) -> String {
        let (kind, bytes) = elements.bytes();
        let dims: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        if bytes.len() >= SHARED && kind != DataType::Int8 {
            let key = hash(kind, &dims, &bytes);
            let is_same = |&&index: &&usize| {
                let known = &self.tensors[index];
                known.data_type == Some(kind as i32)
                    && known.dims == dims
                    && known.raw_data.as_deref() == Some(&bytes)
            };
            let all = self.known.entry(key).or_default();
            if let Some(&index) = all.iter().find(is_same) {
                return self.tensors[index].name().to_owned();
            }
            all.push(self.tensors.len());
        }
        let name = self.name(name);
        self.tensors.push(TensorProto {
            name: Some(name.clone()),
            dims,
            data_type: Some(kind as i32),
            raw_data: Some(bytes.into()),
            ..TensorProto::default()
        });
        name
    }

    /// Renames the result of the last node, which becomes the model's.
    pub(super) fn rename_last(&mut self, name: &str) {
        if let Some(node) = self.nodes.last_mut() {
            node.output = vec![name.to_owned()];
        }
    }

    /// The bytes of the file.
    pub(super) fn finish(
        self,
        graph: &str,
        input: (&str, DataType, [i64; 3]),
        output: (&str, usize),
        metadata: &[(&str, String)],
    ) -> Vec<u8> {
        let opset = self.opset();
        let batch = || Dimension {
            value: Some(dimension::Value::DimParam("N".into())),
            ..Dimension::default()
        };
        let value = |name: &str, kind: DataType, extents: &[i64]| {
            let fixed = extents.iter().map(|&extent| Dimension {
                value: Some(dimension::Value::DimValue(extent)),
                ..Dimension::default()
            });
            ValueInfoProto {
                name: Some(name.to_owned()),
                r#type: Some(TypeProto {
                    value: Some(Value::TensorType(Tensor {
                        elem_type: Some(kind as i32),
                        shape: Some(TensorShapeProto {
                            dim: [batch()].into_iter().chain(fixed).collect(),
                        }),
                    })),
                    ..TypeProto::default()
                }),
                ..ValueInfoProto::default()
            }
        };
        let entry = |(key, value): &(&str, String)| StringStringEntryProto {
            key: Some((*key).to_owned()),
            value: Some(value.clone()),
        };
        let model = ModelProto {
            ir_version: Some(ir_version(opset)),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(opset),
            }],
            producer_name: Some("lowbit".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: Some(GraphProto {
                name: Some(graph.to_owned()),
                node: self.nodes,
                initializer: self.tensors,
                input: vec![value(input.0, input.1, &input.2)],
                output: vec![value(output.0, DataType::Float, &[output.1 as i64])],
                ..GraphProto::default()
            }),
            metadata_props: metadata.iter().map(entry).collect(),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }
}
