//! `lowbit doctor` on small ONNX files that onnxruntime.quantization, PyTorch and hands have made (`bench/onnx/fusion.py`): what it
//! finds, and whether its rules place nodes as ONNX Runtime itself does.

use base64::Engine;
use lowbit_kernels::Isa;
use lowbit_lab::doctor::{
    Diagnosis, Level, Patient, RULES, RustRuntime, diagnose, float_in_openvino, placements,
};
use lowbit_onnx::Contents;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

/// A file, and what ONNX Runtime made of it.
#[derive(Deserialize)]
struct Case {
    /// zlib in base64.
    file: String,
    #[serde(default)]
    integer: BTreeSet<String>,
    #[serde(default)]
    float: BTreeSet<String>,
    refused: Option<String>,
    #[serde(default)]
    openvino_integer: BTreeSet<String>,
    #[serde(default)]
    openvino_float: BTreeSet<String>,
    #[serde(default)]
    tract_integer: BTreeSet<String>,
    #[serde(default)]
    tract_float: BTreeSet<String>,
    tract_refused: Option<String>,
    #[serde(default)]
    rten_integer: BTreeSet<String>,
    #[serde(default)]
    rten_float: BTreeSet<String>,
    rten_refused: Option<String>,
}

fn cases() -> BTreeMap<String, Case> {
    serde_json::from_str(include_str!("golden/fusion.json")).unwrap()
}

fn contents(case: &Case) -> Contents {
    let packed = base64::engine::general_purpose::STANDARD
        .decode(&case.file)
        .unwrap();
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..])
        .read_to_end(&mut bytes)
        .unwrap();
    Contents::decode(bytes, None).unwrap()
}

fn diagnosis(case: &Case) -> Diagnosis {
    let isa = Isa::current().unwrap();
    let model = Err("lowbit does not run it".to_owned());
    diagnose(&Patient::onnx(
        Path::new("model.onnx"),
        contents(case),
        model,
        isa,
    ))
    .unwrap()
}

/// Names of the rules that found something, with the level.
fn found(case: &Case) -> BTreeSet<(String, Level)> {
    let findings = diagnosis(case).findings.into_iter();
    findings
        .map(|finding| (finding.rule, finding.level))
        .collect()
}

/// Files whose activations are found at run time: nothing is said about where their nodes run.
const DYNAMIC: [&str; 2] = ["dynamic", "dynamic_s8"];

#[test]
fn nodes_run_where_onnx_runtime_runs_them() {
    let (mut files, mut wrong) = (0, Vec::new());
    for (name, case) in cases() {
        if case.refused.is_some() || DYNAMIC.contains(&name.as_str()) {
            continue;
        }
        files += 1;
        let contents = contents(&case);
        let placed = placements(&contents);
        let names = |in_float: bool| -> BTreeSet<String> {
            let nodes = placed
                .iter()
                .filter(|placement| placement.float.is_some() == in_float);
            nodes.map(|placement| placement.node.name.clone()).collect()
        };
        if names(false) != case.integer || names(true) != case.float {
            let differ = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
                a.symmetric_difference(b).cloned().collect::<Vec<String>>()
            };
            let why: Vec<_> = placed
                .iter()
                .filter_map(|placement| placement.float.as_ref())
                .collect();
            wrong.push(format!(
                "{name}: integer {:?}, float {:?} ({why:?})",
                differ(&names(false), &case.integer),
                differ(&names(true), &case.float)
            ));
        }
    }
    assert!(files >= 40, "{files}");
    assert!(
        wrong.is_empty(),
        "{} of {files}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn convolutions_run_where_openvino_runs_them() {
    let mut files = 0;
    for (name, case) in cases() {
        if DYNAMIC.contains(&name.as_str()) {
            continue;
        }
        let contents = contents(&case);
        let known = |node: &&lowbit_onnx::StoredNode| {
            case.openvino_integer.contains(&node.name) || case.openvino_float.contains(&node.name)
        };
        let convolutions: Vec<_> = contents.nodes.iter().filter(known).collect();
        files += usize::from(!convolutions.is_empty());
        for node in convolutions {
            let found = float_in_openvino(&contents, node);
            let expected = case.openvino_float.contains(&node.name);
            assert_eq!(
                found.is_some(),
                expected,
                "{name}, {}: {found:?}",
                node.name
            );
        }
    }
    assert!(files >= 40, "{files}");
}

