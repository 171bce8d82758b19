//! What a user sees of a federation: the binary, run as a whole.

mod common;

use common::{lowbit, names, refused, stderr, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Small enough to train in a moment.
const SMALL: [&str; 9] = [
    "federate",
    "--model",
    "mlp",
    "--limit",
    "120",
    "--image-size",
    "16",
    "--rounds=2",
    "--local-epochs=2",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut all = SMALL.to_vec();
    if !more.contains(&"--clients") {
        all.push("--clients=3");
    }
    all.extend(more);
    all
}

fn run(folder: &Path, more: &[&str]) -> Value {
    let output = lowbit(folder, &with(&[more, &["--json"]].concat()));
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("standard output is JSON and nothing else")
}

/// The only run folder below `width`.
fn only(folder: &Path, width: &str) -> PathBuf {
    let parent = folder.join("outputs").join(width);
    let runs = names(&parent);
    assert_eq!(runs.len(), 1, "{runs:?}");
    parent.join(&runs[0])
}

#[test]
fn a_federation_writes_what_analyze_reads_and_counts_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let found = run(
        path,
        &["--bits", "32", "--up-bits", "1", "--down-bits", "4"],
    );
    let file = only(path, "32bit").join("training_results.json");
    let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(found, written);
    assert_eq!(
        (&found["fraction_train"], &found["local_epochs"]),
        (&1.0.into(), &2.into())
    );
    let rounds = found["results_per_round"].as_array().unwrap();
    let sum = |key: &str| {
        rounds
            .iter()
            .map(|round| round[key].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(found["federation"]["bytes_up"], sum("bytes_up"));
    assert_eq!(found["federation"]["bytes_down"], sum("bytes_down"));
    let parts = found["federation"]["parts"].as_object().unwrap();
    let all: u64 = parts.values().map(|part| part.as_u64().unwrap()).sum();
    assert_eq!(all, sum("bytes_up") + sum("bytes_down"));
    // The first model costs a seed.
    assert_eq!(rounds[0]["bytes_down"], 3 * 60);
    assert!(
        names(&only(path, "32bit"))
            .iter()
            .all(|name| !name.contains("checkpoint"))
    );
    // The same again is not run again, and the report shows it.
    let again = lowbit(
        path,
        &with(&["--bits", "32", "--up-bits", "1", "--down-bits", "4"]),
    );
    assert!(
        stderr(&again).contains("nothing was run again"),
        "{}",
        stderr(&again)
    );
    let page = |more: &[&str]| {
        let analyzed = lowbit(path, &[&["analyze", "outputs"], more].concat());
        assert!(analyzed.status.success(), "{}", stderr(&analyzed));
        std::fs::read_to_string(path.join("outputs/report.html")).unwrap()
    };
    let plain = page(&[]);
    assert!(
        plain.contains("Accuracy by bytes sent") && plain.contains("Images per client and class")
    );
    assert!(!plain.contains("Cost:"));
    let bytes = |key: &str| found["federation"][key].as_f64().unwrap();
    let cost = 200.0 * (bytes("bytes_up") + bytes("bytes_down")) / 1e6;
    let priced = page(&["--cost-per-mb", "200"]);
    assert!(priced.contains("Cost: 200 per MB.") && priced.contains(&format!("{cost:.2}")));
    let line = lowbit(path, &["analyze", "outputs", "--cost-per-mb", "-1"]);
    assert_eq!(line.status.code(), Some(2), "{}", stderr(&line));
}

#[test]
fn clients_take_the_widths_and_the_augmentation_of_any_training() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let more = [
        "--bits=4",
        "--act-bits=4",
        "--edge-bits=4",
        "--augment=flip",
    ];
    let found = run(path, &more);
    let settings = &found["federation"]["settings"];
    assert_eq!(settings["augment"], "flip");
    let quantizers = settings["quantizers"].as_str().unwrap();
    for part in ["weight_bits\":4", "activation_bits\":4", "edge_bits\":4"] {
        assert!(quantizers.contains(part), "{part}: {quantizers}");
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let runs: Vec<Value> = [["--threads", "1"], ["--threads", "3"]]
        .into_iter()
        .map(|threads| {
            let folder = tempfile::tempdir().unwrap();
            let mut found = run(
                folder.path(),
                &[&threads[..], &["--bits", "4", "--up-bits", "2"]].concat(),
            );
            let model =
                std::fs::read(only(folder.path(), "4bit").join("model_4bit.safetensors")).unwrap();
            let rounds = found["results_per_round"].as_array_mut().unwrap();
            for round in rounds.iter_mut() {
                let round = round.as_object_mut().unwrap();
                round.retain(|key, _| !key.ends_with("seconds"));
            }
            Value::from(vec![found["results_per_round"].take(), crc(&model).into()])
        })
        .collect();
    assert_eq!(runs[0], runs[1]);
}

fn crc(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |hash: u64, &byte| {
        hash.wrapping_mul(31).wrapping_add(u64::from(byte))
    })
}

#[test]
fn clients_that_fail_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = lowbit(folder.path(), &with(&["--fault", "1=nan"]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("2 answers did not count"),
        "{}",
        stdout(&output)
    );
    assert!(
        stderr(&output).contains("client 1: "),
        "{}",
        stderr(&output)
    );
    let line = refused(
        folder.path(),
        &with(&["--fault", "1=nan", "--min-clients", "3"]),
        1,
    );
    assert!(line.contains("2 clients count, at least 3 must"), "{line}");
}

#[test]
fn clients_that_keep_their_batch_norm_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let more = ["--model=resnet8", "--norm=local", "--limit=60"];
    let asked: Vec<&str> = with(&more)
        .into_iter()
        .filter(|word| !["--model", "mlp", "--limit", "120"].contains(word))
        .collect();
    let output = lowbit(path, &asked);
    assert!(output.status.success(), "{}", stderr(&output));
    let shown = stdout(&output);
    assert!(
        shown.contains("the mean of the clients' own models, each with its batch-norm"),
        "{shown}"
    );
    let run = only(path, "8bit");
    for client in ["client_0", "client_1", "client_2"] {
        assert!(run.join(client).join("model_8bit.safetensors").exists());
    }
    let analyzed = lowbit(path, &["analyze", "outputs"]);
    assert!(analyzed.status.success(), "{}", stderr(&analyzed));
    let page = std::fs::read_to_string(path.join("outputs/report.html")).unwrap();
    assert!(page.contains("norm local") && page.contains("mean over the clients' own models"));
}

