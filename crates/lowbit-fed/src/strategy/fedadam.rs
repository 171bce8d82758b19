//! `m ← β₁ m + (1 − β₁) Δ`, `v ← β₂ v + (1 − β₂) Δ²`, `x ← x + η' m / (√v + τ)`, with
//! `η' = η √(1 − β₂^(t+1)) / (1 − β₁^(t+1))` in round t.

use super::Memory;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;
const TAU: f64 = 1e-3;

pub(super) fn step(eta: f32, round: u32, update: &[f64], memory: &mut Memory, global: &mut [f32]) {
    memory.first.resize(update.len(), 0.0);
    memory.second.resize(update.len(), 0.0);
    let power = f64::from(round) + 1.0;
    let eta = f64::from(eta) * (1.0 - BETA2.powf(power)).sqrt() / (1.0 - BETA1.powf(power));
    let moments = memory.first.iter_mut().zip(&mut memory.second);
    for ((x, (m, v)), &update) in global.iter_mut().zip(moments).zip(update) {
        let first = BETA1 * f64::from(*m) + (1.0 - BETA1) * update;
        let second = BETA2 * f64::from(*v) + (1.0 - BETA2) * update * update;
        (*m, *v) = (first as f32, second as f32);
        *x = (f64::from(*x) + eta * first / (second.sqrt() + TAU)) as f32;
    }
}
