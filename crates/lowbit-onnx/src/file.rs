//! From the bytes of a file to a [`Model`]: what there is, unchanged, and nothing that lowbit cannot mean.

use crate::Options;
use crate::constant::{Byte, Constant};
use crate::error::Fault;
use crate::import::LEAST_ROWS;
use crate::metadata::About;
use crate::model::{Attribute, Model, Node};
use crate::names::one_line;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::dimension::Value as Extent;
use crate::proto::type_proto::Value;
use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::tensor::Tensors;
use crate::wire;
use prost::Message;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

/// Versions of ONNX's operators that were looked at.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;
/// Versions of ONNX's file format that were looked at.
const IRS: std::ops::RangeInclusive<i64> = 3..=14;

/// What a message of protobuf may have at most.
const MAX_BYTES: u64 = 1 << 31;

/// The bytes of a file, and the folder that it stands in.
pub(crate) fn read_bytes(path: &Path) -> Result<(Vec<u8>, &Path), Fault> {
    let size = std::fs::metadata(path).map_or(0, |file| file.len());
    if size > MAX_BYTES {
        let reason =
            format!("it has {size} bytes; one of more than 2 GB keeps its weights in another file");
        return Err(Fault::Damaged(reason));
    }
    let bytes = std::fs::read(path).map_err(Fault::Read)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Ok((bytes, folder))
}

/// The message that the bytes of a file are.
pub(crate) fn parse(bytes: Vec<u8>) -> Result<ModelProto, Fault> {
    if bytes.is_empty() {
        return Err(Fault::Damaged("it is empty".into()));
    }
    wire::check(&bytes)?;
    ModelProto::decode(prost::bytes::Bytes::from(bytes))
        .map_err(|error| Fault::Damaged(error.to_string()))
}

/// The graph of a model.
pub(crate) fn graph(proto: &ModelProto) -> Result<&GraphProto, Fault> {
    let graph = proto.graph.as_ref();
    graph.ok_or_else(|| Fault::Damaged("it has no graph".into()))
}

/// The version of ONNX's own operators that a model uses.
pub(crate) fn opset(proto: &ModelProto) -> Result<i64, Fault> {
    let own = |domain: &str| matches!(domain, "" | "ai.onnx");
    let opset = proto.opset_import.iter().find(|set| own(set.domain()));
    let opset = opset.map(|set| set.version());
    opset.ok_or_else(|| Fault::Damaged("it does not say its opset: is it cut off?".into()))
}

/// The program that wrote a model.
pub(crate) fn producer(proto: &ModelProto) -> String {
    let producer = format!("{} {}", proto.producer_name(), proto.producer_version());
    one_line(&producer)
}

/// The name of node `index`, or one made of its operator and place; and the operator, with its domain before it where that is
/// not ONNX's.
pub(crate) fn name_and_op(proto: &NodeProto, index: usize) -> [String; 2] {
    let domain = match proto.domain() {
        "" | "ai.onnx" => String::new(),
        domain => format!("{domain}."),
    };
    let op = one_line(&format!("{domain}{}", proto.op_type()));
    match proto.name() {
        "" => [format!("{op}_{index}"), op],
        name => [one_line(name), op],
    }
}

/// Reads a model from the bytes of its file.
pub(crate) fn decode(
    bytes: Vec<u8>,
    folder: Option<&Path>,
    options: &Options,
) -> Result<(Model, About), Fault> {
    let proto = parse(bytes)?;
    let mut notes = Vec::new();
    let opset = versions(&proto, &mut notes)?;
    let graph = self::graph(&proto)?;
    if !graph.sparse_initializer.is_empty() {
        return Err(Fault::Model(
            "it has sparse tensors: export it with dense weights".into(),
        ));
    }
    let tensors = Tensors { folder };
    let mut constants = HashMap::new();
    for tensor in &graph.initializer {
        constants.insert(tensor.name().to_owned(), tensors.read(tensor)?);
    }
    let Entry {
        input,
        extents,
        input_byte,
    } = the_input(graph, &constants)?;
    let dims = batch_of_one(&input, &extents, options)?;
    let nodes = graph.node.iter().enumerate();
    let nodes = nodes.map(|(index, node)| self::node(node, index, &tensors));
    let mut model = Model {
        name: graph.name().to_owned(),
        opset,
        nodes: nodes.collect::<Result<_, Fault>>()?,
        constants,
        codes: HashMap::new(),
        grids: HashMap::new(),
        input_byte,
        shapes: HashMap::from([(input.clone(), dims)]),
        input,
        output: String::new(),
        notes,
    };
    in_order(&model)?;
    model.output = the_output(graph, options, &mut model.notes)?;
    model.prune();
    let metadata = proto.metadata_props.iter();
    let about = About {
        producer: producer(&proto),
        metadata: metadata
            .map(|entry| (entry.key().to_owned(), entry.value().to_owned()))
            .collect(),
    };
    Ok((model, about))
}

