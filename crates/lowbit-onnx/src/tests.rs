//! Files that strangers made, some of them in bad faith: each an error of one line, or a model that is right.

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto::{Tensor, Value};
use crate::proto::*;
use crate::{Imported, Options, decode};
use lowbit::exec::{FloatModel, Model};
use lowbit::graph::{Normalization, Op};
use prost::Message;

mod equivalent;
mod external;
mod integers;
mod names;
mod pixels;

fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>();
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float.into()),
        float_data: (0..count)
            .map(|i| (i * 7 % 11) as f32 * 0.1 - 0.4)
            .collect(),
        ..Default::default()
    }
}

/// A tensor in the graph's signature; extents below 1 are open.
fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let extent = |&dim: &i64| Dimension {
        value: (dim > 0).then_some(dimension::Value::DimValue(dim)),
        ..Default::default()
    };
    let tensor = Tensor {
        elem_type: Some(DataType::Float.into()),
        shape: Some(TensorShapeProto {
            dim: dims.iter().map(extent).collect(),
        }),
    };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto {
            value: Some(Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        name: Some(format!("the_{op}")),
        input: inputs.iter().map(|&input| input.into()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Ints.into()),
        ints: values.to_vec(),
        ..Default::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Int.into()),
        i: Some(value),
        ..Default::default()
    }
}

/// Conv, Relu, global mean, Flatten, Gemm, Softmax on 3×8×8.
fn small() -> ModelProto {
    let mut conv = node("Conv", &["x", "w", "b"], "c");
    conv.attribute = vec![ints("pads", &[1, 1, 1, 1])];
    let mut gemm = node("Gemm", &["f", "v"], "l");
    gemm.attribute = vec![int("transB", 1)];
    let graph = GraphProto {
        name: Some("small".into()),
        node: vec![
            conv,
            node("Relu", &["c"], "r"),
            node("GlobalAveragePool", &["r"], "g"),
            node("Flatten", &["g"], "f"),
            gemm,
            node("Softmax", &["l"], "y"),
        ],
        initializer: vec![
            floats("w", &[4, 3, 3, 3]),
            floats("b", &[4]),
            floats("v", &[2, 4]),
        ],
        input: vec![info("x", &[0, 3, 8, 8])],
        output: vec![info("y", &[0, 2])],
        ..Default::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(13),
        }],
        graph: Some(graph),
        ..Default::default()
    }
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn import(model: &ModelProto) -> Result<Imported, String> {
    decode(model.encode_to_vec(), &Options::default()).map_err(|error| error.to_string())
}

/// The error of a model, which is one line.
fn refused(change: impl FnOnce(&mut ModelProto)) -> String {
    let mut model = small();
    change(&mut model);
    let error = import(&model).unwrap_err();
    assert!(!error.contains('\n'), "{error}");
    error
}

fn logits(imported: &Imported) -> Vec<f32> {
    let model = FloatModel::new(&imported.graph, &imported.weights).unwrap();
    let pixels: Vec<u8> = (0..imported.graph.input().len())
        .map(|i| (i * 37 % 251) as u8)
        .collect();
    let mut logits = vec![0.0; imported.graph.classes()];
    model.run(&pixels, &mut logits).unwrap();
    logits
}

#[test]
fn a_small_model_comes_in_with_its_softmax_left_out() {
    let imported = import(&small()).unwrap();
    let ops: Vec<Op> = imported.graph.nodes().iter().map(|node| node.op).collect();
    // Of one pixel, an image is a vector: the Flatten is gone.
    assert_eq!(ops.len(), 5);
    assert!(matches!(ops[1], Op::Conv(_)) && matches!(ops[4], Op::Linear(_)));
    assert_eq!((imported.graph.classes(), imported.opset), (2, 13));
    assert!(!imported.has_class_names);
    assert!(imported.notes.iter().any(|note| note.contains("Softmax")));
}

