//! Filters of bytes, four kernel rows at a time, for instructions that add four products at once.

use crate::AlignedBuffer;

/// Filters whose weights are bytes.
#[derive(Clone, Debug)]
pub(super) struct Quads {
    /// Fours of kernel rows, and kernel columns.
    quads: usize,
    columns: usize,
    /// How many rows further down the filters lie in a copy each, from none on: an output row below another one that is
    /// computed with it sees the same rows of the input.
    shifts: usize,
    /// Weights of one copy.
    len: usize,
    /// `[rows down][block][kernel column][four rows][quarter of 16 channels][16 channels][channel of the quarter][row]`; rows
    /// and channels that are missing are zero.
    packed: AlignedBuffer<u8>,
}

/// Most rows that filters are moved down: the largest step from one output row to the next that is computed with it.
const MOST_DOWN: usize = 2;

/// Channels of the block that begins where so many are left: those of a vector's bytes.
pub(super) fn block_len(left: usize) -> usize {
    match left {
        ..=16 => 16,
        17..=32 => 32,
        _ => 64,
    }
}

impl Quads {
    /// Packs `weights` (`[channels, rows, columns]`); none where one is no byte.
    pub(super) fn pack(
        weights: &[i16],
        channels: usize,
        [rows, columns]: [usize; 2],
    ) -> Option<Self> {
        if !weights.iter().all(|&w| i8::try_from(w).is_ok()) {
            return None;
        }
        let quads = rows.div_ceil(4);
        let last = channels / 64 * 64;
        let padded = match channels - last {
            0 => last,
            left => last + block_len(left),
        };
        let shifts = 1 + MOST_DOWN.min(4 * quads - rows);
        let len = padded * columns * quads * 4;
        let mut packed = AlignedBuffer::zeroed(shifts * len);
        for (channel, filter) in weights.chunks_exact((rows * columns).max(1)).enumerate() {
            let first = channel / 64 * 64;
            let block = block_len(channels - first);
            let (sixteen, quarter) = ((channel - first) / 16, channel % 16 / 4);
            for down in 0..shifts {
                for (tap, &w) in filter.iter().enumerate() {
                    let (row, column) = (tap / columns + down, tap % columns);
                    let vector = (column * quads + row / 4) * 4 + quarter;
                    let within = sixteen * 16 + channel % 4 * 4 + row % 4;
                    let at = down * len + first * columns * quads * 4 + vector * block + within;
                    packed[at] = (w as i8).cast_unsigned();
                }
            }
        }
        Some(Self {
            quads,
            columns,
            shifts,
            len,
            packed,
        })
    }

    /// Fours of kernel rows.
    pub(super) fn quads(&self) -> usize {
        self.quads
    }

    /// Whether an output row whose taps lie so many rows further down can be computed with another one.
    pub(super) fn reaches(&self, down: usize) -> bool {
        down < self.shifts
    }

    /// The filters of the block that begins with channel `first`, so many rows further down.
    pub(super) fn block(&self, first: usize, down: usize) -> *const u8 {
        self.packed[down * self.len + first * self.columns * self.quads * 4..].as_ptr()
    }
}
