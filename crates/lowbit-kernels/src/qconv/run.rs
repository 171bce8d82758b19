//! The loops around the micro-kernels.

use super::microkernel::{KernelData, MicrokernelArgs, Store, StoredTile, TILE_LEN, TileSums};
use super::panels::Panels;
use crate::geometry::{SLACK, even_parts};
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

/// An input view.
#[derive(Clone, Copy)]
pub(crate) enum Activations<'a> {
    /// One byte each.
    Bytes(&'a [u8]),
    /// 32 signs each.
    Words(&'a [u32]),
}

impl<'a> Activations<'a> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Words(words) => words.len(),
        }
    }

    /// What rows `rows` depend on, as the kernels read it; `widened` is room for bytes of which they read 16 bits each.
    fn of_rows<'b>(
        self,
        kernels: &KernelData,
        g: &ConvGeometry,
        rows: &Range<usize>,
        widened: &'b mut AlignedBuffer<i16>,
    ) -> &'b [u8]
    where
        'a: 'b,
    {
        let part = ConvGeometry {
            out_h: rows.len() * g.pool,
            ..*g
        };
        let first = rows.start * g.pool * g.stride * g.in_row_stride;
        let needed = first..first + part.input_extent() + SLACK;
        if rows.is_empty() || g.out_w == 0 {
            return &[];
        }
        match self {
            Self::Bytes(bytes) if kernels.element_bytes == 1 => &bytes[needed],
            Self::Bytes(bytes) => {
                widened.reserve(needed.len());
                for (wide, &byte) in widened.iter_mut().zip(&bytes[needed]) {
                    *wide = i16::from(byte);
                }
                widened.bytes()
            }
            Self::Words(words) => {
                let words = &words[needed];
                // SAFETY: the same memory; any byte is a valid u8.
                unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
            }
        }
    }
}

/// Runs one convolution: panels outermost, so that a panel's weights stay in the first-level cache over the rows.
///
/// # Safety
/// [`ConvGeometry::check`] passed for the arguments, and `acc_offset` and the store have all channels.
pub(super) unsafe fn convolve<S: Store>(
    panels: &Panels,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: Activations<'_>,
    acc_offset: &[i32],
    store: &S,
    out: &mut [S::Out],
) {
    WORKSPACE.with_borrow_mut(|workspace| {
        let Workspace { unpacked, widened } = workspace;
        let kernels = panels.kernels;
        let layout = kernels.layout;
        let (weights, segments) = panels.serving(g);
        let input = input.of_rows(&kernels, g, &rows, widened);
        let steps = segments.steps(layout.step_taps);
        let vector_bytes = layout.vector_bytes(&segments);
        let pixels = rows.len() * g.pool * g.out_w;
        let unpack = kernels.unpack.filter(|unpack| {
            let bytes = segments.count() * steps * layout.vectors * unpack.whole.layout.block_bytes;
            pixels >= WORTH_UNPACKING && bytes <= UNPACKED_BYTES
        });
        let reading = unpack.map_or(&*kernels, |unpack| unpack.whole);
        let tiles = if g.pool == 2 {
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
            let tiles = tiles[vectors - 1];
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
            let mut args = MicrokernelArgs {
                input: input.as_ptr(),
                column_step: g.stride * g.in_pixel_stride * kernels.element_bytes,
                row_step: g.stride * g.in_row_stride * kernels.element_bytes,
                segments,
                segment_row_step: g.in_row_stride * kernels.element_bytes,
                segment_column_step: g.in_pixel_stride * kernels.element_bytes,
                steps,
                panel,
                start: panels.start(acc_offset, channels.clone()),
                sums: &raw mut sums,
            };
            for row in 0..rows.len() {
                let in_row = row * g.pool * args.row_step;
                let out_row = row * g.out_row_stride + first;
                for columns in even_parts(g.pooled_w(), tiles.len()) {
                    // SAFETY: the tile lies in the geometry, so that by `check` its input lies in `input` and its result in
                    // `out`; `panels.kernels` are proof of their instruction set.
                    unsafe {
                        let in_column = columns.start * g.pool * args.column_step;
                        args.input = input.as_ptr().add(in_row + in_column);
                        tiles[columns.len() - 1](&args);
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
