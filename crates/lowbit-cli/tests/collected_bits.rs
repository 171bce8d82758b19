//! What is collected from tasks that were killed, requeued and late equals a run in one piece, to the bit.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/photos.rs"]
mod photos;

use common::place::{Place, signal};
use common::{names, stderr};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

const SWEEP: &str = "sweep --model mlp --limit 60 --image-size 16 --batch-size 16 --seeds 2";
const FEDERATION: &str = "--model mlp --limit 120 --image-size 16 --clients 3 --local-epochs 2 --up-bits 4 --partition shards:4 --fault 1=x3";

/// Epochs that take about six seconds on this machine: long enough to be disturbed, and to be late.
fn epochs(place: &Place) -> u64 {
    let begun = Instant::now();
    place.good("sweep --model mlp --limit 60 --image-size 16 --batch-size 16 --widths 8 --part train --epochs 8 --threads 1 --out trial --quiet");
    ((6.0 * 8.0 / begun.elapsed().as_secs_f64()) as u64).clamp(16, 600)
}

/// Every run folder below `out`.
fn runs(place: &Place, out: &str) -> Vec<PathBuf> {
    let out = place.path().join(out);
    let widths = names(&out).into_iter().filter(|name| name.ends_with("bit"));
    let of = |width: String| {
        let runs = names(&out.join(&width));
        runs.into_iter().map(move |run| Path::new(&width).join(run))
    };
    widths.flat_map(of).collect()
}

/// What of a run must be the same wherever and however often it was interrupted: all but times and speeds.
fn lasting(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let measured = |key: &str| {
                let words = [
                    "seconds",
                    "timestamp",
                    "img_per_s",
                    "speedup",
                    "machine",
                    "config",
                    "folder",
                    "overhead",
                ];
                words.iter().any(|word| key.contains(word))
            };
            let kept = map.iter().filter(|(key, _)| !measured(key));
            kept.map(|(key, value)| (key.clone(), lasting(value)))
                .collect()
        }
        Value::Array(list) => list.iter().map(lasting).collect(),
        other => other.clone(),
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The same runs, the same model files, the same accuracies, the same rows.
fn assert_equal(place: &Place, alone: &str, sent: &str, count: usize) {
    let expected = runs(place, alone);
    assert_eq!(expected.len(), count);
    assert_eq!(runs(place, sent), expected);
    for run in &expected {
        let [one, other] = [alone, sent].map(|out| place.path().join(out).join(run));
        let models = |folder: &Path| {
            let mut names = names(folder);
            names.retain(|name| name.starts_with("model_"));
            names
        };
        assert!(!models(&one).is_empty());
        assert_eq!(models(&one), models(&other), "{}", run.display());
        for model in models(&one) {
            let [a, b] = [&one, &other].map(|folder| std::fs::read(folder.join(&model)).unwrap());
            assert!(a == b, "{}/{model} differs", run.display());
        }
        let [a, b] =
            [&one, &other].map(|folder| lasting(&json(&folder.join("training_results.json"))));
        assert_eq!(a, b, "{}", run.display());
    }
    let [a, b] = [alone, sent].map(|out| {
        let all = json(&place.path().join(out).join("results_summary.json"));
        lasting(&all["widths"])
    });
    assert_eq!(a, b);
}

