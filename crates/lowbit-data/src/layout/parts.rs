//! Sets whose folders are parts: training, validation, test.

use std::collections::{BTreeMap, BTreeSet};

use super::dir::Dir;
use super::{Plan, Role, images, is_anything, role_of, roles_of};
use crate::DataError;
use crate::error::{empty_class, some_of};
use crate::listing::Part;

impl<'a> Plan<'a> {
    /// Takes the folders of `level` as parts, as `roles` says.
    pub(super) fn parts(
        &mut self,
        level: &Dir<'a>,
        roles: &BTreeMap<&str, Role>,
    ) -> Result<(), DataError> {
        let of = |wanted: Role| -> Vec<&Dir<'a>> {
            level
                .full()
                .filter(|(name, _)| roles.get(name) == Some(&wanted))
                .map(|(_, dir)| dir)
                .collect()
        };
        let train = self.one_training_folder(level, &of(Role::Train))?;
        self.leave_out_strays(level, level.total - level.images.len())?;
        let train_root = descend(train);
        let classes: BTreeSet<&str> = train_root.full().map(|(name, _)| name).collect();
        if classes.is_empty() {
            return Err(self.no_class_folder(train_root));
        }
        let strays = train_root.images.len();
        self.leave_out_strays(train_root, train_root.total - strays)?;

        let tested = match self.one_labelled(&of(Role::Test), &classes)? {
            Some(test) => Some((test, Role::Test)),
            None => self
                .one_labelled(&of(Role::Validation), &classes)?
                .map(|validation| (validation, Role::Validation)),
        };
        self.class_folders(train_root, tested.map_or(Part::Undivided, |_| Part::Train));
        let mut validated = None;
        if let Some((test, role)) = tested {
            self.held_out_folders(test, &classes, Part::Test)?;
            if role == Role::Test {
                validated = only_fitting(&of(Role::Validation), &classes);
            }
            if let Some(validation) = validated {
                self.held_out_folders(validation, &classes, Part::Validation)?;
            }
            if role == Role::Validation {
                self.notes.push(format!(
                    "{}/ is what is tested on: there is no test folder with labels",
                    test.path
                ));
            }
        }
        let validated = validated.map(|dir| dir.path.as_str());
        let tested = tested.map(|(dir, _)| dir.path.as_str());
        for (name, dir) in level.full() {
            let path = Some(dir.path.as_str());
            if dir.path == train.path || path == tested || path == validated {
                continue;
            }
            let why = match roles.get(name) {
                None => "its name says none of training, validation and test".to_owned(),
                Some(_) if labels(dir, &classes).is_none() => {
                    "its images lie in no class folder, so they have no labels".to_owned()
                }
                Some(_) => format!("what is tested on is {}/", tested.unwrap_or("another")),
            };
            self.leave_out(dir, &why);
        }
        Ok(())
    }

    fn one_training_folder<'d>(
        &self,
        level: &Dir<'a>,
        trains: &[&'d Dir<'a>],
    ) -> Result<&'d Dir<'a>, DataError> {
        match trains {
            [train] => Ok(train),
            [] => Err(self.refused(format!(
                "among {} no name says training, but others say test or validation; put the class folders to learn from \
                 into train/, or rename what is no part of the data",
                some_of(level.full().map(|(_, dir)| format!("{}/", dir.path)))
            ))),
            several => Err(self.ambiguous("training", several)),
        }
    }

    fn ambiguous(&self, what: &str, dirs: &[&Dir<'a>]) -> DataError {
        self.refused(format!(
            "the names of {} all say {what}; keep one of them, or rename what is no part of the data",
            some_of(dirs.iter().map(|dir| format!("{}/", dir.path)))
        ))
    }

    /// The one of `dirs` whose images lie in class folders, if there is one.
    fn one_labelled<'d>(
        &self,
        dirs: &[&'d Dir<'a>],
        classes: &BTreeSet<&str>,
    ) -> Result<Option<&'d Dir<'a>>, DataError> {
        let labelled: Vec<&Dir> = dirs
            .iter()
            .copied()
            .filter(|dir| labels(dir, classes).is_some())
            .collect();
        match labelled[..] {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(self.ambiguous("test", &labelled)),
        }
    }

    /// Takes the class folders of `dir` as a part; each must be a class of training.
    fn held_out_folders(
        &mut self,
        dir: &Dir<'a>,
        classes: &BTreeSet<&str>,
        part: Part,
    ) -> Result<(), DataError> {
        let Some(root) = labels(dir, classes) else {
            return Ok(());
        };
        if let Some((class, _)) = root.full().find(|(name, _)| !classes.contains(name)) {
            return Err(empty_class(self.source, class, "training"));
        }
        self.leave_out_strays(root, root.total - root.images.len())?;
        self.class_folders(root, part);
        Ok(())
    }

    /// Takes the folders of `level` as classes, and the folders in them as parts.
    pub(super) fn parts_in_classes(&mut self, level: &Dir<'a>) -> Result<(), DataError> {
        let mut words: BTreeMap<Role, BTreeSet<&str>> = BTreeMap::new();
        for (_, class) in level.full() {
            for (name, _) in class.full() {
                if let Some(role) = role_of(name) {
                    words.entry(role).or_default().insert(name);
                }
            }
        }
        if let Some(names) = words.values().find(|names| names.len() > 1) {
            return Err(self.refused(format!(
                "the class folders hold {}, which all say the same part; keep one of them",
                some_of(names)
            )));
        }
        self.leave_out_strays(level, level.total - level.images.len())?;
        let tested = [Role::Test, Role::Validation]
            .into_iter()
            .find(|role| words.contains_key(role) && words.contains_key(&Role::Train));
        let mut left_out = 0;
        for (class, dir) in level.full() {
            for (name, part) in dir.full() {
                let placed = match (role_of(name), tested) {
                    (_, None) => Some(Part::Undivided),
                    (Some(Role::Train), _) => Some(Part::Train),
                    (role, _) if role == tested => Some(Part::Test),
                    (Some(Role::Validation), _) => Some(Part::Validation),
                    _ => None,
                };
                match placed {
                    Some(placed) => self
                        .images
                        .extend(part.all().into_iter().map(|index| (index, class, placed))),
                    None => left_out += part.total,
                }
            }
        }
        if left_out > 0 {
            self.notes.push(format!(
                "left out {}: their folders' names say none of training, validation and test",
                images(left_out)
            ));
        }
        Ok(())
    }
}

