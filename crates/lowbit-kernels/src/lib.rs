//! Arithmetic on slices: the numerical floor of lowbit.
//!
//! This crate knows shapes and strides, and nothing of models. Every kernel has a scalar twin (`reference`) that defines its
//! result, an algorithm that stands once, and what each instruction set does of it in a place of its own. An [`Isa`], the
//! proof that this machine has a level, picks among them. Nothing here spawns threads: callers cut the work (images, output
//! rows) and hand out disjoint slices.
//!
//! All activations are channels-last (`[n, h, w, c]`), weights are `[out, kernel_h, kernel_w, in]` (OHWI) until they are
//! packed into a kernel's tile order.

// Where there is no folder of the instruction set, the scalar twins run alone, and nobody calls the algorithms above tiles.
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, unreachable_code, unused_imports, unused_variables)
)]

pub mod batch_norm;
pub mod bits;
pub mod buffer;
pub mod conv_f32;
pub mod depthwise;
pub mod elementwise;
pub mod epilogue;
pub mod geometry;
#[cfg(test)]
mod guard;
pub mod heap;
pub mod images;
mod isa;
mod lanes;
pub mod pages;
pub mod peak;
mod proof;
pub mod qconv;
pub mod random;
pub mod team;
mod vectorize;
pub mod width;

pub use buffer::AlignedBuffer;
pub use geometry::{ConvGeometry, WeightShape};
pub use images::ImagesGeometry;
pub use isa::{Isa, IsaError, Level};
pub use width::WeightWidth;
