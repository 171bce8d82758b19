//! Weights in the order in which the kernels read them: blocks of neighboring channels, tap by tap.

#[cfg(target_arch = "x86_64")]
use super::DepthwiseGeometry;
#[cfg(target_arch = "x86_64")]
use super::avx512;
#[cfg(target_arch = "x86_64")]
use super::quads::Quads;
use crate::{AlignedBuffer, Isa, Level};

/// f32 filters, packed for an ISA.
#[derive(Clone, Debug)]
pub struct FloatWeights {
    pub(super) isa: Isa,
    channels: usize,
    kernel: [usize; 2],
    /// `[block][tap][lane]`; lanes without a channel are zero.
    packed: AlignedBuffer<f32>,
}

/// Integer filters of any width, packed for an ISA.
#[derive(Clone, Debug)]
pub struct IntegerWeights {
    pub(super) isa: Isa,
    channels: usize,
    kernel: [usize; 2],
    sums: Vec<i64>,
    /// `[block][pair of kernel rows][kernel column][lane][row of the pair]` with [`BLOCK`] lanes; a row that is missing is zero.
    packed: AlignedBuffer<i16>,
    /// The same as bytes, where they are and the ISA multiplies them.
    #[cfg(target_arch = "x86_64")]
    quads: Option<Quads>,
}

/// Channels of a block of integer weights.
pub(super) const BLOCK: usize = 8;

/// Channels of a block of f32 weights: the lanes of the ISA's vectors.
fn lanes(isa: Isa) -> usize {
    match isa.level() {
        Level::Avx512 | Level::Amx => 16,
        Level::Portable | Level::Avx2 | Level::AvxVnni => 8,
    }
}

/// The taps of a filter, `channels` of which are so many weights. What is read later is inside what is packed here.
fn taps(weights: usize, channels: usize, kernel: [usize; 2]) -> usize {
    let taps = kernel[0].checked_mul(kernel[1]);
    let all = taps.and_then(|taps| taps.checked_mul(channels));
    assert_eq!(all, Some(weights), "weights must fill their shape");
    taps.unwrap_or(0)
}

impl FloatWeights {
    /// Packs `weights` (`[channels, kernel_h, kernel_w]`) for `isa`.
    ///
    /// # Panics
    /// If `weights` are not as many.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[f32], channels: usize, kernel: [usize; 2]) -> Self {
        let (taps, lanes) = (taps(weights.len(), channels, kernel), lanes(isa));
        let mut packed = AlignedBuffer::zeroed(channels.next_multiple_of(lanes) * taps);
        for (channel, filter) in weights.chunks_exact(taps.max(1)).enumerate() {
            let (block, lane) = (channel / lanes, channel % lanes);
            for (tap, &w) in filter.iter().enumerate() {
                packed[(block * taps + tap) * lanes + lane] = w;
            }
        }
        Self {
            isa,
            channels,
            kernel,
            packed,
        }
    }

    pub(super) fn extents(&self) -> (usize, [usize; 2]) {
        (self.channels, self.kernel)
    }

    /// The weights of the block that begins with channel `first`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn block(&self, first: usize) -> *const f32 {
        self.packed[first * self.kernel[0] * self.kernel[1]..].as_ptr()
    }

    /// One weight.
    pub(super) fn weight(&self, channel: usize, tap: usize) -> f32 {
        let (lanes, taps) = (lanes(self.isa), self.kernel[0] * self.kernel[1]);
        self.packed[(channel / lanes * taps + tap) * lanes + channel % lanes]
    }
}

impl IntegerWeights {
    /// Packs `weights` (`[channels, kernel_h, kernel_w]`) for `isa`.
    ///
    /// # Panics
    /// If `weights` are not as many, or a filter's sum could overflow 32 bits.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[i16], channels: usize, kernel: [usize; 2]) -> Self {
        let taps = taps(weights.len(), channels, kernel);
        let mut packed = AlignedBuffer::zeroed(channels.div_ceil(BLOCK) * Self::block_len(kernel));
        let filters = weights.chunks_exact(taps.max(1));
        for (channel, filter) in filters.clone().enumerate() {
            assert!(
                Self::fits(filter),
                "the filter of channel {channel} does not fit 32-bit sums"
            );
            for (tap, &w) in filter.iter().enumerate() {
                packed[Self::place(kernel, channel, tap)] = w;
            }
        }
        let sum = |filter: &[i16]| filter.iter().map(|&w| i64::from(w)).sum();
        Self {
            isa,
            channels,
            kernel,
            sums: filters.map(sum).collect(),
            packed,
            #[cfg(target_arch = "x86_64")]
            quads: match isa.level() {
                Level::Avx512 | Level::Amx => Quads::pack(weights, channels, kernel),
                Level::Portable | Level::Avx2 | Level::AvxVnni => None,
            },
        }
    }

    /// Whether no input of u8 can make a filter's sum overflow, wherever it starts.
    #[must_use]
    pub fn fits(filter: &[i16]) -> bool {
        let magnitudes: u64 = filter.iter().map(|w| u64::from(w.unsigned_abs())).sum();
        magnitudes <= i32::MAX as u64 / 256
    }

    /// Σ w per channel, for [`Requantize::acc_offset`](super::Requantize::acc_offset).
    #[must_use]
    pub fn sums(&self) -> &[i64] {
        &self.sums
    }

    pub(super) fn extents(&self) -> (usize, [usize; 2]) {
        (self.channels, self.kernel)
    }

    /// The kernel that multiplies bytes; none where these weights or the ISA have none, or the geometry is beyond it.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn avx512<'a>(&'a self, g: &'a DepthwiseGeometry) -> Option<avx512::Conv<'a>> {
        avx512::Conv::new(self.isa.avx512()?, self.quads.as_ref()?, g)
    }

    /// The weights of the block that begins with channel `first`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn block(&self, first: usize) -> *const i16 {
        self.packed[first / BLOCK * Self::block_len(self.kernel)..].as_ptr()
    }

    /// One weight.
    pub(super) fn weight(&self, channel: usize, tap: usize) -> i16 {
        self.packed[Self::place(self.kernel, channel, tap)]
    }

    /// Weights of a block.
    fn block_len([rows, columns]: [usize; 2]) -> usize {
        rows.div_ceil(2) * columns * BLOCK * 2
    }

    /// Where a weight lies.
    fn place([rows, columns]: [usize; 2], channel: usize, tap: usize) -> usize {
        let (row, column) = (tap / columns, tap % columns);
        let vector = row / 2 * columns + column;
        let within = (vector * BLOCK + channel % BLOCK) * 2 + row % 2;
        channel / BLOCK * Self::block_len([rows, columns]) + within
    }
}
