//! The sizes of strips, blocks and tiles.

/// Pixels of a strip, at most.
pub(in crate::qconv) const STRIP: usize = 16;
/// Bytes of one step's weights of sixteen channels, and of a tile's row at most.
pub(in crate::qconv) const ROW: usize = 64;
/// Bytes between tiles in memory, the largest tile.
pub(in crate::qconv) const TILE: usize = 16 * ROW;

/// How the steps of a segment fall into blocks, each the depth of one tile: all of one length, the last one padded.
#[derive(Clone, Copy)]
pub(in crate::qconv) struct Blocks {
    /// Blocks of a segment.
    pub(in crate::qconv) count: usize,
    /// Steps of each.
    pub(in crate::qconv) steps: usize,
}

impl Blocks {
    /// The blocks of `steps` steps.
    pub(in crate::qconv) fn of(steps: usize) -> Self {
        let count = steps.div_ceil(16);
        Self {
            count,
            steps: steps.div_ceil(count.max(1)),
        }
    }
}

/// A strip to compute.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// First tap of its first pixel.
    pub(super) input: *const u8,
    /// Stored row, from the first to compute.
    pub(super) row: usize,
    /// First column, before pooling.
    pub(super) column: usize,
}

/// What one product computes.
pub(super) type Pair = (Strip, Option<Strip>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fit_tiles_and_pad_less_than_one() {
        for steps in 1..3000 {
            let blocks = Blocks::of(steps);
            assert!((1..=16).contains(&blocks.steps), "{steps}");
            let padding = blocks.count * blocks.steps - steps;
            assert!(padding < 16, "{steps} steps are padded by {padding}");
        }
    }
}
