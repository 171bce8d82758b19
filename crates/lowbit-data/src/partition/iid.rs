//! Shuffled and dealt out like cards.

use lowbit_kernels::random::{shuffle, stream};

pub(super) fn deal(count: usize, clients: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    shuffle(&mut stream(seed, "partition", 0), &mut order);
    let mut dealt = vec![Vec::new(); clients];
    for (place, index) in order.into_iter().enumerate() {
        dealt[place % clients].push(index);
    }
    dealt
}
