//! Channels that are picked from others, in runs of neighbors.

/// The channels of an input that make a result, in the order of the result's.
pub(super) enum Picked {
    /// Runs of neighbors: the first channel and their number.
    Runs(Vec<(usize, usize)>),
    /// One by one, where runs are short.
    Each(Vec<usize>),
}

/// Runs shorter than this are not worth a copy of their own.
const LEAST: usize = 4;

impl Picked {
    pub(super) fn new(sources: Vec<usize>) -> Self {
        let runs: Vec<(usize, usize)> = sources
            .chunk_by(|a, b| a + 1 == *b)
            .map(|run| (run[0], run.len()))
            .collect();
        match runs.len() * LEAST <= sources.len() {
            true => Self::Runs(runs),
            false => Self::Each(sources),
        }
    }

    /// Writes a pixel's result: `run` what neighbors become, `each` what one channel does.
    pub(super) fn write<T: Copy>(
        &self,
        from: &[T],
        to: &mut [T],
        run: impl Fn(&[T], &mut [T]),
        each: impl Fn(T) -> T,
    ) {
        match self {
            Self::Runs(runs) => {
                let mut rest = to;
                for &(first, len) in runs {
                    let (to, others) = rest.split_at_mut(len);
                    run(&from[first..][..len], to);
                    rest = others;
                }
            }
            Self::Each(sources) => {
                for (to, &source) in to.iter_mut().zip(sources) {
                    *to = each(from[source]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_single_channels_give_what_was_asked_for() {
        let from: Vec<u8> = (0..12).collect();
        let plain = vec![3, 4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10];
        let mixed = vec![0, 6, 1, 7, 2, 8];
        assert!(matches!(Picked::new(plain.clone()), Picked::Runs(runs) if runs.len() == 3));
        assert!(matches!(Picked::new(mixed.clone()), Picked::Each(_)));
        for sources in [plain, mixed, vec![5]] {
            let mut to = vec![99; sources.len()];
            let run = |from: &[u8], to: &mut [u8]| {
                to.iter_mut()
                    .zip(from)
                    .for_each(|(to, from)| *to = from + 100);
            };
            Picked::new(sources.clone()).write(&from, &mut to, run, |q| q + 100);
            let expected: Vec<u8> = sources.iter().map(|&c| c as u8 + 100).collect();
            assert_eq!(to, expected);
        }
    }
}