/// Where the class folders of a part lie: below folders that enclose everything and whose names say nothing.
fn descend<'d, 'a>(part: &'d Dir<'a>) -> &'d Dir<'a> {
    let mut dir = part;
    while let Some((name, below)) = dir.only() {
        let repeats = dir.path.rsplit('/').next() == Some(name);
        let says_nothing = is_anything(name) || repeats || !roles_of(&[name]).is_empty();
        if !dir.images.is_empty() || !says_nothing || below.full().next().is_none() {
            break;
        }
        dir = below;
    }
    dir
}

/// The one of `dirs` whose images lie in folders of training's `classes` alone, if there is just one with labels.
fn only_fitting<'d, 'a>(dirs: &[&'d Dir<'a>], classes: &BTreeSet<&str>) -> Option<&'d Dir<'a>> {
    let mut labelled = dirs
        .iter()
        .copied()
        .filter_map(|dir| Some((dir, labels(dir, classes)?)));
    let (dir, root) = labelled.next()?;
    let fits = root.full().all(|(name, _)| classes.contains(name));
    (fits && labelled.next().is_none()).then_some(dir)
}

/// Where the class folders of a part lie, if it has any: folders of the names of training's `classes`, or several others.
fn labels<'d, 'a>(part: &'d Dir<'a>, classes: &BTreeSet<&str>) -> Option<&'d Dir<'a>> {
    let mut dir = part;
    loop {
        let only = dir.only();
        match only {
            _ if dir.full().any(|(name, _)| classes.contains(name)) => return Some(dir),
            None => return dir.full().next().map(|_| dir),
            Some((name, below)) => {
                let repeats = dir.path.rsplit('/').next() == Some(name);
                if !is_anything(name) && !repeats {
                    return Some(dir);
                }
                dir = below;
            }
        }
    }
}
