//! Sorted by class, cut into pieces, drawn.

use crate::DataError;
use lowbit_kernels::random::{shuffle, stream};

pub(super) fn deal(
    labels: &[u32],
    clients: usize,
    per_client: usize,
    seed: u64,
) -> Result<Vec<Vec<usize>>, DataError> {
    let pieces = clients * per_client;
    if labels.len() < 2 * pieces {
        return Err(DataError::BadOption {
            name: "partition",
            value: format!(
                "shards:{per_client} for {clients} clients and {} training images",
                labels.len()
            ),
            expected: "few enough pieces that each has two images",
        });
    }
    let mut order: Vec<usize> = (0..labels.len()).collect();
    // Within a class the order is random: neighbors in a file are often alike.
    shuffle(&mut stream(seed, "partition", 0), &mut order);
    order.sort_by_key(|&index| labels[index]);
    let mut drawn: Vec<usize> = (0..pieces).collect();
    shuffle(&mut stream(seed, "partition", 1), &mut drawn);
    let bound = |piece: usize| piece * labels.len() / pieces;
    let images = |pieces: &[usize]| {
        let of = |&piece: &usize| order[bound(piece)..bound(piece + 1)].iter().copied();
        pieces.iter().flat_map(of).collect()
    };
    Ok(drawn.chunks_exact(per_client).map(images).collect())
}