#[test]
fn partitions_are_shown_without_training() {
    let folder = tempfile::tempdir().unwrap();
    let output = lowbit(
        folder.path(),
        &with(&["--partition", "shards:2", "--show-partitions"]),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("client") && stdout(&output).contains("images"));
    assert!(!folder.path().join("outputs").exists());
}

#[test]
fn bad_input_gets_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (arguments, part) in [
        (
            &["--strategy", "fedsgd"][..],
            "use fedavg, fedprox:0.01, fedavgm:0.9 or fedadam:0.01",
        ),
        (
            &["--partition", "random"],
            "use iid, dirichlet:0.3, dirichlet:0.3:balanced, shards:2, or a table",
        ),
        (&["--up-bits", "3"], "use 32, 16, 8, 4, 2, 1, or ternary"),
        (&["--bits", "5"], "use 32, 16, 8, 4, 2 or 1"),
        (&["--aggregator", "best"], "use mean, median, trimmed-mean"),
        (&["--norm", "own"], "norm own: use server or local"),
        (&["--fault", "1=zzz"], "use CLIENT=nan"),
    ] {
        let output = lowbit(path, &with(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            stderr(&output).contains(part),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    // A file serves several commands; what would be left out without a word is refused.
    std::fs::write(path.join("recipe.toml"), "weight_decay = 0.001").unwrap();
    std::fs::write(path.join("start.toml"), "start_from = \"m.safetensors\"").unwrap();
    for (arguments, part) in [
        (
            &["--clients", "100"][..],
            "clients is 100 for 120 training images",
        ),
        (
            &["--min-clients", "4"],
            "min-clients is 4: there are 3 clients",
        ),
        (&["--dropout", "1.5"], "dropout is 1.5"),
        (&["--norm", "local"], "norm is local: mlp has no batch-norm"),
        (&["--epochs", "3"], "--rounds and --local-epochs"),
        (
            &["--config", "recipe.toml"],
            "weight_decay = 0.001: clients of a federation train without a recipe's settings",
        ),
        (
            &["--config", "start.toml"],
            "start_from: a federation begins with the fresh weights of its seed",
        ),
    ] {
        let line = refused(path, &with(arguments), 2);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
    let output = lowbit(path, &["sweep", "--clients", "3"]);
    assert!(
        stderr(&output).contains("--federated"),
        "{}",
        stderr(&output)
    );
}
