//! From a list of encoded images to a data set: choose, decode in parallel, resize, keep in the cache.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::cache;
use crate::decode::{Picture, decode, decode_upright};
use crate::error::one_line;
use crate::layout::{Part, empty_class};
use crate::resize::resize;
use crate::split::{Selection, limited, stratified};
use crate::{DataError, Dataset, LoadOptions, Split, Unit};

/// What a source knows before any image is read.
pub(crate) struct Listing {
    /// The file or folder.
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) class_names: Vec<String>,
    pub(crate) labels: Vec<u32>,
    pub(crate) parts: Vec<Part>,
    /// Changes whenever an image does; names the decoded cache.
    pub(crate) fingerprint: [u8; 16],
}

/// The encoded images of a listing, by index, from any thread.
pub(crate) trait Fetch: Sync {
    /// The image's file.
    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError>;
    /// The image's name, for messages.
    fn entry(&self, index: usize) -> String;
}

/// Height, width and channels that all images of a set have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Shape {
    pub(crate) fn image_len(self) -> usize {
        self.height * self.width * self.channels
    }
}

/// Loads the images of `listing` that `options` ask for.
pub(crate) fn assemble(
    listing: &Listing,
    fetch: &dyn Fetch,
    options: &LoadOptions,
) -> Result<Dataset, DataError> {
    let selection = select(
        &listing.path,
        &listing.class_names,
        &listing.labels,
        &listing.parts,
        options,
    )?;
    let (shape, [train, test]) = match cache::read(listing, &selection, options) {
        Some(found) => found,
        None => {
            let decoded = decode_all(listing, fetch, &selection, options)?;
            if options.limit.is_none() {
                cache::write(listing, &selection, &decoded.1, decoded.0, options);
            }
            decoded
        }
    };
    let split = |pixels, indices: &[usize]| {
        let labels = indices.iter().map(|&index| listing.labels[index]).collect();
        Split::new(shape.image_len(), pixels, labels)
    };
    Ok(Dataset {
        name: listing.name.clone(),
        source: listing.source.clone(),
        synthetic: false,
        class_names: listing.class_names.clone(),
        height: shape.height,
        width: shape.width,
        channels: shape.channels,
        train: split(train, &selection.train)?,
        test: split(test, &selection.test)?,
        split: selection.description,
    })
}

/// Which images are for training and which for testing; every class must have some to learn from.
pub(crate) fn select(
    path: &Path,
    class_names: &[String],
    labels: &[u32],
    parts: &[Part],
    options: &LoadOptions,
) -> Result<Selection, DataError> {
    let classes = class_names.len();
    if classes < 2 {
        let reason = format!("it has {classes} class, learning needs at least two");
        return Err(DataError::unknown(path, reason));
    }
    if let Some(index) = labels.iter().position(|&label| label as usize >= classes) {
        return Err(DataError::LabelOutOfRange {
            path: path.to_owned(),
            index,
            label: i64::from(labels[index]),
            classes,
        });
    }
    let of = |wanted: Part| -> Vec<usize> {
        (0..parts.len())
            .filter(|&index| parts[index] == wanted)
            .collect()
    };
    let mut selection = if parts.contains(&Part::Undivided) {
        stratified(labels, classes, options.test_fraction, options.seed)
    } else {
        Selection {
            train: of(Part::Train),
            test: of(Part::Test),
            description: "as shipped".into(),
        }
    };
    let mut counts = vec![0usize; classes];
    for &index in &selection.train {
        counts[labels[index] as usize] += 1;
    }
    if let Some(class) = counts.iter().position(|&count| count == 0) {
        return Err(empty_class(path, &class_names[class], "training"));
    }
    if selection.test.is_empty() {
        let class = &class_names[0];
        return Err(empty_class(path, class, "test"));
    }
    for indices in [&mut selection.train, &mut selection.test] {
        let all = std::mem::take(indices);
        *indices = limited(labels, all, classes, options.limit, options.seed);
    }
    Ok(selection)
}

/// Zeroed room for `count` images, or a plain word that there is none.
pub(crate) fn room(path: &Path, count: usize, image_len: usize) -> Result<Vec<u8>, DataError> {
    let mut pixels = Vec::new();
    let fits = count
        .checked_mul(image_len)
        .filter(|&len| pixels.try_reserve_exact(len).is_ok());
    let Some(len) = fits else {
        return Err(DataError::broken(
            path,
            format!("{count} images of {image_len} bytes do not fit into memory"),
            "use --limit or a smaller --image-size",
        ));
    };
    pixels.resize(len, 0);
    Ok(pixels)
}

type Parts = [Vec<u8>; 2];

fn decode_all(
    listing: &Listing,
    fetch: &dyn Fetch,
    selection: &Selection,
    options: &LoadOptions,
) -> Result<(Shape, Parts), DataError> {
    let first = open(listing, fetch, selection.train[0], options)?;
    let mut shape = Shape {
        height: first.height,
        width: first.width,
        channels: first.channels,
    };
    let chosen = [&selection.train, &selection.test];
    let total = selection.train.len() + selection.test.len();
    loop {
        let what = format!("decoding {}", listing.name);
        options.progress.begin(&what, total as u64, Unit::Images);
        let colored = AtomicBool::new(false);
        let decoded = chosen.map(|indices| {
            let mut pixels = room(&listing.path, indices.len(), shape.image_len())?;
            let failure = pixels
                .par_chunks_exact_mut(shape.image_len())
                .zip(indices.par_iter())
                .map(|(out, &index)| {
                    let picture = open(listing, fetch, index, options)?;
                    options.progress.advance(1);
                    if picture.channels > shape.channels {
                        colored.store(true, Ordering::Relaxed);
                        return Ok(());
                    }
                    place(listing, fetch, index, &picture, shape, out)
                })
                .find_first(Result::is_err);
            match failure {
                Some(Err(error)) => Err(error),
                _ => Ok(pixels),
            }
        });
        options.progress.finish();
        let [train, test] = decoded;
        let parts = [train?, test?];
        // The first image was gray, but there are colored ones: once more, all in RGB.
        if !colored.into_inner() {
            return Ok((shape, parts));
        }
        shape.channels = 3;
    }
}

fn open(
    listing: &Listing,
    fetch: &dyn Fetch,
    index: usize,
    options: &LoadOptions,
) -> Result<Picture, DataError> {
    let decode = if options.exif { decode_upright } else { decode };
    let picture = decode(&fetch.bytes(index)?).map_err(|reason| DataError::BrokenImage {
        path: listing.path.clone(),
        entry: one_line(&fetch.entry(index)),
        reason: one_line(&reason),
    })?;
    Ok(match options.image_size {
        Some(size) => resize(&picture, size, size),
        None => picture,
    })
}

/// Copies `picture` to `out`, `[h, w, c]`; gray becomes RGB where the set has colors.
fn place(
    listing: &Listing,
    fetch: &dyn Fetch,
    index: usize,
    picture: &Picture,
    shape: Shape,
    out: &mut [u8],
) -> Result<(), DataError> {
    if (picture.height, picture.width) != (shape.height, shape.width) {
        return Err(DataError::DifferingSizes {
            path: listing.path.clone(),
            entry: one_line(&fetch.entry(index)),
            found_width: picture.width,
            found_height: picture.height,
            expected_width: shape.width,
            expected_height: shape.height,
        });
    }
    if picture.channels == shape.channels {
        out.copy_from_slice(&picture.pixels);
    } else {
        for (rgb, &gray) in out.chunks_exact_mut(shape.channels).zip(&picture.pixels) {
            rgb.fill(gray);
        }
    }
    Ok(())
}
