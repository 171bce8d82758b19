//! Decoded images on disk, so that a second run starts at once.
//!
//! A cache file belongs to one listing, known by its fingerprint, and to one image size; it holds all images in the
//! listing's order, so every seed and every limit reads the same file. It is written beside its final name and moved
//! there, and a checksum guards its content: a file that does not fit is left alone and made anew.
//!
//! Images that are more than memory should hold stay in the file, of which they are read as they are needed (`pixels.rs`).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache_file::{Header, NewFile};
use crate::decoded::{Decoded, Remarks};
use crate::listing::{Listing, Shape, room};
use crate::pixels::{ImageFile, Pixels};
use crate::split::Selection;
use crate::{LoadOptions, Resize, Unit};

/// Counts the times that decoding came to give other pixels, or the layout changed: older files are not read.
const VERSION: u32 = 3;

/// Where image `index` of the listing goes: training (0), validation (1) or test (2), and the position there.
type Places = Vec<Option<(usize, usize)>>;

fn places(listing: &Listing, selection: &Selection) -> Places {
    let mut places = vec![None; listing.labels.len()];
    for (part, indices) in selection.parts().into_iter().enumerate() {
        for (position, &index) in indices.iter().enumerate() {
            places[index] = Some((part, position));
        }
    }
    places
}

/// The images chosen by `selection`, when a fitting cache file is there.
pub(crate) fn read(
    listing: &Listing,
    selection: &Selection,
    options: &LoadOptions,
) -> Option<Decoded> {
    let path = file_of(listing, options)?;
    let file = File::open(&path).ok()?;
    match read_file(file, &path, listing, selection, options) {
        Ok(found) => Some(found),
        Err(error) => {
            options.progress.note(&format!(
                "the cache {} is not usable ({error}); decoding the images again",
                path.display()
            ));
            None
        }
    }
}

fn read_file(
    mut file: File,
    path: &Path,
    listing: &Listing,
    selection: &Selection,
    options: &LoadOptions,
) -> io::Result<Decoded> {
    let mut bytes = [0; Header::LEN];
    file.read_exact(&mut bytes)?;
    let header = Header::parse(&bytes)
        .filter(|header| header.fingerprint == listing.fingerprint)
        .ok_or_else(|| io::Error::other("it belongs to other images"))?;
    let shape = header.shape;
    let length = header.lengths().map(|(_, whole)| whole);
    if length != Some(file.metadata()?.len()) || header.images != listing.labels.len() as u64 {
        return Err(io::Error::other("its length is wrong"));
    }
    let image_len = shape.image_len();
    let places = places(listing, selection);
    let total = places.iter().flatten().count();
    let what = format!("reading {} from the cache", listing.name);
    let parts = if is_large(total, shape, options) {
        options.progress.begin(&what, total as u64, Unit::Images);
        let found = walk(&mut file, &places, image_len, options, |_, _| {});
        options.progress.finish();
        same(found?, header.checksum)?;
        let file = Arc::new(image_file(file, path, shape));
        selection
            .parts()
            .map(|indices| Pixels::in_file(&file, indices.to_vec()))
    } else {
        let room = |count| room(&listing.path, count, image_len).map_err(io::Error::other);
        let [train, validation, test] = selection.parts().map(|indices| room(indices.len()));
        let mut parts = [train?, validation?, test?];
        options.progress.begin(&what, total as u64, Unit::Images);
        let found = walk(&mut file, &places, image_len, options, |image, place| {
            let (part, position) = place;
            parts[part][position * image_len..][..image_len].copy_from_slice(image);
        });
        options.progress.finish();
        same(found?, header.checksum)?;
        parts.map(Pixels::Memory)
    };
    Ok(Decoded {
        shape,
        parts,
        remarks: header.remarks,
    })
}

/// Whether `images` of `shape` are more than is kept in memory.
pub(crate) fn is_large(images: usize, shape: Shape, options: &LoadOptions) -> bool {
    let bytes = (images as u64).saturating_mul(shape.image_len() as u64);
    bytes > options.in_memory_bytes
}

fn image_file(file: File, path: &Path, shape: Shape) -> ImageFile {
    ImageFile {
        file,
        path: path.to_owned(),
        first: Header::LEN as u64,
        image_len: shape.image_len(),
    }
}

fn same(found: u32, expected: u32) -> io::Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(io::Error::other("its checksum is wrong")),
    }
}

/// Reads all images and gives those that have a place to `each`; returns the checksum of all.
fn walk(
    file: &mut File,
    places: &Places,
    image_len: usize,
    options: &LoadOptions,
    mut each: impl FnMut(&[u8], (usize, usize)),
) -> io::Result<u32> {
    const BLOCK_BYTES: usize = 1 << 20;
    let per_block = (BLOCK_BYTES / image_len).max(1);
    let mut hasher = crc32fast::Hasher::new();
    let mut block = vec![0; per_block * image_len];
    for places in places.chunks(per_block) {
        let block = &mut block[..places.len() * image_len];
        file.read_exact(block)?;
        hasher.update(block);
        for (image, place) in block.chunks_exact(image_len).zip(places) {
            if let &Some(place) = place {
                each(image, place);
            }
        }
        let used = places.iter().flatten().count();
        options.progress.advance(used as u64);
    }
    Ok(hasher.finalize())
}

