//! Softmax cross-entropy: with one label for each image, and with targets that are softer.

/// What the logits of a batch should be.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Targets<'a> {
    /// One label for each image.
    pub labels: &'a [u32],
    /// Where two images were mixed into one: the label of the other, and the share of `labels`, 0–1.
    pub mixed: Option<(&'a [u32], f32)>,
    /// What a larger network says of the same images.
    pub teacher: Option<Teacher<'a>>,
}

/// Knowledge distillation (Hinton et al. 2015): the loss becomes
/// `(1 − weight) · cross-entropy + weight · T² · KL(softmax(teacher / T) ‖ softmax(logits / T))`.
#[derive(Clone, Copy, Debug)]
pub struct Teacher<'a> {
    /// Its logits, `[n, classes]`.
    pub logits: &'a [f32],
    /// T.
    pub temperature: f32,
    /// Its share of the loss, 0–1.
    pub weight: f32,
}

impl<'a> Targets<'a> {
    /// Takes one label for each image.
    #[must_use]
    pub fn of(labels: &'a [u32]) -> Self {
        Self {
            labels,
            mixed: None,
            teacher: None,
        }
    }

    /// Says that image i is `share` of its own and the rest of one of class `others[i]` (mixup, Zhang et al. 2018, equation 1;
    /// CutMix, Yun et al. 2019, equation 1).
    #[must_use]
    pub fn mixed_with(self, others: &'a [u32], share: f32) -> Self {
        Self {
            mixed: Some((others, share)),
            ..self
        }
    }

    /// Follows a teacher as well.
    #[must_use]
    pub fn taught_by(self, teacher: Teacher<'a>) -> Self {
        Self {
            teacher: Some(teacher),
            ..self
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.mixed.is_none() && self.teacher.is_none()
    }
}

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

/// The same with softer targets: `smoothing` of each target is spread over all classes (Szegedy et al. 2016, section 7), as
/// PyTorch's `label_smoothing` does.
pub(super) fn soft_cross_entropy(
    logits: &[f32],
    targets: &Targets<'_>,
    smoothing: f32,
    classes: usize,
    grad: &mut [f32],
) -> (f64, usize) {
    let scale = 1.0 / targets.labels.len() as f64;
    let smoothing = f64::from(smoothing);
    let (mut loss, mut correct) = (0.0, 0);
    let mut row_of = Row::new(classes);
    let rows = logits
        .chunks_exact(classes)
        .zip(grad.chunks_exact_mut(classes));
    for (index, (row, grad)) in rows.enumerate() {
        let label = targets.labels[index] as usize;
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        correct += usize::from(row.iter().position(|&x| x == largest) == Some(label));
        row_of.target.fill(smoothing / classes as f64);
        match targets.mixed {
            None => row_of.target[label] += 1.0 - smoothing,
            Some((others, share)) => {
                let share = f64::from(share);
                row_of.target[label] += share * (1.0 - smoothing);
                row_of.target[others[index] as usize] += (1.0 - share) * (1.0 - smoothing);
            }
        }
        let hard = targets
            .teacher
            .map_or(1.0, |teacher| 1.0 - f64::from(teacher.weight));
        row_of.student(row, 1.0);
        let pairs = || row_of.target.iter().zip(&row_of.log_student);
        // 0 · ln 0 is 0.
        let terms = pairs().map(|(t, log)| if *t == 0.0 { 0.0 } else { t * log });
        loss -= hard * terms.sum::<f64>();
        for (grad, (t, log)) in grad.iter_mut().zip(pairs()) {
            *grad = (hard * (log.exp() - t) * scale) as f32;
        }
        if let Some(teacher) = targets.teacher {
            let (t, weight) = (f64::from(teacher.temperature), f64::from(teacher.weight));
            let theirs = &teacher.logits[index * classes..][..classes];
            log_softmax(theirs, t, &mut row_of.log_teacher);
            row_of.student(row, t);
            let pairs = row_of.log_teacher.iter().zip(&row_of.log_student);
            for (grad, (teacher, student)) in grad.iter_mut().zip(pairs) {
                let (q, p) = (teacher.exp(), student.exp());
                if q > 0.0 {
                    loss += weight * t * t * q * (teacher - student);
                }
                *grad += (weight * t * (p - q) * scale) as f32;
            }
        }
    }
    (loss * scale, correct)
}

/// What one image needs.
struct Row {
    target: Vec<f64>,
    log_student: Vec<f64>,
    log_teacher: Vec<f64>,
}

impl Row {
    fn new(classes: usize) -> Self {
        Self {
            target: vec![0.0; classes],
            log_student: vec![0.0; classes],
            log_teacher: vec![0.0; classes],
        }
    }

