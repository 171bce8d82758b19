//! What a micro-kernel takes, what it leaves behind, and the sets of them that serve one instruction set and weight format.

use super::layout::{PanelLayout, PanelShape, Segments};
use crate::proof::Vectors;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

/// Most i32 values that a tile leaves behind: 16 pixels of 32 channels.
pub(crate) const TILE_LEN: usize = 16 * 32;

/// Most channels of a panel.
pub(crate) const MAX_PANEL: usize = 32;

/// The sums of one tile, `[stored pixel, panel channel]`.
#[repr(C, align(64))]
pub(crate) struct TileSums(pub(crate) [i32; TILE_LEN]);

/// One number per channel of a panel, zero behind the last channel.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct PerChannel<T>(pub(crate) [T; MAX_PANEL]);

impl<T: Copy + Default> PerChannel<T> {
    pub(crate) fn of(values: &[T], channels: Range<usize>) -> Self {
        let mut padded = [T::default(); MAX_PANEL];
        padded[..channels.len()].copy_from_slice(&values[channels]);
        Self(padded)
    }

    pub(crate) fn of_each(values: [&[T]; 2], channels: Range<usize>) -> [Self; 2] {
        values.map(|values| Self::of(values, channels.clone()))
    }
}

/// What a micro-kernel works on: a rectangle of output pixels times one panel.
pub(crate) struct MicrokernelArgs {
    /// First tap of the first pixel.
    pub(crate) input: *const u8,
    /// Bytes from one pixel of the tile to the next.
    pub(crate) column_step: usize,
    /// Bytes from one row of the tile to the next.
    pub(crate) row_step: usize,
    /// Segments of the kernel.
    pub(crate) segments: Segments,
    /// Bytes from one kernel row to the next.
    pub(crate) segment_row_step: usize,
    /// Bytes from one segment of a kernel row to the next.
    pub(crate) segment_column_step: usize,
    /// Steps of a segment.
    pub(crate) steps: usize,
    /// Steps of the panel before the first one, and from one kernel row to the next.
    pub(crate) first_step: usize,
    pub(crate) row_steps: usize,
    /// The panel's weights.
    pub(crate) panel: *const u8,
    /// Where the accumulators start.
    pub(crate) start: PerChannel<i32>,
    /// Receives the sums.
    pub(crate) sums: *mut TileSums,
}

/// A micro-kernel for one tile shape.
///
/// # Safety
/// The instruction set that the kernel is compiled for is available ([`Kernels`] hold no other); `input` is readable for every
/// segment of every pixel of the tile rounded up to whole steps; `panel` holds the panel; `sums`, aligned to a vector, is
/// writable for each pixel and vector of the tile before pooling.
pub(crate) type Microkernel = unsafe fn(&MicrokernelArgs);

/// The micro-kernels of one weight format, for machines with the instruction set that a value of `Proof` proves. As a static
/// it exists on every machine, so it hands nothing out: [`Kernels::new`] asks for the proof.
pub(crate) struct KernelSet<Proof> {
    data: KernelData,
    proof: PhantomData<Proof>,
}

impl<Proof> KernelSet<Proof> {
    /// A set of kernels; those of narrow weights name the set that reads them once `unpack` made them whole.
    ///
    /// # Safety
    /// No function in `data` and `unpack` needs more than what `Proof` proves, and each does what its type says for panels of
    /// `data.layout`.
    pub(crate) const unsafe fn new(
        data: KernelData,
        unpack: Option<(&'static Self, UnpackPanel)>,
    ) -> Self {
        Self {
            data: KernelData {
                unpack: match unpack {
                    Some((whole, panel)) => Some(Unpack {
                        whole: &whole.data,
                        panel,
                    }),
                    None => None,
                },
                ..data
            },
            proof: PhantomData,
        }
    }
}

/// What is known of a set of micro-kernels.
pub(crate) struct KernelData {
    /// Bytes of an activation as the micro-kernels read it: 1, 2 where u8 are widened beforehand, or 4 for words of bits.
    pub(crate) element_bytes: usize,
    /// How their panels are laid out.
    pub(crate) layout: PanelLayout,
    /// Unpacks narrow weights ahead of time; what [`KernelSet::new`] is told.
    pub(crate) unpack: Option<Unpack>,
    /// Lays the weights of a panel out for matrix tiles, where the format can.
    pub(crate) expand: Option<ExpandPanel>,
    /// `plain[vectors - 1][columns - 1]`: one row of pixels.
    pub(crate) plain: &'static [&'static [Microkernel]],
    /// `pooled[vectors - 1][columns - 1]`: two rows of `2 · columns` pixels, of which the maxima are left.
    pub(crate) pooled: &'static [&'static [Microkernel]],
}

