//! Each class is spread over the clients by shares from a Dirichlet distribution (Hsu et al. 2019, Li et al. 2022).

use super::Partition;
use crate::DataError;
use lowbit_kernels::random::{RngCore, normal, shuffle, stream, uniform};

/// Draws in which every client must get images.
const DRAWS: u64 = 100;

pub(super) fn deal(
    labels: &[u32],
    classes: usize,
    clients: usize,
    (alpha, balanced): (f64, bool),
    seed: u64,
) -> Result<Vec<Vec<usize>>, DataError> {
    // As others do, a draw that leaves a client with next to nothing is drawn again.
    let least = 10.min(labels.len() / clients / 4).max(2);
    for draw in 0..DRAWS {
        let mut dealt = vec![Vec::new(); clients];
        for class in 0..classes {
            let step = draw * classes as u64 + class as u64;
            let mut rng = stream(seed, "partition", step);
            let mut members: Vec<usize> = (0..labels.len())
                .filter(|&index| labels[index] as usize == class)
                .collect();
            shuffle(&mut rng, &mut members);
            let has_enough =
                |client: &Vec<usize>| balanced && client.len() * clients >= labels.len();
            let full: Vec<bool> = dealt.iter().map(has_enough).collect();
            let shares = shares(&mut rng, alpha, &full);
            let (mut taken, mut sum) = (0, 0.0);
            for (client, share) in shares.into_iter().enumerate() {
                sum += share;
                let end = match client + 1 == clients {
                    true => members.len(),
                    false => ((sum * members.len() as f64).round() as usize).min(members.len()),
                };
                dealt[client].extend_from_slice(&members[taken..end.max(taken)]);
                taken = end.max(taken);
            }
        }
        if dealt.iter().all(|images| images.len() >= least) {
            return Ok(dealt);
        }
    }
    Err(DataError::BadOption {
        name: "partition",
        value: format!(
            "{} for {clients} clients and {} training images",
            Partition::Dirichlet { alpha, balanced },
            labels.len()
        ),
        expected: "such that every client gets images: a larger number after the colon, or fewer clients",
    })
}

/// Shares that sum to one, of those that are not full: gamma numbers over their sum. Their logarithms are drawn, since at small
/// α most underflow.
fn shares(rng: &mut impl RngCore, alpha: f64, full: &[bool]) -> Vec<f64> {
    let log = |&full: &bool| {
        let ln = ln_gamma_number(rng, alpha);
        if full { f64::NEG_INFINITY } else { ln }
    };
    let logs: Vec<f64> = full.iter().map(log).collect();
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shares: Vec<f64> = logs.iter().map(|ln| (ln - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.into_iter().map(|share| share / sum).collect()
}

/// ln of a gamma number of shape `alpha` (Marsaglia & Tsang 2000; below 1, of shape α + 1 times a uniform number to 1/α).
fn ln_gamma_number(rng: &mut impl RngCore, alpha: f64) -> f64 {
    if alpha < 1.0 {
        let u = 1.0 - f64::from(uniform(rng));
        return ln_gamma_number(rng, alpha + 1.0) + u.ln() / alpha;
    }
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = f64::from(normal(rng));
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - f64::from(uniform(rng));
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_of_gamma_numbers_have_their_mean_and_variance() {
        // Digamma and trigamma, Abramowitz & Stegun, tables 6.1 and 6.2; ψ(½) = −γ − 2 ln 2, ψ′(½) = π²/2.
        for (alpha, mean, variance) in [
            (0.5, -1.963_51, 4.934_80),
            (1.0, -0.577_22, 1.644_93),
            (2.0, 0.422_78, 0.644_93),
            (5.0, 1.506_12, 0.221_32),
        ] {
            let mut rng = stream(1, "test", 0);
            let draws: Vec<f64> = (0..40_000)
                .map(|_| ln_gamma_number(&mut rng, alpha))
                .collect();
            let count = draws.len() as f64;
            let found = draws.iter().sum::<f64>() / count;
            let spread = draws.iter().map(|x| (x - found).powi(2)).sum::<f64>() / count;
            // Four standard errors of the mean.
            let error = 4.0 * f64::sqrt(variance / count);
            assert!((found - mean).abs() < error, "{alpha}: {found}");
            assert!((spread / variance - 1.0).abs() < 0.05, "{alpha}: {spread}");
        }
    }

    #[test]
    fn a_client_of_a_small_set_may_get_two_images() {
        // Of 40 images a client must get 2: ten each would need ten for all four.
        let labels: Vec<u32> = (0..40).map(|index| index % 2).collect();
        let dealt = deal(&labels, 2, 4, (0.3, false), 1).unwrap();
        let counts: Vec<usize> = dealt.iter().map(Vec::len).collect();
        assert_eq!(counts.iter().sum::<usize>(), 40);
        assert!(counts.iter().all(|&count| count >= 2), "{counts:?}");
        assert!(counts.iter().any(|&count| count < 10), "{counts:?}");
    }

    /// NIID-Bench's rule: whoever has a client's fair share of all images is passed over for the classes that follow.
    #[test]
    fn balanced_clients_get_no_class_beyond_their_fair_share() {
        let labels: Vec<u32> = (0..5000).map(|index| index % 10).collect();
        let mut largest = [0, 0];
        for seed in 1..20 {
            let sizes = |balanced: bool| -> Vec<usize> {
                let dealt = deal(&labels, 10, 10, (0.5, balanced), seed).unwrap();
                let mut all = dealt.concat();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..5000));
                dealt.iter().map(Vec::len).collect()
            };
            for (sum, balanced) in largest.iter_mut().zip([false, true]) {
                *sum += sizes(balanced).into_iter().max().unwrap();
            }
            for client in deal(&labels, 10, 10, (0.5, true), seed).unwrap() {
                let mut have = 0;
                for class in 0..10 {
                    let of_class = client.iter().filter(|&&at| at % 10 == class).count();
                    assert!(of_class == 0 || have < 500, "{have} before class {class}");
                    have += of_class;
                }
            }
        }
        assert!(largest[1] < largest[0], "{largest:?}");
    }

    #[test]
    fn shares_sum_to_one_where_gamma_numbers_underflow() {
        let mut rng = stream(1, "test", 0);
        for _ in 0..1000 {
            let shares = shares(&mut rng, 0.0005, &[false; 3]);
            let sum: f64 = shares.iter().sum();
            assert!((sum - 1.0).abs() < 1e-9, "{shares:?}");
        }
    }

    #[test]
    fn shares_have_the_mean_and_variance_of_the_distribution() {
        // Mean 1/n; variance (1/n)(1 − 1/n)/(nα + 1).
        for alpha in [0.1, 0.5, 2.0] {
            let draws = 20_000;
            let mut rng = stream(1, "test", 0);
            let (mut sum, mut square) = (0.0, 0.0);
            for _ in 0..draws {
                let first = shares(&mut rng, alpha, &[false; 5])[0];
                sum += first;
                square += first * first;
            }
            let (n, draws) = (5.0, f64::from(draws));
            let mean = sum / draws;
            let variance = square / draws - mean * mean;
            let expected = (1.0 / n) * (1.0 - 1.0 / n) / (n * alpha + 1.0);
            assert!((mean - 1.0 / n).abs() < 0.01, "{alpha}: mean {mean}");
            assert!(
                (variance / expected - 1.0).abs() < 0.05,
                "{alpha}: {variance} for {expected}"
            );
        }
    }
}
