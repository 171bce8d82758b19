//! The `lowbit` program.

use lowbit_kernels::heap::CountedHeap;
use std::ffi::OsString;
use std::process::ExitCode;

/// Counts what is on the heap, so that `recommend` can say what a model takes.
#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(lowbit_cli::run(&arguments))
}
