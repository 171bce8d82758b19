//! The rule against trees as people have them.

use super::*;

fn arranged(files: &[&str], folders: &[&str]) -> Result<Layout, String> {
    let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
    arrange(Path::new("set"), &owned(files), &owned(folders)).map_err(|e| e.to_string())
}

/// `train: …; test: …` or `all: …` with class:file pairs; then the notes.
fn told(files: &[&str]) -> String {
    let layout = match arranged(files, &[]) {
        Ok(layout) => layout,
        Err(message) => return format!("refused {message}"),
    };
    let part = |wanted: Part, name: &str| {
        let of: Vec<String> = layout
            .images
            .iter()
            .filter(|image| image.part == wanted)
            .map(|image| {
                let file = files[image.index].rsplit('/').next().expect("a name");
                format!("{}:{file}", layout.class_names[image.label as usize])
            })
            .collect();
        match of.len() {
            0 => String::new(),
            _ => format!("{name} {}; ", of.join(" ")),
        }
    };
    format!(
        "{}{}{}{}{}",
        part(Part::Train, "train"),
        part(Part::Validation, "val"),
        part(Part::Test, "test"),
        part(Part::Undivided, "all"),
        layout.notes.join("; ")
    )
}

#[test]
fn plain_sets_are_read_whatever_encloses_them() {
    for (files, expected) in [
        (&["a/1", "b/2"][..], "all a:1 b:2; "),
        (&["top/b/2", "top/b/1", "top/a/x/3"], "all a:3 b:1 b:2; "),
        (
            &["t/train/a/1", "t/train/b/2", "t/test/a/3"],
            "train a:1 b:2; test a:3; ",
        ),
        // Kaggle's Intel images.
        (
            &[
                "seg_train/seg_train/sea/1",
                "seg_train/seg_train/ice/2",
                "seg_test/seg_test/sea/3",
            ],
            "train ice:2 sea:1; test sea:3; ",
        ),
        // Kaggle's cats and dogs.
        (
            &[
                "training_set/training_set/cats/1",
                "training_set/training_set/dogs/2",
                "test_set/test_set/dogs/3",
            ],
            "train cats:1 dogs:2; test dogs:3; ",
        ),
        // Tiny ImageNet's training images.
        (
            &["train/n1/images/1", "train/n2/images/2", "val/n1/3"],
            "train n1:1 n2:2; test n1:3; val/ is what is tested on: there is no test folder with labels",
        ),
        (
            &["trainA/a/1", "trainA/b/2", "testA/a/3"],
            "train a:1 b:2; test a:3; ",
        ),
        // A class above the parts.
        (
            &["a/train/1", "a/test/2", "b/train/3", "b/test/4"],
            "train a:1 b:3; test a:2 b:4; ",
        ),
        // One part is the whole set.
        (&["train/a/1", "train/b/2"], "all a:1 b:2; "),
        (&["10/1", "9/1", "1/1"], "all 1:1 9:1 10:1; "),
    ] {
        assert_eq!(told(files), expected, "{files:?}");
    }
}

