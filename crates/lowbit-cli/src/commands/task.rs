//! `lowbit task`: what a scheduler runs, and `lowbit queue`: what serves this machine's own queue.

use crate::failure::Failure;
use crate::jobs_args::TaskArgs;
use lowbit_jobs::local::{Spool, serve};
use lowbit_jobs::task;

pub(super) fn run(arguments: &TaskArgs) -> Result<u8, Failure> {
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
    let manifest = &arguments.manifest;
    Ok(task::run(manifest, index, options, &mut std::io::stdout())?)
}

fn from_slurm() -> Result<u32, Failure> {
    let text = std::env::var("SLURM_ARRAY_TASK_ID").unwrap_or_default();
    text.parse()
        .map_err(|_| Failure::Input("no index: give one, or run it in a Slurm array".into()))
}

pub(super) fn queue() -> Result<(), Failure> {
    Ok(serve(&Spool::of_user(), &mut std::io::stdout())?)
}
