//! The mean of each number without the largest and the smallest.

use super::by_number;

pub(super) fn combine(share: f64, updates: &[Vec<f32>]) -> Vec<f64> {
    let cut = (share * updates.len() as f64) as usize;
    by_number(updates, |values| {
        values.sort_unstable_by(f32::total_cmp);
        let kept = &values[cut..values.len() - cut];
        kept.iter().map(|&x| f64::from(x)).sum::<f64>() / kept.len() as f64
    })
}