/// A sweep, its first task killed, its second requeued, all cancelled, then sent anew with too little time; and collected, as
/// often as it takes.
fn disturbed_sweep(place: &Place, on: &str, requeue: impl Fn(u32) -> bool) {
    let sweep = format!("{SWEEP} --widths 8,2 --epochs {}", epochs(place));
    place.good(&format!("{sweep} --out alone --quiet"));
    let submit = |time: &str| {
        let line = format!(
            "submit {sweep} --out sent --on {on} --cpus 1 --mem 1G --max-restarts 200 --time {time}"
        );
        place.json(&line)["sent"].as_array().unwrap().len()
    };
    assert_eq!(submit("20:00"), 6);
    place.disturb("sent", 0, 1, |_, experiment| signal(experiment, "KILL"));
    place.disturb("sent", 1, 1, |wrapper, _| requeue(wrapper));
    // Until it is at work again.
    place.disturb("sent", 1, 2, |_, _| {
        place.record("sent", 1, "started").unwrap()["attempt"] == 2
    });
    place.good("cancel --out sent");
    place.run(&["collect", "--out", "sent", "--quiet"]);
    assert!(submit("0:03") > 2);
    let mut collected = place.run(&["collect", "--out", "sent"]);
    for _ in 0..4 {
        if collected.status.success() {
            break;
        }
        // What had no checkpoint within three seconds, such as the measuring of speeds.
        let text = stderr(&collected);
        assert_eq!(collected.status.code(), Some(1), "{text}");
        assert!(
            text.contains("are not done; the same `lowbit submit` again"),
            "{text}"
        );
        assert!(submit("20:00") > 0);
        collected = place.run(&["collect", "--out", "sent"]);
    }
    assert!(collected.status.success(), "{}", stderr(&collected));
    assert_equal(place, "alone", "sent", 4);
    assert!(place.log("sent", 0).contains("killed (signal 9)"));
    assert!(place.log("sent", 1).contains("attempt 2"));
    let late = |task: &u32| {
        let log = place.log("sent", *task);
        log.contains("its time is up") || log.contains("no checkpoint within its time limit")
    };
    assert!((0..4).filter(late).count() > 0);
    // Nothing that is done runs again.
    assert_eq!(submit("20:00"), 0);
    // Speeds were measured in a task of their own, and the results say where.
    for run in runs(place, "sent") {
        let found = json(
            &place
                .path()
                .join("sent")
                .join(run)
                .join("training_results.json"),
        );
        let node = place.record("sent", 4, "outcome").unwrap()["host"].clone();
        assert_eq!(found["machine"]["host"], node);
        assert!(found["img_per_s"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_sweep_of_the_local_queue_ends_with_the_bits_of_a_run_in_one_piece() {
    let place = Place::new();
    disturbed_sweep(&place, "local", |wrapper| signal(wrapper, "TERM"));
}

#[test]
fn a_sweep_of_slurm_ends_with_the_bits_of_a_run_in_one_piece() {
    let Some(place) =
        Place::with_slurm("a_sweep_of_slurm_ends_with_the_bits_of_a_run_in_one_piece")
    else {
        return;
    };
    disturbed_sweep(&place, "slurm", |_| {
        let job = place.record("sent", 1, "started").unwrap()["job"].clone();
        place
            .tool("scontrol", &["requeue", job.as_str().unwrap()])
            .is_ok()
    });
}

#[test]
fn a_federation_goes_on_behind_its_last_round_to_the_same_bits() {
    let place = Place::new();
    let federation = format!("{FEDERATION} --rounds 12 --bits 4 --seed 3");
    place.good(&format!("federate {federation} --out alone --quiet"));
    let federation = federation.replace("--partition", "--deal");
    place.good(&format!(
        "submit federate {federation} --out sent --on local --cpus 1 --mem 1G"
    ));
    place.disturb("sent", 0, 1, |_, experiment| signal(experiment, "KILL"));
    place.disturb("sent", 0, 4, |wrapper, _| signal(wrapper, "KILL"));
    place.disturb("sent", 0, 7, |wrapper, _| signal(wrapper, "TERM"));
    place.good("collect --out sent");
    for out in ["alone", "sent"] {
        place.good(&format!("analyze {out} --quiet"));
    }
    assert_equal(&place, "alone", "sent", 1);
    let log = place.log("sent", 0);
    assert!(
        log.contains("resumed after round ") && log.contains("attempt 4"),
        "{log}"
    );
    let done = &place.tasks("sent")[0];
    assert_eq!(
        (&done["progress"]["unit"], &done["progress"]["step"]),
        (&"round".into(), &12.into())
    );
}

#[test]
fn a_federated_sweep_is_a_task_per_width_and_seed_and_ends_with_the_same_bits() {
    let place = Place::new();
    let sweep = format!("sweep --federated --widths 8,2 --seeds 2 --rounds 6 {FEDERATION}");
    place.good(&format!("{sweep} --out alone --quiet"));
    let sweep = sweep.replace("--partition", "--deal");
    // Side by side: none is stopped by what another has not finished.
    let sent = place.json(&format!(
        "submit {sweep} --out sent --on local --cpus 1 --mem 1G"
    ));
    assert_eq!(sent["sent"].as_array().unwrap().len(), 5);
    place.disturb("sent", 0, 1, |_, experiment| signal(experiment, "KILL"));
    place.good("collect --out sent");
    assert_equal(&place, "alone", "sent", 4);
    let names: Vec<_> = place
        .tasks("sent")
        .iter()
        .map(|task| task["name"].clone())
        .collect();
    assert_eq!(
        names,
        [
            "8bit_seed1",
            "2bit_seed1",
            "8bit_seed2",
            "2bit_seed2",
            "analysis"
        ]
    );
}

#[test]
fn one_of_the_seeds_is_trained_on_the_images_that_the_first_draws_for_all() {
    let place = Place::new();
    photos::photos(&place.path().join("photos"), &["cat", "dog"], 20, 5, true);
    let sweep =
        "sweep --data photos --model mlp --batch-size 8 --epochs 2 --widths 8 --part train --quiet";
    place.good(&format!("{sweep} --seeds 2 --out all"));
    place.good(&format!("{sweep} --seeds 2 --of-seed 2 --out apart"));
    let apart = runs(&place, "apart");
    assert_eq!(apart.len(), 1);
    assert!(apart[0].display().to_string().ends_with("_seed2"));
    let model = |out: &str, run: &Path| {
        std::fs::read(
            place
                .path()
                .join(out)
                .join(run)
                .join("model_8bit.safetensors"),
        )
        .unwrap()
    };
    assert!(model("all", &apart[0]) == model("apart", &apart[0]));
    // Alone, the second seed draws a split of its own: another run, with another name.
    place.good(&format!("{sweep} --seeds 1 --seed 2 --out alone"));
    assert_ne!(runs(&place, "alone"), apart);
    let output = place.run(&["sweep", "--of-seed", "2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--part"), "{}", stderr(&output));
}
