//! `x ← x + Δ`.

pub(super) fn step(update: &[f64], global: &mut [f32]) {
    for (x, &update) in global.iter_mut().zip(update) {
        *x = (f64::from(*x) + update) as f32;
    }
}
