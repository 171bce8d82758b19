//! The Cholesky factor of a large matrix, on all threads.

use crate::pool::for_each_chunk;

/// Columns that are finished at once.
const BLOCK: usize = 64;

/// Rows and columns of a tile of sums, which stay in registers.
const TILE: usize = 4;

/// Rows that a thread takes at a time.
const SHARE: usize = 8 * TILE;

/// Puts the lower factor `L` in the place of the lower triangle of a symmetric matrix `L·Lᵀ` (`[n, n]`, rows one after the other);
/// what stands above the diagonal is not read. All eigenvalues are at least `least`, and so is the square of each pivot: a smaller
/// one is an error of rounding.
///
/// Each number is a sum in the order of the columns: the result does not depend on threads.
pub(super) fn factor(matrix: &mut [f64], n: usize, least: f64) {
    let mut packed = Vec::new();
    for first in (0..n).step_by(BLOCK) {
        let width = BLOCK.min(n - first);
        let (above, below) = matrix.split_at_mut((first + width) * n);
        let square = &mut above[first * n..];
        pack(square, n, first, &mut packed);
        subtract(square, n, first, &packed);
        for row in 0..width {
            let (done, rest) = square.split_at_mut(row * n);
            solve(done, n, first, &mut rest[..n]);
            let own = &mut rest[first..=first + row];
            let (pivot, left) = own.split_last_mut().expect("a row has its pivot");
            let squares: f64 = left.iter().map(|x| x * x).sum();
            *pivot = (*pivot - squares).max(least).sqrt();
        }
        let square = &*square;
        let shares = below.len().div_ceil(SHARE * n);
        for_each_chunk(below, SHARE * n, shares, |_, rows| {
            subtract(rows, n, first, &packed);
            for row in rows.chunks_exact_mut(n) {
                solve(square, n, first, row);
            }
        });
    }
}

/// The first `columns` numbers of each row, as tiles read them: for each `TILE` rows, column by column.
fn pack(rows: &[f64], n: usize, columns: usize, packed: &mut Vec<[f64; TILE]>) {
    packed.clear();
    for rows in rows.chunks(TILE * n) {
        let of = |row: usize, column: usize| rows.get(row * n + column).copied().unwrap_or(0.0);
        packed.extend((0..columns).map(|k| std::array::from_fn(|row| of(row, k))));
    }
}

/// Subtracts, behind the first `columns` numbers of each row, its products with the packed rows.
fn subtract(rows: &mut [f64], n: usize, columns: usize, packed: &[[f64; TILE]]) {
    if columns == 0 {
        return;
    }
    for rows in rows.chunks_mut(TILE * n) {
        let count = rows.len() / n;
        for (tile, packed) in packed.chunks_exact(columns).enumerate() {
            // A tile of fewer rows takes its last one several times.
            let read: [&[f64]; TILE] =
                std::array::from_fn(|row| &rows[row.min(count - 1) * n..][..columns]);
            let sums = products(read, packed);
            let at = columns + tile * TILE;
            for (row, sums) in rows.chunks_exact_mut(n).zip(&sums) {
                let to = row[at..].iter_mut().zip(sums);
                to.for_each(|(to, sum)| *to -= sum);
            }
        }
    }
}

fn products(rows: [&[f64]; TILE], packed: &[[f64; TILE]]) -> [[f64; TILE]; TILE] {
    let mut sums = [[0.0; TILE]; TILE];
    let [a, b, c, d] = rows;
    for ((((packed, a), b), c), d) in packed.iter().zip(a).zip(b).zip(c).zip(d) {
        for (sums, x) in sums.iter_mut().zip([a, b, c, d]) {
            for (sum, y) in sums.iter_mut().zip(packed) {
                *sum += x * y;
            }
        }
    }
    sums
}

/// Finishes a row's columns from `first` on, of which `done` holds finished rows.
fn solve(done: &[f64], n: usize, first: usize, row: &mut [f64]) {
    for (at, done) in done.chunks_exact(n).enumerate() {
        let (left, rest) = row[first..].split_at_mut(at);
        let pairs = left.iter().zip(&done[first..]);
        let sum: f64 = pairs.map(|(x, y)| x * y).sum();
        rest[0] = (rest[0] - sum) / done[first + at];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit_kernels::random;

    #[test]
    fn a_factor_times_itself_is_the_matrix() {
        for n in [1, 3, 9, 64, 65, 131, 200] {
            let mut rng = random::stream(2, "test", n as u64);
            let root: Vec<f64> = (0..n * n)
                .map(|_| f64::from(random::uniform(&mut rng)) - 0.5)
                .collect();
            let product = |a: &[f64], i: usize, j: usize| -> f64 {
                (0..n).map(|k| a[i * n + k] * a[j * n + k]).sum()
            };
            let mut matrix = vec![f64::NAN; n * n];
            for i in 0..n {
                for j in 0..=i {
                    let damp = if i == j { 0.1 } else { 0.0 };
                    matrix[i * n + j] = product(&root, i, j) + damp;
                }
            }
            let mut lower = matrix.clone();
            factor(&mut lower, n, 1e-3);
            for i in 0..n {
                (i + 1..n).for_each(|j| lower[i * n + j] = 0.0);
            }
            for i in 0..n {
                for j in 0..=i {
                    let apart = product(&lower, i, j) - matrix[i * n + j];
                    assert!(apart.abs() < 1e-12 * n as f64, "{n}: {i}, {j}: {apart}");
                }
            }
        }
    }

    #[test]
    fn a_pivot_that_rounding_has_eaten_is_the_least_one() {
        let mut matrix = [1.0, 0.0, 1.0, 1.0 - 1e-9];
        factor(&mut matrix, 2, 0.25);
        assert_eq!((matrix[0], matrix[2], matrix[3]), (1.0, 1.0, 0.5));
    }
}