fn versions(proto: &ModelProto, notes: &mut Vec<String>) -> Result<i64, Fault> {
    let ir = proto.ir_version();
    if ir < *IRS.start() {
        return Err(Fault::Damaged(format!(
            "it has IR version {ir}, lowbit reads {} and newer: is it cut off, or no ONNX file?",
            IRS.start()
        )));
    }
    if ir > *IRS.end() {
        notes.push(format!(
            "warning: its IR version {ir} is newer than {}, which lowbit knows",
            IRS.end()
        ));
    }
    if !proto.functions.is_empty() {
        let function = proto.functions[0].name();
        return Err(Fault::Model(format!(
            "it defines operators of its own ({function}): inline them (onnx.inliner.inline_local_functions)"
        )));
    }
    let opset = opset(proto)?;
    if opset < *OPSETS.start() {
        return Err(Fault::Model(format!(
            "it has opset {opset}, lowbit reads {} and newer: upgrade it (onnx.version_converter.convert_version(model, 13))",
            OPSETS.start()
        )));
    }
    if opset > *OPSETS.end() {
        notes.push(format!(
            "warning: its opset {opset} is newer than {}, which lowbit knows",
            OPSETS.end()
        ));
    }
    Ok(opset)
}

/// Each node reads what is there before it, and nothing is computed twice.
fn in_order(model: &Model) -> Result<(), Fault> {
    let constants = model.constants.keys().map(String::as_str);
    let mut known: HashSet<&str> = constants.chain([model.input.as_str()]).collect();
    for node in &model.nodes {
        let inputs = node.inputs.iter().filter(|input| !input.is_empty());
        if let Some(input) = inputs
            .into_iter()
            .find(|input| !known.contains(input.as_str()))
        {
            return Err(node.wrong(format!(
                "it reads {input:?}, which no node before it computes: the graph has a cycle or a hole"
            )));
        }
        for output in node.outputs.iter().filter(|output| !output.is_empty()) {
            if !known.insert(output) {
                return Err(node.wrong(format!("it computes {output:?}, which is there already")));
            }
        }
    }
    Ok(())
}

/// A model's input: its name, its extents, and its type where it holds pixels as they are.
struct Entry {
    input: String,
    extents: Vec<Option<usize>>,
    input_byte: Option<Byte>,
}

/// The name of the input that is no initializer, its extents, the batch first, and its type where it holds pixels as they are.
fn the_input(graph: &GraphProto, constants: &HashMap<String, Constant>) -> Result<Entry, Fault> {
    let inputs: Vec<&ValueInfoProto> = graph
        .input
        .iter()
        .filter(|input| !constants.contains_key(input.name()))
        .collect();
    let [input] = inputs[..] else {
        let names: Vec<String> = inputs.iter().map(|input| described(input)).collect();
        return Err(Fault::Model(match names.len() {
            0 => "it has no input: lowbit runs image classifiers".into(),
            count => format!(
                "it has {count} inputs ({}): lowbit runs image classifiers, which have one",
                names.join(", ")
            ),
        }));
    };
    let extents = extents(input).filter(|extents| extents.len() == 4);
    let kind = match input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(Value::TensorType(tensor)) => tensor.elem_type(),
        _ => 0,
    };
    let byte = match DataType::try_from(kind) {
        Ok(DataType::Uint8) => Some(Byte::Unsigned),
        Ok(
            DataType::Float
            | DataType::Float16
            | DataType::Bfloat16
            | DataType::Double
            | DataType::Undefined,
        ) => None,
        kind => {
            let kind = kind.map_or("of an unknown type", |kind| kind.as_str_name());
            return Err(Fault::Model(format!(
                "its input {} is {kind}: floats and pixels of 8 bits (UINT8) are supported",
                input.name()
            )));
        }
    };
    match extents {
        Some(extents) => Ok(Entry {
            input: input.name().to_owned(),
            extents,
            input_byte: byte,
        }),
        None => Err(Fault::Model(format!(
            "its input {} is no batch of images [N, C, H, W] or [N, H, W, C]",
            described(input)
        ))),
    }
}

