//! Splits that go by the names of images.

use std::collections::HashMap;
use std::path::Path;

use super::SplitRule;
use crate::DataError;
use crate::error::{one_line, some_of};
use crate::listing::{Fetch, Listing, Part};

/// The published spatial split of EuroSAT, two bits an image (`bench/peers/eurosat_spatial.py` packs it): the classes in
/// order, their images by number from 1, four a byte.
const SPATIAL: &[u8; 6750] = include_bytes!("eurosat_spatial.bin");

/// EuroSAT's classes, and how many images each has.
const EUROSAT: [(&str, usize); 10] = [
    ("AnnualCrop", 3000),
    ("Forest", 3000),
    ("HerbaceousVegetation", 3000),
    ("Highway", 2500),
    ("Industrial", 2500),
    ("Pasture", 2000),
    ("PermanentCrop", 2500),
    ("Residential", 3000),
    ("River", 2500),
    ("SeaLake", 3000),
];

/// Names of missing images that are told.
const SHOWN: usize = 3;

/// The largest list that is read.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// Which part each named image is in.
struct Names {
    parts: HashMap<String, Part>,
    /// What the split is called.
    description: String,
}

/// Gives the images of `listing` the parts in which `rule` names them, and returns what the split is called; none for a rule
/// that does not go by names. Images that are not named are in no part.
pub(crate) fn divide(
    listing: &mut Listing,
    fetch: &dyn Fetch,
    rule: &SplitRule,
) -> Result<Option<String>, DataError> {
    let names = match rule {
        SplitRule::Spatial => spatial(),
        SplitRule::Lists {
            train,
            validation,
            test,
        } => listed(train, validation.as_deref(), test)?,
        SplitRule::Auto | SplitRule::Validation(_) | SplitRule::Shares(_) => return Ok(None),
    };
    let refuse = |reason: String| {
        Err(DataError::Layout {
            path: listing.path.clone(),
            reason,
        })
    };
    let mut found: HashMap<&str, usize> = HashMap::with_capacity(names.parts.len());
    let mut parts = vec![Part::LeftOut; listing.labels.len()];
    for (index, part) in parts.iter_mut().enumerate() {
        let entry = fetch.entry(index);
        let Some((name, of)) = tails(&entry).find_map(|tail| names.parts.get_key_value(tail))
        else {
            continue;
        };
        *part = *of;
        if let Some(other) = found.insert(name, index) {
            return refuse(format!(
                "{} names `{}`, which is {} and {}: give the folder with the name",
                names.description,
                one_line(name),
                one_line(&fetch.entry(other)),
                one_line(&entry)
            ));
        }
    }
    let mut missing: Vec<&str> = names.parts.keys().map(String::as_str).collect();
    missing.retain(|name| !found.contains_key(name));
    if !missing.is_empty() {
        missing.sort_unstable();
        return refuse(format!(
            "{} of the {} images of {} are not there: {}",
            missing.len(),
            names.parts.len(),
            names.description,
            some_of(missing.iter().take(SHOWN).map(|name| one_line(name)))
                + if missing.len() > SHOWN { ", …" } else { "" }
        ));
    }
    let left = parts.iter().filter(|&&part| part == Part::LeftOut).count();
    if left > 0 {
        listing.notes.push(format!(
            "{left} images that the split does not name are left out"
        ));
    }
    listing.parts = parts;
    Ok(Some(names.description))
}

/// The name of a file, then with its folder, then with the folder above it, and so on.
fn tails(entry: &str) -> impl Iterator<Item = &str> {
    let slashes = entry.rmatch_indices('/').map(|(at, _)| &entry[at + 1..]);
    slashes.chain([entry])
}

fn spatial() -> Names {
    let mut parts = HashMap::with_capacity(4 * SPATIAL.len());
    let mut places = SPATIAL
        .iter()
        .flat_map(|byte| [0, 2, 4, 6].map(|shift| byte >> shift & 3));
    for (class, count) in EUROSAT {
        for (number, code) in (1..=count).zip(places.by_ref()) {
            let part = match code {
                0 => Part::Train,
                1 => Part::Validation,
                _ => Part::Test,
            };
            parts.insert(format!("{class}_{number}.jpg"), part);
        }
    }
    Names {
        parts,
        description: "EuroSAT's published spatial split".into(),
    }
}

fn listed(train: &Path, validation: Option<&Path>, test: &Path) -> Result<Names, DataError> {
    let lists = [
        (Some(train), Part::Train),
        (validation, Part::Validation),
        (Some(test), Part::Test),
    ];
    let mut parts = HashMap::new();
    let mut files = Vec::new();
    for (path, part) in lists {
        let Some(path) = path else { continue };
        files.push(path.display().to_string());
        let long = |len| len > MAX_LIST_BYTES;
        if std::fs::metadata(path).is_ok_and(|found| long(found.len())) {
            let reason = "a list of names above 1 GiB";
            return Err(DataError::broken(
                path,
                reason,
                "give a list of the images' names, a line each",
            ));
        }
        let text =
            std::fs::read_to_string(path).map_err(|source| DataError::io("read", path, source))?;
        let named = text.lines().map(str::trim).filter(|name| !name.is_empty());
        let before = parts.len();
        for name in named {
            let name = name.strip_prefix("./").unwrap_or(name).replace('\\', "/");
            if parts.get(&name).is_some_and(|&other| other != part) {
                let reason = format!("`{}` is in another list as well", one_line(&name));
                return Err(DataError::broken(
                    path,
                    reason,
                    "an image can be in one part only",
                ));
            }
            parts.insert(name, part);
        }
        if parts.len() == before {
            let reason = "it names no image";
            return Err(DataError::broken(
                path,
                reason,
                "give a list of the images' names, a line each",
            ));
        }
    }
    Ok(Names {
        parts,
        description: format!("split by {}", files.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spatial_split_has_its_published_sizes() {
        let names = spatial();
        let count = |wanted| names.parts.values().filter(|&&part| part == wanted).count();
        assert_eq!(
            [Part::Train, Part::Validation, Part::Test].map(count),
            [16_200, 5_400, 5_400]
        );
        assert_eq!(
            names.parts.len(),
            EUROSAT.iter().map(|&(_, count)| count).sum::<usize>()
        );
    }

    #[test]
    fn a_name_is_looked_for_alone_and_then_with_its_folders() {
        let tails: Vec<&str> = tails("set/train/cat/1.png").collect();
        assert_eq!(
            tails,
            [
                "1.png",
                "cat/1.png",
                "train/cat/1.png",
                "set/train/cat/1.png"
            ]
        );
    }
}
