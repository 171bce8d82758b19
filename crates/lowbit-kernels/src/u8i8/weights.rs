//! Weights of every width, packed for one ISA.

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512vnni};
use crate::packed::{self, Codes, WeightWidth};
use crate::tiles::Panels;
#[cfg(target_arch = "x86_64")]
use crate::tiles::Slot;
use crate::{Isa, Level, WeightShape};

/// Integer weights in the tile order of one ISA's kernel, at their width: fewer bits are fewer bytes in memory too.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    isa: Isa,
    width: WeightWidth,
    shape: WeightShape,
    sums: Vec<i32>,
    pub(super) form: Form,
}

#[derive(Clone, Debug)]
pub(super) enum Form {
    /// In OHWI order, for the scalar twin.
    Codes(Codes),
    /// In tile order.
    Panels(Panels),
}

impl PackedWeights {
    /// Packs 8-bit `weights` (`[out, kernel_h, kernel_w, in]`) for `isa`.
    ///
    /// # Panics
    /// If `weights.len() != shape.len()`.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[i8], shape: WeightShape) -> Self {
        let weights: Vec<i16> = weights.iter().map(|&w| i16::from(w)).collect();
        Self::pack_width(isa, WeightWidth::Bits8, &weights, shape)
    }

    /// Packs `weights` (`[out, kernel_h, kernel_w, in]`) at `width` bits for `isa`.
    ///
    /// # Panics
    /// If `weights.len() != shape.len()`, or a channel does not [fit](WeightWidth::fits) the width.
    #[must_use]
    pub fn pack_width(isa: Isa, width: WeightWidth, weights: &[i16], shape: WeightShape) -> Self {
        assert_eq!(weights.len(), shape.len(), "weights must fill their shape");
        let channels = weights.chunks_exact(shape.fan_in().max(1));
        for (channel, filter) in channels.clone().enumerate() {
            assert!(
                width.fits(filter),
                "the weights of channel {channel} do not fit {} bits",
                width.bits()
            );
        }
        Self {
            isa,
            width,
            shape,
            sums: channels
                .map(|channel| channel.iter().map(|&w| i32::from(w)).sum())
                .collect(),
            form: Form::pack(isa, width, weights, shape),
        }
    }

    /// Σ w per output channel, for [`Requantize::acc_offset`](super::Requantize::acc_offset).
    #[must_use]
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }

    /// The shape that was packed.
    #[must_use]
    pub fn shape(&self) -> WeightShape {
        self.shape
    }

    /// The ISA that the weights are packed for.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The width that the weights were packed at.
    #[must_use]
    pub fn width(&self) -> WeightWidth {
        self.width
    }

    /// Bytes of the packed weights in memory, padding included.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        match &self.form {
            Form::Codes(codes) => codes.bytes(),
            Form::Panels(panels) => panels.bytes(),
        }
    }
}

impl Form {
    fn pack(isa: Isa, width: WeightWidth, weights: &[i16], shape: WeightShape) -> Self {
        match (isa.level(), width) {
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512 | Level::Amx, WeightWidth::Bits8) => {
                let put = |panels: &mut [u8], slot: Slot, w| {
                    panels[slot.block + 4 * slot.lane + slot.tap] = w as u8;
                };
                let panels = Panels::pack(&avx512vnni::FAMILY, weights, shape, put);
                Form::Panels(panels.for_isa(isa))
            }
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2 | Level::AvxVnni, WeightWidth::Bits16) => {
                Form::Panels(Panels::pack(&avx2::FAMILY, weights, shape, packed::put_i16))
            }
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2, WeightWidth::Bits8) => {
                let panels = Panels::pack(&avx2::FAMILY, weights, shape, packed::put_i16);
                Form::Panels(panels.with_winograd())
            }
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512 | Level::Amx, _) => {
                Form::Panels(packed::avx512::pack(width, weights, shape).for_isa(isa))
            }
            #[cfg(target_arch = "x86_64")]
            (Level::AvxVnni, _) => Form::Panels(packed::avxvnni::pack(width, weights, shape)),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2, _) => {
                Form::Panels(packed::avx2::pack(width, weights, shape).with_winograd())
            }
            _ => Form::Codes(Codes::pack(width, weights, shape)),
        }
    }
}
