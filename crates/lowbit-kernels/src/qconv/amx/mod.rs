//! AMX-INT8: `tdpbusd` multiplies 64 taps of sixteen pixels with 64 taps of sixteen output channels, 16,384 products in
//! one instruction.
//!
//! A *strip* is up to sixteen neighboring pixels of one row: in a channels-last view their taps lie a fixed step apart,
//! which is how a tile is loaded, straight from the image. Two strips (under pooling, of two rows of which the maxima are
//! stored) times the two vectors of a panel make four tiles of sums, whose products share their operands.
//!
//! The weights stay packed at their width; a panel's are laid out as tiles of bytes right before the rows that use them,
//! in a buffer of the thread. Sums are exact, so that the results are those of every other ISA.

mod product;
pub(super) mod run;
pub(super) mod shape;

pub(crate) use product::{configure, release};
