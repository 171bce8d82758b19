//! From a list of encoded images to a data set: choose, decode in parallel, resize, keep in the cache.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::cache;
use crate::decode::{Picture, Remark, decode, decode_upright};
use crate::decoded::{Counter, Decoded};
use crate::error::{one_line, some_of};
use crate::listing::{Fetch, Listing, Shape, drop_unused_classes, room};
use crate::split::{Selection, named, select};
use crate::{DataError, Dataset, LoadOptions, Split, Unit};

/// Loads the images of `listing` that `options` ask for.
pub(crate) fn assemble(
    mut listing: Listing,
    fetch: &dyn Fetch,
    options: &LoadOptions,
) -> Result<Dataset, DataError> {
    let unused = drop_unused_classes(&mut listing.class_names, &mut listing.labels);
    listing.notes.extend(unused);
    let by_names = named::divide(&mut listing, fetch, &options.split)?;
    let mut selection = select(
        &listing.path,
        &listing.class_names,
        &listing.labels,
        &listing.parts,
        options,
    )?;
    if let Some(description) = by_names {
        selection.description = description;
    }
    let decoded = match cache::read(&listing, &selection, options) {
        Some(found) => found,
        None => {
            let decoded = decode_all(&listing, fetch, &selection, options)?;
            if options.limit.is_none() {
                cache::write(&listing, &selection, &decoded, options);
            }
            decoded
        }
    };
    let (shape, [train, validation, test]) = (decoded.shape, decoded.parts);
    let split = |pixels, indices: &[usize]| {
        let labels = indices.iter().map(|&index| listing.labels[index]).collect();
        Split::new(shape.image_len(), pixels, labels)
    };
    let (train, validation, test) = (
        split(train, &selection.train)?,
        split(validation, &selection.validation)?,
        split(test, &selection.test)?,
    );
    listing.notes.extend(selection.notes);
    listing.notes.extend(decoded.remarks.notes(options.exif));
    listing.notes.extend(faint_note(&train, &test));
    Ok(Dataset {
        name: listing.name,
        source: listing.source,
        synthetic: false,
        class_names: listing.class_names,
        height: shape.height,
        width: shape.width,
        channels: shape.channels,
        train,
        validation,
        test,
        split: selection.description,
        notes: listing.notes,
    })
}

/// A note where no pixel is brighter than a 16th of the range, as 12-bit values in 16-bit files are.
pub(crate) fn faint_note(train: &Split, test: &Split) -> Option<String> {
    const FAINT: u8 = 15;
    let is_faint = |split: &Split| split.images().par_iter().all(|&value| value <= FAINT);
    if !is_faint(train) || !is_faint(test) {
        return None;
    }
    let brightest = |split: &Split| split.images().iter().copied().max().unwrap_or(0);
    let most = brightest(train).max(brightest(test));
    Some(format!(
        "no pixel is above {most} of 255: the images use a 16th of their range or less, as 12-bit values in 16-bit files \
         do; stretch them before training"
    ))
}

fn decode_all(
    listing: &Listing,
    fetch: &dyn Fetch,
    selection: &Selection,
    options: &LoadOptions,
) -> Result<Decoded, DataError> {
    let mut shape = first_shape(listing, fetch, selection, options)?;
    let chosen = selection.parts();
    let total: usize = chosen.iter().map(|indices| indices.len()).sum();
    loop {
        let what = format!("decoding {}", listing.name);
        options.progress.begin(&what, total as u64, Unit::Images);
        let colored = AtomicBool::new(false);
        let broken = Broken::default();
        let remarks = Counter::default();
        let decoded = chosen.map(|indices| {
            let mut pixels = room(&listing.path, indices.len(), shape.image_len())?;
            let failure = pixels
                .par_chunks_exact_mut(shape.image_len())
                .zip(indices.par_iter())
                .map(|(out, &index)| {
                    let bytes = fetch.bytes(index)?;
                    remarks.add(Remark::of(&bytes));
                    let picture = open(listing, fetch, index, &bytes, options);
                    let picture = broken.or_picture(index, picture)?;
                    options.progress.advance(1);
                    match picture {
                        None => Ok(()),
                        Some(picture) if picture.channels > shape.channels => {
                            colored.store(true, Ordering::Relaxed);
                            Ok(())
                        }
                        Some(picture) => place(listing, fetch, index, &picture, shape, out),
                    }
                })
                .find_first(Result::is_err);
            match failure {
                Some(Err(error)) => Err(error),
                _ => Ok(pixels),
            }
        });
        options.progress.finish();
        broken.check(listing)?;
        let [train, validation, test] = decoded;
        let parts = [train?, validation?, test?];
        // The first image was gray, but there are colored ones: once more, all in RGB.
        if !colored.into_inner() {
            return Ok(Decoded {
                shape,
                parts,
                remarks: remarks.total(),
            });
        }
        shape.channels = 3;
    }
}

/// The shape of the first image that can be decoded.
fn first_shape(
    listing: &Listing,
    fetch: &dyn Fetch,
    selection: &Selection,
    options: &LoadOptions,
) -> Result<Shape, DataError> {
    let broken = Broken::default();
    let found = selection
        .train
        .par_iter()
        .chain(&selection.test)
        .map(|&index| {
            let picture = fetch
                .bytes(index)
                .and_then(|bytes| open(listing, fetch, index, &bytes, options));
            broken.or_picture(index, picture).transpose()
        })
        .find_first(Option::is_some);
    match found.flatten() {
        Some(picture) => picture.map(|picture| Shape {
            height: picture.height,
            width: picture.width,
            channels: picture.channels,
        }),
        None => {
            broken.check(listing)?;
            Err(DataError::unknown(&listing.path, "it holds no images"))
        }
    }
}

/// Images that cannot be decoded, by index: collected, so that one run names them all.
#[derive(Default)]
struct Broken(Mutex<Vec<(usize, DataError)>>);

impl Broken {
    /// The picture; `None` where it cannot be decoded, which is remembered. Other errors end the work.
    fn or_picture(
        &self,
        index: usize,
        opened: Result<Picture, DataError>,
    ) -> Result<Option<Picture>, DataError> {
        match opened {
            Err(error @ DataError::BrokenImage { .. }) => {
                self.0
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push((index, error));
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn check(self, listing: &Listing) -> Result<(), DataError> {
        let mut broken = self
            .0
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        broken.sort_by_key(|&(index, _)| index);
        match broken.len() {
            0 => Ok(()),
            1 => Err(broken.remove(0).1),
            count => {
                let reasons = broken.iter().filter_map(|(_, error)| match error {
                    DataError::BrokenImage { entry, reason, .. } => {
                        Some(format!("{entry} ({reason})"))
                    }
                    _ => None,
                });
                Err(DataError::BrokenImages {
                    path: listing.path.clone(),
                    count,
                    list: some_of(reasons),
                })
            }
        }
    }
}

fn open(
    listing: &Listing,
    fetch: &dyn Fetch,
    index: usize,
    bytes: &[u8],
    options: &LoadOptions,
) -> Result<Picture, DataError> {
    let decode = if options.exif { decode_upright } else { decode };
    let picture = decode(bytes).map_err(|reason| DataError::BrokenImage {
        path: listing.path.clone(),
        entry: one_line(&fetch.entry(index)),
        reason: one_line(&reason),
    })?;
    Ok(options
        .resize
        .apply(&picture, options.image_size)
        .into_owned())
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
