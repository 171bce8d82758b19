//! Memory: whether a training fits, before it begins, and what a model takes while it runs.

use crate::LabError;
use lowbit::Graph;
use lowbit_kernels::heap::CountedHeap;
use std::sync::Mutex;

/// Does `work`, and returns besides the most bytes of heap that were asked for at once meanwhile, beyond those before it. None
/// where [`CountedHeap`] is not the program's allocator, as in the Python package. What other threads ask for counts too.
pub(crate) fn heap_of<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    static ONE: Mutex<()> = Mutex::new(());
    let _alone = ONE.lock();
    CountedHeap.forget_most();
    let before = CountedHeap.now();
    let done = work();
    let most = CountedHeap.most();
    (done, (most > 0).then(|| most.saturating_sub(before) as u64))
}

/// Bytes of memory that a training takes for each parameter at most, which is while a checkpoint is written: weights,
/// gradients, the optimizer's moments and the copies that become the file. Measured: 64.4 for an `mlp` of 50 million
/// parameters, whose activations weigh nothing.
const BYTES_PER_PARAMETER: u64 = 64;

/// Checks that the training of `graph` fits into the memory that the system can give now.
///
/// # Errors
/// [`LabError::Memory`] where it does not. Systems that do not tell are not asked.
pub(crate) fn check(graph: &Graph) -> Result<(), LabError> {
    match available_bytes() {
        Some(available) => fits(graph, available),
        None => Ok(()),
    }
}

fn fits(graph: &Graph, available: u64) -> Result<(), LabError> {
    let parameters = graph.parameter_count() as u64;
    let needed = parameters.saturating_mul(BYTES_PER_PARAMETER);
    if needed <= available {
        return Ok(());
    }
    Err(LabError::Memory {
        model: graph.name().to_owned(),
        input: graph.input().to_string(),
        parameters,
        needed_gb: needed as f64 / 1e9,
        available_gb: available as f64 / 1e9,
    })
}

/// What Linux can give without swapping.
fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit::Shape;
    use lowbit::graph::zoo;

    #[test]
    fn a_training_that_does_not_fit_says_how_much_it_would_take() {
        let names = ["a", "b"].map(String::from);
        // 100·100·3·256 + 256 + 2·256 + 2 parameters and those of the layer between.
        let graph = zoo::build("mlp", Shape::new(100, 100, 3), &names).unwrap();
        let needed = 64 * graph.parameter_count() as u64;
        assert!(needed > 64 * 7_680_000);
        assert!(fits(&graph, needed).is_ok());
        let error = fits(&graph, needed - 1).unwrap_err().to_string();
        assert!(
            error.starts_with("mlp on 100×100×3: training its 7"),
            "{error}"
        );
        assert!(error.contains("use a smaller --image-size"), "{error}");
    }
}
