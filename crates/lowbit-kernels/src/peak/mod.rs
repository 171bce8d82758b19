//! What this machine can do at most: register-only loops of the instructions that the kernels are made of, and a pass
//! over memory larger than the caches.
//!
//! A kernel's speed means little without the limit beside it. The loops here have enough independent accumulators to
//! fill the pipelines and touch no memory; each figure is the best of many short runs, so that other work on the machine
//! disturbs it little.

use crate::{AlignedBuffer, Isa, Level};
use std::hint::black_box;
use std::time::{Duration, Instant};

#[cfg(target_arch = "x86_64")]
mod x86;

/// Limits of one thread on one ISA.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// The ISA measured.
    pub isa: Isa,
    /// Fused multiply-adds in f32.
    pub f32_gmac_per_s: f64,
    /// Products of u8 with i8, added up in i32.
    pub u8i8_gmac_per_s: f64,
    /// Products of i16 with i16, added up in i32.
    pub i16_gmac_per_s: f64,
    /// Products of single bits: exclusive or, population count, addition.
    pub bit_gmac_per_s: f64,
    /// Bytes read from memory by a sum over a buffer of 128 MiB.
    pub memory_gb_per_s: f64,
}

/// Measures all limits within about `budget` (a quarter of a second is enough on an idle machine). The buffer of the
/// memory pass is allocated and filled besides.
#[must_use]
pub fn measure(isa: Isa, budget: Duration) -> Peaks {
    let share = budget / 5;
    let loops = Loops::of(isa);
    Peaks {
        isa,
        f32_gmac_per_s: best_rate(share, loops.f32),
        u8i8_gmac_per_s: best_rate(share, loops.u8i8),
        i16_gmac_per_s: best_rate(share, loops.i16),
        bit_gmac_per_s: best_rate(share, loops.bit),
        memory_gb_per_s: memory(isa, share),
    }
}

/// The limit of fused multiply-adds in f32 alone, measured for about `budget`: short enough to be taken between the runs
/// of a kernel, since a machine's clock moves.
#[must_use]
pub fn f32_gmac_per_s(isa: Isa, budget: Duration) -> f64 {
    best_rate(budget, Loops::of(isa).f32)
}

/// Loops that run a number of rounds and say how many multiply-accumulates that was.
struct Loops {
    f32: fn(u64) -> u64,
    u8i8: fn(u64) -> u64,
    i16: fn(u64) -> u64,
    bit: fn(u64) -> u64,
}

impl Loops {
    fn of(isa: Isa) -> Self {
        match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Amx => Self {
                // SAFETY: a value of `Isa` is proof of its features.
                f32: |n| unsafe { x86::f32_avx512(n) },
                // SAFETY: a value of `Isa` is proof of its features.
                u8i8: if isa.level() == Level::Amx {
                    |n| unsafe { x86::u8i8_amx(n) }
                } else {
                    // SAFETY: as above.
                    |n| unsafe { x86::u8i8_avx512(n) }
                },
                // SAFETY: a value of `Isa` is proof of its features.
                i16: |n| unsafe { x86::i16_avx512(n) },
                bit: if std::arch::is_x86_feature_detected!("avx512vpopcntdq") {
                    // SAFETY: the feature was just detected.
                    |n| unsafe { x86::bit_avx512(n) }
                } else {
                    // SAFETY: AVX-512 machines have AVX2.
                    |n| unsafe { x86::bit_avx2(n) }
                },
            },
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::AvxVnni => Self {
                // SAFETY: a value of `Isa` is proof of its features.
                f32: |n| unsafe { x86::f32_avx2(n) },
                // SAFETY: a value of `Isa` is proof of its features.
                u8i8: if isa.level() == Level::AvxVnni {
                    |n| unsafe { x86::u8i8_avxvnni(n) }
                } else {
                    // SAFETY: as above.
                    |n| unsafe { x86::u8i8_avx2(n) }
                },
                // SAFETY: a value of `Isa` is proof of its features.
                i16: |n| unsafe { x86::i16_avx2(n) },
                // SAFETY: a value of `Isa` is proof of its features.
                bit: |n| unsafe { x86::bit_avx2(n) },
            },
            _ => Self {
                f32: f32_portable,
                u8i8: integer_portable,
                i16: integer_portable,
                bit: bit_portable,
            },
        }
    }
}

/// Rounds of a short run: some microseconds.
const ROUNDS: u64 = 2000;

/// The highest rate of many short runs, in billions per second.
fn best_rate(budget: Duration, run: fn(u64) -> u64) -> f64 {
    let start = Instant::now();
    let mut best = 0.0f64;
    while start.elapsed() < budget {
        let begin = Instant::now();
        let work = run(black_box(ROUNDS));
        best = best.max(work as f64 / begin.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// More than the last-level cache of most machines.
const MEMORY_BYTES: usize = 128 << 20;

fn memory(isa: Isa, budget: Duration) -> f64 {
    let buffer = AlignedBuffer::<i32>::from_slice(&vec![1; MEMORY_BYTES / 4]);
    let start = Instant::now();
    let mut best = 0.0f64;
    loop {
        let begin = Instant::now();
        black_box(sum(isa, black_box(&buffer)));
        best = best.max(MEMORY_BYTES as f64 / begin.elapsed().as_secs_f64() / 1e9);
        if start.elapsed() >= budget {
            return best;
        }
    }
}

fn sum(isa: Isa, values: &[i32]) -> i32 {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every level but the portable one includes AVX2, and a value of `Isa` is proof of it.
        level if level != Level::Portable => unsafe { x86::sum_avx2(values) },
        _ => wrapping_sum(values),
    }
}

#[inline(always)]
fn wrapping_sum(values: &[i32]) -> i32 {
    let mut sums = [0i32; 64];
    for chunk in values.chunks_exact(64) {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(x);
        }
    }
    sums.iter().fold(0, |a, &b| a.wrapping_add(b))
}

fn f32_portable(rounds: u64) -> u64 {
    let (x, mut acc) = (black_box([0.5f32; 32]), [0.0f32; 32]);
    for _ in 0..rounds {
        for (a, x) in acc.iter_mut().zip(x) {
            *a = *a * 0.5 + x;
        }
    }
    black_box(acc);
    rounds * 32
}

fn integer_portable(rounds: u64) -> u64 {
    let (x, mut acc) = (black_box([3i16; 32]), [1i32; 32]);
    for _ in 0..rounds {
        for (a, x) in acc.iter_mut().zip(x) {
            *a = (*a as i16 as i32)
                .wrapping_mul(i32::from(x))
                .wrapping_add(1);
        }
    }
    black_box(acc);
    rounds * 32
}

fn bit_portable(rounds: u64) -> u64 {
    let (x, mut acc) = (black_box([0x55u64; 8]), [0u64; 8]);
    for _ in 0..rounds {
        for (a, x) in acc.iter_mut().zip(x) {
            *a += u64::from((x ^ *a).count_ones());
        }
    }
    black_box(acc);
    rounds * 8 * 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_a_positive_number_on_every_isa() {
        for isa in Isa::available() {
            let peaks = measure(isa, Duration::from_millis(5));
            assert_eq!(peaks.isa, isa);
            for rate in [
                peaks.f32_gmac_per_s,
                peaks.u8i8_gmac_per_s,
                peaks.i16_gmac_per_s,
                peaks.bit_gmac_per_s,
                peaks.memory_gb_per_s,
            ] {
                assert!(rate.is_finite() && rate > 0.0, "{peaks:?}");
            }
        }
    }
}