/// Images that are decoded into a file: all of a listing, in its order, for the next run as well; or some of them, which
/// nobody else will ask for, in a file without a name.
pub(crate) struct Spill<'a> {
    listing: &'a Listing,
    path: PathBuf,
    /// The listing's numbers of the images, in the order of the file.
    pub(crate) order: Vec<usize>,
    is_kept: bool,
}

impl<'a> Spill<'a> {
    /// None where there is no folder for it.
    pub(crate) fn of(
        listing: &'a Listing,
        selection: &Selection,
        options: &LoadOptions,
    ) -> Option<Self> {
        let path = file_of(listing, options)?;
        let all = places(listing, selection).iter().all(Option::is_some);
        let is_kept = all && options.limit.is_none();
        Some(Self {
            listing,
            path,
            order: match is_kept {
                true => (0..listing.labels.len()).collect(),
                false => selection.parts().into_iter().flatten().copied().collect(),
            },
            is_kept,
        })
    }

    /// Begins the file.
    pub(crate) fn begin(&self) -> io::Result<NewFile> {
        NewFile::create(&self.path)
    }

    /// Where the images are, once all of `order` have been added.
    pub(crate) fn end(
        &self,
        new: NewFile,
        (shape, remarks): (Shape, Remarks),
        selection: &Selection,
    ) -> io::Result<[Pixels; 3]> {
        let parts = selection.parts();
        if self.is_kept {
            let file = new.keep(&self.path, header(self.listing, shape, remarks))?;
            let file = Arc::new(image_file(file, &self.path, shape));
            return Ok(parts.map(|indices| Pixels::in_file(&file, indices.to_vec())));
        }
        let file = Arc::new(image_file(new.nameless()?, &self.path, shape));
        let mut next = 0;
        Ok(parts.map(|indices| {
            let first = next;
            next += indices.len();
            Pixels::in_file(&file, (first..next).collect())
        }))
    }

    /// Says that the file cannot be written.
    pub(crate) fn failed(&self, error: &io::Error) -> String {
        format!(
            "the decoded images do not go to a file: cannot write {}: {error}; decoding them into memory",
            self.path.display()
        )
    }
}

fn header(listing: &Listing, shape: Shape, remarks: Remarks) -> Header {
    Header {
        fingerprint: listing.fingerprint,
        images: listing.labels.len() as u64,
        shape,
        checksum: 0,
        remarks,
    }
}

/// Keeps all images of a listing that are in memory. A cache that cannot be written is a pity, not an error.
pub(crate) fn write(
    listing: &Listing,
    selection: &Selection,
    decoded: &Decoded,
    options: &LoadOptions,
) {
    let Some(path) = file_of(listing, options) else {
        return;
    };
    let [
        Pixels::Memory(train),
        Pixels::Memory(validation),
        Pixels::Memory(test),
    ] = &decoded.parts
    else {
        return;
    };
    let places = places(listing, selection);
    if places.iter().any(Option::is_none) {
        return;
    }
    if let Err(error) = write_file(&path, listing, &places, decoded, [train, validation, test]) {
        options.progress.note(&format!(
            "the decoded images are not kept for the next run: cannot write {}: {error}",
            path.display()
        ));
    }
}

fn write_file(
    path: &Path,
    listing: &Listing,
    places: &Places,
    decoded: &Decoded,
    parts: [&[u8]; 3],
) -> io::Result<()> {
    let image_len = decoded.shape.image_len();
    let mut new = NewFile::create(path)?;
    for &(part, position) in places.iter().flatten() {
        new.add(&parts[part][position * image_len..][..image_len])?;
    }
    new.keep(path, header(listing, decoded.shape, decoded.remarks))?;
    Ok(())
}

/// `<name>-<hash of the path>-<size>-<fingerprint>.images` in the cache folder.
fn file_of(listing: &Listing, options: &LoadOptions) -> Option<PathBuf> {
    let folder = options.cache_dir.as_ref()?;
    let absolute = fs::canonicalize(&listing.path).unwrap_or_else(|_| listing.path.clone());
    let place = crc32fast::hash(absolute.as_os_str().as_encoded_bytes());
    let size = options
        .image_size
        .map_or("own".into(), |size| size.to_string());
    let size = match options.resize {
        Resize::Stretch => size,
        Resize::Short(short) => format!("{size}_of_{short}"),
    };
    let name: String = listing
        .name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .take(60)
        .collect();
    let turned = if options.exif { "_exif" } else { "" };
    let print: String = listing
        .fingerprint
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(folder.join(format!(
        "{name}-{place:08x}-{size}{turned}-{print}{VERSION}.images"
    )))
}
