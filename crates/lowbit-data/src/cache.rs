//! Decoded images on disk, so that a second run starts at once.
//!
//! A cache file belongs to one listing, known by its fingerprint, and to one image size; it holds all images in the
//! listing's order, so every seed and every limit reads the same file. It is written beside its final name and moved
//! there, and a checksum guards its content: a file that does not fit is left alone and made anew.
//!
//! Layout, little-endian: `LOWBIMG2`, fingerprint (16 bytes), images (u64), height, width, channels (u32 each), CRC-32 of
//! the pixels (u32), images with 16 bits and those stored turned (u32 each), then the pixels `[n, h, w, c]`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::decoded::{Decoded, Remarks};
use crate::listing::{Listing, Shape, room};
use crate::split::Selection;
use crate::{LoadOptions, Resize, Unit};

const MAGIC: &[u8; 8] = b"LOWBIMG2";
const HEADER_LEN: usize = 8 + 16 + 8 + 4 * 6;
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
    match read_file(file, listing, selection, options) {
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
    listing: &Listing,
    selection: &Selection,
    options: &LoadOptions,
) -> io::Result<Decoded> {
    let mut header = [0; HEADER_LEN];
    file.read_exact(&mut header)?;
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
    let shape = Shape {
        height: word(32) as usize,
        width: word(36) as usize,
        channels: word(40) as usize,
    };
    let images = u64::from_le_bytes(std::array::from_fn(|i| header[24 + i]));
    if &header[..8] != MAGIC || header[8..24] != listing.fingerprint {
        return Err(io::Error::other("it belongs to other images"));
    }
    let image_len = [shape.height, shape.width, shape.channels]
        .iter()
        .try_fold(1u64, |len, &side| len.checked_mul(side as u64))
        .filter(|&len| len > 0 && images == listing.labels.len() as u64);
    let expected = image_len.and_then(|len| len.checked_mul(images));
    if expected.and_then(|len| len.checked_add(HEADER_LEN as u64)) != Some(file.metadata()?.len()) {
        return Err(io::Error::other("its length is wrong"));
    }
    let image_len = shape.image_len();
    let room = |count| room(&listing.path, count, image_len).map_err(io::Error::other);
    let [train, validation, test] = selection.parts().map(|indices| room(indices.len()));
    let mut parts = [train?, validation?, test?];
    let places = places(listing, selection);
    let total: usize = parts.iter().map(|part| part.len() / image_len).sum();
    let what = format!("reading {} from the cache", listing.name);
    options.progress.begin(&what, total as u64, Unit::Images);
    let checksum = scatter(&mut file, &places, &mut parts, image_len, options);
    options.progress.finish();
    if checksum? != word(44) {
        return Err(io::Error::other("its checksum is wrong"));
    }
    Ok(Decoded {
        shape,
        parts,
        remarks: Remarks {
            deep: word(48),
            turned: word(52),
        },
    })
}

/// Reads all images and puts each where it belongs; returns the checksum of all.
fn scatter(
    file: &mut File,
    places: &Places,
    parts: &mut [Vec<u8>; 3],
    image_len: usize,
    options: &LoadOptions,
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
            if let &Some((part, position)) = place {
                parts[part][position * image_len..][..image_len].copy_from_slice(image);
            }
        }
        let used = places.iter().flatten().count();
        options.progress.advance(used as u64);
    }
    Ok(hasher.finalize())
}

/// Keeps all images of a listing. A cache that cannot be written is a pity, not an error.
pub(crate) fn write(
    listing: &Listing,
    selection: &Selection,
    decoded: &Decoded,
    options: &LoadOptions,
) {
    let Some(path) = file_of(listing, options) else {
        return;
    };
    let places = places(listing, selection);
    if places.iter().any(Option::is_none) {
        return;
    }
    if let Err(error) = write_file(&path, listing, &places, decoded) {
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
) -> io::Result<()> {
    let Decoded {
        shape,
        parts,
        remarks,
    } = decoded;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let image_len = shape.image_len();
    let image =
        |&(part, position): &(usize, usize)| &parts[part][position * image_len..][..image_len];
    let mut hasher = crc32fast::Hasher::new();
    places
        .iter()
        .flatten()
        .for_each(|place| hasher.update(image(place)));
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = File::create(&temporary).and_then(|file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(MAGIC)?;
        out.write_all(&listing.fingerprint)?;
        out.write_all(&(places.len() as u64).to_le_bytes())?;
        for side in [shape.height, shape.width, shape.channels] {
            out.write_all(&(side as u32).to_le_bytes())?;
        }
        for word in [hasher.finalize(), remarks.deep, remarks.turned] {
            out.write_all(&word.to_le_bytes())?;
        }
        for place in places.iter().flatten() {
            out.write_all(image(place))?;
        }
        out.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        remove_older(path);
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Removes what was kept of the same path and size before its images changed.
fn remove_older(path: &Path) {
    let kin = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_suffix(".images")?;
        Some(name.rsplit_once('-')?.0.to_owned())
    };
    let (Some(folder), Some(own)) = (path.parent(), kin(path)) else {
        return;
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let other = entry.path();
        if other != path && kin(&other).as_ref() == Some(&own) {
            let _ = fs::remove_file(other);
        }
    }
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
