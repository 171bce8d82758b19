//! Which images a data set holds: a checksum of all of them, and a sketch that recognizes single ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use rayon::prelude::*;

use crate::{DataError, Dataset, Split};

/// Hashes that a [`Sketch`] keeps.
const KEPT: usize = 256;

/// What a data set holds, in a few bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Checksum over the shape, the class names, and labels and pixels of all training and test images, each in order; validation
    /// images do not count:
    /// 32 hexadecimal digits.
    pub fingerprint: String,
    /// The same over the validation images alone; none where there are none.
    pub validation: Option<String>,
    /// The training images, and the validation images, by which a training is chosen.
    pub train: Sketch,
}

/// The smallest hashes of a set of images: all of them where the images are few, a fair sample where they are many
/// (Broder 1997, "On the resemblance and containment of documents": a bottom-k sketch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    /// Rising, without repetition.
    smallest: Vec<u32>,
}

/// How many images of a set a [`Sketch`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Images of the set.
    pub images: usize,
    /// Those of which the sketch can tell whether it was made of them.
    pub checked: usize,
    /// Those of which it was made.
    pub seen: usize,
}

impl Dataset {
    /// Computes what tells this data set from others. Its name, place and file format do not count.
    ///
    /// # Errors
    /// [`DataError`] when an image cannot be read.
    pub fn identity(&self) -> Result<Identity, DataError> {
        let (mut train, test) = (digests(&self.train)?, digests(&self.test)?);
        let validation = digests(&self.validation)?;
        let fingerprint = self.fingerprint(&[(&self.train, &train), (&self.test, &test)]);
        let kept =
            (!validation.is_empty()).then(|| self.fingerprint(&[(&self.validation, &validation)]));
        train.extend(validation);
        Ok(Identity {
            fingerprint,
            validation: kept,
            train: Sketch::of_digests(&train),
        })
    }

    fn fingerprint(&self, parts: &[(&Split, &[[u8; 16]])]) -> String {
        let mut all = Md5::new();
        for number in [
            self.height,
            self.width,
            self.channels,
            self.class_names.len(),
        ] {
            all.update((number as u64).to_le_bytes());
        }
        for name in &self.class_names {
            all.update((name.len() as u64).to_le_bytes());
            all.update(name);
        }
        for (split, digests) in parts {
            all.update((split.len() as u64).to_le_bytes());
            for (label, digest) in split.labels().iter().zip(*digests) {
                all.update(label.to_le_bytes());
                all.update(digest);
            }
        }
        let bytes: [u8; 16] = all.finalize().into();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Sketch {
    /// Sketches the images of `split`.
    ///
    /// # Errors
    /// [`DataError`] when one cannot be read.
    pub fn of(split: &Split) -> Result<Self, DataError> {
        Ok(Self::of_digests(&digests(split)?))
    }

    fn of_digests(digests: &[[u8; 16]]) -> Self {
        let mut smallest: Vec<u32> = digests.iter().map(hash).collect();
        smallest.sort_unstable();
        smallest.dedup();
        smallest.truncate(KEPT);
        Self { smallest }
    }

    /// Whether it holds all images that it was made of, so that it can tell of any image.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.smallest.len() < KEPT
    }

    /// Looks for the images of `split` among those that the sketch was made of.
    ///
    /// # Errors
    /// [`DataError`] when one cannot be read.
    pub fn overlap(&self, split: &Split) -> Result<Overlap, DataError> {
        // Of a hash above the largest that was kept, a full sketch says nothing.
        let limit = match self.smallest.last() {
            Some(&largest) if !self.is_complete() => largest,
            _ => u32::MAX,
        };
        let hashes: Vec<u32> = digests(split)?.iter().map(hash).collect();
        let checked = hashes.iter().filter(|&&hash| hash <= limit);
        Ok(Overlap {
            images: split.len(),
            checked: checked.clone().count(),
            seen: checked
                .filter(|hash| self.smallest.binary_search(hash).is_ok())
                .count(),
        })
    }

    /// Returns the hashes as text: little-endian, in base64.
    #[must_use]
    pub fn to_text(&self) -> String {
        let bytes: Vec<u8> = self
            .smallest
            .iter()
            .flat_map(|hash| hash.to_le_bytes())
            .collect();
        STANDARD.encode(bytes)
    }

    /// Reads what [`Sketch::to_text`] wrote; none for anything else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let words = bytes.chunks_exact(4);
        if !words.remainder().is_empty() || bytes.len() > 4 * KEPT {
            return None;
        }
        let smallest: Vec<u32> = words
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        smallest
            .is_sorted_by(|a, b| a < b)
            .then_some(Self { smallest })
    }
}

