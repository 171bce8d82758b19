//! What a user asks of Slurm arrives there: a real Slurm of one node.

#![cfg(target_os = "linux")]

mod common;

use common::place::Place;
use common::stdout;

const SWEEP: &str =
    "sweep --model mlp --limit 60 --image-size 16 --batch-size 16 --epochs 2 --widths 8,1";

/// What Slurm and the shell read otherwise stands in it.
const OUT: &str = r#"o%'"q$x"#;

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// What `scontrol show job` says, one line per job.
fn shown(place: &Place, id: &str) -> String {
    place.tool("scontrol", &["-o", "show", "job", id]).unwrap()
}

#[test]
fn flags_and_the_site_file_arrive_at_slurm() {
    let Some(place) = Place::with_slurm("flags_and_the_site_file_arrive_at_slurm") else {
        return;
    };
    std::fs::create_dir_all(place.path().join("config/lowbit")).unwrap();
    std::fs::write(
        place.path().join("config/lowbit/site.toml"),
        "partition = \"nowhere\"\nmem = \"300M\"\ntime = \"0:45\"\nemail = \"me@example.org\"\nextra = \"--nice=7 --comment=from-the-site\"\n\
         setup = \"LOWBIT_SITE_WAS_HERE=1; export LOWBIT_SITE_WAS_HERE; echo from-the-setup\"\naccount = \"vision\"\n",
    )
    .unwrap();
    let held = place
        .tool(
            "sbatch",
            &[
                "--parsable",
                "--hold",
                "--mem=16M",
                "--output=/dev/null",
                "--wrap=true",
            ],
        )
        .unwrap();
    let held = held.trim();
    let line = place.refused(&words(&format!(r"submit {SWEEP} --out o\b")), 2);
    assert!(line.contains("a path without a backslash"), "{line}");
    // Slurm's own words, once.
    let line = place.refused(&words(&format!("submit {SWEEP} --out {OUT}")), 2);
    assert!(
        line.starts_with("error: sbatch: ") && line.matches("nowhere").count() <= 1,
        "{line}"
    );
    assert!(line.contains("Invalid partition name specified"), "{line}");
    // Flags go over the site's file.
    let sent = place.json(&format!(
        "submit {SWEEP} --out {OUT} --partition test --cpus 1 --gpus 1 --max-parallel 1 --dependency afterany:{held}"
    ));
    let arrays: Vec<&str> = sent["arrays"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    assert_eq!(arrays.len(), 3);
    let [training, speeds, analysis] = [0, 1, 2].map(|stage: usize| shown(&place, arrays[stage]));
    for part in [
        "Partition=test",
        "Account=vision",
        "MinMemoryNode=300M",
        "TimeLimit=00:01:00",
        "MailUser=me@example.org",
        "MailType=END,FAIL",
        "Nice=7",
        "Comment=from-the-site",
        "TresPerNode=gres:gpu:1",
        "Requeue=1",
        "NumCPUs=1",
        "ArrayTaskThrottle=1",
        "JobState=PENDING",
    ] {
        assert!(training.contains(part), "{part}: {training}");
    }
    assert!(
        training.contains(&format!("Dependency=afterany:{held}(unfulfilled)")),
        "{training}"
    );
    assert!(
        training.contains("KillOInInvalidDependent=Yes")
            || training.contains("KillOnInvalidDependent=Yes"),
        "{training}"
    );
    assert!(
        speeds.contains(&format!("Dependency=afterany:{}", arrays[0])),
        "{speeds}"
    );
    assert!(
        analysis.contains(&format!("afterany:{}", arrays[1])),
        "{analysis}"
    );
    // Speeds are measured on a node of their own, what is trained shares one.
    assert!(
        speeds.contains("OverSubscribe=NO") && training.contains("OverSubscribe=OK"),
        "{speeds}"
    );
    // Slurm has a reason as soon as it has looked at the array, and is asked every ten seconds.
    let begun = std::time::Instant::now();
    while !place.tasks(OUT)[0]["reason"]
        .as_str()
        .is_some_and(|reason| reason.contains("Dependency"))
    {
        assert!(begun.elapsed().as_secs() < 40, "{}", place.tasks(OUT)[0]);
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    place.tool("scontrol", &["release", held]).unwrap();
    place.good(&format!("collect --out {OUT} --quiet"));
    let log = place.log(OUT, 0);
    assert!(log.starts_with("from-the-setup\n"), "{log}");
    assert!(
        log.contains("time limit: 00:00:45") && log.contains("Slurm job "),
        "{log}"
    );
    // Slurm calls its mailer when an array has ended.
    let mail = place.slurm().join("mail.log");
    let begun = std::time::Instant::now();
    while !std::fs::read_to_string(&mail)
        .unwrap_or_default()
        .contains("me@example.org")
    {
        assert!(begun.elapsed().as_secs() < 30, "no mail");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    // The whole view, from Slurm's tasks.
    assert_eq!(place.states(OUT), ["done"; 4]);
    let text = place.good(&format!("jobs --out {OUT}"));
    assert!(text.contains(": 4 done"), "{text}");
}

#[test]
fn a_site_s_own_wrapper_submits_task_by_task_and_stage_by_stage() {
    let Some(place) =
        Place::with_slurm("a_site_s_own_wrapper_submits_task_by_task_and_stage_by_stage")
    else {
        return;
    };
    let wrapper = place.path().join("submit-job.sh");
    std::fs::write(
        &wrapper,
        "#!/bin/sh\n# usage: submit-job.sh COMMAND --name NAME\nid=$(sbatch --parsable --mem=\"$MEM\" --cpus-per-task=\"$CPUS\" --job-name=\"$3\" --output=\"$LOG\" --wrap=\"$1\")\n\
         echo \"submitted as job $id\"\n",
    )
    .unwrap();
    let template = format!("sh {} \"$CMD\" --name \"$NAME\"", wrapper.display());
    let submit = || {
        let mut arguments = words("submit");
        arguments.extend(words(SWEEP));
        arguments.extend([
            "--template",
            &template,
            "--cpus",
            "1",
            "--mem",
            "256M",
            "--out",
            "o",
            "--json",
        ]);
        let output = place.run(&arguments);
        assert!(output.status.success(), "{}", common::stderr(&output));
        let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        report["arrays"].as_array().unwrap().len()
    };
    // Two trainings, then what reads them.
    for (stage, count) in [(0, 2), (1, 1), (2, 1)] {
        assert_eq!(submit(), count, "stage {stage}");
        let begun = std::time::Instant::now();
        while place
            .states("o")
            .iter()
            .filter(|state| *state == "done")
            .count()
            < [2, 3, 4][stage]
        {
            assert!(begun.elapsed().as_secs() < 120, "{:?}", place.tasks("o"));
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
    let name = shown(&place, place.tasks("o")[0]["job"].as_str().unwrap());
    assert!(
        name.contains("JobName=sweep-") && name.contains(".t0 "),
        "{name}"
    );
    assert!(place.good("logs 0 --out o").contains("== done after"));
    place.good("collect --out o --quiet");
}
