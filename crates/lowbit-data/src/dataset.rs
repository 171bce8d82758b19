//! A data set.

use std::borrow::Cow;
use std::ops::Range;

use crate::DataError;
use crate::pixels::Pixels;

/// Images with labels, split into training, validation and test images.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Short name: "landcover", "eurosat", or the file's or folder's.
    pub name: String,
    /// Where the images come from, in one line.
    pub source: String,
    /// Whether the images were generated.
    pub synthetic: bool,
    /// The classes' names; a label is an index into them.
    pub class_names: Vec<String>,
    /// Image height in pixels.
    pub height: usize,
    /// Image width in pixels.
    pub width: usize,
    /// 1 (gray) or 3 (RGB).
    pub channels: usize,
    /// The images to learn from.
    pub train: Split,
    /// The images that choose: the epoch, the settings. Empty unless the split asks for them.
    pub validation: Split,
    /// The images to measure on.
    pub test: Split,
    /// How they were told apart: "as shipped" or "seeded stratified 80/20 (seed 1)".
    pub split: String,
    /// What a user should know about the data, a line each: what was left out and why. Often empty.
    pub notes: Vec<String>,
}

impl Dataset {
    /// The same images with `channels` channels: gray ones become RGB where 3 are asked for. Nothing else is converted.
    #[must_use]
    pub fn with_channels(mut self, channels: usize) -> Self {
        if (self.channels, channels) != (1, 3) {
            return self;
        }
        for split in [&mut self.train, &mut self.validation, &mut self.test] {
            split.image_len *= 3;
            split.pixels.gray_as_rgb();
        }
        self.channels = 3;
        self.notes
            .push("the images are gray; the model gets their values as red, green and blue".into());
        self
    }
}

/// Images `[n, h, w, c]` of 8 bits and their labels. The images of a large set are in a file, not in memory: those that are
/// asked for are read, which may fail.
#[derive(Debug, Clone, Default)]
pub struct Split {
    image_len: usize,
    pixels: Pixels,
    labels: Vec<u32>,
}

/// Equal splits have equal images, wherever these are; what cannot be read equals nothing.
impl PartialEq for Split {
    fn eq(&self, other: &Self) -> bool {
        (self.image_len, &self.labels) == (other.image_len, &other.labels)
            && (0..self.len()).all(
                |index| matches!((self.image(index), other.image(index)), (Ok(a), Ok(b)) if a == b),
            )
    }
}

impl Split {
    /// Joins `pixels` `[n, h, w, c]` and `n` labels; `image_len` is `h · w · c`.
    ///
    /// # Errors
    /// [`DataError::LengthMismatch`] unless there are `image_len` bytes for each label.
    pub fn new(image_len: usize, pixels: Vec<u8>, labels: Vec<u32>) -> Result<Self, DataError> {
        if image_len == 0 || labels.len().checked_mul(image_len) != Some(pixels.len()) {
            return Err(DataError::LengthMismatch {
                pixels: pixels.len(),
                labels: labels.len(),
                image_len,
            });
        }
        Ok(Self::of(image_len, Pixels::Memory(pixels), labels))
    }

    /// Joins as many images and labels.
    pub(crate) fn of(image_len: usize, pixels: Pixels, labels: Vec<u32>) -> Self {
        Self {
            image_len,
            pixels,
            labels,
        }
    }

