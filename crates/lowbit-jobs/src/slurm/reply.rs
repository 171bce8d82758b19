//! What Slurm's commands answer, read leniently: names and types of fields differ between versions.

use crate::scheduler::{Key, Seen};
use crate::state::Word;
use serde_json::Value;
use std::collections::BTreeMap;

/// Tasks by what Slurm calls them.
pub(super) type Reply = BTreeMap<Key, Seen>;

/// Reads `squeue --json`; none where it is not such a reply.
pub(super) fn squeue(text: &str) -> Option<Reply> {
    let reply: Value = serde_json::from_str(text).ok()?;
    let mut found = Reply::new();
    for job in reply.get("jobs")?.as_array()? {
        let states = words(&job["job_state"]);
        let Some(state) = states.first().cloned() else {
            continue;
        };
        let id = number(&job["job_id"]);
        let array = number(&job["array_job_id"]).filter(|&array| array > 0);
        let numbers = match (
            number(&job["array_task_id"]),
            job["array_task_string"].as_str(),
        ) {
            (_, Some(text)) if !text.is_empty() => numbers(text),
            (Some(one), _) if array.is_some() => vec![one as u32],
            _ => vec![],
        };
        let node = job["nodes"]
            .as_str()
            .or(job["job_resources"]["nodes"].as_str());
        let reason = words(&job["state_reason"])
            .first()
            .cloned()
            .unwrap_or_default();
        let seen = seen(
            &state,
            &states[1..].join(" "),
            &reason,
            exit(&job["exit_code"]),
            node.unwrap_or_default(),
        );
        add(&mut found, array.or(id), &numbers, seen);
    }
    Some(found)
}

/// Reads `scontrol --oneliner show job`.
pub(super) fn scontrol(text: &str) -> Reply {
    let mut found = Reply::new();
    for line in text.lines() {
        let field = |name: &str| {
            let at = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            at.filter(|value| *value != "(null)").unwrap_or_default()
        };
        let state = field("JobState");
        if state.is_empty() {
            continue;
        }
        let array = field("ArrayJobId").parse().ok();
        let id = array.or_else(|| field("JobId").parse().ok());
        let exit = field("ExitCode").to_owned();
        let seen = seen(state, "", field("Reason"), exit, field("NodeList"));
        add(&mut found, id, &numbers(field("ArrayTaskId")), seen);
    }
    found
}

/// Reads `sacct --parsable2 --noheader --allocations --format=JobID,State,ExitCode,NodeList`.
pub(super) fn sacct(text: &str) -> Reply {
    let mut found = Reply::new();
    for line in text.lines() {
        let mut fields = line.split('|');
        let (Some(id), Some(state)) = (fields.next(), fields.next()) else {
            continue;
        };
        let exit = fields.next().unwrap_or_default().to_owned();
        let node = fields.next().unwrap_or_default();
        let (id, rest) = id.split_once('_').unwrap_or((id, ""));
        let rest = rest.trim_start_matches('[').trim_end_matches(']');
        let seen = seen(state, "", "", exit, node);
        add(&mut found, id.parse().ok(), &numbers(rest), seen);
    }
    found
}

fn add(found: &mut Reply, id: Option<u64>, numbers: &[u32], seen: Seen) {
    let Some(id) = id else { return };
    let id = id.to_string();
    if numbers.is_empty() {
        found.insert(Key { id, number: None }, seen);
        return;
    }
    for &number in numbers {
        let key = Key {
            id: id.clone(),
            number: Some(number),
        };
        found.insert(key, seen.clone());
    }
}

/// The state comes before the exit code: a failed node leaves 0:0.
fn seen(state: &str, more: &str, reason: &str, exit: String, node: &str) -> Seen {
    // "CANCELLED by 1000", "CANCELLED+"
    let base = state
        .split([' ', '+'])
        .next()
        .unwrap_or_default()
        .to_ascii_uppercase();
    let word = match base.as_str() {
        "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT" | "SUSPENDED"
        | "RESV_DEL_HOLD" => Word::Waiting,
        "RUNNING" | "CONFIGURING" | "RESIZING" | "SIGNALING" | "STAGE_OUT" | "STOPPED" => {
            Word::Running
        }
        "COMPLETING" => Word::Ending,
        "COMPLETED" => Word::Completed,
        "CANCELLED" | "REVOKED" => Word::Cancelled,
        "TIMEOUT" | "DEADLINE" => Word::TimedOut,
        "PREEMPTED" => Word::Preempted,
        "NODE_FAIL" | "BOOT_FAIL" => Word::NodeFailed,
        "FAILED" | "OUT_OF_MEMORY" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => Word::Failed,
        // A state that a newer Slurm has: not known is not failed.
        _ => Word::Waiting,
    };
    // Its state_reason outlives the waiting that it explains.
    let says = match word {
        Word::Waiting if base == "PENDING" && reason == "None" => String::new(),
        Word::Waiting if base == "PENDING" => reason.into(),
        Word::Failed if !exit.is_empty() => format!("Slurm says {base}, exit code {exit}"),
        _ => format!("Slurm says {base}"),
    };
    let word = match word {
        // ["COMPLETED", "COMPLETING"]: its end is not yet the end.
        Word::Completed | Word::Failed if more.contains("COMPLETING") => Word::Ending,
        word => word,
    };
    Seen {
        word,
        says,
        node: (!node.is_empty() && node != "None assigned").then(|| node.into()),
    }
}

