//! Settings as a user meets them: flags where they apply, files for several commands, help that says the defaults.

mod common;

use common::{lowbit, refused, stderr, stdout};

#[test]
fn a_flag_that_a_command_does_not_use_is_refused_with_the_commands_that_do() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (
            &["inspect", "m.safetensors", "--lr", "3"][..],
            "error: `lowbit inspect` takes no --lr; compare, train, qat-vs-ptq, sweep and federate take one (see `lowbit inspect --help`)",
        ),
        (
            &["eval", "m.safetensors", "--epochs=3"],
            "error: `lowbit eval` takes no --epochs; compare, train, qat-vs-ptq, sweep and federate take one (see `lowbit eval --help`)",
        ),
        (
            &["train", "--max-drop", "1"],
            "error: `lowbit train` takes no --max-drop; analyze and recommend take one (see `lowbit train --help`)",
        ),
        // Other commands have it, this one a longer one.
        (
            &["quantize", "m.safetensors", "--out=int4"],
            "error: `lowbit quantize` takes no --out (did you mean --output?); compare, train, qat-vs-ptq, sweep, federate, analyze, recommend, bench, jobs, logs, cancel and collect take one (see `lowbit quantize --help`)",
        ),
        (
            &["--lr", "3", "train"],
            "error: --lr stands behind the command: `lowbit train --lr …`",
        ),
        (
            &["--lr", "3"],
            "error: --lr stands behind the command, as in `lowbit compare --lr …`",
        ),
    ] {
        assert_eq!(refused(folder.path(), arguments, 2), expected);
    }
    let output = lowbit(folder.path(), &["compare", "--epoch", "3"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--epochs"), "{}", stderr(&output));
}

#[test]
fn a_value_that_cannot_be_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (
            &["sweep", "--widths", "7"][..],
            "error: --widths 7: 7-bit weights: use 32, 16, 8, 4, 2 or 1",
        ),
        (
            &["recommend", "m.onnx", "--target", "fame"],
            "error: --target fame: use latency, throughput or size",
        ),
        (
            &["analyze", "--max-drop", "-3"],
            "error: --max-drop -3: use points that are not negative, e.g. 0.5",
        ),
        (
            &["analyze", "--cost-per-mb", "-0.1"],
            "error: --cost-per-mb -0.1: use a number that is not negative, e.g. 0.05",
        ),
        (&["sweep", "--jobs"], "error: --jobs: needs a value"),
        (
            &["completions", "dos"],
            "error: dos: use bash, elvish, fish, powershell or zsh",
        ),
        (
            &["sweep", "--edge-bits", "3"],
            "error: --edge-bits 3: 3-bit weights: use 16, 8, 4, 2 or 1",
        ),
    ] {
        assert_eq!(refused(folder.path(), arguments, 2), expected);
    }
}

