//! The update whose nearest neighbors are nearest: of n with f malicious, n − f − 2 neighbors count.

pub(super) fn combine(malicious: usize, updates: &[Vec<f32>]) -> Vec<f64> {
    let count = updates.len();
    let neighbors = count.saturating_sub(malicious + 2).max(1);
    let score = |index: usize| -> f64 {
        let mut distances: Vec<f64> = (0..count)
            .filter(|&other| other != index)
            .map(|other| distance(&updates[index], &updates[other]))
            .collect();
        distances.sort_unstable_by(f64::total_cmp);
        distances.iter().take(neighbors).sum()
    };
    let scores: Vec<f64> = (0..count).map(score).collect();
    let best = (0..count).min_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    best.map_or_else(Vec::new, |best| {
        updates[best].iter().map(|&x| f64::from(x)).collect()
    })
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
    a.iter().zip(b).map(square).sum()
}