/// A number, or `{"set": true, "number": 5}` as newer versions have it.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Object(fields) => {
            let unset = fields.get("set").and_then(Value::as_bool) == Some(false);
            (!unset).then(|| fields.get("number")?.as_u64()).flatten()
        }
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}

/// A word, or a list of words as newer versions have it.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list
            .iter()
            .filter_map(|word| Some(word.as_str()?.to_owned()))
            .collect(),
        _ => vec![],
    }
}

/// The raw wait status of older versions, or the object of newer ones, as `code:signal`.
fn exit(value: &Value) -> String {
    if let Some(raw) = value.as_u64() {
        return format!("{}:{}", raw >> 8 & 255, raw & 127);
    }
    let code = number(&value["return_code"]).unwrap_or(0);
    let signal = number(&value["signal"]["id"])
        .or_else(|| number(&value["signal"]["signal_id"]))
        .unwrap_or(0);
    if value.is_object() {
        format!("{code}:{signal}")
    } else {
        String::new()
    }
}

/// Reads `1-3,7%2` and `0-6:2`; what it cannot read it leaves out.
fn numbers(text: &str) -> Vec<u32> {
    /// More than any site allows; a broken reply must not fill the memory.
    const MOST: u32 = 4_000_000;
    let text = text.trim_start_matches('[').trim_end_matches(']');
    let text = text.split(['%', ']']).next().unwrap_or_default();
    let mut all = Vec::new();
    for part in text.split(',') {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last), Ok(step)) = (
            first.parse::<u32>(),
            last.parse::<u32>(),
            step.parse::<usize>(),
        ) && step > 0
            && last < MOST
        {
            all.extend((first..=last).step_by(step));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(reply: &Reply, id: &str, number: impl Into<Option<u32>>) -> (Word, String) {
        let key = Key {
            id: id.into(),
            number: number.into(),
        };
        let seen = &reply[&key];
        (seen.word, seen.says.clone())
    }

    /// Replies of Slurm 22.05, shortened to the fields that are read.
    #[test]
    fn older_replies_are_read() {
        let reply = squeue(
            r#"{"meta": {}, "errors": [], "jobs": [
            {"job_id": 2, "array_job_id": 1, "array_task_id": 0, "array_task_string": "", "job_state": "RUNNING", "state_reason": "None", "exit_code": 0, "nodes": "vm"},
            {"job_id": 1, "array_job_id": 1, "array_task_id": null, "array_task_string": "1-3%1", "job_state": "PENDING", "state_reason": "JobArrayTaskLimit", "exit_code": 0, "nodes": ""},
            {"job_id": 9, "array_job_id": 0, "array_task_id": null, "array_task_string": "", "job_state": "FAILED", "state_reason": "NonZeroExitCode", "exit_code": 1792, "nodes": "vm"},
            {"job_id": 10, "array_job_id": 0, "array_task_id": null, "array_task_string": "", "job_state": "NODE_FAIL", "state_reason": "None", "exit_code": 0, "nodes": "vm"},
            {"job_id": 11, "array_job_id": 0, "array_task_string": "", "job_state": "COMPLETED", "state_reason": "JobArrayTaskLimit", "exit_code": 0, "nodes": "vm"}]}"#,
        )
        .unwrap();
        assert_eq!(at(&reply, "1", 0).0, Word::Running);
        assert_eq!(
            at(&reply, "1", 3),
            (Word::Waiting, "JobArrayTaskLimit".into())
        );
        assert_eq!(
            at(&reply, "9", None),
            (Word::Failed, "Slurm says FAILED, exit code 7:0".into())
        );
        // The state before the exit code, which is 0:0; and no reason that has outlived itself.
        assert_eq!(
            at(&reply, "10", None),
            (Word::NodeFailed, "Slurm says NODE_FAIL".into())
        );
        assert_eq!(
            at(&reply, "11", None),
            (Word::Completed, "Slurm says COMPLETED".into())
        );
        assert_eq!(reply.len(), 7);
    }

    /// In the form that the data parsers of Slurm 23.11 and later document.
    #[test]
    fn newer_replies_are_read() {
        let reply = squeue(
            r#"{"jobs": [
            {"job_id": 7, "array_job_id": {"set": true, "infinite": false, "number": 7}, "array_task_id": {"set": false, "infinite": false, "number": 0}, "array_task_string": "2,5-6", "job_state": ["PENDING"], "state_reason": "Priority", "exit_code": {"return_code": {"set": true, "number": 0}}},
            {"job_id": 8, "array_job_id": {"set": true, "number": 7}, "array_task_id": {"set": true, "number": 1}, "array_task_string": "", "job_state": ["FAILED"], "exit_code": {"status": ["SIGNALED"], "return_code": {"set": true, "number": 0}, "signal": {"id": {"set": true, "number": 9}, "name": "KILL"}}, "nodes": "n1"},
            {"job_id": 9, "array_job_id": {"set": true, "number": 7}, "array_task_id": {"set": true, "number": 3}, "job_state": ["COMPLETED", "COMPLETING"]},
            {"job_id": 12, "array_job_id": {"set": true, "number": 0}, "array_task_id": {"set": false, "number": 0}, "job_state": ["PREEMPTED"]},
            {"job_id": 13, "array_job_id": {"set": true, "number": 0}, "job_state": ["SOMETHING_NEW"]},
            {"job_id": 14}]}"#,
        )
        .unwrap();
        assert_eq!(at(&reply, "7", 6), (Word::Waiting, "Priority".into()));
        assert_eq!(
            at(&reply, "7", 1),
            (Word::Failed, "Slurm says FAILED, exit code 0:9".into())
        );
        assert_eq!(at(&reply, "7", 3).0, Word::Ending);
        assert_eq!(at(&reply, "12", None).0, Word::Preempted);
        assert_eq!(
            at(&reply, "13", None),
            (Word::Waiting, "Slurm says SOMETHING_NEW".into())
        );
    }

    #[test]
    fn what_is_no_reply_is_told_from_an_empty_one() {
        assert_eq!(squeue(r#"{"jobs": []}"#).unwrap().len(), 0);
        for text in [
            "",
            "slurm_load_jobs error: Unable to contact slurm controller",
            "{\"jobs\": 3}",
            "[]",
        ] {
            assert!(squeue(text).is_none(), "{text}");
        }
    }

    #[test]
    fn scontrol_and_sacct_are_read() {
        let reply = scontrol(
            "JobId=2 ArrayJobId=1 ArrayTaskId=0 JobName=wrap UserId=root(0) JobState=TIMEOUT Reason=TimeLimit Dependency=(null) ExitCode=0:15 NodeList=vm\n\
             JobId=1 ArrayJobId=1 ArrayTaskId=1-3%1 JobName=wrap JobState=PENDING Reason=Resources NodeList=(null)\n\
             JobId=5 JobName=wrap JobState=CANCELLED Reason=DependencyNeverSatisfied\n",
        );
        assert_eq!(at(&reply, "1", 0).0, Word::TimedOut);
        assert_eq!(at(&reply, "1", 2), (Word::Waiting, "Resources".into()));
        assert_eq!(at(&reply, "5", None).0, Word::Cancelled);
        assert!(scontrol("slurm_load_jobs error: Invalid job id specified").is_empty());
        let reply = sacct(
            "12_0|COMPLETED|0:0|n1\n12_1|CANCELLED by 1000|0:15|n1\n12_[4-6%2]|PENDING|0:0|None assigned\n13|OUT_OF_MEMORY|0:125|n2\n",
        );
        assert_eq!(at(&reply, "12", 0).0, Word::Completed);
        assert_eq!(at(&reply, "12", 1).0, Word::Cancelled);
        assert_eq!(at(&reply, "12", 5).0, Word::Waiting);
        assert_eq!(at(&reply, "13", None).0, Word::Failed);
    }

    #[test]
    fn numbers_of_an_array_are_read_and_nonsense_is_left_out() {
        assert_eq!(numbers("0-6:2,9%4"), [0, 2, 4, 6, 9]);
        assert_eq!(numbers("[3,5]"), [3, 5]);
        assert!(numbers("a-b,0-4294967295,1-2:0,").is_empty());
    }
}