#[test]
fn a_federation_has_its_settings_from_a_file_and_from_pairs_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let clients = |more: &[&str]| {
        let line = ["federate", "--show-partitions", "--json", "--limit", "60"];
        let output = lowbit(path, &[&line[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let rows: Vec<Vec<usize>> = serde_json::from_slice(&output.stdout).unwrap();
        rows.len()
    };
    std::fs::write(
        path.join("run.toml"),
        "clients = 3\nup-bits = 4\ndeadline = 30\nfault = \"1=nan,2=cut\"\npartition = \"shards:2\"",
    )
    .unwrap();
    assert_eq!(clients(&["--config", "run.toml"]), 3);
    assert_eq!(clients(&["--config", "run.toml", "--set", "clients=4"]), 4);
    assert_eq!(
        clients(&["--set", "clients=4", "--clients", "5", "--deal", "iid"]),
        5
    );
    // What is printed is read.
    std::fs::write(
        path.join("table.csv"),
        "2,0,1,0,0,0,0,0,0,0\n0,3,0,0,0,0,0,0,0,1",
    )
    .unwrap();
    assert_eq!(clients(&["--partition", "@table.csv", "--clients", "2"]), 2);
    std::fs::write(path.join("run.toml"), "up_bits = 7").unwrap();
    for (line, part) in [
        (
            &["federate", "--config", "run.toml"][..],
            "run.toml:1:1: up_bits: message bits 7: use 32, 16, 8, 4, 2, 1, or ternary:P",
        ),
        (
            &["federate", "--fault", "3=nan", "--fault", "4=odd"],
            "--fault 3=nan,4=odd: fault 4=odd: use CLIENT=nan",
        ),
        (
            &["federate", "--partition", "@none.json"],
            "none.json: No such file",
        ),
        (
            &["federate", "--partition", "@table.csv"],
            "counts for 2 clients and 10 classes, where there are 10 and 10",
        ),
        (
            &["federate", "--rounds", "0"],
            "rounds must lie in 1..100000",
        ),
        (
            &["sweep", "--set", "up-bits=4"],
            "up_bits: a setting of a federation; add --federated",
        ),
        (&["federate", "--deadline", ""], "--deadline: needs a value"),
        (
            &["sweep", "--set", "rounds=3"],
            "rounds: a setting of a federation; add --federated",
        ),
    ] {
        let found = refused(path, line, 2);
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn one_file_serves_several_commands_and_a_pair_serves_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("run.toml"), "lr = 0.1\nlimit = 20\nmax = 1").unwrap();
    let arguments = ["data", "landcover", "--config", "run.toml"];
    let line = refused(path, &arguments, 2);
    assert_eq!(line, "error: run.toml:3:1: unknown setting max");
    std::fs::write(path.join("run.toml"), "lr = 0.1\nlimit = 20").unwrap();
    let output = lowbit(path, &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains(": 20 train"),
        "{}",
        stderr(&output)
    );
    let line = refused(path, &["data", "landcover", "--set", "lr=0.1"], 2);
    assert_eq!(line, "error: --set lr=0.1: this command does not use lr");
    let line = refused(path, &["data", "landcover", "--limit", "few"], 2);
    assert_eq!(line, "error: --limit few: limit must be a whole number");
}

#[test]
fn help_groups_settings_and_shows_defaults_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let help = |command: &str| stdout(&lowbit(folder.path(), &[command, "--help"]));
    let train = help("train");
    for part in [
        "\nTraining:\n",
        "\nData:\n",
        "[default: 0.001]",
        "[default: adam]",
        "[possible values: adam, sgd, nesterov]",
        "[possible values: eurosat-cnn, eurosat-res, eurosat-mobile, resnet8, resnet8-large, resnet20, lenet5, mlp]",
    ] {
        let filled = train.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            train.contains(part) || filled.contains(part),
            "{part}: {train}"
        );
    }
    assert!(
        !train.contains("--bits") && !train.contains("--seeds"),
        "{train}"
    );
    let seeds = |text: &str| {
        let at = text.find("--seeds").unwrap();
        text[at..]
            .find("[default: ")
            .map(|from| text.as_bytes()[at + from + 10])
    };
    assert_eq!(seeds(&help("qat-vs-ptq")), Some(b'3'));
    assert_eq!(seeds(&help("sweep")), Some(b'1'));
}

#[test]
fn a_sweep_takes_its_seeds_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let text = "model = \"mlp\"\nlimit = 20\nepochs = 1\nseeds = 2\nthreads = 1";
    std::fs::write(path.join("run.toml"), text).unwrap();
    let output = lowbit(path, &["sweep", "--widths", "1", "--config", "run.toml"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let runs = std::fs::read_dir(path.join("outputs/1bit")).unwrap();
    assert_eq!(runs.count(), 2);
}

#[test]
fn a_recipe_is_settings_that_flags_win_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let list = stdout(&lowbit(path, &["recipes"]));
    assert!(
        list.lines().all(|line| line.chars().count() <= 92),
        "{list}"
    );
    assert!(
        list.contains("cifar10-resnet8\n  resnet8 on CIFAR-10")
            && list.contains("not run to its end yet"),
        "{list}"
    );
    let toml = stdout(&lowbit(path, &["recipes", "cifar10-resnet8"]));
    assert!(toml.contains("optimizer = \"nesterov\""), "{toml}");
    let small = [
        "train",
        "--recipe=cifar10-resnet8",
        "--limit=20",
        "--epochs=1",
        "--model=mlp",
        "--image-size=16",
        "--json",
    ];
    let trained = lowbit(path, &small);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let results: serde_json::Value = serde_json::from_str(&stdout(&trained)).unwrap();
    let config = &results["config"];
    assert_eq!(config["optimizer"], "nesterov");
    assert_eq!(
        (&config["epochs"], &config["model"]),
        (&1.into(), &"mlp".into())
    );
    let line = refused(path, &["train", "--recipe=none-such"], 2);
    assert!(
        line.contains("use cifar10-resnet8 or cifar10-resnet8-large or"),
        "{line}"
    );
    let line = refused(path, &["recipes", "none-such"], 2);
    assert!(
        line.contains("use cifar10-resnet8 or cifar10-resnet8-large or"),
        "{line}"
    );
    let line = refused(path, &["qat-vs-ptq", "--start-from=m.safetensors"], 2);
    assert!(line.contains("--from"), "{line}");
    // What does not train takes none.
    assert_eq!(
        lowbit(path, &["data", "--recipe=eurosat-cnn"])
            .status
            .code(),
        Some(2)
    );
}
