//! The loops around the micro-kernels.

use super::{Activations, Panels, Store, StoredTile, TILE_LEN, TileCall, TileSums, pieces};
#[cfg(target_arch = "x86_64")]
use super::{amx, winograd};
use crate::{AlignedBuffer, ConvGeometry};
use std::cell::RefCell;
use std::ops::Range;

/// Pixels from which on unpacking ahead pays: in the tile, narrow weights are unpacked again for each few pixels.
const WORTH_UNPACKING: usize = 64;

/// The largest panel that is unpacked ahead; it should stay in the second-level cache.
const UNPACKED_BYTES: usize = 256 << 10;

/// What a thread keeps between convolutions.
struct Workspace {
    /// A panel's weights.
    unpacked: AlignedBuffer<u8>,
    /// Activations of 16 bits.
    widened: AlignedBuffer<i16>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace {
        unpacked: AlignedBuffer::zeroed(0),
        widened: AlignedBuffer::zeroed(0),
    });
}

/// Runs one convolution: panels outermost, so that a panel's weights stay in the first-level cache over the rows.
///
/// # Safety
/// The instruction set of the family and the store is available, and [`check`](super::check) passed for the arguments.
pub(super) unsafe fn run<S: Store>(
    panels: &Panels,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: Activations<'_>,
    acc_offset: &[i32],
    store: &S,
    out: &mut [S::Out],
) {
    #[cfg(target_arch = "x86_64")]
    if let Activations::Bytes(input) = input
        && amx::pays(panels, g, &rows, input.len())
    {
        // SAFETY: the caller's promises; `pays` is true where AMX is there and the input has room for whole tiles.
        unsafe { amx::run(panels, g, rows, input, acc_offset, store, out) };
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if let Activations::Bytes(input) = input
        && winograd::pays(panels, g, &rows)
    {
        // SAFETY: the caller's promises; `pays` is true for a family of AVX2.
        unsafe { winograd::run(panels, g, rows, input, acc_offset, store, out) };
        return;
    }
    WORKSPACE.with_borrow_mut(|workspace| {
        let Workspace { unpacked, widened } = workspace;
        let family = panels.family;
        let layout = family.layout;
        let (weights, segments) = panels.serving(g);
        let input = input.of_rows(family, g, &rows, widened);
        let steps = segments.steps(layout.step_taps);
        let vector_bytes = layout.vector_bytes(&segments);
        let pixels = rows.len() * g.pool * g.out_w;
        let unpack = family.unpack.filter(|unpack| {
            let bytes =
                segments.count() * steps * layout.vectors * unpack.family.layout.block_bytes;
            pixels >= WORTH_UNPACKING && bytes <= UNPACKED_BYTES
        });
        let reading = unpack.map_or(family, |unpack| unpack.family);
        let kernels = if g.pool == 2 {
            reading.pooled
        } else {
            reading.plain
        };
        if unpack.is_some() {
            unpacked.reserve(UNPACKED_BYTES);
        }
        let mut sums = TileSums([0; TILE_LEN]);
        for first in (0..g.out_channels).step_by(layout.panel_channels()) {
            let channels = first..g.out_channels.min(first + layout.panel_channels());
            let width = channels.len().next_multiple_of(layout.lanes);
            let vectors = width / layout.lanes;
            let kernels = kernels[vectors - 1];
            let constants = store.constants(channels.clone());
            let mut panel = weights[first / layout.lanes * vector_bytes..].as_ptr();
            if let Some(unpack) = unpack {
                // SAFETY: the panel is whole, and all its weights fit into the buffer.
                unsafe {
                    (unpack.panel)(
                        panel,
                        segments.count() * steps,
                        vectors,
                        unpacked.as_mut_ptr(),
                    )
                };
                panel = unpacked.as_ptr();
            }
            let mut call = TileCall {
                input: input.as_ptr(),
                column_step: g.stride * g.in_pixel_stride * family.element_bytes,
                row_step: g.stride * g.in_row_stride * family.element_bytes,
                segments,
                segment_row_step: g.in_row_stride * family.element_bytes,
                segment_column_step: g.in_pixel_stride * family.element_bytes,
                steps,
                panel,
                start: panels.start(acc_offset, channels.clone()),
                sums: &raw mut sums,
            };
            for row in 0..rows.len() {
                let in_row = row * g.pool * call.row_step;
                let out_row = row * g.out_row_stride + first;
                for columns in pieces(g.pooled_w(), kernels.len()) {
                    // SAFETY: the tile lies in the geometry, so that by `check` its input lies in `input` and its result in
                    // `out`; the instruction set is the caller's promise.
                    unsafe {
                        let in_column = columns.start * g.pool * call.column_step;
                        call.input = input.as_ptr().add(in_row + in_column);
                        kernels[columns.len() - 1](&call);
                        let tile = StoredTile {
                            pixels: columns.len(),
                            channels: channels.len(),
                            width,
                            pixel_stride: g.out_pixel_stride,
                        };
                        let at = out_row + columns.start * g.out_pixel_stride;
                        store.store(&constants, &sums, tile, out.as_mut_ptr().add(at));
                    }
                }
            }
        }
    });
}
