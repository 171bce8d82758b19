//! What the names of folders and files say.

use std::collections::BTreeMap;

use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::decode::EXTENSIONS;

/// What a part of the data is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Train,
    Validation,
    Test,
}

/// Words that say a role.
const WORDS: [(&str, Role); 16] = [
    ("train", Role::Train),
    ("training", Role::Train),
    ("trn", Role::Train),
    ("trainval", Role::Train),
    ("val", Role::Validation),
    ("valid", Role::Validation),
    ("validation", Role::Validation),
    ("validate", Role::Validation),
    ("dev", Role::Validation),
    ("test", Role::Test),
    ("testing", Role::Test),
    ("tst", Role::Test),
    ("eval", Role::Test),
    ("evaluation", Role::Test),
    ("holdout", Role::Test),
    ("heldout", Role::Test),
];

/// Words that add nothing to a role's: `train_set`, `test-images`, `val_64x64`.
const COMPANIONS: [&str; 16] = [
    "v", "set", "sets", "data", "dataset", "image", "images", "img", "imgs", "split", "folder",
    "x", "px", "jpg", "jpeg", "png",
];

/// Names of folders that hold images of any class.
const ANYTHING: [&str; 16] = [
    "images",
    "image",
    "imgs",
    "img",
    "data",
    "all",
    "unknown",
    "unlabelled",
    "unlabeled",
    "files",
    "pictures",
    "photos",
    "jpg",
    "jpeg",
    "png",
    "frames",
];

fn word(token: &str) -> Option<Role> {
    WORDS
        .iter()
        .find(|(word, _)| *word == token)
        .map(|&(_, role)| role)
}

/// The words of a name, lowercase: `Train_32x32` is `train`, `x`.
fn tokens(name: &str) -> Vec<String> {
    name.to_lowercase()
        .split(|c: char| !c.is_alphabetic())
        .filter(|token| !token.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The role that a name says by itself: `train`, `Test1`, `training_set`, `val2017`, `hold-out`.
pub(crate) fn role_of(name: &str) -> Option<Role> {
    let tokens = tokens(name);
    let own: Vec<&str> = tokens
        .iter()
        .map(String::as_str)
        .filter(|token| !COMPANIONS.contains(token))
        .collect();
    let joined = own.concat();
    let alone = own.len() == 1 || joined == "holdout" || joined == "heldout";
    let bare = |joined: &str| {
        COMPANIONS
            .iter()
            .find_map(|companion| word(joined.strip_suffix(companion)?))
    };
    word(&joined).or_else(|| bare(&joined)).filter(|_| alone)
}

/// The words of a name, and those that an upper-case letter begins: `catsTrain` is `cats`, `train`.
fn humps(name: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(name.len() + 4);
    let mut before = ' ';
    for c in name.chars() {
        if before.is_lowercase() && c.is_uppercase() {
            spaced.push(' ');
        }
        spaced.push(c);
        before = c;
    }
    tokens(&spaced)
}

/// The role of a word that has one letter more at its beginning or its end (`xtrain`, `traina`), and the letter.
fn but_for_a_letter(token: &str) -> Option<(Role, &str)> {
    WORDS.iter().find_map(|&(word, role)| {
        let letter = token.strip_suffix(word).or(token.strip_prefix(word))?;
        (letter.chars().count() == 1).then_some((role, letter))
    })
}

/// The roles of folders that lie side by side. Beside what each says by itself, names that differ by the role's word
/// alone (`seg_train`, `seg_test`; `trainA`, `testA`) say a role.
pub(crate) fn roles_of<'a>(names: &[&'a str]) -> BTreeMap<&'a str, Role> {
    let mut roles: BTreeMap<&str, Role> = names
        .iter()
        .filter_map(|&name| Some((name, role_of(name)?)))
        .collect();
    let mut kin: BTreeMap<String, Vec<(&str, Role)>> = BTreeMap::new();
    for &name in names.iter().filter(|name| role_of(name).is_none()) {
        let tokens = humps(name);
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
            continue;
        };
        let found = match (word(last), word(first)) {
            (Some(role), _) => Some((role, tokens[..tokens.len() - 1].join(" "))),
            (None, Some(role)) => Some((role, tokens[1..].join(" "))),
            (None, None) if tokens.len() == 1 => {
                but_for_a_letter(first).map(|(role, letter)| (role, letter.to_owned()))
            }
            (None, None) => None,
        };
        if let Some((role, rest)) = found {
            kin.entry(rest).or_default().push((name, role));
        }
    }
    for group in kin.into_values() {
        let says = |wanted: Role| group.iter().any(|&(_, role)| role == wanted);
        if says(Role::Train) && (says(Role::Test) || says(Role::Validation)) {
            roles.extend(group);
        }
    }
    roles
}

