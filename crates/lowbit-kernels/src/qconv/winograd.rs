//! Exact integer Winograd convolution for AVX2, where a product costs more than an addition.
//!
//! AVX2 multiplies 16-bit numbers at little more than the speed of f32. Fewer products make up for it: a kernel of r rows
//! gives m = 9 − r result rows from 8 products per tap of a kernel row, where the direct way takes m · r (2.5 times as many
//! at r = 5, 2.25 times at r = 3). This is F(m, r) of Winograd ("Arithmetic Complexity of Computations", 1980; Lavin and
//! Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4) along the rows alone, with Toom and
//! Cook's points 0, ±1, ±2, ±3 and ∞. For input rows x, kernel rows w and the points p, with P(z) = z(z² − 1)(z² − 4)(z² − 9):
//!
//! - V_p = Σ_j x_j · [z^j] P(z)/(z − p), V_∞ = Σ_j x_j · [z^j] P(z);
//! - U_p = Σ_j p^j · w_j, U_∞ = w_{r−1};
//! - M_p = V_p · U_p, summed over the taps of a kernel row by the tiles that multiply directly elsewhere;
//! - y_t = Σ_p p^t / P'(p) · M_p, and M_∞ is added to the last, y_{m−1}.
//!
//! All of it is integers: 720 / P'(p) is one of −20, 15, −6, 1. Activations of a byte give |V| ≤ 74 · 255 and weights of a
//! byte |U| ≤ 121 · 128, both of 16 bits. Sums wrap at 32 bits, which loses nothing: 720 · y = 16 · 45 · y, 45 has an inverse
//! modulo 2³², and dividing by 16 leaves the 28 bits that [`MOST_TAPS`] makes sure hold y. So the results are those of every
//! other ISA, to the bit.

use super::avx2::winograd::{
    LANES, MOST_ROWS, POINTS, finish, point_len, transform_panel, transform_rows,
};
use super::layout::{PanelShape, Segments};
use super::microkernel::{
    MAX_PANEL, MicrokernelArgs, PerChannel, Store, StoredTile, TILE_LEN, TileSums,
};
use super::panels::Panels;
use crate::geometry::even_parts;
use crate::{AlignedBuffer, ConvGeometry};
use std::cell::RefCell;
use std::ops::Range;

/// Most taps of a filter for which 255 · 128 · taps stays below 2²⁷.
const MOST_TAPS: usize = 4096;
/// Bytes of transformed input that should stay in the second-level cache; larger images go in parts.
const TRANSFORMED_BYTES: usize = 512 << 10;
/// Most channels of a panel for AVX2.
const PANEL_CHANNELS: usize = 16;
/// Result rows from [`POINTS`] products.
fn tile_rows(kernel_h: usize, pool: usize) -> usize {
    (POINTS + 1 - kernel_h) / pool * pool
}

/// Whether fewer products are worth their transforms; else the direct kernel does.
pub(super) fn is_profitable(panels: &Panels, g: &ConvGeometry, rows: &Range<usize>) -> bool {
    let exact = panels.winograd.is_some()
        && (2..=MOST_ROWS).contains(&g.kernel_h)
        && g.stride == 1
        && panels.shape().fan_in() <= MOST_TAPS;
    if !exact {
        return false;
    }
    let height = rows.len() * g.pool;
    let products = height.div_ceil(tile_rows(g.kernel_h, g.pool)) * POINTS;
    let columns = g.pooled_w() * g.pool;
    // Besides products there are transforms: of each result, the more of a share the fewer taps there are, and of the
    // weights, the more of a share the fewer pixels there are.
    let taps = g.kernel_w * g.in_channels;
    5 * products <= 4 * height * g.kernel_h && taps >= 12 && height * columns >= 96
}

/// What a thread keeps between convolutions.
struct Workspace {
    /// Transformed input, `[tile, point, row]`.
    rows: AlignedBuffer<i16>,
    /// A panel's weights as whole numbers.
    whole: AlignedBuffer<u8>,
    /// A panel's transformed weights, `[point, segment of a kernel row, step, vector, channel, tap]`.
    panel: AlignedBuffer<i16>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace {
        rows: AlignedBuffer::zeroed(0),
        whole: AlignedBuffer::zeroed(0),
        panel: AlignedBuffer::zeroed(0),
    });
}

/// Runs one convolution.
///
/// # Safety
/// [`is_profitable`] returned true and [`ConvGeometry::check`] passed for the arguments, and `acc_offset` and the store have
/// all channels.
pub(super) unsafe fn convolve<S: Store>(
    panels: &Panels,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    acc_offset: &[i32],
    store: &S,
    out: &mut [S::Out],
) {
    let conv = WinogradConv {
        panels,
        g,
        input,
        acc_offset,
    };
    // Transformed rows of a tile.
    let tile_bytes = POINTS * row_len(g) * size_of::<i16>();
    let tiles = (TRANSFORMED_BYTES / tile_bytes).max(1);
    let most = tiles * tile_rows(g.kernel_h, g.pool) / g.pool;
    WORKSPACE.with_borrow_mut(|workspace| {
        for first in rows.clone().step_by(most) {
            let part = first..rows.end.min(first + most);
            let out = &mut out[(first - rows.start) * g.out_row_stride..];
            // SAFETY: the caller's promises, of which those on rows hold for each part.
            unsafe { conv.run(workspace, part, store, out) };
        }
    });
}