/// Files that are wrong by ONNX itself (`channel-axis` says so), which tract and rten refuse for that.
const WRONG: [&str; 2] = ["fewer_scales", "wrong_axis"];

#[test]
fn products_run_where_tract_and_rten_run_them() {
    let mut files = 0;
    for (name, case) in cases() {
        if WRONG.contains(&name.as_str()) {
            continue;
        }
        files += 1;
        let contents = contents(&case);
        for (runtime, integer, float, refused) in [
            (
                RustRuntime::Tract,
                &case.tract_integer,
                &case.tract_float,
                &case.tract_refused,
            ),
            (
                RustRuntime::Rten,
                &case.rten_integer,
                &case.rten_float,
                &case.rten_refused,
            ),
        ] {
            let found = runtime.refuses(&contents);
            assert_eq!(
                found.is_some(),
                refused.is_some(),
                "{name}, {runtime:?}: {found:?}, {refused:?}"
            );
            if refused.is_some() {
                continue;
            }
            let of = |integers: bool| -> BTreeSet<String> {
                let nodes = contents.nodes.iter();
                let nodes = nodes.filter(|node| runtime.in_integers(node) == Some(integers));
                nodes.map(|node| node.name.clone()).collect()
            };
            assert_eq!((&of(true), &of(false)), (integer, float), "{name}");
        }
    }
    assert!(files >= 50, "{files}");
}

/// For each rule files that show it, at which level, and files that do not.
const SHOWN: [(&str, Level, &[&str], &[&str]); 14] = [
    (
        "scales",
        Level::Error,
        &["zero_scale"],
        &["plain", "operators"],
    ),
    (
        "channel-axis",
        Level::Error,
        &["opset_12", "wrong_axis", "fewer_scales"],
        &["plain", "per_tensor"],
    ),
    (
        "channel-axis",
        Level::Warning,
        &["along_inputs"],
        &["gemm_not_transposed", "branches"],
    ),
    (
        "bias",
        Level::Error,
        &["bias_at_its_end"],
        &["plain", "float_bias"],
    ),
    (
        "bias",
        Level::Warning,
        &["bias_scale", "other_scale_at_pool"],
        &["plain", "per_channel"],
    ),
    (
        "per-tensor-depthwise",
        Level::Error,
        &["uneven"],
        &["uneven_per_channel", "per_tensor"],
    ),
    (
        "float-nodes",
        Level::Error,
        &["torch_fake_quant_s8", "u16_activations"],
        &["per_channel", "operators"],
    ),
    (
        "float-nodes",
        Level::Warning,
        &["no_pair_at_mean", "mobile"],
        &["float_bias", "excluded"],
    ),
    (
        "float-nodes",
        Level::Note,
        &["s4_weights"],
        &["u8_weights", "dynamic"],
    ),
    (
        "quantized-at-load",
        Level::Warning,
        &["excluded"],
        &["per_channel", "float_bias"],
    ),
    (
        "float-weights",
        Level::Warning,
        &["pair_on_weights", "torch_fake_quant", "excluded"],
        &["per_channel"],
    ),
    (
        "relu-apart",
        Level::Warning,
        &["u8_symmetric"],
        &["per_channel", "operators"],
    ),
    (
        "softmax-int8",
        Level::Warning,
        &["branches", "branches_operators"],
        &["plain", "mobile"],
    ),
    (
        "dynamic-convolutions",
        Level::Warning,
        &["dynamic", "dynamic_s8"],
        &["plain"],
    ),
];

