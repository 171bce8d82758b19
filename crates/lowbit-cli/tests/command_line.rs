//! What a user sees and what is left on the disk: the binary, run as a whole.

mod common;

use common::{QUICK, command, lowbit, names, refused, stderr, stdout};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

#[test]
fn help_of_every_command_has_an_example_and_fits_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let commands = [
        "",
        "compare",
        "train",
        "quantize",
        "eval",
        "bench",
        "inspect",
        "export",
        "data",
        "qat-vs-ptq",
        "sweep",
        "federate",
        "analyze",
        "completions",
        "man",
    ];
    for name in commands {
        let mut arguments = vec![name, "--help"];
        arguments.retain(|argument| !argument.is_empty());
        let output = lowbit(folder.path(), &arguments);
        let text = stdout(&output);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        assert!(text.contains("Example"), "{name}: {text}");
        assert!(text.contains("--json"), "{name}");
    }
}

#[test]
fn bad_input_gets_one_line_with_the_place_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("broken.safetensors"), b"not a model").unwrap();
    std::fs::write(path.join("bad.toml"), "epochs = \"many\"").unwrap();
    std::fs::create_dir(path.join("empty")).unwrap();
    for (arguments, parts) in [
        (&["compare", "--data", "nowhere"][..], &["nowhere"][..]),
        (&["compare", "--data", "empty"], &["empty"]),
        (
            &["compare", "--model", "vgg"],
            &[
                "vgg",
                "eurosat-cnn, eurosat-res, eurosat-mobile, resnet8, resnet8-large, resnet20, lenet5, mlp",
            ],
        ),
        (
            &["compare", "--set", "epoch=3"],
            &["epoch", "did you mean epochs?"],
        ),
        (
            &["compare", "--config", "bad.toml"],
            &["bad.toml", "epochs"],
        ),
        (&["compare", "--config", "none.toml"], &["none.toml"]),
        (
            &["compare", "--lr", "-1"],
            &["lr must be a positive number"],
        ),
        (
            &["compare", "--image-size", "8", "--limit", "10"],
            &["conv"],
        ),
        (
            &["compare", "--from", "broken.safetensors"],
            &["broken.safetensors"],
        ),
        (
            &["eval", "broken.safetensors"],
            &["broken.safetensors", "not a usable model file"],
        ),
        (
            &["inspect", "none.safetensors"],
            &["none.safetensors", "cannot read"],
        ),
        (
            &["qat-vs-ptq", "--bits", "3"],
            &["bits", "16, 8, 4, 2 or 1"],
        ),
        (&["compare", "--bits", "4"], &["bits 4", "INT8"]),
        (&["sweep", "--bits", "4"], &["bits 4", "--widths 32,4"]),
    ] {
        let line = refused(path, arguments, 2);
        for part in parts {
            assert!(line.contains(part), "{arguments:?} lacks {part}: {line}");
        }
    }
}

#[test]
fn what_is_left_out_of_the_data_is_said_and_stands_in_the_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in ["train/a", "train/b", "test", "train/empty"] {
        std::fs::create_dir_all(path.join("set").join(name)).unwrap();
    }
    let image = include_bytes!("../../lowbit-data/tests/fixtures/half_red_16x8.jpg");
    for name in ["train/a/1", "train/a/2", "train/b/1", "train/b/2", "test/1"] {
        std::fs::write(path.join("set").join(name).with_extension("jpg"), image).unwrap();
    }
    let output = lowbit(path, &["data", "set", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("note: left out test/ with 1 image"),
        "{}",
        stderr(&output)
    );
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let notes = results["notes"].as_array().unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[1]
            .as_str()
            .unwrap()
            .starts_with("class `empty` has no images")
    );
    std::fs::write(path.join("m.safetensors"), "<!DOCTYPE html><html>").unwrap();
    let line = refused(path, &["eval", "m.safetensors"], 2);
    assert!(
        line.contains("m.safetensors: no model, but an HTML page"),
        "{line}"
    );
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1";
    std::fs::write(path.join("m.onnx"), pointer).unwrap();
    let line = refused(path, &["eval", "m.onnx"], 2);
    assert!(line.contains("m.onnx: no model, but a Git LFS"), "{line}");
}

