//! The median of each number; of an even count, the mean of the two in the middle.

use super::by_number;

pub(super) fn combine(updates: &[Vec<f32>]) -> Vec<f64> {
    by_number(updates, |values| {
        values.sort_unstable_by(f32::total_cmp);
        let middle = values.len() / 2;
        let upper = f64::from(values[middle]);
        match values.len() % 2 {
            1 => upper,
            _ => 0.5 * (f64::from(values[middle - 1]) + upper),
        }
    })
}
