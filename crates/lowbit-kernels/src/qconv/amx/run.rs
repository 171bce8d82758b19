//! The loops around the products of strips and panels.

use super::product::{Product, configure, release};
use super::shape::{Blocks, Pair, ROW, STRIP, Strip, TILE};
use crate::geometry::SLACK;
use crate::qconv::layout::PanelShape;
use crate::qconv::microkernel::{MAX_PANEL, Store, StoredTile, TILE_LEN, TileSums};
use crate::qconv::panels::Panels;
use crate::{AlignedBuffer, ConvGeometry};
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

/// Whether tiles can and should do this work; else the vector kernel does.
pub(in crate::qconv) fn is_profitable(
    panels: &Panels,
    g: &ConvGeometry,
    rows: &Range<usize>,
) -> bool {
    if panels.amx.is_none() || rows.is_empty() || g.pooled_w() == 0 {
        return false;
    }
    let segments = panels.serving(g).1;
    // Tiles cost the same however few taps or pixels they hold, and laying weights out as much as sixteen products.
    let steps = segments.steps(panels.kernels.layout.step_taps);
    let deep = steps >= 3 && segments.count() * steps >= 12;
    let pixels = rows.len() * g.pool * g.pooled_w() * g.pool;
    let wide = strips(g).width >= 4 && pixels >= 12;
    // The last step may begin with the last tap, and blocks are padded by fewer than 16 steps: 3 + 15 · 4 bytes are read
    // behind it.
    const _: () = assert!(ROW - 1 <= SLACK);
    deep && wide
}

/// How the columns of a geometry fall into strips: all of one width, the last one overlapping its neighbor.
#[derive(Clone, Copy, Debug)]
struct Strips {
    count: usize,
    /// Pixels of each, before pooling.
    width: usize,
    /// Columns in all.
    columns: usize,
}

fn strips(g: &ConvGeometry) -> Strips {
    let columns = g.pooled_w() * g.pool;
    let count = columns.div_ceil(STRIP);
    let width = columns.div_ceil(count.max(1)).next_multiple_of(g.pool);
    Strips {
        count,
        width,
        columns,
    }
}

impl Strips {
    /// First column of strip `index`.
    fn start(&self, index: usize) -> usize {
        (index * self.width).min(self.columns - self.width)
    }
}

/// What a thread keeps between convolutions.
struct Workspace {
    /// A panel's weights as tiles.
    tiles: AlignedBuffer<u8>,
    /// Two products' two strips: while one is stored, the next product fills the other.
    sums: Box<[[TileSums; 2]; 2]>,
    /// Where a strip's taps for each block begin, in bytes from the strip's first.
    offsets: Vec<usize>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace {
        tiles: AlignedBuffer::zeroed(0),
        sums: Box::new([const { [const { TileSums([0; TILE_LEN]) }; 2] }; 2]),
        offsets: Vec::new(),
    });
}

/// Runs one convolution.
///
/// # Safety
/// [`is_profitable`] returned true and [`ConvGeometry::check`] passed for the arguments, and `acc_offset` and the store have
/// all channels.
pub(in crate::qconv) unsafe fn convolve<S: Store>(
    panels: &Panels,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    acc_offset: &[i32],
    store: &S,
    out: &mut [S::Out],
) {
    WORKSPACE.with_borrow_mut(|workspace| {
        // SAFETY: the caller's promises, and `panels.amx` is proof of AMX-INT8 and AVX-512.
        unsafe {
            let conv = StripConv {
                panels,
                g,
                rows,
                input: input.as_ptr(),
                acc_offset,
                strips: strips(g),
            };
            let steps = panels.serving(g).1.steps(panels.kernels.layout.step_taps);
            configure(conv.strips.width as u8, Blocks::of(steps).steps as u8);
            conv.run(workspace, store, out.as_mut_ptr());
            release();
        }
    });
}

/// One convolution.
struct StripConv<'a> {
    panels: &'a Panels,
    g: &'a ConvGeometry,
    rows: Range<usize>,
    input: *const u8,
    acc_offset: &'a [i32],
    strips: Strips,
}

