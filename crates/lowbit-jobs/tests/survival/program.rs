//! What the tasks of the tests run.

use lowbit_jobs::local::{Spool, serve};
use lowbit_jobs::task::{self, GO_ON_LATER, Inside};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Does what the arguments say if they are for a task; none if they are for the test.
pub(crate) fn run(arguments: &[String]) -> Option<ExitCode> {
    match arguments.first()?.as_str() {
        "queue" => {
            serve(&Spool::of_user(), &mut std::io::stdout()).expect("the queue serves");
            Some(ExitCode::SUCCESS)
        }
        "task" => Some(wrapper(&arguments[1..])),
        "work" => Some(work(&arguments[1..])),
        _ => None,
    }
}

fn wrapper(arguments: &[String]) -> ExitCode {
    let value = |flag: &str| {
        let at = arguments.iter().position(|word| word == flag)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let options = task::Options {
        time_limit_s: value("--time-limit-s"),
        max_restarts: value("--max-restarts").unwrap_or(10) as u32,
        cpus: value("--cpus").map(|cpus| cpus as u32),
        mem_mib: value("--mem-mib"),
    };
    let index = arguments[1].parse().expect("an index");
    match task::run(
        Path::new(&arguments[0]),
        index,
        options,
        &mut std::io::stdout(),
    ) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// `work FOLDER NAME STEPS MILLISECONDS HOW`: a chain of steps with a checkpoint behind each.
fn work(arguments: &[String]) -> ExitCode {
    let [folder, name, steps, ms, how] = arguments else {
        panic!("five arguments")
    };
    let (steps, ms): (u64, u64) = (
        steps.parse().expect("a number"),
        ms.parse().expect("a number"),
    );
    let file = Path::new(folder).join(format!("{name}.state"));
    let state = std::fs::read_to_string(&file).unwrap_or_else(|_| "0 1".into());
    let (done, mut chain) = state
        .split_once(' ')
        .map(|(a, b)| (a.parse::<u64>().unwrap(), b.parse::<u64>().unwrap()))
        .unwrap();
    println!("{name} begins behind step {done}");
    let inside = Inside::here();
    let mut held = Vec::new();
    for step in done + 1..=steps {
        if how == "grow" {
            held.push(vec![1_u8; 32 << 20]);
        }
        std::thread::sleep(Duration::from_millis(ms));
        chain = next(chain, step);
        if how == "fail" && step == steps {
            let why = format!("{name} cannot be done");
            eprintln!("error: {why}");
            inside.as_ref().inspect(|inside| inside.failed(&why));
            return ExitCode::from(3);
        }
        whole(&file, &format!("{step} {chain}"));
        if let Some(inside) = &inside
            && inside
                .checkpoint("step", step, steps, Some(step as f64 / steps as f64))
                .expect("progress is written")
        {
            return ExitCode::from(GO_ON_LATER);
        }
    }
    whole(
        &Path::new(folder).join(format!("{name}.result")),
        &format!("{steps} {chain}"),
    );
    ExitCode::SUCCESS
}

fn next(chain: u64, step: u64) -> u64 {
    chain
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(step)
}

/// What a run of so many steps that is never disturbed ends with.
pub(crate) fn undisturbed(steps: u64) -> String {
    let chain = (1..=steps).fold(1, next);
    format!("{steps} {chain}")
}

fn whole(path: &Path, text: &str) {
    let temporary = path.with_extension(format!("{}", std::process::id()));
    std::fs::write(&temporary, text).expect("the state is written");
    std::fs::rename(&temporary, path).expect("the state is renamed");
}
