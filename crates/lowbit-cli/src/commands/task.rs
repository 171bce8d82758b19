//! `lowbit task`: what a scheduler runs, and `lowbit queue`: what serves this machine's own queue.

use crate::failure::Failure;
use crate::jobs_args::TaskArgs;
use lowbit_jobs::local::{Spool, serve};
use lowbit_jobs::task;
use std::process::ExitCode;

pub(super) fn run(arguments: &TaskArgs) -> Result<ExitCode, Failure> {
    let index = match arguments.index {
        Some(index) => index,
        None => from_slurm()?,
    };
    let options = task::Options {
        time_limit_s: arguments.time_limit_s,
        max_restarts: arguments.max_restarts,
        cpus: arguments.cpus,
        mem_mib: arguments.mem_mib,
    };
    let code = task::run(&arguments.manifest, index, options, &mut std::io::stdout())?;
    Ok(ExitCode::from(code))
}

fn from_slurm() -> Result<u32, Failure> {
    let text = std::env::var("SLURM_ARRAY_TASK_ID").unwrap_or_default();
    text.parse()
        .map_err(|_| Failure::Input("no index: give one, or run it in a Slurm array".into()))
}

pub(super) fn queue() -> Result<(), Failure> {
    Ok(serve(&Spool::of_user(), &mut std::io::stdout())?)
}
