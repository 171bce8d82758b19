//! Rewrites of graphs: one file each, each from a model to an equal one. They bring what exporters write to the operators
//! that [`crate::import`] knows.

mod attention;
mod clip;
mod gelu;
mod hard_swish;
mod head;
mod identity;
mod layer_norm;
mod pattern;
mod shuffle;
mod silu;

use crate::error::Fault;
use crate::model::Model;

type Rewrite = fn(&mut Model) -> Result<(), Fault>;

/// All of them, in the order in which they run; constants are folded and shapes known before the first.
const REWRITES: &[Rewrite] = &[
    identity::rewrite,
    head::rewrite,
    clip::rewrite,
    hard_swish::rewrite,
    silu::rewrite,
    gelu::rewrite,
    layer_norm::rewrite,
    attention::rewrite,
    shuffle::rewrite,
];

/// Runs all rewrites.
pub(crate) fn normalize(model: &mut Model) -> Result<(), Fault> {
    for rewrite in REWRITES {
        rewrite(model)?;
        model.prune();
    }
    Ok(())
}
