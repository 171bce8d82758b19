//! AVX2 with FMA: vectors of eight sums.

pub(crate) mod bits;
pub(super) mod i16;
pub(super) mod i8;
pub(super) mod packed;
pub(super) mod store;
pub(super) mod tile;
pub(super) mod winograd;
