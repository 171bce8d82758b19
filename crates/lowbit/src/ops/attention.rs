//! Attention (Vaswani et al. 2017) between the pixels of values.

use super::{Arity, Nature, Operator};
use crate::shape::Shape;

/// Attributes of an attention: for each head, `softmax(scale · q · kᵀ) · v` over its part of the channels.
///
/// Inputs are queries `[h, w, heads · d]`, keys `[h, w, heads · d]` and values `[h, w, heads · e]`, whose pixels are the tokens;
/// the result is `[h, w, heads · e]`. Keys and values may be of other extents than queries, but for a `patch`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Parts of the channels that attend each by itself.
    pub heads: usize,
    /// Factor of the products of queries and keys.
    pub scale: f32,
    /// Height and width of patches: only pixels that stand at the same place of their patch attend each other (Mehta &
    /// Rastegari 2022, MobileViT). `[1, 1]` lets all pixels do so.
    pub patch: [usize; 2],
}

impl Attention {
    /// Whether all pixels attend each other.
    pub(crate) fn is_global(&self) -> bool {
        self.patch == [1, 1]
    }
}

impl Operator for Attention {
    fn nature(&self) -> Nature {
        Nature::PLAIN
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(3)
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let [q, k, v] = [inputs[0], inputs[1], inputs[2]];
        let Self {
            heads,
            scale,
            patch,
        } = *self;
        if inputs.iter().any(|input| input.rank() > 3) {
            return Err("attention is between the pixels of images".into());
        }
        let divides = |channels: usize| heads > 0 && channels.is_multiple_of(heads);
        if !divides(q.c()) || !divides(v.c()) {
            return Err(format!(
                "{heads} heads do not divide {} channels of queries and {} of values",
                q.c(),
                v.c()
            ));
        }
        if q.c() != k.c() || k.with_channels(v.c()) != v {
            return Err(format!(
                "queries {q}, keys {k} and values {v} do not fit: queries and keys need the same channels, keys and values the same pixels"
            ));
        }
        if !scale.is_finite() {
            return Err("its scale must be finite".into());
        }
        let fits = |extent: usize, part: usize| part > 0 && extent.is_multiple_of(part);
        if !fits(q.h(), patch[0]) || !fits(q.w(), patch[1]) {
            return Err(format!(
                "patches of {}×{} do not divide {q}",
                patch[0], patch[1]
            ));
        }
        if !self.is_global() && q != k {
            return Err(format!(
                "with patches, queries {q} and keys {k} must be alike"
            ));
        }
        Ok(q.with_channels(v.c()))
    }

    fn macs(&self, inputs: &[Shape], _output: Shape) -> u64 {
        let [q, k, v] = [inputs[0], inputs[1], inputs[2]];
        let pixels = |shape: Shape| (shape.h() * shape.w()) as u64;
        let keys = pixels(k) / (self.patch[0] * self.patch[1]) as u64;
        pixels(q) * keys * (q.c() + v.c()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Attention = Attention {
        heads: 3,
        scale: 0.125,
        patch: [1, 1],
    };

    #[test]
    fn heads_and_patches_must_divide_and_keys_fit_queries() {
        let of = |w, c| Shape::new(4, w, c);
        let infer = |attention: Attention, inputs: [Shape; 3]| attention.infer(&inputs);
        assert_eq!(
            infer(PLAIN, [of(6, 12), of(6, 12), of(6, 15)]),
            Ok(of(6, 15))
        );
        // Other pixels than the queries'.
        assert_eq!(
            infer(PLAIN, [of(6, 12), of(2, 12), of(2, 15)]),
            Ok(of(6, 15))
        );
        let patched = |h, w| Attention {
            patch: [h, w],
            ..PLAIN
        };
        assert_eq!(infer(patched(2, 3), [of(6, 12); 3]), Ok(of(6, 12)));
        for (attention, inputs, expected) in [
            (Attention { heads: 5, ..PLAIN }, [of(6, 12); 3], "5 heads"),
            (Attention { heads: 0, ..PLAIN }, [of(6, 12); 3], "0 heads"),
            (PLAIN, [of(6, 12), of(6, 12), of(6, 13)], "13 of values"),
            (
                PLAIN,
                [of(6, 12), of(6, 15), of(6, 12)],
                "the same channels",
            ),
            (PLAIN, [of(6, 12), of(6, 12), of(5, 12)], "the same pixels"),
            (patched(3, 1), [of(6, 12); 3], "do not divide"),
            (patched(1, 0), [of(6, 12); 3], "do not divide"),
            (patched(2, 2), [of(6, 12), of(4, 12), of(4, 12)], "alike"),
        ] {
            let error = infer(attention, inputs).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let endless = Attention {
            scale: f32::INFINITY,
            ..PLAIN
        };
        assert!(infer(endless, [of(6, 12); 3]).is_err());
    }

    #[test]
    fn multiply_accumulates_are_those_of_both_products() {
        let inputs = [
            Shape::new(2, 3, 12),
            Shape::new(1, 5, 12),
            Shape::new(1, 5, 6),
        ];
        // 6 queries against 5 keys over 12 channels, then 6 sums of 5 values of 6 channels.
        assert_eq!(PLAIN.macs(&inputs, inputs[0]), 6 * 5 * 12 + 6 * 5 * 6);
        let patched = Attention {
            patch: [2, 3],
            ..PLAIN
        };
        let inputs = [Shape::new(4, 6, 12); 3];
        assert_eq!(patched.macs(&inputs, inputs[0]), 24 * 4 * 24);
    }
}
