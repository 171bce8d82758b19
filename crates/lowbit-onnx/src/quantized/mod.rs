//! Models that are quantized already: their integers, as they stand in the file.
//!
//! `operators.rs` brings operators on integers (QLinearConv and others) to float operators between DequantizeLinear and
//! QuantizeLinear, so that there is one form; `pairs.rs` takes such pairs for what they are, a rounding to a grid; after the
//! import, `grids.rs` gives each rounding to the operator before it, and `integers.rs` makes a [`QuantizedModel`] of it all.
//!
//! [`QuantizedModel`]: lowbit::quant::QuantizedModel

mod grids;
mod integers;
mod operators;
mod pairs;

pub(crate) use grids::settle;
pub(crate) use integers::finish;
pub(crate) use operators::normalize;
pub(crate) use pairs::join;
