//! The experiments: one file each, and the rooms that they share: what they begin with ([`inputs`], [`unseen`], [`preprocessing`]), what they
//! find ([`results`], [`learning`]) and what they leave ([`artifacts`]).

pub mod artifacts;
pub mod compare;
pub mod doctor;
pub mod federate;
pub mod inputs;
pub mod learning;
pub mod preprocessing;
pub mod qat_vs_ptq;
pub mod recommend;
pub mod results;
pub mod sweep;
pub mod train;
pub mod unseen;