#[test]
fn a_model_of_bgr_sees_the_same_image_with_its_channels_turned() {
    let run = |bgr: bool, mean: [f32; 3], pixels: &[u8]| {
        let options = Options {
            normalization: Some(Normalization::per_channel(&mean, &[0.5, 1.0, 0.25])),
            bgr,
            ..Options::default()
        };
        let imported = decode(small().encode_to_vec(), &options).unwrap();
        let model = FloatModel::new(&imported.graph, &imported.weights).unwrap();
        let mut logits = vec![0.0; 2];
        model.run(pixels, &mut logits).unwrap();
        logits
    };
    let rgb: Vec<u8> = (0..8 * 8 * 3).map(|i| (i * 37 % 251) as u8).collect();
    let (pixels, _) = rgb.as_chunks::<3>();
    let bgr: Vec<u8> = pixels.iter().flat_map(|&[r, g, b]| [b, g, r]).collect();
    let mean = [0.1, 0.2, 0.3];
    let (found, expected) = (run(true, mean, &rgb), run(false, mean, &bgr));
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-6, "{found:?}, {expected:?}");
    }
    assert!((found[0] - run(false, mean, &rgb)[0]).abs() > 1e-4);
    // What is no convolution of all channels is named.
    let mut model = small();
    graph(&mut model).node[0].attribute.push(int("group", 3));
    graph(&mut model).initializer[0] = floats("w", &[3, 1, 3, 3]);
    graph(&mut model).initializer[1] = floats("b", &[3]);
    graph(&mut model).initializer[2] = floats("v", &[2, 3]);
    let options = Options {
        bgr: true,
        ..Options::default()
    };
    let line = decode(model.encode_to_vec(), &options)
        .unwrap_err()
        .to_string();
    assert!(line.contains("the_Conv") && line.contains("BGR"), "{line}");
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused_or_the_same() {
    let bytes = small().encode_to_vec();
    let whole = logits(&decode(bytes.clone(), &Options::default()).unwrap());
    for len in 0..bytes.len() {
        if let Ok(imported) = decode(bytes[..len].to_vec(), &Options::default()) {
            assert_eq!(logits(&imported), whole, "cut at {len}");
        }
    }
}

#[test]
fn no_flipped_bit_ends_in_a_panic() {
    let bytes = small().encode_to_vec();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << bit;
            if let Ok(imported) = decode(changed, &Options::default()) {
                drop(FloatModel::new(&imported.graph, &imported.weights));
            }
        }
    }
}

#[test]
fn packed_and_unpacked_lists_are_the_same() {
    // `dims` of a tensor (field 1), once as three numbers and once as one field of three.
    let tail = [2 << 3, 1, 8 << 3 | 2, 1, b'w'];
    let unpacked = [&[1 << 3, 4, 1 << 3, 3, 1 << 3, 2][..], &tail].concat();
    let packed = [&[1 << 3 | 2, 3, 4, 3, 2][..], &tail].concat();
    let read = |bytes: &[u8]| TensorProto::decode(bytes).unwrap();
    assert_eq!(read(&unpacked).dims, [4, 3, 2]);
    assert_eq!(read(&unpacked), read(&packed));
}

#[test]
fn weights_of_every_float_type_and_place_come_in() {
    let whole = logits(&import(&small()).unwrap());
    let with = |tensor: TensorProto| {
        let mut model = small();
        graph(&mut model).initializer[2] = tensor;
        logits(&import(&model).unwrap())
    };
    let values = floats("v", &[2, 4]).float_data;
    let raw = |kind: DataType, bytes: Vec<u8>| TensorProto {
        name: Some("v".into()),
        dims: vec![2, 4],
        data_type: Some(kind.into()),
        raw_data: Some(bytes.into()),
        ..Default::default()
    };
    let bytes =
        |to: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|&x| to(x)).collect::<Vec<u8>>();
    assert_eq!(
        with(raw(DataType::Float, bytes(&|x| x.to_le_bytes().to_vec()))),
        whole
    );
    assert_eq!(
        with(raw(
            DataType::Double,
            bytes(&|x| f64::from(x).to_le_bytes().to_vec())
        )),
        whole
    );
    let half = |x: f32| half::f16::from_f32(x);
    let in_raw = with(raw(
        DataType::Float16,
        bytes(&|x| half(x).to_le_bytes().to_vec()),
    ));
    let in_bits = with(TensorProto {
        float_data: vec![],
        data_type: Some(DataType::Float16.into()),
        int32_data: values.iter().map(|&x| half(x).to_bits().into()).collect(),
        ..floats("v", &[2, 4])
    });
    assert_eq!(in_raw, in_bits);
    assert!(
        in_raw
            .iter()
            .zip(&whole)
            .all(|(a, b)| (a - b).abs() < 2e-3 && a != b)
    );
    // A Constant node in place of an initializer.
    let mut model = small();
    let tensor = graph(&mut model).initializer.remove(2);
    let mut constant = node("Constant", &[], "v");
    constant.attribute = vec![AttributeProto {
        name: Some("value".into()),
        r#type: Some(AttributeType::Tensor.into()),
        t: Some(tensor),
        ..Default::default()
    }];
    graph(&mut model).node.insert(0, constant);
    assert_eq!(logits(&import(&model).unwrap()), whole);
}

#[test]
fn graphs_that_are_none_are_refused_by_name() {
    let cycle = refused(|model| graph(model).node[0].input[0] = "r".into());
    assert!(
        cycle.contains("the_Conv") && cycle.contains("cycle"),
        "{cycle}"
    );
    let twice = refused(|model| graph(model).node[1].output[0] = "c".into());
    assert!(twice.contains("there already"), "{twice}");
    let hole = refused(|model| graph(model).node[4].input[0] = "nothing".into());
    assert!(
        hole.contains("the_Gemm") && hole.contains("nothing"),
        "{hole}"
    );
    let missing = refused(|model| drop(graph(model).initializer.remove(2)));
    assert!(missing.contains("the_Gemm"), "{missing}");
}

