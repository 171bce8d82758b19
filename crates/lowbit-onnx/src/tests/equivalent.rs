//! What moves nothing changes nothing, and what lowbit would compute differently it refuses.

use super::{floats, graph, import, int, logits, node, refused, small};
use crate::proto::tensor_proto::DataType;
use crate::proto::{NodeProto, TensorProto};

fn integers(name: &str, kind: DataType, dims: &[i64], values: &[i32]) -> TensorProto {
    let mut tensor = TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(kind.into()),
        ..Default::default()
    };
    match kind {
        DataType::Int64 => tensor.int64_data = values.iter().map(|&x| x.into()).collect(),
        _ => tensor.int32_data = values.to_vec(),
    }
    tensor
}

/// The small model with nodes between its ReLU and its mean, which read "r" and give "m".
fn with(between: Vec<NodeProto>, tensors: Vec<TensorProto>) -> Vec<f32> {
    let mut model = small();
    let graph = graph(&mut model);
    graph.node[2].input[0] = "m".into();
    graph.node.splice(2..2, between);
    graph.initializer.extend(tensors);
    logits(&import(&model).unwrap())
}

#[test]
fn a_flattened_image_becomes_the_same_image_again() {
    let softmax = |from: &str| {
        let mut softmax = node("Softmax", &[from], "m");
        softmax.attribute = vec![int("axis", 1)];
        softmax.name = Some("over_channels".into());
        softmax
    };
    let named = |mut node: NodeProto, name: &str| {
        node.name = Some(name.into());
        node
    };
    let shape = || integers("shape", DataType::Int64, &[4], &[-1, 4, 8, 8]);
    let there = || named(node("Flatten", &["r"], "flat"), "there");
    let back = || named(node("Reshape", &["flat", "shape"], "back"), "back");
    assert_eq!(
        with(vec![there(), back(), softmax("back")], vec![shape()]),
        with(vec![softmax("r")], vec![])
    );
    // Beside the image itself.
    let add = |other: &str| named(node("Add", &["r", other], "m"), "sum");
    assert_eq!(
        with(vec![there(), back(), add("back")], vec![shape()]),
        with(vec![add("r")], vec![])
    );
}

#[test]
fn what_would_be_computed_differently_is_refused() {
    let limits = refused(|model| {
        graph(model).node[1] = node("Clip", &["c", "low"], "r");
        graph(model).initializer.push(floats("low", &[2]));
    });
    assert!(
        limits.contains("the_Clip") && limits.contains("one float"),
        "{limits}"
    );
    let rank = refused(|model| {
        let graph = graph(model);
        graph.node[4].output[0] = "p".into();
        graph.node.insert(5, node("Max", &["p", "zero"], "q"));
        graph.node.insert(6, node("Add", &["q", "q"], "l"));
        graph.initializer.push(floats("zero", &[1, 1, 1]));
    });
    assert!(rank.contains("the_Add") && rank.contains("axes"), "{rank}");
    // Weights that are a constant of integers, cast.
    let weights = |kind: DataType, to: i64| {
        refused(|model| {
            let graph = graph(model);
            graph.initializer[2] = integers("i", kind, &[2, 4], &[-1; 8]);
            let mut first = node("Cast", &["i"], "u");
            first.attribute = vec![int("to", to)];
            let mut second = node("Cast", &["u"], "v");
            second.name = Some("to_float".into());
            second.attribute = vec![int("to", 1)];
            graph.node.insert(0, first);
            graph.node.insert(1, second);
        })
    };
    let cast = weights(DataType::Int32, 2);
    assert!(
        cast.contains("the_Cast") && cast.contains("casts -1"),
        "{cast}"
    );
    let wraps = refused(|model| {
        let graph = graph(model);
        graph.node[3] = node("Reshape", &["g", "shape"], "f");
        let factor = |name: &str| integers(name, DataType::Int32, &[2], &[70_000, 4]);
        graph.initializer.extend([factor("a"), factor("b")]);
        graph.node.insert(0, node("Mul", &["a", "b"], "shape"));
    });
    assert!(
        wraps.contains("the_Mul") && wraps.contains("its 32 bits"),
        "{wraps}"
    );
    let fmod = refused(|model| {
        let graph = graph(model);
        graph.node[3] = node("Reshape", &["g", "shape"], "f");
        graph.initializer.extend([
            integers("a", DataType::Int64, &[2], &[-1, 4]),
            integers("b", DataType::Int64, &[2], &[5, 5]),
        ]);
        let mut modulo = node("Mod", &["a", "b"], "shape");
        modulo.attribute = vec![int("fmod", 1)];
        graph.node.insert(0, modulo);
    });
    assert!(fmod.contains("the_Mod") && fmod.contains("fmod"), "{fmod}");
}
