//! What a submitted experiment reads: it decides the job's name, and what cannot be is refused before anything is sent.

#![cfg(target_os = "linux")]

mod common;

use common::place::Place;
use common::stderr;

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn other_files_that_a_task_reads_make_another_job() {
    let place = Place::new();
    let path = place.path();
    for class in ["cats", "dogs"] {
        let folder = path.join("photos").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("1.png"), class).unwrap();
    }
    std::fs::write(path.join("train.txt"), "cats/1.png").unwrap();
    std::fs::write(path.join("test.txt"), "dogs/1.png").unwrap();
    let line = "submit sweep --data photos --split train.txt,test.txt --on local --dry-run --json";
    let job = || -> serde_json::Value {
        let output = place.good(line);
        serde_json::from_str(&output).unwrap()
    };
    let first = job();
    assert_eq!(first["job"], job()["job"]);
    assert_eq!(first["header"]["files"].as_array().unwrap().len(), 2);
    // Tasks of Flower start in another folder.
    let here = path.canonicalize().unwrap().join("train.txt");
    let argv = first["tasks"][0]["argv"].to_string();
    assert!(argv.contains(here.to_str().unwrap()), "{argv}");
    std::fs::write(path.join("train.txt"), "dogs/1.png").unwrap();
    assert_ne!(first["job"], job()["job"]);
    // A file's bits are those of the federation's model, too.
    std::fs::write(path.join("four.toml"), "bits = 4").unwrap();
    let federation = |more: &str| {
        let line = format!("submit federate --config four.toml {more}--on local");
        place.json(&format!("{line} --dry-run"))["tasks"][0]["argv"].to_string()
    };
    assert!(federation("").contains("--bits=4"));
    assert!(federation("--bits 8 ").contains("--bits=8"));
    let found = place.refused(
        &words("submit sweep --data photos --on local --out photos/outputs"),
        2,
    );
    assert!(
        found.contains("photos/outputs: it lies in the data"),
        "{found}"
    );
}

#[test]
fn bad_input_gets_one_line() {
    let place = Place::new();
    let cores = std::thread::available_parallelism().unwrap();
    for (more, part) in [
        ("--time soon", "--time soon: expected minutes"),
        ("--time -5", "--time -5: expected minutes"),
        ("--mem lots", "--mem lots: expected MiB"),
        ("--mem 900T", "--mem 943718400M: the local queue has "),
        ("--cpus 0", "--cpus 0: expected at least 1"),
        (
            "--cpus 9999",
            &format!("--cpus 9999: this machine has {cores} cores"),
        ),
        ("--max-parallel 0", "--max-parallel 0"),
        ("--on mars", "--on mars: expected slurm or local"),
        (
            "--widths 7",
            "--widths 7: 7-bit weights: use 32, 16, 8, 4, 2 or 1",
        ),
        ("--data nowhere", "nowhere: cannot see the data"),
        ("--data eurosat", "fetch it once with `lowbit data eurosat`"),
        ("--site none.toml", "none.toml: cannot read"),
        (
            "--model nothing",
            "--model nothing: no model of the zoo; use ",
        ),
        (
            "--teacher none.safetensors",
            "--teacher none.safetensors: there is no such file",
        ),
        (
            "--start-from none.safetensors",
            "--start-from none.safetensors: there is no such file",
        ),
        (
            "--split train.txt,test.txt",
            "--split train.txt: there is no such file",
        ),
        ("--lr fast", "lr"),
        (
            "--federated --partition @table.json",
            "use --deal @table.json to spread the images",
        ),
        ("--federated --epochs 3", "--rounds and --local-epochs"),
        (
            "--federated --partition shards:2",
            "use --deal shards:2 to spread the images",
        ),
    ] {
        let mut line = words("submit sweep --out o --on local");
        if more.starts_with("--on") {
            line.truncate(4);
        }
        line.extend(more.split(' '));
        let found = place.refused(&line, 2);
        assert!(found.contains(part), "{more}: {found}");
    }
    // What Flower needs, and what no federation has.
    for (line, part) in [
        (
            "submit federate --transport flower --out o --on slurm",
            "needs the Python package",
        ),
        ("flower client 0", "needs the Python package"),
        (
            "submit federate --epochs 3 --out o --on local",
            "--rounds and --local-epochs",
        ),
    ] {
        let found = place.refused(&words(line), 2);
        assert!(found.contains(part), "{line}: {found}");
    }
    // Nothing was begun.
    assert!(!place.path().join("o").exists());
    for line in ["jobs", "logs 0", "cancel", "collect"] {
        let found = place.refused(&words(line), 2);
        assert!(
            found.contains("outputs/jobs: no job here; submit one, or give its --out"),
            "{line}: {found}"
        );
    }
    std::fs::write(
        place.path().join("site.toml"),
        "mem = \"8G\"\npartitoin = \"short\"\n",
    )
    .unwrap();
    let found = place.refused(&words("submit sweep --site site.toml"), 2);
    assert!(
        found.contains("site.toml:2: unknown field `partitoin`"),
        "{found}"
    );
    for line in [
        "submit",
        "submit train",
        "submit sweep --nothing",
        "logs",
        "submit sweep --rounds 3",
    ] {
        let output = place.run(&words(line));
        assert_eq!(output.status.code(), Some(2), "{line}: {}", stderr(&output));
    }
}

#[test]
fn a_large_number_is_one_in_the_tasks_too() {
    let place = Place::new();
    let line = "submit sweep --model mlp --limit 60 --batch-size 16 --epochs 2 --widths 8 --lr 1e30 --on local --dry-run --out o";
    let argv = place.json(line)["tasks"][0]["argv"].clone();
    let argv: Vec<&str> = argv
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|word| word.as_str())
        .collect();
    assert!(argv.contains(&"lr=1e30"), "{argv:?}");
    // It is read, and then the training says what is wrong with it.
    let line = place.refused(&argv, 1);
    assert!(
        line.contains("8 bits, seed 1: epoch ") && line.contains("training diverged"),
        "{line}"
    );
}