/// The same of rules about weights and files.
const SHOWN_OF_WEIGHTS: [(&str, Level, &[&str], &[&str]); 8] = [
    (
        "tract-rten",
        Level::Note,
        &[
            "per_channel",
            "operators",
            "operators_of_conv",
            "s4_weights",
        ],
        &["dynamic", "dynamic_s8"],
    ),
    (
        "openvino",
        Level::Note,
        &["u8_weights", "excluded", "operators"],
        &["per_channel", "no_pair_behind"],
    ),
    (
        "unfolded-batch-norm",
        Level::Warning,
        &["batch_norm"],
        &["plain"],
    ),
    (
        "dead-channels",
        Level::Note,
        &["dead_channel"],
        &["plain", "operators"],
    ),
    (
        "asymmetric-weights",
        Level::Warning,
        &["u8_weights"],
        &["per_tensor", "reduced"],
    ),
    (
        "unused-levels",
        Level::Warning,
        &["uneven"],
        &["reduced", "s4_weights"],
    ),
    (
        "saturating-sums",
        Level::Note,
        &["per_channel", "operators"],
        &["reduced", "u8_weights"],
    ),
    (
        "size",
        Level::Warning,
        &["ballast"],
        &["plain", "pair_on_weights"],
    ),
];

#[test]
fn each_rule_has_a_file_that_shows_it_and_one_that_does_not() {
    let cases = cases();
    let mut wrong = Vec::new();
    for (rule, level, shows, does_not) in SHOWN.into_iter().chain(SHOWN_OF_WEIGHTS) {
        let is_found = |file: &&&str| found(&cases[**file]).contains(&(rule.to_owned(), level));
        wrong.extend(
            shows
                .iter()
                .filter(|file| !is_found(file))
                .map(|file| format!("{rule}: not in {file}")),
        );
        wrong.extend(
            does_not
                .iter()
                .filter(is_found)
                .map(|file| format!("{rule}: in {file}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn correct_exports_have_no_error() {
    let cases = cases();
    for name in [
        "per_channel",
        "reduced",
        "keep_relu",
        "operators",
        "operators_per_channel",
        "mobile",
        "branches",
        "plain",
        "gemm_not_transposed",
        "float_bias",
        "s4_weights",
        "uneven_per_channel",
        "dynamic",
        "dynamic_s8",
    ] {
        let diagnosis = diagnosis(&cases[name]);
        assert!(!diagnosis.has_errors(), "{name}: {:?}", diagnosis.findings);
    }
}

#[test]
fn findings_come_worst_first_and_name_their_nodes() {
    let cases = cases();
    let found = diagnosis(&cases["bias_scale"]);
    let levels: Vec<Level> = found.findings.iter().map(|finding| finding.level).collect();
    assert!(levels.is_sorted(), "{levels:?}");
    let bias = found
        .findings
        .iter()
        .find(|finding| finding.rule == "bias")
        .unwrap();
    assert_eq!(bias.places, ["conv2"]);
    // Without a model that runs, rules about images say why they did not look.
    assert!(
        found
            .not_looked
            .iter()
            .all(|rule| rule.why.contains("lowbit does not run it"))
    );
    assert!(!found.not_looked.is_empty());
}

#[test]
fn a_file_cut_off_anywhere_is_an_error_and_no_panic() {
    let cases = cases();
    let packed = base64::engine::general_purpose::STANDARD
        .decode(&cases["plain"].file)
        .unwrap();
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..])
        .read_to_end(&mut bytes)
        .unwrap();
    let isa = Isa::current().unwrap();
    for end in (0..bytes.len()).step_by(7) {
        if let Ok(contents) = Contents::decode(bytes[..end].to_vec(), None) {
            let model = Err("cut".to_owned());
            diagnose(&Patient::onnx(Path::new("cut.onnx"), contents, model, isa)).unwrap();
        }
    }
    // Bytes that are others than they were.
    for at in (0..bytes.len()).step_by(3) {
        let mut other = bytes.clone();
        other[at] ^= 1 << (at % 8);
        if let Ok(contents) = Contents::decode(other, None) {
            let model = Err("changed".to_owned());
            diagnose(&Patient::onnx(
                Path::new("changed.onnx"),
                contents,
                model,
                isa,
            ))
            .unwrap();
        }
    }
}

#[test]
fn the_table_in_the_docs_is_the_list_of_rules() {
    let docs =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md"))
            .unwrap();
    let rows: Vec<String> = RULES
        .iter()
        .map(|rule| {
            format!(
                "| `{}` | {} | {} | {} |",
                rule.name,
                rule.looks_at.described(),
                rule.finds,
                rule.source
            )
        })
        .collect();
    let table = rows.join("\n");
    assert!(
        docs.contains(&table),
        "docs/doctor.md needs this table:\n{table}"
    );
}