/// Micro-kernels that this machine can run: a set together with the proof of its instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    data: &'static KernelData,
    vectors: Vectors,
}

impl Kernels {
    /// The kernels of `set`.
    pub(crate) fn new<Proof: Into<Vectors>>(set: &'static KernelSet<Proof>, proof: Proof) -> Self {
        Self {
            data: &set.data,
            vectors: proof.into(),
        }
    }

    /// The vectors that their sums lie in.
    pub(crate) fn vectors(&self) -> Vectors {
        self.vectors
    }
}

impl Deref for Kernels {
    type Target = KernelData;

    fn deref(&self) -> &KernelData {
        self.data
    }
}

/// How narrow weights become whole ones in a buffer of the thread, a panel at a time, before many pixels that use them.
#[derive(Clone, Copy)]
pub(crate) struct Unpack {
    /// The kernels that read them.
    pub(crate) whole: &'static KernelData,
    /// Writes vectors in their order, `[step, vector]`.
    pub(crate) panel: UnpackPanel,
}

/// Unpacks the weights of `steps` steps of `vectors` vectors.
///
/// # Safety
/// The instruction set of its [`KernelSet`] is available, `panel` holds as many, and `to`, aligned to 64 bytes, has room for them.
pub(crate) type UnpackPanel =
    unsafe fn(panel: *const u8, steps: usize, vectors: usize, to: *mut u8);

/// Lays the weights of a panel out for matrix tiles, `[segment, block, vector, step, channel, tap]`, steps that a segment
/// does not fill being zero.
///
/// # Safety
/// The instruction set of its [`KernelSet`] is available; `panel` holds the panel, `to`, aligned to 64 bytes, has room for its tiles.
pub(crate) type ExpandPanel = unsafe fn(panel: *const u8, shape: PanelShape, to: *mut u8);

/// Turns sums into what is stored.
pub(crate) trait Store {
    /// What is stored.
    type Out;
    /// The constants of some channels.
    type Constants;

    /// Gathers the constants of `channels`.
    fn constants(&self, channels: Range<usize>) -> Self::Constants;

    /// Stores `pixels` pixels of `channels` channels, of which `sums` holds `width` each.
    ///
    /// # Safety
    /// `sums` holds `pixels · width` values, and `out` is writable for `channels`
    /// elements at each multiple of `pixel_stride` up to the last pixel.
    unsafe fn store(
        &self,
        constants: &Self::Constants,
        sums: &TileSums,
        tile: StoredTile,
        out: *mut Self::Out,
    );
}

/// The shape of a tile that is stored.
#[derive(Clone, Copy)]
pub(crate) struct StoredTile {
    /// Stored pixels.
    pub(crate) pixels: usize,
    /// Channels to store.
    pub(crate) channels: usize,
    /// Channels in the sums.
    pub(crate) width: usize,
    /// Elements from one stored pixel to the next.
    pub(crate) pixel_stride: usize,
}

/// Hides how an offset was computed, so that the compiler keeps the pointer made with it in a register of its own and
/// addresses the pixels from it, instead of keeping one pointer per pixel (which spills).
#[inline(always)]
pub(super) fn opaque(mut offset: usize) -> usize {
    use std::arch::asm;
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(reg) offset, options(pure, nomem, nostack, preserves_flags)) };
    offset
}
