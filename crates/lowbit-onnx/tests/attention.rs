//! Transformers and mixers: what PyTorch's exporters write gives PyTorch's logits (`bench/onnx/attention.py` wrote both).

mod logits;

use logits::{Golden, assert_near, run};
use lowbit::Isa;
use lowbit::exec::FloatModel;
use lowbit::graph::{Attention, Op};
use lowbit_onnx::{Options, decode};

fn golden() -> Golden {
    Golden::read(include_str!("golden/attention.json"))
}

#[test]
fn files_of_pytorchs_exporters_give_its_logits_on_every_isa() {
    let golden = golden();
    for (name, case) in golden.cases(false) {
        let imported = decode(case.file.clone(), &Options::default());
        let imported = imported.unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let model = FloatModel::compile(&imported.graph, &imported.weights, isa).unwrap();
            let found = run(&model, &golden.images);
            assert_near(&found, &case.logits, 2e-6, &format!("{name} on {isa}"));
            assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{name}");
        }
        let attentions: Vec<Attention> = imported
            .graph
            .nodes()
            .iter()
            .filter_map(|node| match node.op {
                Op::Attention(attention) => Some(attention),
                _ => None,
            })
            .collect();
        let (kind, _) = name.split_once('.').unwrap();
        let expected: &[[usize; 3]] = match kind {
            "mixer" => &[],
            "mobile" => &[[3, 2, 2]],
            _ => &[[3, 1, 1]],
        };
        let found: Vec<[usize; 3]> = attentions
            .iter()
            .map(|attention| [attention.heads, attention.patch[0], attention.patch[1]])
            .collect();
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(golden.cases(false).count(), 14);
}

#[test]
fn masks_and_windows_are_refused_by_the_name_of_the_node() {
    let golden = golden();
    for (name, case) in golden.cases(true) {
        let error = decode(case.file.clone(), &Options::default())
            .unwrap_err()
            .to_string();
        let reasons = [
            "no mask",
            "is_causal",
            "masks",
            "within windows",
            // Of which dynamo makes a mask.
            "(Trilu)",
        ];
        assert!(
            reasons.iter().any(|reason| error.contains(reason)),
            "{name}: {error}"
        );
        assert!(error.contains("node ") && !error.contains('\n'), "{error}");
    }
    assert_eq!(golden.cases(true).count(), 7);
}
