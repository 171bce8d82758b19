//! The loops around the micro-kernels.

use super::layout::Segments;
use super::microkernel::{KernelData, MicrokernelArgs, Store, StoredTile, TILE_LEN, TileSums};
use super::panels::Panels;
use crate::geometry::{SLACK, even_parts};
use crate::{AlignedBuffer, ConvGeometry, ImagesGeometry};
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
        self.read(kernels, needed, widened)
    }

    /// Some of them, as the kernels read them.
    fn read<'b>(
        self,
        kernels: &KernelData,
        needed: Range<usize>,
        widened: &'b mut AlignedBuffer<i16>,
    ) -> &'b [u8]
    where
        'a: 'b,
    {
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
                first_step: 0,
                row_steps: segments.columns * steps,
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

/// Runs one convolution over several images, a tile being one pixel of neighboring images; `acc_offset` has all channels of each
/// window.
///
/// # Safety
/// [`ImagesGeometry::check`] passed for the arguments, [`Panels::takes_images`] says so, `acc_offset` has all channels of all
/// windows, and the store has all channels.
pub(super) unsafe fn convolve_images<S: Store>(
    panels: &Panels,
    g: &ImagesGeometry,
    input: Activations<'_>,
    acc_offset: &[i32],
    store: &S,
    out: &mut [S::Out],
) {
    let image = &g.image;
    if g.images == 0 || image.out_h == 0 || image.out_w == 0 {
        return;
    }
    let [rows, columns] = g.axes();
    WORKSPACE.with_borrow_mut(|workspace| {
        let Workspace { unpacked, widened } = workspace;
        let kernels = panels.kernels;
        let layout = kernels.layout;
        let (weights, segments) = panels.serving(image);
        let input = input.read(&kernels, 0..g.input_extent() + SLACK, widened);
        let row_steps = segments.columns * segments.steps(layout.step_taps);
        let pixel_steps = image.in_channels / layout.step_taps;
        // The taps of a kernel row follow each other, or those of a pixel do.
        let is_whole = segments.columns == 1;
        let vector_bytes = layout.vector_bytes(&segments);
        let unpack = kernels.unpack.filter(|unpack| {
            let steps = segments.rows * row_steps;
            let bytes = steps * layout.vectors * unpack.whole.layout.block_bytes;
            let pixels = g.images * image.out_h * image.out_w;
            pixels >= WORTH_UNPACKING && bytes <= UNPACKED_BYTES
        });
        let reading = unpack.map_or(&*kernels, |unpack| unpack.whole);
        if unpack.is_some() {
            unpacked.reserve(UNPACKED_BYTES);
        }
        let element_bytes = kernels.element_bytes;
        let mut sums = TileSums([0; TILE_LEN]);
        for first in (0..image.out_channels).step_by(layout.panel_channels()) {
            let channels = first..image.out_channels.min(first + layout.panel_channels());
            let width = channels.len().next_multiple_of(layout.lanes);
            let vectors = width / layout.lanes;
            let tiles = reading.plain[vectors - 1];
            let constants = store.constants(channels.clone());
            let mut panel = weights[first / layout.lanes * vector_bytes..].as_ptr();
            if let Some(unpack) = unpack {
                let steps = segments.rows * row_steps;
                // SAFETY: the panel is whole, and all its weights fit into the buffer.
                unsafe { (unpack.panel)(panel, steps, vectors, unpacked.as_mut_ptr()) };
                panel = unpacked.as_ptr();
            }
            for (row, column) in
                (0..image.out_h).flat_map(|y| (0..image.out_w).map(move |x| (y, x)))
            {
                let (kernel_rows, kernel_columns) = (rows.of(row), columns.of(column));
                let window = rows.kinds[row] * columns.ranges.len() + columns.kinds[column];
                let of_window = &acc_offset[window * image.out_channels..];
                let pixel = (row * image.stride + kernel_rows.start) * image.in_row_stride
                    + (column * image.stride + kernel_columns.start) * image.in_pixel_stride;
                let at = row * image.out_row_stride + column * image.out_pixel_stride + first;
                let (columns, pixels) = match is_whole {
                    true => (1, kernel_columns.len()),
                    false => (kernel_columns.len(), 1),
                };
                let mut args = MicrokernelArgs {
                    input: input.as_ptr(),
                    column_step: g.in_image_stride * element_bytes,
                    row_step: 0,
                    segments: Segments {
                        rows: kernel_rows.len(),
                        columns,
                        taps: pixels * image.in_channels,
                    },
                    segment_row_step: image.in_row_stride * element_bytes,
                    segment_column_step: image.in_pixel_stride * element_bytes,
                    steps: pixels * pixel_steps,
                    first_step: kernel_rows.start * row_steps + kernel_columns.start * pixel_steps,
                    row_steps,
                    panel,
                    start: panels.start(of_window, channels.clone()),
                    sums: &raw mut sums,
                };
                for images in even_parts(g.images, tiles.len()) {
                    // SAFETY: the images' pixels lie in the geometry, so that by `check` what they see lies in `input` and their
                    // results in `out`; the window lies in the kernel, its columns at whole blocks of steps;
                    // `panels.kernels` are proof of their instruction set.
                    unsafe {
                        let in_image = images.start * g.in_image_stride + pixel;
                        args.input = input.as_ptr().add(in_image * element_bytes);
                        tiles[images.len() - 1](&args);
                        let tile = StoredTile {
                            pixels: images.len(),
                            channels: channels.len(),
                            width,
                            pixel_stride: g.out_image_stride,
                        };
                        let at = images.start * g.out_image_stride + at;
                        store.store(&constants, &sums, tile, out.as_mut_ptr().add(at));
                    }
                }
            }
        }
    });
}
