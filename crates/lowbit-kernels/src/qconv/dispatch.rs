//! Which kernels serve an instruction set, a width and a geometry: the one place that knows all of them.

use super::microkernel::Store;
use super::panels::Panels;
use super::run::{self, Activations};
#[cfg(target_arch = "x86_64")]
use super::{
    amx, avx2, avx512, avxvnni,
    layout::{Slot, put_i16},
    microkernel::Kernels,
    winograd,
};
use crate::epilogue::{Dequantize, Requantize};
#[cfg(target_arch = "x86_64")]
use crate::proof::Vectors;
use crate::{ConvGeometry, ImagesGeometry, Isa, WeightShape, WeightWidth};
use std::ops::Range;

/// Weights of a byte from which on AVX2 keeps them in bytes: reading them costs more than widening them. Tests take small
/// layers both ways.
#[cfg(target_arch = "x86_64")]
const MANY_WEIGHTS: usize = if cfg!(test) { 1 << 11 } else { 1 << 16 };

/// Packs weights for the kernels of `isa`; none for the portable level, whose twin reads [`Codes`](super::codes::Codes).
#[cfg(target_arch = "x86_64")]
pub(crate) fn pack(
    isa: Isa,
    width: WeightWidth,
    weights: &[i16],
    shape: WeightShape,
) -> Option<Panels> {
    let width = width.in_memory(&shape);
    if let Some(avx512) = isa.avx512() {
        let panels = match width {
            WeightWidth::Bits8 => {
                let put = |panels: &mut [u8], slot: Slot, w| {
                    panels[slot.block + 4 * slot.lane + slot.tap] = w as u8;
                };
                let kernels = Kernels::new(&avx512::i8::KERNELS, avx512);
                Panels::pack(kernels, weights, shape, put)
            }
            _ => avx512::packed::pack(width, weights, shape, avx512),
        };
        return Some(panels.with_amx(isa.amx()));
    }
    let avx2 = isa.avx2()?;
    let whole = |weights| {
        let kernels = Kernels::new(&avx2::i16::KERNELS, avx2);
        Panels::pack(kernels, weights, shape, put_i16)
    };
    let panels = match (isa.avx_vnni(), width) {
        (_, WeightWidth::Bits16) => whole(weights),
        (Some(proof), _) => avxvnni::packed::pack(width, weights, shape, proof),
        (None, WeightWidth::Bits8) => {
            let panels = match shape.len() >= MANY_WEIGHTS {
                true => avx2::i8::pack(weights, shape, avx2),
                false => whole(weights),
            };
            panels.with_winograd(avx2)
        }
        (None, _) => avx2::packed::pack(width, weights, shape, avx2).with_winograd(avx2),
    };
    Some(panels)
}

/// Packs signs (`[out, kernel_h, kernel_w, words]`, as `shape` has it) for the kernels of `isa`; `start` is added to all
/// sums. None for the portable level.
#[cfg(target_arch = "x86_64")]
pub(crate) fn pack_signs(
    isa: Isa,
    signs: &[u32],
    shape: WeightShape,
    start: i32,
) -> Option<Panels> {
    let kernels = match isa.avx512_popcnt() {
        Some(proof) => Kernels::new(&avx512::bits::KERNELS, proof),
        None => Kernels::new(&avx2::bits::KERNELS, isa.avx2()?),
    };
    let mut panels = Panels::pack(kernels, signs, shape, |panels, slot, word| {
        let at = slot.block + 4 * slot.lane;
        panels[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    });
    panels.start = start;
    Some(panels)
}

/// No kernels but the portable twin.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn pack(_: Isa, _: WeightWidth, _: &[i16], _: WeightShape) -> Option<Panels> {
    None
}

/// No kernels but the portable twin.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn pack_signs(_: Isa, _: &[u32], _: WeightShape, _: i32) -> Option<Panels> {
    None
}

/// Convolves one image and stores u8.
///
/// # Panics
/// As [`ConvGeometry::check`] and [`Requantize::check`].
pub(crate) fn conv_u8(
    panels: &Panels,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: Activations<'_>,
    requantize: &Requantize<'_>,
    out: &mut [u8],
) {
    g.check(&panels.shape(), &rows, input.len(), out.len());
    requantize.check(g.out_channels);
    let acc_offset = requantize.acc_offset;
    match panels.kernels.vectors() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: (both) the checks passed.
        Vectors::Avx512(proof) => unsafe {
            let store = avx512::store::StoreU8(requantize, proof);
            convolve(panels, g, rows, input, acc_offset, &store, out);
        },
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx2(proof) => unsafe {
            let store = avx2::store::StoreU8(requantize, proof);
            convolve(panels, g, rows, input, acc_offset, &store, out);
        },
    }
}

