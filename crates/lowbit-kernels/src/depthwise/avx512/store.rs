//! From sums to results: a block of channels of a few pixels.

use super::super::{ChannelConstants, Dequantize, Requantize};
use super::vector::ByteVector;

/// Channels of the largest block.
pub(super) const BLOCK: usize = 64;

/// The constants of a block, a quarter of each sixteen channels in a vector, as sums are.
pub(super) struct Constants<V: ByteVector> {
    pub(super) start: [V; 4],
    multiplier: [V::Floats; 4],
    bias: [V::Floats; 4],
}

impl<V: ByteVector> Constants<V> {
    /// # Safety
    /// AVX-512 is available.
    #[inline(always)]
    pub(super) unsafe fn new(of: ChannelConstants<'_>, first: usize) -> Self {
        let multiplier = in_quarters::<V, f32>(&of.multiplier[first..]);
        let bias = in_quarters::<V, f32>(&of.bias[first..]);
        let start = in_quarters::<V, i32>(&of.start[first..]);
        let quarter = V::CHANNELS / 4;
        // SAFETY: each has four vectors.
        unsafe {
            Self {
                start: std::array::from_fn(|q| V::load(start.0[q * quarter..].as_ptr().cast())),
                multiplier: std::array::from_fn(|q| {
                    V::load_floats(multiplier.0[q * quarter..].as_ptr())
                }),
                bias: std::array::from_fn(|q| V::load_floats(bias.0[q * quarter..].as_ptr())),
            }
        }
    }

    /// The sums of one pixel in real numbers.
    ///
    /// # Safety
    /// AVX-512 is available.
    #[inline(always)]
    unsafe fn reals(&self, sums: [V; 4]) -> [V::Floats; 4] {
        // SAFETY: the caller's promise.
        std::array::from_fn(|q| unsafe {
            V::fma(sums[q].to_floats(), self.multiplier[q], self.bias[q])
        })
    }
}

#[repr(align(64))]
struct Block<T>([T; BLOCK]);

/// Four neighbors of each sixteen numbers behind each other, then the next four; zeros for those that are missing.
#[inline(always)]
fn in_quarters<V: ByteVector, T: Copy + Default>(of: &[T]) -> Block<T> {
    let mut padded = Block([T::default(); BLOCK]);
    let all = match of.len() >= V::CHANNELS {
        true => of,
        false => {
            padded.0[..of.len()].copy_from_slice(of);
            &padded.0
        }
    };
    let mut quarters = Block([T::default(); BLOCK]);
    let (fours, _) = all[..V::CHANNELS].as_chunks::<4>();
    let (to, _) = quarters.0[..V::CHANNELS].as_chunks_mut::<4>();
    for (number, &four) in fours.iter().enumerate() {
        to[number % 4 * (V::CHANNELS / 16) + number / 4] = four;
    }
    quarters
}

/// Where a tile's results go.
#[derive(Clone, Copy)]
pub(super) struct Place<T> {
    pub(super) to: *mut T,
    /// Elements from one pixel to the next.
    pub(super) stride: usize,
    /// Channels to store.
    pub(super) lanes: usize,
}

/// What becomes of the sums of a block.
pub(super) trait Store {
    type Out;

    /// Stores the pixels of a row of sums, four vectors each.
    ///
    /// # Safety
    /// AVX-512 is available; the place is writable for its channels of each pixel.
    unsafe fn store<V: ByteVector>(
        &self,
        c: &Constants<V>,
        sums: &[[V; 4]],
        place: Place<Self::Out>,
    );
}

/// Stores bytes.
pub(super) struct Bytes<'a> {
    requantize: &'a Requantize<'a>,
    is_ordinary: bool,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(requantize: &'a Requantize<'a>, channels: usize) -> Self {
        Self {
            requantize,
            is_ordinary: requantize.is_ordinary(0..channels),
        }
    }
}

impl Store for Bytes<'_> {
    type Out = u8;

    #[inline(always)]
    unsafe fn store<V: ByteVector>(&self, c: &Constants<V>, sums: &[[V; 4]], place: Place<u8>) {
        // SAFETY: the caller's promises.
        unsafe {
            match self.is_ordinary {
                true => bytes_of::<V, true>(self.requantize, c, sums, place),
                false => bytes_of::<V, false>(self.requantize, c, sums, place),
            }
        }
    }
}

/// `ORDINARY` constants allow cutting last, when numbers are narrow: one above 2³⁰ is far beyond every level, one that does
/// not fit i32 from below becomes i32::MIN, and narrowing saturates.
///
/// # Safety
/// As [`Store::store`].
#[inline(always)]
unsafe fn bytes_of<V: ByteVector, const ORDINARY: bool>(
    requantize: &Requantize<'_>,
    c: &Constants<V>,
    sums: &[[V; 4]],
    place: Place<u8>,
) {
    // SAFETY: (whole body) the caller's promises.
    unsafe {
        let (low, high) = (V::bytes(requantize.low), V::bytes(requantize.high));
        let (least, most) = (f32::from(requantize.low), f32::from(requantize.high));
        let (least, most) = (V::floats(least), V::floats(most));
        let zero_point = V::floats(requantize.zero_point as f32);
        let zero_words = V::words(requantize.zero_point as i16);
        let large = V::floats(1_073_741_824.0);
        let mut to = place.to;
        for &of_pixel in sums {
            let whole = c.reals(of_pixel).map(|real| match ORDINARY {
                true => V::of_floats(V::min(real, large)),
                // In this order of operands a NaN survives, converts to i32::MIN and saturates to 0, as in the scalar twin.
                false => {
                    let level = V::add(V::nearest(real), zero_point);
                    V::of_floats(V::min(most, V::max(least, level)))
                }
            });
            let mut words = [whole[0].to_words(whole[1]), whole[2].to_words(whole[3])];
            if ORDINARY {
                words = words.map(|words| words.add_words(zero_words));
            }
            let mut bytes = words[0].to_bytes(words[1]);
            if ORDINARY {
                bytes = bytes.max_bytes(low).min_bytes(high);
            }
            match place.lanes == V::CHANNELS {
                true => bytes.store(to),
                false => bytes.store_some(to, place.lanes),
            }
            to = to.wrapping_add(place.stride);
        }
    }
}

impl Store for Dequantize<'_> {
    type Out = f32;

    #[inline(always)]
    unsafe fn store<V: ByteVector>(&self, c: &Constants<V>, sums: &[[V; 4]], place: Place<f32>) {
        let quarter = V::CHANNELS / 4;
        let mut to = place.to;
        let mut quarters = Block([0.0f32; BLOCK]);
        for &of_pixel in sums {
            // SAFETY: the caller's promises.
            unsafe {
                for (q, mut real) in c.reals(of_pixel).into_iter().enumerate() {
                    if self.relu {
                        // A zero that is not positive becomes +0, as in the scalar twin.
                        real = V::max(real, V::floats(0.0));
                    }
                    V::store_floats(real, quarters.0[q * quarter..].as_mut_ptr());
                }
                let (fours, _) = quarters.0.as_chunks::<4>();
                for first in (0..place.lanes).step_by(4) {
                    let four = &fours[first % 16 / 4 * (V::CHANNELS / 16) + first / 16];
                    match place.lanes - first {
                        4.. => std::ptr::copy_nonoverlapping(four.as_ptr(), to.add(first), 4),
                        few => std::ptr::copy_nonoverlapping(four.as_ptr(), to.add(first), few),
                    }
                }
            }
            to = to.wrapping_add(place.stride);
        }
    }
}
