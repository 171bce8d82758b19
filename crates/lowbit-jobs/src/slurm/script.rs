//! The batch script of an array.

use crate::Resources;
use crate::files::quoted;
use crate::resources::show_time;
use crate::scheduler::{Batch, Job, Submission};
use std::fmt::Write;
use std::path::Path;

/// Seconds before the time limit at which Slurm is asked for a signal. The wrapper's own clock decides; this is a hint for
/// limits that it does not know.
const SIGNAL_S: u64 = 120;

/// Returns the script of the tasks of `batch`, whose numbers at the scheduler are their indices less `offset`.
#[must_use]
pub fn script(
    job: &Job,
    submission: &Submission,
    batch: &Batch,
    name: &str,
    offset: u32,
) -> String {
    let resources = &submission.resources;
    let experiment = &job.manifest.header.experiment;
    let log = job.folder.logs().join(format!("{experiment}_%A_%a.out"));
    let parallel = match resources.max_parallel {
        Some(most) if !batch.exclusive => format!("%{most}"),
        _ => String::new(),
    };
    let mut options = vec![
        format!("--job-name={name}"),
        format!("--array={}{parallel}", ranges(&batch.tasks, offset)),
        // What the path has of the pattern's and the quotes' own signs is escaped; the pattern stands behind the last slash.
        format!(
            "--output=\"{}/{experiment}_%A_%a.out\"",
            escaped(log.parent().unwrap_or(Path::new(".")))
        ),
        "--open-mode=append".into(),
        "--requeue".into(),
        "--kill-on-invalid-dep=yes".into(),
        "--nodes=1".into(),
        "--ntasks=1".into(),
        format!("--cpus-per-task={}", resources.cpus),
        format!("--mem={}M", resources.mem_mib),
        format!(
            "--signal=B:USR1@{}",
            resources
                .time_s
                .map_or(SIGNAL_S, |time| SIGNAL_S.min(time / 5).max(1))
        ),
    ];
    let texts = [
        ("time", resources.time_s.map(show_time)),
        ("partition", resources.partition.clone()),
        ("qos", resources.qos.clone()),
        ("account", resources.account.clone()),
        (
            "gres",
            (resources.gpus > 0).then(|| format!("gpu:{}", resources.gpus)),
        ),
        ("mail-user", resources.email.clone()),
        (
            "mail-type",
            resources.email.as_ref().map(|_| "END,FAIL".into()),
        ),
    ];
    options.extend(
        texts
            .into_iter()
            .filter_map(|(key, value)| Some(format!("--{key}={}", value?))),
    );
    if batch.exclusive && resources.exclusive {
        options.push("--exclusive".into());
    }
    let mut waits: Vec<String> = Vec::new();
    if batch.stage == 0 {
        waits.extend(resources.dependency.clone());
    }
    if !batch.after.is_empty() {
        // Whether they ended well or not: a failed width must not hide the others.
        waits.push(format!("afterany:{}", batch.after.join(":")));
    }
    if !waits.is_empty() {
        options.push(format!("--dependency={}", waits.join(",")));
    }
    options.extend(resources.extra.clone());
    let mut text = String::from("#!/bin/sh\n");
    for option in options {
        let _ = writeln!(text, "#SBATCH {option}");
    }
    if let Some(setup) = &resources.setup {
        let _ = writeln!(text, "{}", setup.trim_end());
    }
    let index = if offset == 0 {
        "\"$SLURM_ARRAY_TASK_ID\"".to_owned()
    } else {
        format!("$(({offset} + SLURM_ARRAY_TASK_ID))")
    };
    let logs = quoted(&job.folder.logs().display().to_string());
    let _ = writeln!(
        text,
        "LOWBIT_LOG={logs}/{experiment}_\"$SLURM_ARRAY_JOB_ID\"_\"$SLURM_ARRAY_TASK_ID\".out\nexport LOWBIT_LOG\nexec {}",
        command(job, resources, &index, None)
    );
    text
}

/// Returns the shell line that runs a task.
pub(super) fn command(job: &Job, resources: &Resources, index: &str, log: Option<&Path>) -> String {
    let mut line = format!(
        "{} task {} {index} --cpus {} --max-restarts {}",
        quoted(&job.manifest.header.binary.path.display().to_string()),
        quoted(&job.folder.manifest().display().to_string()),
        resources.cpus,
        resources.max_restarts,
    );
    if let Some(seconds) = resources.time_s {
        let _ = write!(line, " --time-limit-s {seconds}");
    }
    if let Some(log) = log {
        line = format!("LOWBIT_LOG={} {line}", quoted(&log.display().to_string()));
    }
    line
}