    /// Joins images of several splits, each an index into one of them, with their labels. They are copied unless all are in
    /// one file.
    ///
    /// # Errors
    /// [`DataError`] when one cannot be read, or does not fit to the others.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn gather(of: &[(&Self, usize)]) -> Result<Self, DataError> {
        let image_len = of.first().map_or(0, |(split, _)| split.image_len);
        let labels = of.iter().map(|&(split, index)| split.labels[index]);
        let labels: Vec<u32> = labels.collect();
        let places: Vec<(&Pixels, usize)> = of
            .iter()
            .map(|&(split, index)| (&split.pixels, index))
            .collect();
        if let Some(pixels) = Pixels::of_one_file(&places) {
            return Ok(Self::of(image_len, pixels, labels));
        }
        let mut pixels = Vec::with_capacity(of.len() * image_len);
        for (split, index) in of {
            pixels.extend_from_slice(&split.image(*index)?);
        }
        if of.is_empty() {
            return Ok(Self::default());
        }
        Self::new(image_len, pixels, labels)
    }

    /// How many images there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Image `index`, `[h, w, c]`: borrowed where it is in memory.
    ///
    /// # Errors
    /// [`DataError::BrokenFile`] when it cannot be read.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        self.range(index..index + 1)
    }

    /// Images `range`, `[n, h, w, c]`: borrowed where they are in memory.
    ///
    /// # Errors
    /// [`DataError::BrokenFile`] when one cannot be read.
    ///
    /// # Panics
    /// If there are no such images.
    pub fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, DataError> {
        self.pixels.range(range, self.image_len)
    }

    /// The first `count` images, or all, `[n, h, w, c]`: borrowed where they are in memory.
    ///
    /// # Errors
    /// [`DataError::BrokenFile`] when one cannot be read.
    pub fn first(&self, count: usize) -> Result<Cow<'_, [u8]>, DataError> {
        self.range(0..count.min(self.len()))
    }

    /// All images, `[n, h, w, c]`: borrowed where they are in memory. Where they may be many, [`Split::range`] reads them by
    /// blocks.
    ///
    /// # Errors
    /// [`DataError::BrokenFile`] when one cannot be read.
    pub fn images(&self) -> Result<Cow<'_, [u8]>, DataError> {
        self.range(0..self.len())
    }

    /// Copies image `index`, `[h, w, c]`, to `out`.
    ///
    /// # Errors
    /// [`DataError::BrokenFile`] when it cannot be read.
    ///
    /// # Panics
    /// If there is no such image, or `out` has another length.
    pub fn copy_image(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        assert_eq!(out.len(), self.image_len, "room for an image");
        self.pixels.copy(index, out)
    }

    /// All labels, `[n]`.
    #[must_use]
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The images at `indices`, in that order: a copy where they are in memory; where they are in a file, they stay there.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn take(&self, indices: &[usize]) -> Self {
        Self {
            image_len: self.image_len,
            pixels: self.pixels.take(indices, self.image_len),
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
        }
    }

    /// Gives the images other labels, `[n]`.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn relabel(&mut self, labels: &[u32]) {
        self.labels.copy_from_slice(labels);
    }

    /// Whether the images are in memory.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        matches!(self.pixels, Pixels::Memory(_))
    }

    /// Images per class, `[classes]`; labels beyond are not counted.
    #[must_use]
    pub fn counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &label in &self.labels {
            if let Some(count) = counts.get_mut(label as usize) {
                *count += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_and_labels_must_fit_together() {
        assert!(Split::new(4, vec![0; 8], vec![0, 1]).is_ok());
        assert!(Split::new(4, vec![0; 9], vec![0, 1]).is_err());
        assert!(Split::new(0, vec![], vec![]).is_err());
        assert!(Split::new(usize::MAX, vec![0; 8], vec![0, 1]).is_err());
    }

    #[test]
    fn gray_images_become_rgb_for_a_model_that_takes_rgb_and_colors_stay() {
        let split = |pixels: &[u8], len| Split::new(len, pixels.to_vec(), vec![0]).expect("fits");
        let set = |channels: usize| Dataset {
            name: "set".into(),
            source: "test".into(),
            synthetic: true,
            class_names: vec!["a".into()],
            height: 1,
            width: 2,
            channels,
            train: split(&[5, 9, 1, 2, 3, 4][..2 * channels], 2 * channels),
            validation: Split::default(),
            test: split(&[7, 8, 1, 2, 3, 4][..2 * channels], 2 * channels),
            split: "as shipped".into(),
            notes: Vec::new(),
        };
        let rgb = set(1).with_channels(3);
        assert_eq!((rgb.channels, rgb.notes.len()), (3, 1));
        assert_eq!(*rgb.train.image(0).unwrap(), [5, 5, 5, 9, 9, 9]);
        assert_eq!(*rgb.test.image(0).unwrap(), [7, 7, 7, 8, 8, 8]);
        assert_eq!(set(3).with_channels(1), set(3));
        assert_eq!(set(1).with_channels(1), set(1));
    }

    #[test]
    fn taking_images_keeps_their_order_and_labels() {
        let split = Split::new(2, vec![1, 2, 3, 4, 5, 6], vec![0, 1, 1]).expect("fits");
        let taken = split.take(&[2, 0]);
        assert_eq!(*taken.images().unwrap(), [5, 6, 1, 2]);
        assert_eq!(taken.labels(), [1, 0]);
        assert_eq!(split.counts(3), [1, 2, 0]);
        assert_eq!(*split.image(1).unwrap(), [3, 4]);
    }
}