#[test]
fn what_is_no_part_of_the_set_is_left_out_counted_and_named() {
    for (files, expected) in [
        // Kaggle's unlabelled test images.
        (
            &["train/a/1", "train/b/2", "test/3", "test/4"][..],
            "all a:1 b:2; left out test/ with 2 images: its images lie in no class folder, so they have no labels",
        ),
        (
            &["train/a/1", "train/b/2", "test/unknown/3", "val/a/4"],
            "train a:1 b:2; test a:4; val/ is what is tested on: there is no test folder with labels; left out test/ \
             with 1 image: its images lie in no class folder, so they have no labels",
        ),
        (
            &[
                "train/a/1",
                "train/b/2",
                "test/b/3",
                "train/grid",
                "val/a/4",
                "docs/5",
                "logo",
            ],
            "train a:1 b:2; val a:4; test b:3; left out 1 image in no class folder: logo; left out 1 image in no class folder: \
             train/grid; left out docs/ with 1 image: its name says none of training, validation and test",
        ),
        (
            &["a/1", "b/2", "stray"],
            "all a:1 b:2; left out 1 image in no class folder: stray",
        ),
        // The set beside something else.
        (
            &[
                "data/train/a/1",
                "data/train/b/2",
                "data/test/a/3",
                "docs/4",
            ],
            "train a:1 b:2; test a:3; left out docs/ with 1 image: it lies beside `data`, which holds the parts of the \
             set (`docs` is none)",
        ),
        (
            &["a/train/1", "a/val/2", "a/test/3", "b/train/4"],
            "train a:1 b:4; val a:2; test a:3; ",
        ),
        (
            &["a/s1/1", "a/s2/2", "b/3"],
            "all a:1 a:2 b:3; images in folders below a class folder belong to the class: a/ (s1, s2)",
        ),
    ] {
        assert_eq!(told(files), expected, "{files:?}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (files, word) in [
        (
            &["train/1", "test/2"][..],
            "train/ holds 1 image in no class folder",
        ),
        (
            &["train/cat.0", "train/dog.0", "test1/1"],
            "train/ holds 2 images in no class folder",
        ),
        // CycleGAN's: no classes at all.
        (
            &["trainA/1", "trainB/1", "testA/1", "testB/1"],
            "trainA/, trainB/ all say training",
        ),
        (
            &["train/1", "train/2"],
            "train/ holds 2 images in no class folder",
        ),
        (&["1", "2"], "it holds 2 images in no class folder"),
        (
            &["a/1", "b/2", "3", "4", "5"],
            "it holds 3 images in no class folder",
        ),
        (&["a/1", "b/1", "test/1"], "no name says training"),
        (&["test/a/1", "val/a/1"], "no name says training"),
        (
            &["bus/1", "car/1", "train/1"],
            "train/ holds 1 image in no class folder",
        ),
        (
            &["train1/a/1", "train2/a/1"],
            "train1/, train2/ all say training",
        ),
        (
            &["train/a/1", "train/b/1", "test/a/1", "eval/a/1"],
            "eval/, test/ all say test",
        ),
        (
            &["train/a/1", "train/b/1", "test/c/1"],
            "class `c` has no training images",
        ),
        (
            &["train/a/1", "train/b/1", "test/a/1", "test/c/1"],
            "class `c` has no training images",
        ),
        (
            &["x/train/a/1", "x/test/a/1", "y/train/a/1", "y/test/a/1"],
            "several sets",
        ),
        (
            &["a/train/1", "a/test/1", "b/1"],
            "a/test/ says that it is a part",
        ),
        (
            &["a/train/1", "a/train_set/1", "b/train/1", "b/test/1"],
            "all say the same part",
        ),
    ] {
        let told = told(files);
        assert!(
            told.starts_with("refused") && told.contains(word),
            "{files:?}: {told}"
        );
    }
}

#[test]
fn names_that_only_resemble_a_part_are_classes() {
    let files = ["bullet_train/1", "test_pattern/2", "cat/3"];
    assert!(told(&files).starts_with("all bullet_train:1 cat:3 test_pattern:2"));
}

#[test]
fn empty_class_folders_are_named_and_the_others_kept() {
    let layout = arranged(&["t/a/1", "t/b/1"], &["t", "t/a", "t/c"]).expect("ok");
    assert_eq!(layout.class_names, ["a", "b"]);
    assert_eq!(
        layout.notes,
        ["class `c` has no images: left out, the other classes are kept"]
    );
    assert!(arranged(&[], &[]).is_err());
}

#[test]
fn images_are_in_the_order_of_part_class_and_path() {
    let files = ["train/b/2", "test/a/9", "train/a/3", "train/b/1"];
    let layout = arranged(&files, &[]).expect("ok");
    let order: Vec<usize> = layout.images.iter().map(|image| image.index).collect();
    assert_eq!(order, [2, 3, 0, 1]);
}
