//! What the engine asks of an operator's executable form.

use super::workspace::Inputs;
use crate::lower::Layout;
use lowbit_kernels::team::Team;
use std::ops::Range;

/// One operator compiled for one kind of number.
pub(super) trait Kernel: Send + Sync {
    /// Computes a rectangle of the result for one image, or the whole result for several.
    fn run(&self, call: Call<'_>);

    /// Whether rectangles of the result can be computed by themselves.
    fn is_divisible(&self) -> bool {
        false
    }

    /// Whether threads that share one image should share its channels, not its pixels: the team comes with the call.
    fn shares_channels(&self) -> bool {
        false
    }

    /// How many rows belong together, where threads that share one image should share such; none where any pixel is as good.
    fn shared_rows(&self) -> Option<usize> {
        None
    }

    /// Whether it fills the result's halo too, and so gets its output from the image's first element on, halo included.
    fn writes_halo(&self) -> bool {
        false
    }
}

/// One piece of work for [`Kernel::run`].
pub(super) struct Call<'a> {
    pub(super) inputs: Inputs<'a>,
    /// Rows to compute (after pooling).
    pub(super) rows: Range<usize>,
    /// Columns to compute (after pooling); all of them but for convolutions.
    pub(super) columns: Range<usize>,
    /// Threads that may share the work.
    pub(super) team: Option<&'a Team>,
    /// Images to compute; each lies `image_len` behind the last.
    pub(super) images: usize,
    /// Where they go, from the first pixel to compute.
    pub(super) out: Out<'a>,
}

/// Where results go.
pub(super) enum Out<'a> {
    F32(&'a mut [f32]),
    U8(&'a mut [u8]),
}

impl<'a> Out<'a> {
    /// From some element on.
    pub(super) fn from(&mut self, first: usize) -> Out<'_> {
        match self {
            Self::F32(out) => Out::F32(&mut out[first..]),
            Self::U8(out) => Out::U8(&mut out[first..]),
        }
    }

    /// # Panics
    /// If it is of bytes: programs give each step the numbers that it was compiled for.
    pub(super) fn f32(self) -> &'a mut [f32] {
        match self {
            Self::F32(out) => out,
            Self::U8(_) => panic!("the step was compiled for f32 results"),
        }
    }

    /// # Panics
    /// If it is of floats.
    pub(super) fn u8(self) -> &'a mut [u8] {
        match self {
            Self::U8(out) => out,
            Self::F32(_) => panic!("the step was compiled for u8 results"),
        }
    }
}

/// How a row of the result, counted from the first one to compute, lies behind `Call::out`.
pub(super) fn out_row(layout: &Layout, image: usize, y: usize) -> Range<usize> {
    let start = image * layout.image_len + y * layout.row_stride;
    start..start + layout.row_len()
}
