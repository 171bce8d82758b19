//! Experiments that are sent away instead of run: manifests, Slurm arrays, a local queue, and tasks that survive.
//!
//! A [`Manifest`] freezes every setting of every task when it is submitted; a task reads its own line and writes into its
//! own folder only. What became of a task is decided by its own records first ([`records`]) and by what the scheduler says
//! second ([`state`]). This crate knows commands and result files, not models.

pub mod collect;
pub mod data_mark;
pub mod error;
mod files;
pub mod folder;
pub mod local;
pub mod manifest;
pub mod records;
pub mod resources;
pub mod scheduler;
pub mod site;
pub mod slurm;
pub mod state;
pub mod submit;
pub mod task;
pub mod view;

pub use error::JobError;
pub use folder::JobFolder;
pub use manifest::{Manifest, Task};
pub use resources::Resources;
pub use state::State;