    fn student(&mut self, logits: &[f32], temperature: f64) {
        log_softmax(logits, temperature, &mut self.log_student);
    }
}

fn log_softmax(logits: &[f32], temperature: f64, out: &mut [f64]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let from = |x: f32| (f64::from(x) - f64::from(largest)) / temperature;
    let sum: f64 = logits.iter().map(|&x| from(x).exp()).sum();
    for (out, &x) in out.iter_mut().zip(logits) {
        *out = from(x) - sum.ln();
    }
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

    const SMOOTHED: f64 = 0.669_845_666_449_912_2;
    const MIXED: f64 = 0.899_345_666_449_912_2;
    const TAUGHT: f64 = 0.362_783_539_784_695_35;
    const TAUGHT_GRAD: [f32; 6] = [
        0.049_143_82,
        -0.013_998_775,
        -0.035_145_04,
        0.157_312_13,
        -0.255_013_65,
        0.097_701_52,
    ];
    const LOGITS: [f32; 6] = [0.3, -1.2, 2.0, 0.0, 0.5, 0.5];

    fn soft(targets: &Targets<'_>, smoothing: f32) -> (f64, Vec<f32>) {
        let mut grad = vec![0.0; 6];
        let (loss, _) = soft_cross_entropy(&LOGITS, targets, smoothing, 3, &mut grad);
        for i in 0..6 {
            let at = |step: f32| {
                let mut moved = LOGITS;
                moved[i] += step;
                soft_cross_entropy(&moved, targets, smoothing, 3, &mut [0.0; 6]).0
            };
            let difference = (at(1e-3) - at(-1e-3)) / 2e-3;
            assert!((difference - f64::from(grad[i])).abs() < 1e-4, "{i}");
        }
        (loss, grad)
    }

    #[test]
    fn without_softness_both_losses_are_the_same() {
        let labels = [2, 1];
        let mut grad = [0.0; 6];
        let (loss, _) = cross_entropy(&LOGITS, &labels, 3, &mut grad);
        let (soft_loss, soft_grad) = soft(&Targets::of(&labels), 0.0);
        assert!((loss - soft_loss).abs() < 1e-12);
        assert!(
            grad.iter()
                .zip(&soft_grad)
                .all(|(a, b)| (a - b).abs() < 1e-7)
        );
    }

    /// `torch.nn.functional.cross_entropy(..., label_smoothing=0.1)`, and what its definition gives for the others, in f64
    /// (bench/peers/golden_losses.py).
    #[test]
    fn softer_losses_are_pytorchs() {
        let labels = [2, 1];
        let (loss, _) = soft(&Targets::of(&labels), 0.1);
        assert!((loss - SMOOTHED).abs() < 1e-6, "{loss}");
        let mixed = Targets::of(&labels).mixed_with(&[0, 2], 0.7);
        let (loss, _) = soft(&mixed, 0.1);
        assert!((loss - MIXED).abs() < 1e-6, "{loss}");
        let logits = [1.0, 0.0, 3.0, -1.0, 2.0, 0.5];
        let teacher = Teacher {
            logits: &logits,
            temperature: 4.0,
            weight: 0.7,
        };
        let (loss, grad) = soft(&Targets::of(&labels).taught_by(teacher), 0.0);
        assert!((loss - TAUGHT).abs() < 1e-6, "{loss}");
        for (found, expected) in grad.iter().zip(TAUGHT_GRAD) {
            assert!((found - expected).abs() < 1e-6, "{grad:?}");
        }
    }
}