/// Taps of an input row as far as it is read.
fn row_taps(g: &ConvGeometry) -> usize {
    (g.out_w + g.kernel_w - 2) * g.in_pixel_stride + g.in_channels
}

/// Numbers of a transformed row.
fn row_len(g: &ConvGeometry) -> usize {
    row_taps(g).next_multiple_of(LANES)
}

/// One convolution.
struct WinogradConv<'a> {
    panels: &'a Panels,
    g: &'a ConvGeometry,
    input: &'a [u8],
    acc_offset: &'a [i32],
}

impl WinogradConv<'_> {
    /// Stored rows `rows`, the first at `out[0]`.
    ///
    /// # Safety
    /// As [`convolve`].
    unsafe fn run<S: Store>(
        &self,
        workspace: &mut Workspace,
        rows: Range<usize>,
        store: &S,
        out: &mut [S::Out],
    ) {
        let (panels, g) = (self.panels, self.g);
        let layout = panels.kernels.layout;
        let (weights, segments) = panels.serving(g);
        let vector_bytes = layout.vector_bytes(&segments);
        let tile_rows = tile_rows(g.kernel_h, g.pool);
        let height = rows.len() * g.pool;
        let transformed_len = POINTS * row_len(g);
        // SAFETY: `panels.winograd` is proof of AVX2.
        unsafe { self.transform_input(rows.start * g.pool, height, &mut workspace.rows) };

        let mut sums = [const { TileSums([0; TILE_LEN]) }; POINTS];
        for channel in (0..g.out_channels).step_by(layout.panel_channels()) {
            let channels = channel..g.out_channels.min(channel + layout.panel_channels());
            let width = channels.len().next_multiple_of(layout.lanes);
            let constants = store.constants(channels.clone());
            let start = panels.start(self.acc_offset, channels.clone());
            let shape = PanelShape {
                segments: segments.columns,
                steps: segments.steps(layout.step_taps),
                vectors: width / layout.lanes,
            };
            let packed = weights[channel / layout.lanes * vector_bytes..].as_ptr();
            // SAFETY: `panels.winograd` is proof of AVX2; the panel is whole, in the format of its kernels.
            unsafe {
                let Workspace { whole, panel, .. } = &mut *workspace;
                transform_panel(&panels.kernels, packed, g.kernel_h, shape, whole, panel);
            }
            for (tile, first_row) in (0..height).step_by(tile_rows).enumerate() {
                let rows_here = tile_rows.min(height - first_row) / g.pool;
                let input = &workspace.rows[tile * transformed_len..][..transformed_len];
                for columns in even_parts(g.pooled_w(), TILE_LEN / PANEL_CHANNELS / g.pool) {
                    let pixels = columns.start * g.pool..columns.end * g.pool;
                    // SAFETY: `panels.winograd` is proof of AVX2; `pixels` times `width` numbers fit into a tile; `out` holds the
                    // rows and columns by `check`.
                    unsafe {
                        self.products(shape, &workspace.panel, input, pixels, &mut sums);
                        finish(
                            &mut sums,
                            columns.len(),
                            width,
                            &start,
                            (g.kernel_h, g.pool),
                        );
                        for (row, sums) in sums.iter().enumerate().take(rows_here) {
                            let tile = StoredTile {
                                pixels: columns.len(),
                                channels: channels.len(),
                                width,
                                pixel_stride: g.out_pixel_stride,
                            };
                            let at = (first_row / g.pool + row) * g.out_row_stride
                                + columns.start * g.out_pixel_stride
                                + channel;
                            store.store(&constants, sums, tile, out.as_mut_ptr().add(at));
                        }
                    }
                }
            }
        }
    }

    /// V of the rows that `height` rows of results from `first_row` on depend on.
    ///
    /// # Safety
    /// As [`convolve`].
    unsafe fn transform_input(
        &self,
        first_row: usize,
        height: usize,
        rows: &mut AlignedBuffer<i16>,
    ) {
        let g = self.g;
        let tile_rows = tile_rows(g.kernel_h, g.pool);
        let len = POINTS * row_len(g);
        rows.reserve(height.div_ceil(tile_rows) * len);
        for (top, to) in (0..height)
            .step_by(tile_rows)
            .zip(rows.chunks_exact_mut(len))
        {
            // Rows behind the input's end belong to results that are not wanted.
            let there = (height + g.kernel_h - 1 - top).min(POINTS);
            let from = &self.input[(first_row + top) * g.in_row_stride..];
            // SAFETY: `panels.winograd` is proof of AVX2.
            unsafe { transform_rows(from, there, g.in_row_stride, row_taps(g), to) };
        }
    }

    /// M of `pixels` of one tile's rows, whose transforms are in `input`.
    ///
    /// # Safety
    /// `panel` holds a transformed panel of `shape`; the pixels lie in the geometry, and their sums fit
    /// into a tile.
    unsafe fn products(
        &self,
        shape: PanelShape,
        panel: &AlignedBuffer<i16>,
        input: &[i16],
        pixels: Range<usize>,
        sums: &mut [TileSums; POINTS],
    ) {
        let (kernels, pixel) = (self.panels.kernels, self.g.in_pixel_stride);
        let reading = kernels.unpack.map_or(&*kernels, |unpack| unpack.whole);
        let tiles = reading.plain[shape.vectors - 1];
        let width = shape.vectors * kernels.layout.lanes;
        let point_len = point_len(shape);
        for (point, sums) in sums.iter_mut().enumerate() {
            let mut args = MicrokernelArgs {
                input: std::ptr::null(),
                column_step: pixel * size_of::<i16>(),
                row_step: 0,
                segments: Segments {
                    rows: 1,
                    ..self.panels.serving(self.g).1
                },
                segment_row_step: 0,
                segment_column_step: pixel * size_of::<i16>(),
                steps: shape.steps,
                first_step: 0,
                row_steps: 0,
                panel: panel[point * point_len..].as_ptr().cast(),
                start: PerChannel([0; MAX_PANEL]),
                sums: std::ptr::null_mut(),
            };
            for piece in even_parts(pixels.len(), tiles.len()) {
                let at = point * row_len(self.g) + (pixels.start + piece.start) * pixel;
                // SAFETY: the pixels of the piece lie in the point's row, which other rows or slack follow; their sums lie
                // in `sums`, at a multiple of eight.
                unsafe {
                    args.input = input.as_ptr().add(at).cast();
                    args.sums = sums.0.as_mut_ptr().add(piece.start * width).cast();
                    tiles[piece.len() - 1](&args);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::WeightShape;
    use crate::qconv::{Dequantize, PackedWeights, conv_f32};
    use crate::random::{below, stream};

    /// The largest numbers that bytes can give, at the most taps, in both signs and at random; the first image in two parts.
    #[test]
    fn extreme_bytes_give_the_sums_of_the_scalar_twin() {
        let Ok(isa) = Isa::named("avx2") else {
            println!("skipped: no AVX2");
            return;
        };
        let mut rng = stream(14, "winograd", 0);
        for (kernel_h, kernel_w, in_channels) in
            [(2, 2, 1024), (3, 3, 455), (4, 4, 256), (5, 5, 163)]
        {
            for (pool, extreme) in [(1, true), (2, true), (1, false), (2, false)] {
                let dense = (kernel_h + 40, kernel_w + 5, in_channels);
                let g = ConvGeometry::dense(dense, 11, (kernel_h, kernel_w), 1, pool);
                let shape = WeightShape {
                    out_channels: 11,
                    kernel_h,
                    kernel_w,
                    in_channels,
                };
                assert!((MOST_TAPS - 32..=MOST_TAPS).contains(&shape.fan_in()));
                let mut input = AlignedBuffer::zeroed(g.input_extent());
                input.fill_with(|| {
                    if extreme {
                        255
                    } else {
                        below(&mut rng, 256) as u8
                    }
                });
                let weights: Vec<i16> = (0..shape.len())
                    .map(|i| match i / shape.fan_in() {
                        channel if extreme => [-128, 127][channel % 2],
                        _ => below(&mut rng, 256) as i16 - 128,
                    })
                    .collect();
                let pack = |isa| {
                    PackedWeights::pack_width(isa, crate::WeightWidth::Bits8, &weights, shape)
                };
                let (packed, twin) = (pack(isa), pack(Isa::PORTABLE));
                let rows = 1..g.pooled_h();
                let panels = packed.panels().expect("AVX2 has panels");
                assert!(is_profitable(panels, &g, &rows), "{g:?}");
                // Offsets bring the largest sums back to where f32 shows every bit.
                let offset: Vec<i32> = (twin.sums().iter())
                    .map(|sum| if extreme { 7 - 255 * sum } else { 7 })
                    .collect();
                let dequantize = Dequantize {
                    acc_offset: &offset,
                    multiplier: &[1.0; 11],
                    bias: &[0.0; 11],
                    relu: false,
                };
                let [mut sums, mut expected] =
                    [(); 2].map(|()| vec![0.0; g.output_extent(rows.len())]);
                for (weights, sums) in [(&packed, &mut sums), (&twin, &mut expected)] {
                    let input = input.with_slack();
                    conv_f32(weights, &g, rows.clone(), input, &dequantize, sums);
                }
                assert_eq!(sums, expected, "{g:?}");
                assert!(expected.iter().all(|sum| sum.abs() < 16_777_216.0));
            }
        }
    }
}