/// Digest of the pixels of every image.
fn digests(split: &Split) -> Result<Vec<[u8; 16]>, DataError> {
    (0..split.len())
        .into_par_iter()
        .map(|index| Ok(Md5::digest(split.image(index)?).into()))
        .collect()
}

fn hash(digest: &[u8; 16]) -> u32 {
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` different images of four pixels, beginning with image `from`.
    fn split(from: u32, count: u32) -> Split {
        let pixels = (from..from + count).flat_map(u32::to_le_bytes).collect();
        let labels = (0..count).map(|index| index % 2).collect();
        Split::new(4, pixels, labels).expect("four bytes each")
    }

    fn dataset() -> Dataset {
        Dataset {
            name: "photos".into(),
            source: "here".into(),
            synthetic: false,
            class_names: vec!["ant".into(), "bee".into()],
            height: 2,
            width: 2,
            channels: 1,
            train: split(0, 6),
            validation: Split::default(),
            test: split(6, 2),
            split: "as shipped".into(),
            notes: vec![],
        }
    }

    #[test]
    fn the_fingerprint_is_that_of_names_labels_and_pixels_in_order() {
        let one = dataset();
        let fingerprint = |data: &Dataset| data.identity().unwrap().fingerprint;
        let named_otherwise = Dataset {
            name: "p".into(),
            source: "there".into(),
            ..one.clone()
        };
        assert_eq!(fingerprint(&one), fingerprint(&named_otherwise));
        assert_eq!(fingerprint(&one).len(), 32);
        let labels = |labels: Vec<u32>| {
            Split::new(4, one.train.images().unwrap().to_vec(), labels).expect("as many")
        };
        let order: Vec<usize> = (0..6).rev().collect();
        for other in [
            Dataset {
                class_names: vec!["bee".into(), "ant".into()],
                ..one.clone()
            },
            Dataset {
                class_names: vec!["an".into(), "tbee".into()],
                ..one.clone()
            },
            Dataset {
                height: 1,
                width: 4,
                ..one.clone()
            },
            Dataset {
                train: labels(vec![1, 1, 0, 1, 0, 1]),
                ..one.clone()
            },
            Dataset {
                train: one.train.take(&order),
                ..one.clone()
            },
            Dataset {
                train: one.test.clone(),
                test: one.train.clone(),
                ..one.clone()
            },
            Dataset {
                train: split(1, 6),
                ..one.clone()
            },
        ] {
            assert_ne!(fingerprint(&one), fingerprint(&other), "{other:?}");
        }
    }

    #[test]
    fn a_sketch_of_few_images_knows_every_one_of_them() {
        let sketch = Sketch::of(&split(0, 100)).unwrap();
        assert!(sketch.is_complete());
        let of = |split: &Split| {
            let found = sketch.overlap(split).unwrap();
            (found.images, found.checked, found.seen)
        };
        assert_eq!(of(&split(90, 30)), (30, 30, 10));
        assert_eq!(of(&split(100, 30)), (30, 30, 0));
        assert_eq!(of(&split(0, 100)), (100, 100, 100));
    }

    #[test]
    fn a_sketch_of_many_images_knows_a_fair_share_of_them() {
        let sketch = Sketch::of(&split(0, 2560)).unwrap();
        assert!(!sketch.is_complete());
        assert_eq!(sketch.to_text().len(), 1368);
        let all = sketch.overlap(&split(0, 2560)).unwrap();
        assert_eq!((all.checked, all.seen), (256, 256));
        let others = sketch.overlap(&split(2560, 2560)).unwrap();
        // A tenth of them, give or take five standard deviations.
        assert!((180..330).contains(&others.checked), "{others:?}");
        assert_eq!(others.seen, 0);
    }

    #[test]
    fn a_sketch_survives_being_text_and_nothing_else_is_one() {
        for count in [0, 3, 300] {
            let sketch = Sketch::of(&split(0, count)).unwrap();
            assert_eq!(Sketch::from_text(&sketch.to_text()), Some(sketch));
        }
        for text in ["###", "AAAA", "AQAAAAEAAAA=", &"AAAAAA==".repeat(2)] {
            assert_eq!(Sketch::from_text(text), None, "{text}");
        }
    }
}
