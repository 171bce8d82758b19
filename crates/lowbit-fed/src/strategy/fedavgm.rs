//! `v ← μ v + Δ`, `x ← x + v`.

pub(super) fn step(momentum: f32, update: &[f64], velocity: &mut Vec<f32>, global: &mut [f32]) {
    velocity.resize(update.len(), 0.0);
    for ((x, v), &update) in global.iter_mut().zip(velocity).zip(update) {
        let next = f64::from(momentum) * f64::from(*v) + update;
        *v = next as f32;
        *x = (f64::from(*x) + next) as f32;
    }
}
