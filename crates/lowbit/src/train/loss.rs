//! Softmax cross-entropy.

/// Mean cross-entropy of `logits` (`[n, classes]`) and its gradient, and how many predictions are right (the first of
/// equal logits is the prediction).
pub(super) fn cross_entropy(
    logits: &[f32],
    labels: &[u32],
    classes: usize,
    grad: &mut [f32],
) -> (f64, usize) {
    let scale = 1.0 / labels.len() as f64;
    let (mut loss, mut correct) = (0.0, 0);
    let rows = logits
        .chunks_exact(classes)
        .zip(grad.chunks_exact_mut(classes));
    for ((row, grad), &label) in rows.zip(labels) {
        let label = label as usize;
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp = |x: f32| (f64::from(x) - f64::from(largest)).exp();
        let sum: f64 = row.iter().map(|&x| exp(x)).sum();
        loss += sum.ln() - (f64::from(row[label]) - f64::from(largest));
        correct += usize::from(row.iter().position(|&x| x == largest) == Some(label));
        for (class, (grad, &x)) in grad.iter_mut().zip(row).enumerate() {
            let target = if class == label { 1.0 } else { 0.0 };
            *grad = ((exp(x) / sum - target) * scale) as f32;
        }
    }
    (loss * scale, correct)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let logits = [0.3f32, -1.2, 2.0, 0.0, 0.5, 0.5];
        let labels = [2, 1];
        let mut grad = [0.0; 6];
        let (loss, correct) = cross_entropy(&logits, &labels, 3, &mut grad);
        assert!(loss > 0.0);
        assert_eq!(correct, 2);
        for i in 0..6 {
            let at = |step: f32| {
                let mut moved = logits;
                moved[i] += step;
                cross_entropy(&moved, &labels, 3, &mut [0.0; 6]).0
            };
            let difference = (at(1e-3) - at(-1e-3)) / 2e-3;
            assert!((difference - f64::from(grad[i])).abs() < 1e-4, "{i}");
        }
    }
}
