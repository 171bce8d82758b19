//! AVX-512 with VNNI: vectors of sixteen sums.

pub(super) mod bits;
mod expand;
pub(super) mod format;
pub(super) mod i8;
pub(super) mod packed;
pub(super) mod store;
pub(super) mod tile;