/// The input's shape for one image.
fn batch_of_one(
    name: &str,
    extents: &[Option<usize>],
    options: &Options,
) -> Result<Vec<usize>, Fault> {
    if let Some(batch) = extents[0]
        && batch != 1
    {
        return Err(Fault::Model(format!(
            "its input {name} is fixed to a batch of {batch}: export it with a dynamic batch, or a batch of 1"
        )));
    }
    // Channels are few; where both ends could be, or neither is known, PyTorch's order.
    let few = |extent: Option<usize>| matches!(extent, Some(1 | 3));
    let are_many = |extent: Option<usize>| extent.is_none_or(|extent| extent >= LEAST_ROWS);
    let is_nhwc = few(extents[3]) && are_many(extents[1]) && are_many(extents[2]);
    let mut dims = vec![1];
    for (axis, extent) in extents.iter().enumerate().skip(1) {
        let is_channel = axis == if is_nhwc { 3 } else { 1 };
        dims.push(match (extent, options.image_size) {
            (Some(extent), _) => *extent,
            (None, _) if is_channel => 3,
            (None, Some(size)) => size,
            (None, None) => {
                return Err(Fault::Model(format!(
                    "its input {name} has no fixed height and width: give --image-size"
                )));
            }
        });
    }
    if dims.iter().any(|&dim| dim == 0 || dim > 1 << 14) {
        return Err(Fault::Model(format!(
            "its input {name} has the shape {dims:?}"
        )));
    }
    Ok(dims)
}

/// The name of the output that holds the logits.
fn the_output(
    graph: &GraphProto,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<String, Fault> {
    let listed = || {
        let outputs: Vec<String> = graph.output.iter().map(described).collect();
        outputs.join(", ")
    };
    if let Some(name) = &options.output {
        return match graph.output.iter().any(|output| output.name() == name) {
            true => Ok(name.clone()),
            false => Err(Fault::Model(format!(
                "it has no output {name}: it has {}",
                listed()
            ))),
        };
    }
    if let [output] = &graph.output[..] {
        return Ok(output.name().to_owned());
    }
    let rank = |output: &ValueInfoProto| extents(output).map_or(0, |extents| extents.len());
    let of_classes: Vec<_> = graph
        .output
        .iter()
        .filter(|output| rank(output) == 2)
        .collect();
    let others_are_images = graph
        .output
        .iter()
        .all(|output| matches!(rank(output), 2 | 4));
    match of_classes[..] {
        [output] if others_are_images => {
            notes.push(format!(
                "of its outputs {} the first of rank 2, {}, is taken",
                listed(),
                output.name()
            ));
            Ok(output.name().to_owned())
        }
        _ => Err(Fault::Model(format!(
            "it has {} outputs ({}): lowbit runs image classifiers, which have one; name that of the logits",
            graph.output.len(),
            listed()
        ))),
    }
}

/// The extents of a tensor; none for each that is not fixed, none at all for what is no tensor.
fn extents(info: &ValueInfoProto) -> Option<Vec<Option<usize>>> {
    let Some(Value::TensorType(tensor)) = info.r#type.as_ref()?.value.as_ref() else {
        return None;
    };
    let fixed = |extent: &Option<Extent>| match extent {
        Some(Extent::DimValue(extent)) => {
            usize::try_from(*extent).ok().filter(|&extent| extent > 0)
        }
        _ => None,
    };
    let dims = &tensor.shape.as_ref()?.dim;
    Some(dims.iter().map(|dim| fixed(&dim.value)).collect())
}

fn described(info: &ValueInfoProto) -> String {
    let Some(extents) = extents(info) else {
        return info.name().to_owned();
    };
    let text = |extent: &Option<usize>| extent.map_or("?".into(), |extent| extent.to_string());
    let extents: Vec<String> = extents.iter().map(text).collect();
    format!("{} [{}]", info.name(), extents.join(", "))
}

fn node(proto: &NodeProto, index: usize, tensors: &Tensors<'_>) -> Result<Node, Fault> {
    let [name, op] = name_and_op(proto, index);
    let mut node = Node {
        name,
        op,
        attributes: BTreeMap::new(),
        inputs: proto.input.clone(),
        outputs: proto.output.clone(),
    };
    for attribute in &proto.attribute {
        let value = self::attribute(attribute, tensors)?;
        node.attributes.insert(attribute.name().to_owned(), value);
    }
    Ok(node)
}

fn attribute(proto: &AttributeProto, tensors: &Tensors<'_>) -> Result<Attribute, Fault> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(match proto.r#type() {
        AttributeType::Float => Attribute::Float(proto.f()),
        AttributeType::Int => Attribute::Int(proto.i()),
        AttributeType::String => Attribute::Text(text(proto.s())),
        AttributeType::Floats => Attribute::Floats(proto.floats.clone()),
        AttributeType::Ints => Attribute::Ints(proto.ints.clone()),
        AttributeType::Tensor => match &proto.t {
            Some(tensor) => Attribute::Tensor(tensors.read(tensor)?),
            None => Attribute::Other,
        },
        _ => Attribute::Other,
    })
}