fn escaped(path: &Path) -> String {
    path.display()
        .to_string()
        .replace('%', "%%")
        .replace('"', "\\\"")
}

/// Writes ascending indices, less `offset`, as Slurm writes them: `0-3,7`.
fn ranges(tasks: &[u32], offset: u32) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for task in tasks.iter().map(|task| task - offset) {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == task => *last = task,
            _ => parts.push((task, task)),
        }
    }
    let text = |&(first, last): &(u32, u32)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::JobFolder;
    use crate::manifest::tests::manifest;
    use crate::scheduler::Engine;

    fn text(resources: Resources, batch: &Batch, offset: u32) -> String {
        let job = Job {
            folder: JobFolder::new("/out \"put\"/100%/jobs/sweep-1"),
            manifest: manifest(3),
            submissions: vec![],
        };
        let submission = Submission {
            number: 1,
            unix: 0,
            engine: Engine::Slurm,
            host: "login".into(),
            resources,
            token: "sweep-1.1".into(),
            arrays: vec![],
        };
        script(&job, &submission, batch, "sweep-1.1.0.0", offset)
    }

    fn batch(tasks: &[u32]) -> Batch {
        Batch {
            stage: 0,
            tasks: tasks.to_vec(),
            after: vec![],
            exclusive: false,
        }
    }

    #[test]
    fn memory_requeue_and_the_death_of_impossible_dependencies_are_always_asked_for() {
        let text = text(Resources::default(), &batch(&[0, 1, 2]), 0);
        for line in [
            "#SBATCH --array=0-2\n",
            "#SBATCH --mem=4096M\n",
            "#SBATCH --requeue\n",
            "#SBATCH --kill-on-invalid-dep=yes\n",
            "#SBATCH --open-mode=append\n",
            "#SBATCH --output=\"/out \\\"put\\\"/100%%/jobs/sweep-1/logs/sweep_%A_%a.out\"\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(
            !text.contains("--no-requeue")
                && !text.contains("--exclusive")
                && !text.contains("--time=")
        );
        assert!(
            text.contains(
                " task '/out \"put\"/100%/jobs/sweep-1/manifest.jsonl' \"$SLURM_ARRAY_TASK_ID\""
            ),
            "{text}"
        );
    }

    #[test]
    fn what_a_site_asks_for_is_passed_on() {
        let resources = Resources {
            cpus: 6,
            time_s: Some(5400),
            gpus: 1,
            max_parallel: Some(8),
            partition: Some("short".into()),
            qos: Some("low".into()),
            account: Some("bits".into()),
            dependency: Some("afterok:9".into()),
            email: Some("a@b.c".into()),
            extra: Some("--constraint=avx512 --nice=5".into()),
            setup: Some("module load x".into()),
            ..Resources::default()
        };
        let text = text(resources, &batch(&[0, 2, 3, 4, 9]), 0);
        for line in [
            "--array=0,2-4,9%8",
            "--cpus-per-task=6",
            "--time=01:30:00",
            "--gres=gpu:1",
            "--partition=short",
            "--qos=low",
            "--account=bits",
            "--dependency=afterok:9",
            "--mail-user=a@b.c",
            "--signal=B:USR1@120",
            "--constraint=avx512 --nice=5",
        ] {
            assert!(
                text.contains(&format!("#SBATCH {line}\n")),
                "{line}: {text}"
            );
        }
        assert!(text.contains("\nmodule load x\nLOWBIT_LOG="), "{text}");
        assert!(text.contains("--time-limit-s 5400"));
    }

    #[test]
    fn later_stages_wait_for_the_end_of_earlier_ones_good_or_bad() {
        let after = Batch {
            stage: 1,
            after: vec!["12".into(), "13".into()],
            exclusive: true,
            ..batch(&[1500])
        };
        let text = text(Resources::default(), &after, 1001);
        assert!(
            text.contains("--dependency=afterany:12:13\n") && !text.contains("afterok"),
            "{text}"
        );
        assert!(
            text.contains("--exclusive\n") && text.contains("--array=499\n"),
            "{text}"
        );
        assert!(text.contains("$((1001 + SLURM_ARRAY_TASK_ID))"), "{text}");
    }
}
