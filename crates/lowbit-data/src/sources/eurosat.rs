//! `eurosat`: the EuroSAT RGB images, from the data folder or from Zenodo.
//!
//! Helber et al., "EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use and Land Cover Classification",
//! 2019: 27,000 Sentinel-2 patches of 64×64 in ten classes.

use std::path::PathBuf;

use super::{folder, load_tree, zip};
use crate::download::{Remote, agent, fetch};
use crate::{DataError, Dataset, LoadOptions};

const ARCHIVE: Remote = Remote {
    url: "https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip",
    page: "https://zenodo.org/records/7711810",
    file_name: "EuroSAT_RGB.zip",
    len: 94_658_721,
    md5: "f46e308c4d50d4bf32fedad2d3d62f3b",
};

/// The archive's names, now and before, and the folders they unpack to.
const ARCHIVES: [&str; 2] = [ARCHIVE.file_name, "EuroSAT.zip"];
const FOLDERS: [&str; 3] = ["EuroSAT_RGB", "EuroSAT", "2750"];

pub(crate) fn load(options: &LoadOptions) -> Result<Dataset, DataError> {
    if let Some(path) = present(options, &FOLDERS).find(|path| path.is_dir()) {
        return load_tree(folder::open(&path, true)?, "eurosat", options);
    }
    let path = match present(options, &ARCHIVES).find(|path| path.is_file()) {
        Some(path) => path,
        None => fetch(&agent(), &ARCHIVE, &options.data_dir, options.progress)?,
    };
    load_tree(zip::open(&path)?, "eurosat", options)
}

fn present<'a>(options: &'a LoadOptions, names: &'a [&str]) -> impl Iterator<Item = PathBuf> + 'a {
    names.iter().map(|name| options.data_dir.join(name))
}