impl StripConv<'_> {
    /// # Safety
    /// As [`convolve`], and tiles are configured for the strips' width and the blocks' steps.
    unsafe fn run<S: Store>(&self, workspace: &mut Workspace, store: &S, out: *mut S::Out) {
        let (g, layout) = (self.g, self.panels.kernels.layout);
        let (weights, segments) = self.panels.serving(g);
        let steps = segments.steps(layout.step_taps);
        let blocks = Blocks::of(steps);
        let Workspace {
            tiles,
            sums,
            offsets,
        } = workspace;
        offsets.clear();
        for kernel_row in 0..segments.rows {
            for kernel_column in 0..segments.columns {
                let segment = kernel_row * g.in_row_stride + kernel_column * g.in_pixel_stride;
                let block = |block| segment + block * blocks.steps * layout.step_taps;
                offsets.extend((0..blocks.count).map(block));
            }
        }
        let most = offsets.len() * layout.vectors * TILE;
        tiles.reserve(most);
        let vector_bytes = layout.vector_bytes(&segments);
        let expand = self.panels.kernels.expand;
        let expand = expand.expect("`Panels::with_amx` saw that it is there");
        for first in (0..g.out_channels).step_by(layout.panel_channels()) {
            let channels = first..g.out_channels.min(first + layout.panel_channels());
            let vectors = channels.len().div_ceil(layout.lanes);
            let shape = PanelShape {
                segments: segments.count(),
                steps,
                vectors,
            };
            let panel = weights[first / layout.lanes * vector_bytes..].as_ptr();
            // SAFETY: the panel is whole, and `tiles` has room for two vectors of every block.
            unsafe { expand(panel, shape, tiles.as_mut_ptr()) };
            let start = self.panels.start(self.acc_offset, channels.clone());
            let constants = store.constants(channels.clone());
            // SAFETY: the strip's result lies in the geometry, so that by `check` it lies in the output.
            let put = |pixels: &TileSums, strip: &Strip, tile: StoredTile| unsafe {
                let column = strip.column / g.pool;
                let at = strip.row * g.out_row_stride + column * g.out_pixel_stride + first;
                let tile = StoredTile {
                    channels: channels.len(),
                    pixel_stride: g.out_pixel_stride,
                    ..tile
                };
                store.store(&constants, pixels, tile, out.add(at));
            };
            let mut waiting: Option<Pair> = None;
            let mut turn = 0;
            let mut each = |pair: Option<Pair>| {
                if let Some(pair) = &pair {
                    let product = Product {
                        strips: pair,
                        step: g.stride * g.in_pixel_stride,
                        offsets,
                        weights: tiles.as_ptr(),
                        vectors,
                        start: &start,
                    };
                    // SAFETY: the strips lie in the geometry, so that by `check` their taps, rounded up to
                    // whole tiles, lie in the input.
                    unsafe { product.qconv_32x32_amx(&mut sums[turn]) };
                }
                turn = 1 - turn;
                if let Some(pair) = std::mem::replace(&mut waiting, pair) {
                    // SAFETY: the caller's promise.
                    unsafe { self.store(&sums[turn], &pair, vectors, put) };
                }
            };
            self.each_pair(&mut each);
            each(None);
        }
    }

    /// All strips, two at a time; under pooling, the two of one stored row.
    fn each_pair(&self, each: &mut impl FnMut(Option<Pair>)) {
        let g = self.g;
        let strip = |row: usize, below: usize, index: usize| {
            let column = self.strips.start(index);
            let offset = ((self.rows.start + row) * g.pool + below) * g.stride * g.in_row_stride
                + column * g.stride * g.in_pixel_stride;
            Strip {
                // SAFETY: the pixel lies in the geometry, whose extent lies in the input.
                input: unsafe { self.input.add(offset) },
                row,
                column,
            }
        };
        let count = self.strips.count;
        if g.pool == 2 {
            for row in 0..self.rows.len() {
                for index in 0..count {
                    each(Some((strip(row, 0, index), Some(strip(row, 1, index)))));
                }
            }
            return;
        }
        let total = self.rows.len() * count;
        for first in (0..total).step_by(2) {
            let at = |number: usize| strip(number / count, 0, number % count);
            each(Some((
                at(first),
                (first + 1 < total).then(|| at(first + 1)),
            )));
        }
    }

    /// Hands the sums of each strip to `put`, or under pooling their maxima.
    ///
    /// # Safety
    /// AVX-512 is available.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn store(
        &self,
        sums: &[TileSums; 2],
        (first, second): &Pair,
        vectors: usize,
        put: impl Fn(&TileSums, &Strip, StoredTile),
    ) {
        let described = |pixels: usize| StoredTile {
            pixels,
            channels: 0,
            width: vectors * 16,
            pixel_stride: 0,
        };
        let width = self.strips.width;
        if self.g.pool != 2 {
            for (sums, strip) in sums.iter().zip([Some(first), second.as_ref()]) {
                if let Some(strip) = strip {
                    put(sums, strip, described(width));
                }
            }
            return;
        }
        let mut best = std::mem::MaybeUninit::<TileSums>::uninit();
        // SAFETY: both strips hold `width` ≤ 16 pixels of `vectors` vectors; `best` has room for them, and half of them are
        // written before they are read.
        const _: () = assert!(TILE_LEN >= STRIP * MAX_PANEL);
        unsafe {
            let to = best.as_mut_ptr().cast::<__m512i>();
            let [above, below] =
                [0, 1].map(|strip: usize| sums[strip].0.as_ptr().cast::<__m512i>());
            for pixel in 0..width / 2 {
                for v in 0..vectors {
                    let both = |row: *const __m512i| {
                        let left = row.add(2 * pixel * vectors + v);
                        _mm512_max_epi32(
                            _mm512_load_si512(left),
                            _mm512_load_si512(left.add(vectors)),
                        )
                    };
                    let at = to.add(pixel * vectors + v);
                    _mm512_store_si512(at, _mm512_max_epi32(both(above), both(below)));
                }
            }
            put(&*best.as_ptr(), first, described(width / 2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_fit_tiles_and_cover_every_column_once_or_more() {
        for pool in [1, 2] {
            for pooled in 1..100 {
                let g = ConvGeometry::dense((pool, pooled * pool, 1), 1, (1, 1), 1, pool);
                let strips = strips(&g);
                let mut covered = 0;
                for index in 0..strips.count {
                    let start = strips.start(index);
                    assert!(start <= covered && start.is_multiple_of(pool), "{strips:?}");
                    covered = start + strips.width;
                }
                assert!(
                    strips.width <= STRIP && covered == strips.columns,
                    "{strips:?}"
                );
            }
        }
    }
}
