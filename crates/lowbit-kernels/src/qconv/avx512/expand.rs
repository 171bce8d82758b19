//! Weights laid out for matrix tiles, which only machines with AMX have a use for.

use super::format::{Format, bytes};
use crate::qconv::amx::shape::{Blocks, ROW, TILE};
use crate::qconv::layout::PanelShape;
use std::arch::x86_64::*;

/// # Safety
/// As [`ExpandPanel`](crate::qconv::microkernel::ExpandPanel).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn expand_panel<F: Format>(panel: *const u8, shape: PanelShape, to: *mut u8) {
    let PanelShape {
        segments,
        steps,
        vectors,
    } = shape;
    let blocks = Blocks::of(steps);
    for segment in 0..segments {
        for v in 0..vectors {
            for block in 0..blocks.count {
                let tile = ((segment * blocks.count + block) * vectors + v) * TILE;
                for row in 0..blocks.steps {
                    let step = block * blocks.steps + row;
                    // SAFETY: a tile per segment, block and vector has room in `to`; the panel holds `steps` steps of
                    // each segment, and no other is read.
                    unsafe {
                        let weights = if step < steps {
                            let at = (segment * steps + step) * vectors + v;
                            bytes::<F>(panel.add(at * F::VECTOR_BYTES))
                        } else {
                            _mm512_setzero_si512()
                        };
                        _mm512_store_si512(to.add(tile + row * ROW).cast(), weights);
                    }
                }
            }
        }
    }
}
