//! The instructions: tile products of strips and panels, and the configuration of tiles.

use super::shape::{Pair, ROW, TILE};
use crate::qconv::microkernel::{PerChannel, TileSums};
use std::arch::asm;

/// One or two strips times one or two vectors of a panel.
pub(super) struct Product<'a> {
    pub(super) strips: &'a Pair,
    /// Bytes from one pixel to the next.
    pub(super) step: usize,
    pub(super) offsets: &'a [usize],
    /// `[block, vector]` tiles.
    pub(super) weights: *const u8,
    pub(super) vectors: usize,
    /// Where the sums of each channel begin.
    pub(super) start: &'a PerChannel<i32>,
}

/// Tile products over all blocks: `$begin` the sums (a load without a stride gives all rows the same), `$multiply` for each
/// block, `$store` the sums.
macro_rules! product {
    ($self:ident, $sums:ident, begin: $($begin:literal)*, multiply: $($multiply:literal)*, store: $($store:literal)*) => {
        asm!(
            $($begin,)*
            "2:",
            "mov {taps0}, [{offsets}]",
            "lea {taps1}, [{taps0} + {input1}]",
            "add {taps0}, {input0}",
            $($multiply,)*
            "add {offsets}, 8",
            "add {weights}, {block}",
            "dec {left}",
            "jnz 2b",
            $($store,)*
            input0 = in(reg) $self.strips.0.input,
            input1 = in(reg) $self.strips.1.as_ref().unwrap_or(&$self.strips.0).input,
            step = in(reg) $self.step,
            offsets = inout(reg) $self.offsets.as_ptr() => _,
            left = inout(reg) $self.offsets.len() => _,
            weights = inout(reg) $self.weights => _,
            block = in(reg) $self.vectors * TILE,
            row = in(reg) ROW,
            start = in(reg) $self.start.0.as_ptr(),
            pixel = in(reg) $self.vectors * ROW,
            sums = in(reg) $sums.as_mut_ptr(),
            taps0 = out(reg) _,
            taps1 = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

impl Product<'_> {
    /// # Safety
    /// AMX-INT8 is there and configured for the strips and blocks; every strip's pixels can be read at every offset for 64
    /// bytes, `offsets` is not empty, and the weights hold a tile per offset and vector.
    pub(super) unsafe fn qconv_32x32_amx(&self, sums: &mut [TileSums; 2]) {
        // SAFETY: (all) the caller's promises; `sums` has room for two tiles each, `start` for two vectors.
        const _: () = assert!(size_of::<TileSums>() == 2 * TILE);
        unsafe {
            match (self.strips.1.is_some(), self.vectors) {
                (true, 2) => product!(self, sums,
                    begin:
                        "tileloadd tmm0, [{start}]"
                        "tileloadd tmm1, [{start} + 64]"
                        "tileloadd tmm2, [{start}]"
                        "tileloadd tmm3, [{start} + 64]",
                    multiply:
                        "tileloadd tmm6, [{weights} + {row}*1]"
                        "tileloadd tmm4, [{taps0} + {step}*1]"
                        "tileloadd tmm7, [{weights} + {row}*1 + 1024]"
                        "tdpbusd tmm0, tmm4, tmm6"
                        "tileloadd tmm5, [{taps1} + {step}*1]"
                        "tdpbusd tmm1, tmm4, tmm7"
                        "tdpbusd tmm2, tmm5, tmm6"
                        "tdpbusd tmm3, tmm5, tmm7",
                    store:
                        "tilestored [{sums} + {pixel}*1], tmm0"
                        "tilestored [{sums} + {pixel}*1 + 64], tmm1"
                        "tilestored [{sums} + {pixel}*1 + 2048], tmm2"
                        "tilestored [{sums} + {pixel}*1 + 2112], tmm3"
                ),
                (true, _) => product!(self, sums,
                    begin: "tileloadd tmm0, [{start}]" "tileloadd tmm2, [{start}]",
                    multiply:
                        "tileloadd tmm6, [{weights} + {row}*1]"
                        "tileloadd tmm4, [{taps0} + {step}*1]"
                        "tdpbusd tmm0, tmm4, tmm6"
                        "tileloadd tmm5, [{taps1} + {step}*1]"
                        "tdpbusd tmm2, tmm5, tmm6",
                    store:
                        "tilestored [{sums} + {pixel}*1], tmm0"
                        "tilestored [{sums} + {pixel}*1 + 2048], tmm2"
                ),
                (false, 2) => product!(self, sums,
                    begin: "tileloadd tmm0, [{start}]" "tileloadd tmm1, [{start} + 64]",
                    multiply:
                        "tileloadd tmm6, [{weights} + {row}*1]"
                        "tileloadd tmm4, [{taps0} + {step}*1]"
                        "tileloadd tmm7, [{weights} + {row}*1 + 1024]"
                        "tdpbusd tmm0, tmm4, tmm6"
                        "tdpbusd tmm1, tmm4, tmm7",
                    store:
                        "tilestored [{sums} + {pixel}*1], tmm0"
                        "tilestored [{sums} + {pixel}*1 + 64], tmm1"
                ),
                (false, _) => product!(self, sums,
                    begin: "tileloadd tmm0, [{start}]",
                    multiply:
                        "tileloadd tmm6, [{weights} + {row}*1]"
                        "tileloadd tmm4, [{taps0} + {step}*1]"
                        "tdpbusd tmm0, tmm4, tmm6",
                    store:
                        "tilestored [{sums} + {pixel}*1], tmm0"
                ),
            }
        }
    }
}

/// Configures this thread's tiles: sums (`tmm0` to `tmm3`) of `pixels` rows and sixteen channels, activations (`tmm4`,
/// `tmm5`) of `pixels` rows and `steps` times four taps, weights (`tmm6`, `tmm7`) of `steps` rows and sixteen channels.
///
/// # Safety
/// AMX is available, `pixels` and `steps` are 1 to 16.
pub(crate) unsafe fn configure(pixels: u8, steps: u8) {
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }
    let mut config = Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    config.row_bytes[..8].fill(ROW as u16);
    config.row_bytes[4..6].fill(u16::from(steps) * 4);
    config.rows[..6].fill(pixels);
    config.rows[6..8].fill(steps);
    // SAFETY: the caller's promises; the instruction reads 64 bytes.
    unsafe { asm!("ldtilecfg [{0}]", in(reg) &raw const config, options(readonly, nostack)) };
}

/// Gives the tiles back, so that a switch of threads need not save them.
///
/// # Safety
/// AMX is available.
pub(crate) unsafe fn release() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nomem, nostack)) };
}
