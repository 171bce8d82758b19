//! From a list of encoded images to a data set: choose, decode, keep in the cache.

use rayon::prelude::*;

use crate::cache;
use crate::decoding::decode_all;
use crate::listing::{Fetch, Listing, drop_unused_classes};
use crate::split::{named, select};
use crate::{DataError, Dataset, LoadOptions, Split};

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
        Split::of(shape.image_len(), pixels, labels)
    };
    let (train, validation, test) = (
        split(train, &selection.train),
        split(validation, &selection.validation),
        split(test, &selection.test),
    );
    listing.notes.extend(selection.notes);
    listing.notes.extend(decoded.remarks.notes(options.exif));
    listing.notes.extend(faint_note(&train, &test)?);
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
pub(crate) fn faint_note(train: &Split, test: &Split) -> Result<Option<String>, DataError> {
    const FAINT: u8 = 15;
    let (train, test) = (brightest(train, FAINT)?, brightest(test, FAINT)?);
    let most = train.max(test);
    Ok((most <= FAINT).then(|| format!(
        "no pixel is above {most} of 255: the images use a 16th of their range or less, as 12-bit values in 16-bit files \
         do; stretch them before training"
    )))
}

/// The brightest value, or the brightest of a block where that is above `enough`.
fn brightest(split: &Split, enough: u8) -> Result<u8, DataError> {
    const BLOCK: usize = 64;
    let mut most = 0;
    for start in (0..split.len()).step_by(BLOCK) {
        let images = split.range(start..split.len().min(start + BLOCK))?;
        most = most.max(images.par_iter().copied().max().unwrap_or(0));
        if most > enough {
            break;
        }
    }
    Ok(most)
}