/// Convolves one image and stores f32; otherwise as [`conv_u8`].
///
/// # Panics
/// As [`ConvGeometry::check`] and [`Dequantize::check`].
pub(crate) fn conv_f32(
    panels: &Panels,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: Activations<'_>,
    dequantize: &Dequantize<'_>,
    out: &mut [f32],
) {
    g.check(&panels.shape(), &rows, input.len(), out.len());
    dequantize.check(g.out_channels);
    let acc_offset = dequantize.acc_offset;
    match panels.kernels.vectors() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: (both) the checks passed.
        Vectors::Avx512(proof) => unsafe {
            let store = avx512::store::StoreF32(dequantize, proof);
            convolve(panels, g, rows, input, acc_offset, &store, out);
        },
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx2(proof) => unsafe {
            let store = avx2::store::StoreF32(dequantize, proof);
            convolve(panels, g, rows, input, acc_offset, &store, out);
        },
    }
}

/// Convolves several images and stores u8; `acc_offset` has all channels of each window.
///
/// # Panics
/// As [`ImagesGeometry::check`] and [`Requantize::check`], or if the panels do not take images.
pub(crate) fn conv_images_u8(
    panels: &Panels,
    g: &ImagesGeometry,
    input: Activations<'_>,
    requantize: &Requantize<'_>,
    out: &mut [u8],
) {
    assert!(panels.takes_images(), "weights in whole blocks");
    g.check(&panels.shape(), input.len(), out.len());
    requantize.check_windows(g.image.out_channels, g.window_count());
    let acc_offset = requantize.acc_offset;
    match panels.kernels.vectors() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: (both) the checks passed.
        Vectors::Avx512(proof) => unsafe {
            let store = avx512::store::StoreU8(requantize, proof);
            run::convolve_images(panels, g, input, acc_offset, &store, out);
        },
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx2(proof) => unsafe {
            let store = avx2::store::StoreU8(requantize, proof);
            run::convolve_images(panels, g, input, acc_offset, &store, out);
        },
    }
}

/// Convolves several images and stores f32; otherwise as [`conv_images_u8`].
///
/// # Panics
/// As [`conv_images_u8`].
pub(crate) fn conv_images_f32(
    panels: &Panels,
    g: &ImagesGeometry,
    input: Activations<'_>,
    dequantize: &Dequantize<'_>,
    out: &mut [f32],
) {
    assert!(panels.takes_images(), "weights in whole blocks");
    g.check(&panels.shape(), input.len(), out.len());
    dequantize.check_windows(g.image.out_channels, g.window_count());
    let acc_offset = dequantize.acc_offset;
    match panels.kernels.vectors() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: (both) the checks passed.
        Vectors::Avx512(proof) => unsafe {
            let store = avx512::store::StoreF32(dequantize, proof);
            run::convolve_images(panels, g, input, acc_offset, &store, out);
        },
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx2(proof) => unsafe {
            let store = avx2::store::StoreF32(dequantize, proof);
            run::convolve_images(panels, g, input, acc_offset, &store, out);
        },
    }
}

/// Takes the fastest way for the geometry.
///
/// # Safety
/// [`ConvGeometry::check`] passed for the arguments, and `acc_offset` and the store have all channels.
unsafe fn convolve<S: Store>(
    panels: &Panels,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: Activations<'_>,
    acc_offset: &[i32],
    store: &S,
    out: &mut [S::Out],
) {
    // SAFETY: (all) the caller's promises, and each way says itself whether it may be taken.
    #[cfg(target_arch = "x86_64")]
    if let Activations::Bytes(input) = input {
        if amx::run::is_profitable(panels, g, &rows) {
            unsafe { amx::run::convolve(panels, g, rows, input, acc_offset, store, out) };
            return;
        }
        if winograd::is_profitable(panels, g, &rows) {
            unsafe { winograd::convolve(panels, g, rows, input, acc_offset, store, out) };
            return;
        }
    }
    unsafe { run::convolve(panels, g, rows, input, acc_offset, store, out) };
}
