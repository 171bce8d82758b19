//! Decoding in parallel, into memory or, where the images are many, by blocks into a file.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::cache::{Spill, is_large};
use crate::decode::{Picture, Remark, decode, decode_upright};
use crate::decoded::{Counter, Decoded};
use crate::error::{one_line, some_of};
use crate::listing::{Fetch, Listing, Shape, room};
use crate::pixels::Pixels;
use crate::split::Selection;
use crate::{DataError, LoadOptions, Unit, memory};

/// Bytes of pixels that are decoded before they are written.
const BLOCK_BYTES: usize = 32 << 20;

/// Decodes the chosen images. Where a file for many cannot be written, they go to memory if that holds them.
pub(crate) fn decode_all(
    listing: &Listing,
    fetch: &dyn Fetch,
    selection: &Selection,
    options: &LoadOptions,
) -> Result<Decoded, DataError> {
    let mut shape = first_shape(listing, fetch, selection, options)?;
    let total: usize = selection.parts().iter().map(|indices| indices.len()).sum();
    let what = format!("decoding {}", listing.name);
    let mut spill = Spill::of(listing, selection, options);
    loop {
        let work = Work {
            listing,
            fetch,
            options,
            shape,
            colored: AtomicBool::new(false),
            broken: Broken::default(),
            remarks: Counter::default(),
        };
        let is_large = is_large(total, shape, options);
        let into_file = spill.as_ref().filter(|_| is_large);
        if is_large && into_file.is_none() {
            check_memory(listing, total, shape, memory::available())?;
        }
        options.progress.begin(&what, total as u64, Unit::Images);
        let decoded = match into_file {
            Some(spill) => work.to_file(spill, selection),
            None => work.to_memory(selection).map_err(Halt::Data),
        };
        options.progress.finish();
        match (decoded, into_file) {
            (Ok(Some(parts)), _) => {
                return Ok(Decoded {
                    shape,
                    parts,
                    remarks: work.remarks.total(),
                });
            }
            // The first image was gray, but there are colored ones: once more, all in RGB.
            (Ok(None), _) => shape.channels = 3,
            (Err(Halt::Data(error)), _) => return Err(error),
            (Err(Halt::Write(error)), file) => {
                let note = file.map(|spill| spill.failed(&error));
                options.progress.note(&note.unwrap_or_default());
                spill = None;
            }
        }
    }
}

/// Refuses images that memory does not hold, of which `available` bytes are free.
fn check_memory(
    listing: &Listing,
    images: usize,
    shape: Shape,
    available: Option<u64>,
) -> Result<(), DataError> {
    let bytes = images as u64 * shape.image_len() as u64;
    let Some(free) = available.filter(|&free| bytes > free) else {
        return Ok(());
    };
    Err(DataError::broken(
        &listing.path,
        format!(
            "{images} images of {} bytes are {:.1} GB, and {:.1} GB of memory are free",
            shape.image_len(),
            bytes as f64 / 1e9,
            free as f64 / 1e9,
        ),
        "keep them in the cache, on a disk with room for them (XDG_CACHE_HOME names its place; not --set cache=false), or use \
         --limit or a smaller --image-size",
    ))
}

/// Why decoding ended early.
enum Halt {
    /// The data.
    Data(DataError),
    /// The file that they were decoded to.
    Write(io::Error),
}

impl From<DataError> for Halt {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// One pass over the chosen images, all brought to one shape.
struct Work<'a> {
    listing: &'a Listing,
    fetch: &'a dyn Fetch,
    options: &'a LoadOptions<'a>,
    shape: Shape,
    /// Whether an image had more channels than the shape.
    colored: AtomicBool,
    broken: Broken,
    remarks: Counter,
}

impl Work<'_> {
    /// The three parts in memory; none where the shape has too few channels.
    fn to_memory(&self, selection: &Selection) -> Result<Option<[Pixels; 3]>, DataError> {
        let image_len = self.shape.image_len();
        let [train, validation, test] = selection.parts().map(|indices| {
            let mut pixels = room(&self.listing.path, indices.len(), image_len)?;
            self.decode(indices, &mut pixels)?;
            Ok::<_, DataError>(Pixels::Memory(pixels))
        });
        self.broken.check(self.listing)?;
        let parts = [train?, validation?, test?];
        Ok((!self.colored.load(Ordering::Relaxed)).then_some(parts))
    }

    /// The three parts in a file; none where the shape has too few channels.
    fn to_file(
        &self,
        spill: &Spill<'_>,
        selection: &Selection,
    ) -> Result<Option<[Pixels; 3]>, Halt> {
        let image_len = self.shape.image_len();
        let per_block = (BLOCK_BYTES / image_len).max(rayon::current_num_threads());
        let mut block = room(
            &self.listing.path,
            per_block.min(spill.order.len()),
            image_len,
        )?;
        let mut file = spill.begin()?;
        for indices in spill.order.chunks(per_block) {
            let block = &mut block[..indices.len() * image_len];
            if let Err(error) = self.decode(indices, block) {
                self.broken.check(self.listing)?;
                return Err(error.into());
            }
            file.add(block)?;
        }
        self.broken.check(self.listing)?;
        if self.colored.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let parts = spill.end(file, (self.shape, self.remarks.total()), selection)?;
        Ok(Some(parts))
    }

    /// Decodes the images `indices` of the listing to `pixels`.
    fn decode(&self, indices: &[usize], pixels: &mut [u8]) -> Result<(), DataError> {
        let failure = pixels
            .par_chunks_exact_mut(self.shape.image_len())
            .zip(indices.par_iter())
            .map(|(out, &index)| self.decode_one(index, out))
            .find_first(Result::is_err);
        failure.unwrap_or(Ok(()))
    }

    fn decode_one(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        let bytes = self.fetch.bytes(index)?;
        self.remarks.add(Remark::of(&bytes));
        let picture = open(self.listing, self.fetch, index, &bytes, self.options);
        let picture = self.broken.or_picture(index, picture)?;
        self.options.progress.advance(1);
        match picture {
            None => Ok(()),
            Some(picture) if picture.channels > self.shape.channels => {
                self.colored.store(true, Ordering::Relaxed);
                Ok(())
            }
            Some(picture) => place(self.listing, self.fetch, index, &picture, self.shape, out),
        }
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

    fn check(&self, listing: &Listing) -> Result<(), DataError> {
        let mut broken = self
            .0
            .lock()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_memory_does_not_hold_are_refused_with_both_figures() {
        let listing = Listing {
            path: "set".into(),
            name: "set".into(),
            source: String::new(),
            class_names: vec![],
            labels: vec![],
            parts: vec![],
            fingerprint: [0; 16],
            notes: vec![],
        };
        let shape = Shape {
            height: 1000,
            width: 1000,
            channels: 3,
        };
        let check = |available| check_memory(&listing, 1000, shape, available);
        assert!(check(None).is_ok() && check(Some(3_000_000_000)).is_ok());
        let line = check(Some(2_999_999_999))
            .expect_err("too many")
            .to_string();
        assert!(line.starts_with("set: 1000 images"), "{line}");
        assert!(
            line.contains("3.0 GB") && line.contains("--limit"),
            "{line}"
        );
    }
}
