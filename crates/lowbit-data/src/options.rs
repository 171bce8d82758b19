//! What a caller may choose about loading.

use std::path::{Path, PathBuf};

use crate::{DataError, Progress, Resize, Silent, SplitRule};

/// The largest `image_size`: 16 Mpixel.
pub(crate) const MAX_IMAGE_SIZE: usize = 4096;

/// How to load a data set.
#[derive(Clone)]
pub struct LoadOptions<'a> {
    /// Seed of the split, of `limit`'s choice and of generated images.
    pub seed: u64,
    /// At most this many images in each of the two parts, stratified over the classes.
    pub limit: Option<usize>,
    /// Bring all images to this height and width.
    pub image_size: Option<usize>,
    /// How.
    pub resize: Resize,
    /// Turn images as their EXIF orientation says; without it, pixels are taken as they are stored.
    pub exif: bool,
    /// How images are told apart.
    pub split: SplitRule,
    /// Share of the images kept for testing where the data has no split of its own.
    pub test_fraction: f64,
    /// Where known data sets are looked for and downloaded to.
    pub data_dir: PathBuf,
    /// Where decoded images are kept for the next run; `None` keeps none.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of pixels up to which decoded images are kept in memory; those of a larger set stay in a file of the cache's
    /// folder and are read as they are needed.
    pub in_memory_bytes: u64,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

impl LoadOptions<'static> {
    /// All images at their own size, 80/20, data in `data/`, the cache in [`default_cache_dir`], up to 1 GiB of pixels in
    /// memory, nobody watching.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            limit: None,
            image_size: None,
            resize: Resize::Stretch,
            exif: false,
            split: SplitRule::Auto,
            test_fraction: 0.2,
            data_dir: PathBuf::from("data"),
            cache_dir: default_cache_dir(),
            in_memory_bytes: 1 << 30,
            progress: &Silent,
        }
    }
}

impl LoadOptions<'_> {
    /// Refuses a split by names, for images that have none.
    pub(crate) fn check_nameless(&self, path: &Path) -> Result<(), DataError> {
        if !self.split.goes_by_names() {
            return Ok(());
        }
        Err(DataError::Layout {
            path: path.to_owned(),
            reason: format!(
                "its images have no names, by which --split {} goes; use val:10 or 60/20/20",
                self.split
            ),
        })
    }

    pub(crate) fn check(&self) -> Result<(), DataError> {
        let bad = |name, value: String, expected| {
            Err(DataError::BadOption {
                name,
                value,
                expected,
            })
        };
        if !(self.test_fraction > 0.0 && self.test_fraction < 1.0) {
            return bad(
                "the test fraction",
                self.test_fraction.to_string(),
                "between 0 and 1",
            );
        }
        match (self.limit, self.image_size) {
            (Some(0), _) => bad("the limit of images", "0".into(), "at least 1"),
            (_, Some(size)) if size == 0 || size > MAX_IMAGE_SIZE => {
                bad("the image size", size.to_string(), "1 to 4096")
            }
            (_, size) => match (self.resize, size) {
                (Resize::Short(short), Some(size)) if short < size => bad(
                    "the image size",
                    size.to_string(),
                    "at most the shorter side that --resize asks for, of which it is cut out",
                ),
                _ => Ok(()),
            },
        }
    }
}

/// The user's cache folder for lowbit: `$XDG_CACHE_HOME/lowbit`, `~/.cache/lowbit`, or `%LOCALAPPDATA%\lowbit\cache`.
#[must_use]
pub fn default_cache_dir() -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if cfg!(windows) {
        return folder("LOCALAPPDATA").map(|path| path.join("lowbit").join("cache"));
    }
    folder("XDG_CACHE_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .map(|path| path.join("lowbit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_options_are_named() {
        let ok = LoadOptions::new(1);
        assert!(ok.check().is_ok());
        for fraction in [0.0, 1.0, f64::NAN, -0.5] {
            let options = LoadOptions {
                test_fraction: fraction,
                ..ok.clone()
            };
            assert!(options.check().is_err(), "{fraction}");
        }
        let limit = LoadOptions {
            limit: Some(0),
            ..ok.clone()
        };
        assert_eq!(
            limit.check().expect_err("no images").to_string(),
            "the limit of images is 0, but must be at least 1"
        );
        let size = LoadOptions {
            image_size: Some(5000),
            ..ok.clone()
        };
        assert!(size.check().is_err());
        let cut = |size| LoadOptions {
            image_size: Some(size),
            resize: Resize::Short(24),
            ..ok.clone()
        };
        assert!(cut(24).check().is_ok());
        let line = cut(25).check().unwrap_err().to_string();
        assert!(line.contains("25") && line.contains("--resize"), "{line}");
    }
}
