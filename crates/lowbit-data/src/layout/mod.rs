//! Class folders: from the images' relative paths to labels and parts, wherever the files lie. The rule, in words and with
//! the common public layouts, stands in docs/data.md.
//!
//! 1. A folder that encloses everything else is looked into.
//! 2. Where folders lie side by side and the name of one says training, validation or test, they are parts; the class
//!    folders lie in them. What is no part beside them is left out.
//! 3. Otherwise they are the classes. Parts may lie in them, if in all of them.
//! 4. Images that lie in no class folder are left out. All that is left out is counted and named.
//! 5. What can be read in two ways is refused.

mod dir;
mod names;
mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::DataError;
use crate::error::some_of;
use crate::listing::{Part, unused_note};
use dir::Dir;
pub(crate) use names::{Role, is_image, is_litter, normal, role_of};
use names::{is_anything, roles_of};

/// One image of a class folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Its index in the list of paths.
    pub(crate) index: usize,
    pub(crate) label: u32,
    pub(crate) part: Part,
}

/// The classes found and their images, in the order of part, class and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) class_names: Vec<String>,
    pub(crate) images: Vec<Placed>,
    /// What was left out, and what else the user should know.
    pub(crate) notes: Vec<String>,
}

/// Reads classes and parts off `files`, the images, and `folders`; [`normal`] paths below `source`.
pub(crate) fn arrange(
    source: &Path,
    files: &[String],
    folders: &[String],
) -> Result<Layout, DataError> {
    let root = Dir::new(files, folders);
    let mut plan = Plan {
        source,
        files,
        images: Vec::new(),
        empty: BTreeSet::new(),
        notes: Vec::new(),
    };
    plan.place(&root)?;
    Ok(plan.finish())
}

/// Images with their class and part, as far as they are placed.
struct Plan<'a> {
    source: &'a Path,
    files: &'a [String],
    images: Vec<(usize, &'a str, Part)>,
    /// Names of class folders without images.
    empty: BTreeSet<String>,
    notes: Vec<String>,
}

impl<'a> Plan<'a> {
    fn place(&mut self, root: &Dir<'a>) -> Result<(), DataError> {
        let mut level = root;
        loop {
            let names: Vec<&str> = level.full().map(|(name, _)| name).collect();
            let roles = roles_of(&names);
            match (&names[..], roles.len()) {
                ([], _) => return Err(self.no_class_folder(level)),
                // One part alone is a set that has no parts.
                ([name], _) => {
                    let below = &level.dirs[name];
                    if below.full().next().is_none() {
                        return match roles.is_empty() {
                            true => self.classes(level),
                            false => Err(self.no_class_folder(below)),
                        };
                    }
                    self.leave_out_strays(level, below.total)?;
                    level = below;
                }
                (_, 0) => match self.holder(level)? {
                    Reading::Classes => return self.classes(level),
                    Reading::PartsInClasses => return self.parts_in_classes(level),
                    Reading::Set(name) => {
                        for (other, dir) in level.full().filter(|&(other, _)| other != name) {
                            self.leave_out(dir, &format!("it lies beside `{name}`, which holds the parts of the set (`{other}` is none)"));
                        }
                        let below = &level.dirs[name];
                        self.leave_out_strays(level, below.total)?;
                        level = below;
                    }
                },
                _ => return self.parts(level, &roles),
            }
        }
    }

