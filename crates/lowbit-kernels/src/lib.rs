//! Arithmetic on slices: the numerical floor of lowbit.
//!
//! This crate knows shapes and strides, and nothing of models. Every kernel has a scalar twin (`portable`) that defines
//! its result and one file per instruction set; [`Isa`] picks among them once. Nothing here spawns threads: callers cut
//! the work (images, output rows) and hand out disjoint slices.
//!
//! All activations are channels-last (`[n, h, w, c]`), weights are `[out, kernel_h, kernel_w, in]` (OHWI) until they are
//! packed into a kernel's tile order.

pub mod bits;
pub mod buffer;
pub mod elementwise;
pub mod float;
pub mod geometry;
#[cfg(test)]
mod guard;
mod isa;
pub mod norm;
pub mod packed;
pub mod peak;
pub mod random;
pub mod team;
mod tiles;
pub mod u8i8;
mod vectorize;

pub use buffer::AlignedBuffer;
pub use geometry::{ConvGeometry, WeightShape};
pub use isa::{Isa, IsaError, Level};
pub use packed::WeightWidth;

/// The former name of [`elementwise`].
pub mod quantize {
    pub use crate::elementwise::*;
}
