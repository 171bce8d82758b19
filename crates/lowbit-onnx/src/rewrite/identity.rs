//! Operators that hand their input on: Identity, Dropout of a trained model, Cast from floats to floats, a sum of one.

use crate::error::Fault;
use crate::fold::is_float;
use crate::model::{Model, Node};

pub(super) fn rewrite(model: &mut Model) -> Result<(), Fault> {
    let mut index = 0;
    while index < model.nodes.len() {
        if !hands_on(model, &model.nodes[index])? {
            index += 1;
            continue;
        }
        let node = model.nodes.remove(index);
        let from = node.need(0)?.to_owned();
        model.redirect(node.output(), &from);
    }
    Ok(())
}

fn hands_on(model: &Model, node: &Node) -> Result<bool, Fault> {
    Ok(match node.op.as_str() {
        "Identity" => true,
        // What it drops in training it leaves in use. Its mask is read by nobody, or import says that it is not there.
        "Dropout" => match model.constant(node, 2).map(|constant| constant.ints()) {
            None if node.input(2).is_none() => true,
            Some(Some([0])) => true,
            _ => {
                return Err(
                    node.wrong("training_mode: export the model for inference (model.eval())")
                );
            }
        },
        "Cast" => is_float(node.int_or("to", 0)?),
        "Sum" | "Concat" | "Max" | "Min" => node.inputs.len() == 1,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constant::Constant;
    use crate::model::Attribute;

    #[test]
    fn what_hands_on_its_input_is_gone_and_what_cuts_is_not() {
        let mut model = Model {
            input: "x".into(),
            output: "d".into(),
            nodes: vec![
                Node::new("cast", "Cast", &["x"], "a").with("to", Attribute::Int(10)),
                Node::new("id", "Identity", &["a"], "b"),
                Node::new("relu", "Relu", &["b"], "c"),
                Node::new("drop", "Dropout", &["c"], "d"),
            ],
            ..Model::default()
        };
        rewrite(&mut model).unwrap();
        assert_eq!(model.nodes, [Node::new("relu", "Relu", &["x"], "c")]);
        assert_eq!(model.output, "c");
        let mut training = Node::new("drop", "Dropout", &["x", "", "yes"], "d");
        model
            .constants
            .insert("yes".into(), Constant::int(vec![], vec![1]));
        model.nodes = vec![training.clone()];
        assert!(
            rewrite(&mut model)
                .unwrap_err()
                .to_string()
                .contains("training_mode")
        );
        training.inputs.pop();
        model.nodes = vec![training];
        rewrite(&mut model).unwrap();
        assert!(model.nodes.is_empty());
        model.output = "d".into();
        let cut = Node::new("cast", "Cast", &["x"], "d").with("to", Attribute::Int(6));
        model.nodes = vec![cut.clone()];
        rewrite(&mut model).unwrap();
        assert_eq!(model.nodes, [cut]);
    }
}