/// Whether a folder's name says nothing about what is in it.
pub(crate) fn is_anything(name: &str) -> bool {
    let lower = name.to_lowercase();
    ANYTHING.contains(&lower.as_str()) || role_of(name).is_some()
}

/// Whether a file's name says that it is an image we read.
pub(crate) fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether a path holds what a system or a program left behind, not data: hidden files, `__MACOSX`, `@eaDir`, ….
pub(crate) fn is_litter(path: &str) -> bool {
    const FOLDERS: [&str; 8] = [
        "__MACOSX",
        "@eaDir",
        "#recycle",
        "#snapshot",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "__pycache__",
    ];
    const FILES: [&str; 3] = ["thumbs.db", "ehthumbs.db", "desktop.ini"];
    path.split('/').any(|part| {
        part.starts_with('.')
            || FOLDERS.contains(&part)
            || FILES.contains(&part.to_ascii_lowercase().as_str())
    })
}

/// A path as names are compared: `/` between its parts, no empty part or `.`, letters with accents composed (NFC).
pub(crate) fn normal(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let path = parts.join("/");
    match is_nfc(&path) {
        true => path,
        false => path.nfc().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_a_role() {
        for (names, role) in [
            (
                "train Train training TRAIN train1 train_set training-set trainset train_images",
                Role::Train,
            ),
            (
                "train2017 train_64x64 TrainImages trainval train.v2",
                Role::Train,
            ),
            (
                "val valid validation val2017 dev Val_set valset",
                Role::Validation,
            ),
            (
                "test testing test1 Test_Images eval evaluation holdout hold-out held_out testset",
                Role::Test,
            ),
        ] {
            for name in names.split(' ') {
                assert_eq!(role_of(name), Some(role), "{name}");
            }
        }
        for name in [
            "bullet_train",
            "test_pattern",
            "trainer",
            "cat",
            "1",
            "devil",
            "",
            "extra",
            "training_shoe",
            "images",
        ] {
            assert_eq!(role_of(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_differ_by_the_role_alone_say_it_together() {
        let roles = roles_of(&["seg_pred", "seg_test", "seg_train"]);
        assert_eq!(roles.get("seg_train"), Some(&Role::Train));
        assert_eq!(roles.get("seg_test"), Some(&Role::Test));
        assert_eq!(roles.get("seg_pred"), None);
        assert!(roles_of(&["bullet_train", "test_pattern", "cat"]).is_empty());
        for (train, test) in [
            ("trainA", "testA"),
            ("xtrain", "xtest"),
            ("catsTrain", "catsVal"),
        ] {
            let roles = roles_of(&[train, test, "cat"]);
            assert_eq!(roles.get(train), Some(&Role::Train), "{train}");
            assert!(roles.contains_key(test) && roles.len() == 2, "{test}");
        }
        assert!(roles_of(&["trainers", "testers", "strain", "pest"]).is_empty());
    }

    #[test]
    fn litter_is_told_from_data() {
        for path in [
            "__MACOSX/a.png",
            "a/._1.png",
            "a/@eaDir/1.jpg/SYNO.jpg",
            "a/Thumbs.db",
            ".git/x",
        ] {
            assert!(is_litter(path), "{path}");
        }
        assert!(!is_litter("a/b.png") && !is_litter("eaDir/1.png"));
    }

    #[test]
    fn paths_are_compared_composed_and_without_dots() {
        assert_eq!(normal("./set//cafe\u{301}/./1.png"), "set/caf\u{e9}/1.png");
        assert_eq!(normal("a/b"), "a/b");
    }
}
