//! The exponentials of softmax, for rows of any length.

use super::exp_f32;
use crate::Isa;
use crate::vectorize::vectorized;

/// Numbers of a row that are compared, or summed, at once: number `i` is added to sum `i mod LANES`, and the sums are added in
/// their order.
const LANES: usize = 16;

/// Of each row of `len`: `out = exp(x − largest)`, and in `totals` their sum. `x` is left as what was raised. A softmax is
/// `out / total`.
///
/// Exponentials are taken of all rows at once: short rows would leave vectors empty.
///
/// # Panics
/// If `len` is 0, or the three do not have as many rows.
pub fn exp_rows_f32(isa: Isa, len: usize, x: &mut [f32], out: &mut [f32], totals: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "one result per input");
    assert_eq!(x.len(), len * totals.len(), "one total per row");
    vectorized!(isa, || {
        for row in x.chunks_exact_mut(len) {
            let largest = largest(row);
            row.iter_mut().for_each(|x| *x -= largest);
        }
        for (y, &x) in out.iter_mut().zip(x.iter()) {
            *y = exp_f32(x);
        }
        for (total, row) in totals.iter_mut().zip(out.chunks_exact(len)) {
            *total = sum(row);
        }
    });
}

#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let larger = |lane: &mut f32, x: f32| *lane = if x > *lane { x } else { *lane };
    let (parts, rest) = x.as_chunks::<LANES>();
    for part in parts {
        for (lane, &x) in lanes.iter_mut().zip(part) {
            larger(lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        larger(lane, x);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (parts, rest) = x.as_chunks::<LANES>();
    for part in parts {
        for (lane, &x) in lanes.iter_mut().zip(part) {
            *lane += x;
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length_are_those_of_f64_on_every_isa() {
        for len in [1, 4, 16, 17, 65, 196] {
            let rows = 5;
            let x: Vec<f32> = (0..rows * len)
                .map(|i| ((i * 7919) % 997) as f32 * 0.02 - 10.0)
                .collect();
            let run = |isa| {
                let (mut x, mut out) = (x.clone(), vec![9.0; x.len()]);
                let mut totals = vec![9.0; rows];
                exp_rows_f32(isa, len, &mut x, &mut out, &mut totals);
                (out, totals)
            };
            let portable = run(Isa::PORTABLE);
            for isa in Isa::available() {
                assert_eq!(run(isa), portable, "{isa}, {len}");
            }
            let (out, totals) = portable;
            for ((x, y), total) in x.chunks(len).zip(out.chunks(len)).zip(totals) {
                let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let exact = x.iter().map(|&x| f64::from(x - largest).exp());
                let sum: f64 = exact.clone().sum();
                assert!((f64::from(total) - sum).abs() < 1e-5 * sum);
                for (y, exact) in y.iter().zip(exact) {
                    assert!((f64::from(*y) - exact).abs() < 1e-6 * exact);
                }
            }
        }
    }
}
