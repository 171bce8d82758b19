//! The one algorithm under the f32 kernels: an implicit matrix product in register tiles.
//!
//! Forward, a tile is `MR` output pixels × one or two vectors of output channels: each step broadcasts one input per pixel
//! and multiplies it with the vectors of packed weights. In channels-last order the taps of one kernel row are contiguous
//! in memory, so the input is read in place: there is no im2col buffer. For the gradient of the weights, a tile is `MR`
//! taps × one or two vectors of output channels, and the steps run over the output pixels.

mod forward;
mod grad_weights;
mod images;

use crate::ConvGeometry;

pub(super) use forward::conv;
pub(super) use grad_weights::{conv_grad_weights, conv_images_grad_weights};
pub(super) use images::conv_images;

/// Most vectors of output channels per tile, and per panel of packed weights.
const NR: usize = 2;

/// Most rows of a tile.
const MAX_MR: usize = 14;

/// A vector of f32, one output channel per lane.
///
/// # Safety
/// The functions may only run where the ISA that they are written for is available; pointers must be readable or writable
/// for as many lanes as the function says.
pub(crate) unsafe trait Vector: Copy {
    /// Lanes per vector.
    const LANES: usize;
    /// Most rows of a tile of [`NR`] vectors: accumulators, weights and one input must fit into the registers. A tile of
    /// one vector may have [`MAX_MR`] rows.
    const MAX_MR: usize;

    unsafe fn zero() -> Self;
    /// One f32 in every lane.
    unsafe fn splat(from: *const f32) -> Self;
    /// `LANES` f32.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `lanes` f32, zeros behind.
    unsafe fn load_part(from: *const f32, lanes: usize) -> Self;
    /// Stores all lanes.
    unsafe fn store(self, to: *mut f32);
    /// Stores the first `lanes` lanes.
    unsafe fn store_part(self, to: *mut f32, lanes: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    /// `a · b + self`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// Adds one f32, `at` behind `from`, times each of `w` to `acc`.
    #[inline(always)]
    unsafe fn fma_splat<const N: usize>(
        acc: &mut [Self; N],
        from: *const f32,
        at: usize,
        w: &[Self; N],
    ) {
        // SAFETY: the caller's promises.
        unsafe {
            let x = Self::splat(from.add(at));
            for (acc, w) in acc.iter_mut().zip(w) {
                *acc = acc.fma(x, *w);
            }
        }
    }
}

/// Loads the first `lanes` lanes; masks are slow on some machines, and most vectors are full.
///
/// # Safety
/// As [`Vector::load_part`].
#[inline(always)]
pub(crate) unsafe fn load_lanes<V: Vector>(from: *const f32, lanes: usize) -> V {
    // SAFETY: the caller's promise, which is that of `load` if all lanes are asked for.
    unsafe {
        match lanes == V::LANES {
            true => V::load(from),
            false => V::load_part(from, lanes),
        }
    }
}

/// Stores the first `lanes` lanes.
///
/// # Safety
/// As [`Vector::store_part`].
#[inline(always)]
pub(crate) unsafe fn store_lanes<V: Vector>(value: V, to: *mut f32, lanes: usize) {
    // SAFETY: the caller's promise, which is that of `store` if all lanes are asked for.
    unsafe {
        match lanes == V::LANES {
            true => value.store(to),
            false => value.store_part(to, lanes),
        }
    }
}

/// Most rows of a tile of `nr` vectors.
const fn most_rows<V: Vector>(nr: usize) -> usize {
    if nr == 1 { MAX_MR } else { V::MAX_MR }
}

/// Calls a function that is generic in the vector, the tile's vectors and the tile's rows.
macro_rules! of_size {
    ($rows:expr, $name:ident::<$v:ident, $nr:ident>($($argument:expr),*)) => {
        match $rows {
            1 => $name::<$v, $nr, 1>($($argument),*),
            2 => $name::<$v, $nr, 2>($($argument),*),
            3 => $name::<$v, $nr, 3>($($argument),*),
            4 => $name::<$v, $nr, 4>($($argument),*),
            5 => $name::<$v, $nr, 5>($($argument),*),
            6 => $name::<$v, $nr, 6>($($argument),*),
            7 if most_rows::<$v>($nr) >= 7 => $name::<$v, $nr, 7>($($argument),*),
            8 if most_rows::<$v>($nr) >= 8 => $name::<$v, $nr, 8>($($argument),*),
            9 if most_rows::<$v>($nr) >= 9 => $name::<$v, $nr, 9>($($argument),*),
            10 if most_rows::<$v>($nr) >= 10 => $name::<$v, $nr, 10>($($argument),*),
            11 if most_rows::<$v>($nr) >= 11 => $name::<$v, $nr, 11>($($argument),*),
            12 if most_rows::<$v>($nr) >= 12 => $name::<$v, $nr, 12>($($argument),*),
            13 if most_rows::<$v>($nr) >= 13 => $name::<$v, $nr, 13>($($argument),*),
            14 if most_rows::<$v>($nr) >= 14 => $name::<$v, $nr, 14>($($argument),*),
            _ => unreachable!("tiles have 1 to MAX_MR rows"),
        }
    };
}
use of_size;

/// Contiguous taps of an output pixel.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where the first one's input lies, from the pixel's first.
    offset: usize,
    /// The first one's number among the kernel's taps.
    tap: usize,
}