#[test]
fn models_of_other_kinds_are_refused_with_what_they_are() {
    let detector = refused(|model| {
        graph(model).output = vec![info("y", &[0, 100, 4]), info("f", &[0, 100])];
    });
    assert!(
        detector.contains("2 outputs (y [?, 100, 4], f [?, 100]): lowbit runs image classifiers"),
        "{detector}"
    );
    let batch = refused(|model| graph(model).input = vec![info("x", &[8, 3, 8, 8])]);
    assert!(batch.contains("fixed to a batch of 8"), "{batch}");
    let text = refused(|model| graph(model).input = vec![info("x", &[0, 128])]);
    assert!(text.contains("no batch of images"), "{text}");
    let two = refused(|model| graph(model).input.push(info("mask", &[0, 128])));
    assert!(two.contains("2 inputs"), "{two}");
    let open = refused(|model| graph(model).input = vec![info("x", &[0, 3, 0, 0])]);
    assert!(open.contains("--image-size"), "{open}");
    let control = refused(|model| graph(model).node[1].op_type = Some("Loop".into()));
    assert!(
        control.contains("the_Relu (Loop)") && control.contains("control flow"),
        "{control}"
    );
    let unknown = refused(|model| graph(model).node[1].op_type = Some("Frobnicate".into()));
    assert!(unknown.contains("the_Relu (Frobnicate)"), "{unknown}");
    let foreign = refused(|model| graph(model).node[1].domain = Some("com.acme".into()));
    assert!(foreign.contains("com.acme.Relu"), "{foreign}");
    let attribute = refused(|model| graph(model).node[1].attribute = vec![int("slope", 1)]);
    assert!(
        attribute.contains("does not know its attribute slope"),
        "{attribute}"
    );
    let sparse = refused(|model| {
        graph(model)
            .sparse_initializer
            .push(SparseTensorProto::default())
    });
    assert!(sparse.contains("sparse"), "{sparse}");
    let kind =
        refused(|model| graph(model).initializer[0].data_type = Some(DataType::String.into()));
    assert!(
        kind.contains("tensor w") && kind.contains("STRING"),
        "{kind}"
    );
    let image = refused(|model| {
        graph(model).output = vec![info("r", &[0, 4, 8, 8])];
    });
    assert!(image.contains("one number for each"), "{image}");
}

#[test]
fn versions_are_looked_at() {
    let old = refused(|model| model.opset_import[0].version = Some(6));
    assert!(
        old.contains("opset 6") && old.contains("convert_version"),
        "{old}"
    );
    let none = refused(|model| model.opset_import.clear());
    assert!(none.contains("does not say its opset"), "{none}");
    let mut model = small();
    model.opset_import[0].version = Some(99);
    model.ir_version = Some(42);
    let notes = import(&model).unwrap().notes;
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("warning") && note.contains("opset 99"))
    );
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("warning") && note.contains("IR version 42"))
    );
}

#[test]
fn claims_beyond_the_file_allocate_nothing() {
    let large = refused(|model| graph(model).initializer[0].dims = vec![1 << 20, 1 << 20, 1 << 20]);
    assert!(large.contains("more than"), "{large}");
    let short = refused(|model| graph(model).initializer[0].dims = vec![4, 3, 300, 300]);
    assert!(short.contains("108 values"), "{short}");
    let negative = refused(|model| graph(model).initializer[0].dims = vec![-4, 3, 3, 3]);
    assert!(negative.contains("extent of -4"), "{negative}");
    // A constant that a node would make.
    let bomb = refused(|model| {
        let shape = TensorProto {
            name: Some("s".into()),
            dims: vec![2],
            data_type: Some(DataType::Int64.into()),
            int64_data: vec![1 << 30, 1 << 30],
            ..Default::default()
        };
        graph(model).initializer.push(shape);
        graph(model)
            .node
            .insert(0, node("ConstantOfShape", &["s"], "big"));
        graph(model).node[5].input[1] = "big".into();
    });
    assert!(
        bomb.contains("the_ConstantOfShape") && bomb.contains("more than"),
        "{bomb}"
    );
}

#[test]
fn names_of_classes_stand_in_the_metadata() {
    for text in ["['cat', 'dog']", "[\"cat\",\"dog\"]", "cat,dog", "cat\ndog"] {
        let mut model = small();
        model.metadata_props = vec![StringStringEntryProto {
            key: Some("class_names".into()),
            value: Some(text.into()),
        }];
        let imported = import(&model).unwrap();
        assert_eq!(imported.graph.class_names(), ["cat", "dog"], "{text}");
        assert!(imported.has_class_names);
    }
    let options = Options {
        class_names: Some(vec!["a".into(); 3]),
        ..Options::default()
    };
    let error = decode(small().encode_to_vec(), &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("2 classes, and 3 names"), "{error}");
}
