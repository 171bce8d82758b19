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

mod transforms;

use super::{
    PanelShape, Panels, PerChannel, Store, StoredTile, TILE_LEN, TileCall, TileSums, pieces,
};
use crate::{AlignedBuffer, ConvGeometry, Isa};
use std::cell::RefCell;
use std::ops::Range;
use transforms::{finish, transform_panel, transform_rows};

/// Points at which rows are multiplied.
const POINTS: usize = 8;
/// Most kernel rows whose weights fit 16 bits at the point 3: Σ 3^j · 128 for five of them.
const MOST_ROWS: usize = 5;
/// Most taps of a filter for which 255 · 128 · taps stays below 2²⁷.
const MOST_TAPS: usize = 4096;
/// Bytes of transformed input that should stay in the second-level cache; larger images go in parts.
const TRANSFORMED_BYTES: usize = 512 << 10;
/// Lanes of a vector of 16-bit numbers.
const LANES: usize = 16;

/// Result rows from [`POINTS`] products.
fn tile_rows(kernel_h: usize, pool: usize) -> usize {
    (POINTS + 1 - kernel_h) / pool * pool
}

/// Whether fewer products are worth their transforms; else the direct kernel does.
pub(super) fn pays(panels: &Panels, g: &ConvGeometry, rows: &Range<usize>) -> bool {
    let (family, shape) = (panels.family, panels.shape());
    let exact = panels.byte_weights
        && family.isa == Isa::Avx2
        && family.element_bytes == 2
        && (2..=MOST_ROWS).contains(&g.kernel_h)
        && g.stride == 1
        && shape.fan_in() <= MOST_TAPS;
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
/// AVX2 is available, [`pays`] returned true and [`check`](super::check) passed for the arguments.
pub(super) unsafe fn run<S: Store>(
    panels: &Panels,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    acc_offset: &[i32],
    store: &S,
    out: &mut [S::Out],
) {
    // Transformed rows of a tile.
    let tile_bytes = POINTS * row_len(g) * size_of::<i16>();
    let tiles = (TRANSFORMED_BYTES / tile_bytes).max(1);
    let most = tiles * tile_rows(g.kernel_h, g.pool) / g.pool;
    WORKSPACE.with_borrow_mut(|workspace| {
        for first in rows.clone().step_by(most) {
            let part = first..rows.end.min(first + most);
            let out = &mut out[(first - rows.start) * g.out_row_stride..];
            // SAFETY: the caller's promises, of which those on rows hold for each part.
            unsafe { convolve(workspace, panels, g, part, input, acc_offset, store, out) };
        }
    });
}

/// Numbers of a transformed row: as far as it is read, the last pixel's taps.
fn row_len(g: &ConvGeometry) -> usize {
    ((g.out_w + g.kernel_w - 2) * g.in_pixel_stride + g.in_channels).next_multiple_of(LANES)
}

/// # Safety
/// As [`run`].
#[expect(clippy::too_many_arguments, reason = "those of `run` and room")]
unsafe fn convolve<S: Store>(
    workspace: &mut Workspace,
    panels: &Panels,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    acc_offset: &[i32],
    store: &S,
    out: &mut [S::Out],
) {
    let Workspace {
        rows: transformed,
        whole,
        panel,
    } = workspace;
    let family = panels.family;
    let layout = family.layout;
    let (weights, segments) = panels.serving(g);
    let steps = segments.steps(layout.step_taps);
    let reading = family.unpack.map_or(family, |unpack| unpack.family);
    let tile_rows = tile_rows(g.kernel_h, g.pool);
    let height = rows.len() * g.pool;
    let tiles = height.div_ceil(tile_rows);

    let row_taps = (g.out_w + g.kernel_w - 2) * g.in_pixel_stride + g.in_channels;
    let row_len = row_len(g);
    transformed.reserve(tiles * POINTS * row_len);
    let first = rows.start * g.pool * g.in_row_stride;
    for tile in 0..tiles {
        let to = &mut transformed[tile * POINTS * row_len..][..POINTS * row_len];
        let top = tile * tile_rows;
        // Rows behind the input's end belong to results that are not wanted.
        let there = (height + g.kernel_h - 1 - top).min(POINTS);
        let from = &input[first + top * g.in_row_stride..];
        // SAFETY: AVX2 is the caller's promise.
        unsafe { transform_rows(from, there, g.in_row_stride, row_taps, to) };
    }

    let vector_bytes = layout.vector_bytes(&segments);
    let mut sums = [const { TileSums([0; TILE_LEN]) }; POINTS];
    for channel in (0..g.out_channels).step_by(layout.panel_channels()) {
        let channels = channel..g.out_channels.min(channel + layout.panel_channels());
        let width = channels.len().next_multiple_of(layout.lanes);
        let vectors = width / layout.lanes;
        let constants = store.constants(channels.clone());
        let start = PerChannel(
            PerChannel::of(acc_offset, channels.clone())
                .0
                .map(|start: i32| start.wrapping_add(panels.start)),
        );
        let shape = PanelShape {
            segments: segments.columns,
            steps,
            vectors,
        };
        let packed = weights[channel / layout.lanes * vector_bytes..].as_ptr();
        // SAFETY: the panel is whole, for the families' formats.
        let point_len = unsafe { transform_panel(family, packed, g.kernel_h, shape, whole, panel) };

        for tile in 0..tiles {
            let first_row = tile * tile_rows;
            let rows_here = tile_rows.min(height - first_row);
            let input = transformed[tile * POINTS * row_len..].as_ptr();
            for columns in pieces(g.pooled_w(), TILE_LEN / (2 * 8) / g.pool) {
                let (left, stored) = (columns.start * g.pool, columns.len());
                for (point, sums) in sums.iter_mut().enumerate() {
                    let mut call = TileCall {
                        input: std::ptr::null(),
                        column_step: g.in_pixel_stride * 2,
                        row_step: 0,
                        segments: super::Segments {
                            rows: 1,
                            ..segments
                        },
                        segment_row_step: 0,
                        segment_column_step: g.in_pixel_stride * 2,
                        steps,
                        // SAFETY: within the transformed panel.
                        panel: unsafe { panel.as_ptr().add(point * point_len) }.cast(),
                        start: PerChannel([0; super::MAX_PANEL]),
                        sums: sums.0.as_mut_ptr().cast(),
                    };
                    let kernels = reading.plain[vectors - 1];
                    for piece in pieces(stored * g.pool, kernels.len()) {
                        let column = (left + piece.start) * g.in_pixel_stride;
                        // SAFETY: the pixels of the piece lie in the point's row, whose end is followed by other
                        // rows or slack; their sums lie in `sums`, which holds 32 pixels of 16 channels.
                        unsafe {
                            call.input = input.add(point * row_len + column).cast();
                            call.sums = sums.0.as_mut_ptr().add(piece.start * width).cast();
                            kernels[piece.len() - 1](&call);
                        }
                    }
                }
                // SAFETY: the instruction set is the caller's promise; `out` holds the rows and columns by `check`.
                unsafe {
                    finish(&mut sums, stored, width, &start, (g.kernel_h, g.pool));
                    for (row, sums) in sums.iter().enumerate().take(rows_here / g.pool) {
                        let tile = StoredTile {
                            pixels: stored,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WeightShape;
    use crate::packed::put_i16;
    use crate::random::{below, stream};
    use crate::tiles;
    use crate::u8i8::{Dequantize, PackedWeights, avx2, conv_f32};

    /// The largest numbers that bytes can give, at the most taps, in both signs and at random.
    #[test]
    fn extreme_bytes_give_the_sums_of_the_scalar_twin() {
        if !Isa::available().contains(&Isa::Avx2) {
            println!("skipped: no AVX2");
            return;
        }
        let mut rng = stream(14, "winograd", 0);
        for (kernel_h, kernel_w, in_channels) in
            [(2, 2, 1024), (3, 3, 455), (4, 4, 256), (5, 5, 163)]
        {
            for (pool, extreme) in [(1, true), (2, true), (1, false), (2, false)] {
                let dense = (kernel_h + 24, kernel_w + 5, in_channels);
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
                let panels = Panels::pack(&avx2::FAMILY, &weights, shape, put_i16).of_bytes();
                let rows = 1..g.pooled_h();
                assert!(pays(&panels, &g, &rows), "{g:?}");
                let dequantize = Dequantize {
                    acc_offset: &[7; 11],
                    multiplier: &[1.0; 11],
                    bias: &[0.0; 11],
                    relu: false,
                };
                let [mut sums, mut expected] =
                    [(); 2].map(|()| vec![0.0; g.output_extent(rows.len())]);
                let activations = tiles::Activations::Bytes(input.with_slack());
                tiles::conv_f32(
                    &panels,
                    &g,
                    rows.clone(),
                    activations,
                    &dequantize,
                    &mut sums,
                );
                let twin = PackedWeights::pack_width(
                    Isa::Portable,
                    crate::WeightWidth::Bits8,
                    &weights,
                    shape,
                );
                conv_f32(
                    &twin,
                    &g,
                    rows,
                    input.with_slack(),
                    &dequantize,
                    &mut expected,
                );
                assert_eq!(sums, expected, "{g:?}");
            }
        }
    }
}