impl Run {
    /// The taps from a pixel of the kernel on.
    fn new(g: &ConvGeometry, row: usize, column: usize) -> Self {
        Self {
            offset: row * g.in_row_stride + column * g.in_pixel_stride,
            tap: (row * g.kernel_w + column) * g.in_channels,
        }
    }
}

/// Whether the taps of a kernel row follow each other.
fn has_whole_rows(g: &ConvGeometry) -> bool {
    g.in_pixel_stride == g.in_channels || g.kernel_w == 1
}

/// The runs of all taps, row by row, and their length.
fn runs(g: &ConvGeometry) -> (Vec<Run>, usize) {
    let (columns, pixels) = match has_whole_rows(g) {
        true => (g.kernel_w.min(1), g.kernel_w),
        false => (g.kernel_w, 1),
    };
    let of_row = |row| (0..columns).map(move |column| Run::new(g, row, column));
    let all = (0..g.kernel_h).flat_map(of_row).collect();
    (all, pixels * g.in_channels)
}

/// One panel of packed weights: [`NR`] vectors of output channels, or those that are left.
struct Panel {
    first_channel: usize,
    /// 1 to [`NR`].
    vectors: usize,
    /// Where it begins in the packed weights.
    offset: usize,
}

fn panels(lanes: usize, out_channels: usize, fan_in: usize) -> impl Iterator<Item = Panel> {
    let vectors = out_channels.div_ceil(lanes);
    (0..vectors).step_by(NR).map(move |vector| Panel {
        first_channel: vector * lanes,
        vectors: (vectors - vector).min(NR),
        offset: vector * lanes * fan_in,
    })
}

/// Packs weights as `[panel][tap][vector][lane]`; missing channels are zero. `row` writes the weights of one tap (the
/// first argument) and adjacent output channels (from the second on).
pub(super) fn pack(
    lanes: usize,
    (out_channels, fan_in): (usize, usize),
    mut row: impl FnMut(usize, usize, &mut [f32]),
    packed: &mut [f32],
) {
    for panel in panels(lanes, out_channels, fan_in) {
        let width = panel.vectors * lanes;
        let used = width.min(out_channels - panel.first_channel);
        let panel_rows = packed[panel.offset..][..width * fan_in].chunks_exact_mut(width);
        for (tap, to) in panel_rows.enumerate() {
            row(tap, panel.first_channel, &mut to[..used]);
        }
    }
}

/// Elements that [`pack`] fills; `usize::MAX` where that is more than can be counted.
pub(super) fn packed_len(lanes: usize, out_channels: usize, fan_in: usize) -> usize {
    let channels = out_channels.checked_next_multiple_of(lanes);
    channels.unwrap_or(usize::MAX).saturating_mul(fan_in)
}