#[test]
fn an_unknown_instruction_set_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path(), &["bench"])
        .env("LOWBIT_ISA", "sse9")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("use portable, avx2, avxvnni, avx512 or amx"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn compare_leaves_results_and_models_and_prints_json_alone_on_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut arguments = vec!["compare", "--json", "--out", "here"];
    arguments.extend(QUICK);
    let output = lowbit(path, &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for pointer in [
        "/training/epochs/2/test_accuracy",
        "/comparison/fp32/size_mb",
        "/comparison/int8/inference_time_ms",
        "/comparison/comparison/compression_ratio",
        "/comparison/comparison/accuracy_drop_points/low",
        "/speed/0/speedup/median",
        "/layers/0/quantized_gmac_per_s",
        "/machine/cpu",
        "/config/seed",
    ] {
        assert!(results.pointer(pointer).is_some(), "{pointer} is missing");
    }
    let written = path.join("here/real_quantization_comparison");
    let expected = [
        "checkpoint.safetensors",
        "comparison_results.json",
        "model_fp32.safetensors",
        "model_int8.safetensors",
    ];
    assert_eq!(names(&written), expected);
    let size = std::fs::metadata(written.join("model_int8.safetensors"))
        .unwrap()
        .len();
    assert_eq!(
        results.pointer("/comparison/int8/size_bytes").unwrap(),
        size
    );
    assert_eq!(results.pointer("/data/synthetic").unwrap(), true);
    // The parts agree with the whole.
    let model = written.join("model_int8.safetensors");
    let mut arguments = vec!["eval", model.to_str().unwrap(), "--json"];
    arguments.extend(["--limit", "60"]);
    let again: serde_json::Value =
        serde_json::from_slice(&lowbit(path, &arguments).stdout).unwrap();
    assert_eq!(
        again["accuracy_percent"],
        results["comparison"]["int8"]["accuracy_percent"]
    );
    let inspected = stdout(&lowbit(path, &["inspect", model.to_str().unwrap()]));
    assert!(
        inspected.contains("fc1") && inspected.contains("integer, static"),
        "{inspected}"
    );
}

#[test]
fn a_sweep_writes_a_run_per_width_and_does_not_repeat_a_finished_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["sweep", "--widths", "32,4,1"];
    arguments.extend(QUICK);
    let first = lowbit(folder.path(), &arguments);
    assert!(first.status.success(), "{}", stderr(&first));
    let out = folder.path().join("outputs");
    for width in ["32bit", "4bit", "1bit"] {
        let runs = names(&out.join(width));
        assert_eq!(runs.len(), 1, "{runs:?}");
        let files = names(&out.join(width).join(&runs[0]));
        assert!(
            files.contains(&"training_results.json".to_owned()),
            "{files:?}"
        );
        assert!(
            files.contains(&"compression_metrics.json".to_owned()),
            "{files:?}"
        );
    }
    assert!(stdout(&first).contains("sweet spot"), "{}", stdout(&first));
    let finished = |output: &Output| stderr(output).matches("finished earlier").count();
    let again = lowbit(folder.path(), &arguments);
    assert_eq!(finished(&again), 3, "{}", stderr(&again));
    assert_eq!(stdout(&again), stdout(&first));
    // What is chosen automatically is the same run when it is asked for; f32 has no quantizer at all.
    for (quantizer, same) in [("lsq", 3), ("absmax", 1)] {
        let mut arguments = arguments.clone();
        arguments.extend(["--quantizer", quantizer]);
        let other = lowbit(folder.path(), &arguments);
        assert_eq!(finished(&other), same, "{quantizer}: {}", stderr(&other));
    }
}

#[test]
fn several_jobs_make_the_same_models_as_one() {
    let models = |jobs: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = vec!["sweep", "--widths", "8,1", "--seeds", "2", "--jobs", jobs];
        arguments.extend(QUICK);
        let output = lowbit(folder.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let mut models = Vec::new();
        for width in ["8bit", "1bit"] {
            let out = folder.path().join("outputs").join(width);
            let mut runs = names(&out);
            runs.sort_by_key(|run| run.chars().last());
            for run in runs {
                let file = format!("model_{width}.safetensors");
                models.push(std::fs::read(out.join(run).join(file)).unwrap());
            }
        }
        models
    };
    let one = models("1");
    assert_eq!(one.len(), 4);
    assert!(one == models("3"), "models differ");
}

#[test]
fn a_sweep_starts_warm_and_teaches_itself_at_any_number_of_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = |jobs: &str| {
        let mut arguments = vec!["sweep", "--widths", "4,32", "--seeds", "2", "--jobs", jobs];
        arguments.extend(["--warm-start", "--teacher", "fp32"]);
        arguments.extend(QUICK);
        let output = lowbit(folder.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        output
    };
    let first = sweep("4");
    let table = stdout(&first);
    assert!(table.contains("4 (after 32, taught by 32)"), "{table}");
    let again = stderr(&sweep("1"));
    assert_eq!(again.matches("finished earlier").count(), 4, "{again}");
    let line = refused(
        folder.path(),
        &["train", "--teacher", "fp32", "--limit", "20"],
        2,
    );
    assert!(
        line.contains("nothing was trained before that could teach"),
        "{line}"
    );
    let line = refused(
        folder.path(),
        &[
            "sweep",
            "--widths",
            "4",
            "--teacher",
            "fp32",
            "--limit",
            "20",
        ],
        2,
    );
    assert!(line.contains("add 32 to --widths"), "{line}");
    let line = refused(folder.path(), &["sweep", "--federated", "--warm-start"], 2);
    assert!(line.contains("warm_start: a federation begins"), "{line}");
}

