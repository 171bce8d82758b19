//! Names that a file gives: whatever they are, an error is one line.

use super::*;

const NAME: &str = "a\nb\r\u{1b}[31m\u{2028}";

fn is_one_line(text: &str) {
    assert!(
        !text.chars().any(char::is_control) && !text.contains('\u{2028}'),
        "{text:?}"
    );
}

#[test]
fn names_of_several_lines_are_printed_in_one() {
    let error = |change: &dyn Fn(&mut GraphProto)| {
        let mut model = small();
        change(graph(&mut model));
        let error = import(&model).unwrap_err();
        is_one_line(&error);
        error
    };
    let named = error(&|graph| {
        graph.node[1].name = Some(NAME.into());
        graph.node[1].op_type = Some("Frob\nnicate".into());
    });
    assert!(
        named.contains(r"a\nb\r\u{1b}[31m\u{2028} (Frob\nnicate)"),
        "{named}"
    );
    error(&|graph| {
        graph.initializer[0].name = Some(NAME.into());
        graph.initializer[0].dims = vec![-1];
    });
    error(&|graph| graph.node[0].input[0] = NAME.into());
    error(&|graph| graph.node[1].attribute = vec![int(NAME, 1)]);
    error(&|graph| graph.output = vec![info(NAME, &[0, 4, 8]), info("y", &[0, 2])]);
    error(&|graph| graph.input = vec![info(NAME, &[0, 3])]);
    error(&|graph| {
        graph.node[5].output[0] = NAME.into();
        graph.output = vec![info(NAME, &[0, 2])];
        graph.node[0].input[0] = "w".into();
    });
}

#[test]
fn names_in_a_model_and_its_notes_are_one_line_and_differ() {
    let mut model = small();
    model.producer_name = Some(NAME.into());
    model.metadata_props = vec![StringStringEntryProto {
        key: Some("class_names".into()),
        value: Some("[\"c\\nat\", \"d\u{1b}og\"]".into()),
    }];
    let graph = graph(&mut model);
    graph.output = vec![info("y", &[0, 2]), info("c", &[0, 4, 8, 8])];
    graph.node[5].output[0] = NAME.into();
    graph.output[0].name = Some(NAME.into());
    graph.node[0].name = Some(NAME.into());
    // What the first one is printed as.
    graph.node[1].name = Some(r"a\nb\r\u{1b}[31m\u{2028}".into());
    let imported = import(&model).unwrap();
    assert!(
        imported
            .notes
            .iter()
            .any(|note| note.contains("the first of rank 2"))
    );
    let graph = &imported.graph;
    let names: Vec<&str> = graph
        .nodes()
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(names[1], r"a\nb\r\u{1b}[31m\u{2028}");
    assert_eq!(names[2], r"a\nb\r\u{1b}[31m\u{2028}_2");
    let classes = graph.class_names().iter();
    let notes = imported.notes.iter();
    for text in classes.chain(notes).chain([&imported.producer]) {
        is_one_line(text);
    }
}
