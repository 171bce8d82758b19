//! From the nodes of a graph to a program of steps that training, quantization and inference share.
//!
//! `program.rs` has the steps, `from_graph.rs` makes them of nodes, `fuse/` the rewrites that let a step take up the node
//! behind it, `layout.rs` how values lie in memory, `plan.rs` the layouts of a program's values, `forms.rs` the program of
//! one kind of number with the conversions that it needs, `bands.rs` which steps run a few rows at a time, and `lifetimes.rs`
//! which values may share a buffer.

mod bands;
mod forms;
mod from_graph;
mod fuse;
mod layout;
mod lifetimes;
mod plan;
mod program;

pub(crate) use bands::{Band, Kept};
pub use forms::Numbers;
pub(crate) use forms::{ExecProgram, ExecStep, Mode, Work};
pub(crate) use layout::{ConvView, Layout, Window, linear_geometry};
pub(crate) use lifetimes::{Slot, Slots, Within, assign};
pub(crate) use plan::Plan;
pub use program::{BatchNormRef, Epilogue, Program, Step, ValueId};