#[test]
fn submitted_widths_that_need_each_other_are_one_task_of_their_seed() {
    let folder = tempfile::tempdir().unwrap();
    let submit = "submit sweep --model mlp --widths 32,4,2 --seeds 2 --on slurm --dry-run --out o";
    for flags in [&["--warm-start"][..], &["--teacher", "fp32"]] {
        let mut arguments: Vec<&str> = submit.split(' ').collect();
        arguments.extend(flags);
        let text = stdout(&lowbit(folder.path(), &arguments));
        for part in [
            "#SBATCH --array=0-1\n",
            "# task 1, widths_seed2\n",
            "--widths 32,4,2 --part train",
            "--of-seed 2",
            "# task 3, analysis\n",
        ] {
            assert!(text.contains(part), "{flags:?}, {part}: {text}");
        }
    }
}

#[test]
fn a_sweep_lends_its_trainings_to_the_head_to_head() {
    let folder = tempfile::tempdir().unwrap();
    let mut sweep = vec!["sweep", "--widths", "32,2", "--seeds", "1"];
    sweep.extend(QUICK);
    assert!(lowbit(folder.path(), &sweep).status.success());
    let mut arguments = vec![
        "qat-vs-ptq",
        "--bits",
        "2",
        "--seeds",
        "1",
        "--runs",
        "outputs",
    ];
    arguments.extend(QUICK);
    let output = lowbit(folder.path(), &arguments);
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("taken from").count(), 2, "{text}");
    assert!(
        !text.contains("epoch  1/"),
        "nothing is trained again: {text}"
    );
    // With other settings nothing fits, and all is trained.
    arguments.extend(["--lr", "0.002"]);
    let text = stderr(&lowbit(folder.path(), &arguments));
    assert_eq!(text.matches("taken from").count(), 0, "{text}");
    assert!(text.contains("epoch  1/"), "{text}");
}

#[test]
fn quiet_prints_where_the_results_are_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["train", "--quiet"];
    arguments.extend(QUICK);
    let output = lowbit(folder.path(), &arguments);
    assert_eq!(
        stdout(&output).trim(),
        Path::new("outputs/train").display().to_string()
    );
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let run = |out: &str, resume: bool| {
        let mut arguments = vec!["train", "--quiet", "--out", out];
        arguments.extend(QUICK);
        arguments.extend(["--set", "epochs=12"]);
        let keep: Vec<&str> = arguments
            .iter()
            .copied()
            .filter(|&a| a != "--epochs")
            .collect();
        let at = keep
            .iter()
            .position(|&a| a == "3")
            .expect("the epochs of QUICK");
        let mut keep = keep;
        keep.remove(at);
        keep.extend(["--augment", "dihedral,shift:2"]);
        if resume {
            keep.push("--resume");
        }
        command(path, &keep)
    };
    let whole = run("whole", false).output().unwrap();
    assert!(whole.status.success(), "{}", stderr(&whole));
    let mut child = run("killed", false).spawn().unwrap();
    let checkpoint = path.join("killed/train/checkpoint.safetensors");
    let start = Instant::now();
    while !checkpoint.exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = run("killed", true).output().unwrap();
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    let model = |out: &str| std::fs::read(path.join(out).join("train/model_fp32.safetensors"));
    assert_eq!(model("killed").unwrap(), model("whole").unwrap());
    let left = names(&path.join("killed/train"));
    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
    // Other settings are refused, not mixed in.
    let mut other = vec!["train", "--out", "killed", "--resume"];
    other.extend(QUICK);
    let line = refused(path, &other, 2);
    assert!(line.contains("epochs = 12") && line.contains("3"), "{line}");
    let at = other.iter().position(|&a| a == "3").expect("the epochs");
    other[at] = "12";
    let line = refused(path, &other, 2);
    assert!(
        line.contains("augment = dihedral,shift:2") && line.contains("none"),
        "{line}"
    );
}

#[test]
fn a_model_of_other_images_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut arguments = vec!["train", "--quiet"];
    arguments.extend(QUICK);
    lowbit(path, &arguments);
    let model = "outputs/train/model_fp32.safetensors";
    let line = refused(
        path,
        &["eval", model, "--image-size", "32", "--limit", "10"],
        2,
    );
    assert!(
        line.contains("64×64×3") && line.contains("leave --image-size out"),
        "{line}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_one_line_with_the_file_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut arguments = vec!["train", "--quiet"];
    arguments.extend(QUICK);
    lowbit(path, &arguments);
    let model = "outputs/train/model_fp32.safetensors";
    let line = refused(
        path,
        &[
            "quantize",
            model,
            "--method",
            "dynamic",
            "-o",
            "/dev/full/x",
        ],
        2,
    );
    assert!(
        line.contains("/dev/full/x") && line.contains("a folder that is not there"),
        "{line}"
    );
}
