//! The experiments: one file each.

pub mod compare;
pub mod federate;
pub mod qat_vs_ptq;
pub mod sweep;
