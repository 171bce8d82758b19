//! Images that a caller has in memory already.

use crate::listing::Part;
use crate::split::{keep_for_validation, select};
use crate::{DataError, Dataset, LoadOptions, Split};
use std::path::Path;

/// Images `[n, h, w, c]` and their labels `[n]`, as a caller holds them.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// All pixels.
    pub images: &'a [u8],
    /// A class for each image.
    pub labels: &'a [u32],
}

/// A data set in memory.
#[derive(Clone, Debug)]
pub struct InMemory<'a> {
    /// Short name.
    pub name: String,
    /// The classes' names; a label is an index into them.
    pub class_names: Vec<String>,
    /// Image height, width and channels (1 or 3).
    pub shape: [usize; 3],
    /// Images to learn from; those to measure on as well, where `test` is none.
    pub train: Labelled<'a>,
    /// Images to measure on.
    pub test: Option<Labelled<'a>>,
}

impl Dataset {
    /// Copies images that are in memory and splits them as those of a folder are split, by the seed and the test fraction of
    /// `options`, unless they come in two parts. The images keep their order within each part.
    ///
    /// # Errors
    /// [`DataError`] when there are fewer than two classes, a class has no image to learn from, a label no class, or the
    /// numbers do not fit together.
    pub fn in_memory(set: &InMemory<'_>, options: &LoadOptions<'_>) -> Result<Self, DataError> {
        options.check()?;
        let path = Path::new(&set.name);
        options.check_nameless(path)?;
        let unfit = |reason: String| DataError::Layout {
            path: path.to_owned(),
            reason,
        };
        let [height, width, channels] = set.shape;
        if !matches!(channels, 1 | 3) || height == 0 || width == 0 {
            return Err(unfit(format!(
                "images of {height}×{width}×{channels}: they need 1 channel (gray) or 3 (RGB), the channels last"
            )));
        }
        let classes = set.class_names.len();
        if classes < 2 {
            return Err(unfit(format!(
                "it has {classes} class, learning needs at least two"
            )));
        }
        let image_len = height * width * channels;
        for part in std::iter::once(&set.train).chain(&set.test) {
            if part.labels.len().checked_mul(image_len) != Some(part.images.len()) {
                return Err(DataError::LengthMismatch {
                    pixels: part.images.len(),
                    labels: part.labels.len(),
                    image_len,
                });
            }
        }
        let tested = set.test.map_or(&[][..], |test| test.labels);
        let labels = [set.train.labels, tested].concat();
        let parts: Vec<Part> = match set.test {
            None => vec![Part::Undivided; labels.len()],
            Some(_) => std::iter::repeat_n(Part::Train, set.train.labels.len())
                .chain(std::iter::repeat_n(Part::Test, tested.len()))
                .collect(),
        };
        let selection = select(path, &set.class_names, &labels, &parts, options)?;
        let take = |indices: &[usize]| {
            let mut pixels = Vec::with_capacity(indices.len() * image_len);
            for &index in indices {
                let (part, index) = match (set.test, index.checked_sub(set.train.labels.len())) {
                    (Some(test), Some(index)) => (test, index),
                    _ => (set.train, index),
                };
                pixels.extend_from_slice(&part.images[index * image_len..][..image_len]);
            }
            Split::new(
                image_len,
                pixels,
                indices.iter().map(|&index| labels[index]).collect(),
            )
        };
        let mut data = Self {
            name: set.name.clone(),
            source: "memory".into(),
            synthetic: false,
            class_names: set.class_names.clone(),
            height,
            width,
            channels,
            train: take(&selection.train)?,
            validation: Split::default(),
            test: take(&selection.test)?,
            split: selection.description,
            notes: selection.notes,
        };
        keep_for_validation(&mut data, options);
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<'a>(images: &'a [u8], labels: &'a [u32]) -> InMemory<'a> {
        InMemory {
            name: "arrays".into(),
            class_names: vec!["ant".into(), "bee".into()],
            shape: [1, 2, 1],
            train: Labelled { images, labels },
            test: None,
        }
    }

    #[test]
    fn images_in_memory_are_split_as_those_of_a_folder_and_keep_their_labels() {
        let images: Vec<u8> = (0..40).collect();
        let labels: Vec<u32> = (0..20).map(|index| u32::from(index >= 10)).collect();
        let options = LoadOptions::new(1);
        let data = Dataset::in_memory(&set(&images, &labels), &options).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (16, 4));
        assert_eq!(data.split, "seeded stratified 80/20 (seed 1)");
        let [test, train] = crate::split::stratified(&labels, 2, 0.2, (1, "split"));
        for (split, indices) in [(&data.train, train), (&data.test, test)] {
            for (place, &index) in indices.iter().enumerate() {
                assert_eq!(*split.image(place).unwrap(), images[2 * index..][..2]);
                assert_eq!(split.labels()[place], labels[index]);
            }
        }
    }

    #[test]
    fn two_parts_stay_apart_and_a_limit_holds_for_each() {
        let (images, labels) = (vec![1; 12], vec![0, 1, 0, 1, 0, 1]);
        let mut set = set(&images, &labels);
        set.test = Some(Labelled {
            images: &[9, 9, 8, 8],
            labels: &[1, 0],
        });
        let options = LoadOptions::new(1);
        let data = Dataset::in_memory(&set, &options).unwrap();
        assert_eq!((data.train.len(), data.split.as_str()), (6, "as shipped"));
        assert_eq!(
            (&*data.test.images().unwrap(), data.test.labels()),
            (&[9, 9, 8, 8][..], &[1, 0][..])
        );
        let few = LoadOptions {
            limit: Some(2),
            ..options
        };
        let data = Dataset::in_memory(&set, &few).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (2, 2));
    }

    #[test]
    fn numbers_that_do_not_fit_together_are_refused() {
        let images = vec![0; 8];
        let refused = |set: &InMemory<'_>| {
            let error = Dataset::in_memory(set, &LoadOptions::new(1)).unwrap_err();
            error.to_string()
        };
        assert!(refused(&set(&images, &[0, 1, 0])).contains('3'));
        assert!(refused(&set(&images, &[0, 1, 2, 0])).contains("label"));
        assert!(refused(&set(&images, &[0, 0, 0, 0])).contains("bee"));
        let mut wide = set(&images, &[0, 1, 0, 1]);
        wide.shape = [1, 1, 2];
        assert!(refused(&wide).contains("1 channel"));
        wide.shape = [1, 2, 1];
        wide.class_names.truncate(1);
        assert!(refused(&wide).contains("at least two"));
    }
}
