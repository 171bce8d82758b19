//! Where the pixels of a split are: in memory, or in a file, of which images are read as they are needed.
//!
//! The file is not mapped into memory: that needs `unsafe`, ends the process with SIGBUS where the file is cut while it is
//! mapped, and counts every page that was read as resident, which is what a file beyond memory is to avoid. A positioned
//! read copies an image into the caller's buffer, an error is an error, and the system's page cache serves both alike.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::DataError;

/// Pixels of images of one length.
#[derive(Debug, Clone)]
pub(crate) enum Pixels {
    /// `[n, h, w, c]`.
    Memory(Vec<u8>),
    /// Read when they are asked for.
    File(InFile),
}

/// Some images of a file, in any order.
#[derive(Debug, Clone)]
pub(crate) struct InFile {
    images: Arc<ImageFile>,
    /// The number in the file of each image.
    places: Arc<[usize]>,
    /// Whether each stored value stands for red, green and blue.
    gray_as_rgb: bool,
}

/// A file of images of one length, one after the other.
#[derive(Debug)]
pub(crate) struct ImageFile {
    pub(crate) file: File,
    /// For messages.
    pub(crate) path: PathBuf,
    /// Where the first image begins.
    pub(crate) first: u64,
    /// Bytes of one image.
    pub(crate) image_len: usize,
}

impl Default for Pixels {
    fn default() -> Self {
        Self::Memory(Vec::new())
    }
}

impl Pixels {
    /// The images of `file` at `places`.
    pub(crate) fn in_file(file: &Arc<ImageFile>, places: Vec<usize>) -> Self {
        Self::File(InFile {
            images: Arc::clone(file),
            places: places.into(),
            gray_as_rgb: false,
        })
    }

    /// Images `range`, of `image_len` bytes each.
    pub(crate) fn range(
        &self,
        range: Range<usize>,
        image_len: usize,
    ) -> Result<Cow<'_, [u8]>, DataError> {
        match self {
            Self::Memory(pixels) => {
                let bytes = range.start * image_len..range.end * image_len;
                Ok(Cow::Borrowed(&pixels[bytes]))
            }
            Self::File(file) => {
                let mut pixels = vec![0; range.len() * image_len];
                for (out, index) in pixels.chunks_exact_mut(image_len).zip(range) {
                    file.copy(index, out)?;
                }
                Ok(Cow::Owned(pixels))
            }
        }
    }

    /// Copies image `index` to `out`, which has its length.
    pub(crate) fn copy(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        match self {
            Self::Memory(pixels) => {
                out.copy_from_slice(&pixels[index * out.len()..][..out.len()]);
                Ok(())
            }
            Self::File(file) => file.copy(index, out),
        }
    }

    /// The images at `indices`: copied where they are in memory, named where they are in a file.
    pub(crate) fn take(&self, indices: &[usize], image_len: usize) -> Self {
        match self {
            Self::Memory(pixels) => {
                let mut taken = Vec::with_capacity(indices.len() * image_len);
                for &index in indices {
                    taken.extend_from_slice(&pixels[index * image_len..][..image_len]);
                }
                Self::Memory(taken)
            }
            Self::File(file) => {
                Self::File(file.at(indices.iter().map(|&index| file.places[index])))
            }
        }
    }

    /// The images of several, each an index into one of them, where all are in one file and are read alike.
    pub(crate) fn of_one_file(of: &[(&Self, usize)]) -> Option<Self> {
        let files: Option<Vec<&InFile>> = of
            .iter()
            .map(|(pixels, _)| match pixels {
                Self::File(file) => Some(file),
                Self::Memory(_) => None,
            })
            .collect();
        let files = files?;
        let first = *files.first()?;
        let alike = files.iter().all(|file| {
            Arc::ptr_eq(&file.images, &first.images) && file.gray_as_rgb == first.gray_as_rgb
        });
        let places = files.iter().zip(of).map(|(file, of)| file.places[of.1]);
        alike.then(|| Self::File(first.at(places)))
    }

    /// Gray images as RGB ones.
    pub(crate) fn gray_as_rgb(&mut self) {
        match self {
            Self::Memory(pixels) => {
                *pixels = pixels.iter().flat_map(|&gray| [gray; 3]).collect();
            }
            Self::File(file) => file.gray_as_rgb = true,
        }
    }
}

impl InFile {
    fn at(&self, places: impl Iterator<Item = usize>) -> Self {
        Self {
            images: Arc::clone(&self.images),
            places: places.collect(),
            gray_as_rgb: self.gray_as_rgb,
        }
    }

    fn copy(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        let place = self.places[index];
        if !self.gray_as_rgb {
            return self.images.read(place, out);
        }
        let (gray, _) = out.split_at_mut(out.len() / 3);
        self.images.read(place, gray)?;
        for at in (0..out.len() / 3).rev() {
            let value = out[at];
            out[3 * at..3 * at + 3].fill(value);
        }
        Ok(())
    }
}

impl ImageFile {
    fn read(&self, place: usize, out: &mut [u8]) -> Result<(), DataError> {
        debug_assert_eq!(out.len(), self.image_len);
        let at = self.first + place as u64 * self.image_len as u64;
        read_at(&self.file, at, out).map_err(|error| {
            DataError::broken(
                &self.path,
                format!("image {place} cannot be read: {error}"),
                "run again: the images are decoded anew where the file is not whole",
            )
        })
    }
}

#[cfg(unix)]
fn read_at(file: &File, at: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut at: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                at += count as u64;
                out = &mut out[count..];
            }
        }
    }
    Ok(())
}