    /// What the folders of `level`, of which none says a role, are.
    fn holder(&self, level: &Dir<'a>) -> Result<Reading<'a>, DataError> {
        let holders: Vec<(&str, &Dir)> = level.full().filter(|(_, dir)| holds_parts(dir)).collect();
        let mentions: Vec<&Dir> = level
            .full()
            .filter_map(|(_, dir)| mentions_part(dir))
            .collect();
        match (&holders[..], &mentions[..]) {
            ([], []) => Ok(Reading::Classes),
            ([(name, _)], _) => Ok(Reading::Set(name)),
            ([], _) if level.full().all(|(_, dir)| has_parts_of_class(dir)) => {
                Ok(Reading::PartsInClasses)
            }
            ([], [first, ..]) => Err(self.refused(format!(
                "the name of {}/ says that it is a part of the data, but it lies where a class's images lie; rename it \
                 if it is none",
                first.path
            ))),
            _ => Err(self.refused(format!(
                "it holds several sets with parts of their own ({}); name one of them",
                some_of(holders.iter().map(|(_, dir)| format!("{}/", dir.path)))
            ))),
        }
    }

    /// Takes the folders of `level` as classes of a set without parts.
    fn classes(&mut self, level: &Dir<'a>) -> Result<(), DataError> {
        self.leave_out_strays(level, level.total - level.images.len())?;
        self.class_folders(level, Part::Undivided);
        Ok(())
    }

    /// Takes the folders of `level` as classes with images in `part`.
    fn class_folders(&mut self, level: &Dir<'a>, part: Part) {
        for (&name, dir) in &level.dirs {
            if dir.total == 0 {
                self.empty.insert(name.to_owned());
            }
            let deeper: Vec<&str> = dir.full().map(|(name, _)| name).collect();
            if deeper.len() > 1 {
                self.notes.push(format!(
                    "images in folders below a class folder belong to the class: {}/ ({})",
                    dir.path,
                    some_of(deeper)
                ));
            }
            let all = dir.all();
            self.images
                .extend(all.into_iter().map(|index| (index, name, part)));
        }
    }

    /// Counts and names the images right in `level`; too many of them are no strays.
    fn leave_out_strays(&mut self, level: &Dir<'a>, placed: usize) -> Result<(), DataError> {
        if level.images.len() > placed {
            return Err(self.no_class_folder(level));
        }
        if !level.images.is_empty() {
            let names = level.images.iter().map(|&index| &self.files[index]);
            self.notes.push(format!(
                "left out {} in no class folder: {}",
                images(level.images.len()),
                some_of(names)
            ));
        }
        Ok(())
    }

    fn leave_out(&mut self, dir: &Dir, why: &str) {
        self.notes.push(format!(
            "left out {}/ with {}: {why}",
            dir.path,
            images(dir.total)
        ));
    }

    fn no_class_folder(&self, level: &Dir) -> DataError {
        if level.total == 0 {
            return DataError::unknown(self.source, "it holds no image that is read");
        }
        let place = match level.path.as_str() {
            "" => "it".to_owned(),
            path => format!("{path}/"),
        };
        let names = level.images.iter().map(|&index| &self.files[index]);
        let some: Vec<&String> = names.take(3).collect();
        self.refused(format!(
            "{place} holds {} in no class folder ({}, …); put the images of each class into a folder of its name",
            images(level.images.len()),
            some_of(some)
        ))
    }

    fn refused(&self, reason: String) -> DataError {
        DataError::Layout {
            path: self.source.to_owned(),
            reason: crate::error::one_line(&reason),
        }
    }

    fn finish(mut self) -> Layout {
        let names: BTreeSet<&str> = self.images.iter().map(|&(_, class, _)| class).collect();
        let (class_names, numbers) = number(names);
        let empty: Vec<String> = std::mem::take(&mut self.empty)
            .into_iter()
            .filter(|name| !numbers.contains_key(name.as_str()))
            .collect();
        if !empty.is_empty() {
            self.notes.push(unused_note(&empty));
        }
        let mut images: Vec<Placed> = self
            .images
            .iter()
            .map(|&(index, class, part)| Placed {
                index,
                label: numbers[class],
                part,
            })
            .collect();
        images.sort_by(|a, b| {
            (a.part as u8, a.label, &self.files[a.index]).cmp(&(
                b.part as u8,
                b.label,
                &self.files[b.index],
            ))
        });
        Layout {
            class_names,
            images,
            notes: self.notes,
        }
    }
}

/// What folders side by side are, where none says a role.
enum Reading<'a> {
    Classes,
    PartsInClasses,
    /// The one with this name holds the set, with its parts.
    Set(&'a str),
}

/// Whether, somewhere in `dir`, a folder for training holds folders with images: the parts of a set.
fn holds_parts(dir: &Dir) -> bool {
    let names: Vec<&str> = dir.full().map(|(name, _)| name).collect();
    let roles = roles_of(&names);
    let trains = |name: &str| roles.get(name) == Some(&Role::Train);
    dir.full()
        .any(|(name, below)| (trains(name) && below.full().next().is_some()) || holds_parts(below))
}

/// A folder somewhere in `dir` whose name says a role.
fn mentions_part<'d, 'a>(dir: &'d Dir<'a>) -> Option<&'d Dir<'a>> {
    dir.full().find_map(|(name, below)| match role_of(name) {
        Some(_) => Some(below),
        None => mentions_part(below),
    })
}

/// Whether a class's folder holds nothing but parts with images right in them.
fn has_parts_of_class(dir: &Dir) -> bool {
    dir.images.is_empty()
        && dir
            .full()
            .all(|(name, below)| role_of(name).is_some() && below.full().next().is_none())
}

fn images(count: usize) -> String {
    match count {
        1 => "1 image".into(),
        _ => format!("{count} images"),
    }
}

/// Numbers the classes by name; names that are all whole numbers, by value.
fn number(names: BTreeSet<&str>) -> (Vec<String>, BTreeMap<String, u32>) {
    let mut names: Vec<&str> = names.into_iter().collect();
    let values: Option<Vec<u64>> = names.iter().map(|name| name.parse().ok()).collect();
    if values.is_some() {
        names.sort_by_key(|name| name.parse::<u64>().unwrap_or(u64::MAX));
    }
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let numbers = names.iter().cloned().zip(0..).collect();
    (names, numbers)
}

#[cfg(test)]
mod tests;
