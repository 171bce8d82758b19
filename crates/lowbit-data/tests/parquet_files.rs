//! Hugging Face's parquet files, written by pyarrow (`fixtures/make_fixtures.py`).

use std::fs;
use std::path::PathBuf;

use lowbit_data::{DataError, Dataset, LoadOptions, Progress, Unit, load};

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", name]
        .iter()
        .collect()
}

fn options() -> LoadOptions<'static> {
    LoadOptions {
        cache_dir: None,
        ..LoadOptions::new(1)
    }
}

fn try_load(name: &str) -> Result<Dataset, DataError> {
    load(fixture(name).to_str().expect("plain"), &options())
}

fn message(name: &str) -> String {
    let message = try_load(name).expect_err("must fail").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn a_folder_of_parquet_files_has_its_classes_parts_and_rows() {
    let set = try_load("hub").expect("loads");
    assert_eq!((&*set.name, &*set.split), ("hub", "as shipped"));
    assert_eq!(set.class_names, ["corn", "lake", "wood"]);
    assert_eq!((set.height, set.width, set.channels), (4, 4, 3));
    assert_eq!((set.train.len(), set.test.len()), (24, 6));
    for index in 0..24 {
        assert_eq!(
            *set.train.image(index).unwrap(),
            [index as u8; 48],
            "image {index}"
        );
        let row = if index < 20 { index } else { index - 20 };
        assert_eq!(set.train.labels()[index], row as u32 % 3, "label {index}");
    }
    assert_eq!(*set.test.image(5).unwrap(), [105; 48]);
    assert_eq!(set.test.labels(), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn files_that_are_neither_training_nor_test_are_left_out_with_a_note() {
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = ["train-00000-of-00002", "train-00001-of-00002"];
    let test = "test-00000-of-00001";
    for name in shipped.into_iter().chain([test]) {
        let file = format!("{name}.parquet");
        fs::copy(fixture("hub").join(&file), folder.path().join(&file)).expect("copies");
    }
    let put = |name: &str| {
        let from = fixture("hub").join(format!("{test}.parquet"));
        fs::copy(from, folder.path().join(name)).expect("copies");
    };
    put("extra-00000-of-00001.parquet");
    put("validation-00000-of-00001.parquet");
    let set = load(&folder.path().display().to_string(), &options()).expect("loads");
    let lens = [&set.train, &set.validation, &set.test].map(lowbit_data::Split::len);
    assert_eq!(lens, [24, 6, 6]);
    assert_eq!(
        set.notes,
        ["left out, neither training nor test: extra-00000-of-00001.parquet"]
    );
    // Without test images, validation images are measured; without both, the training images are split.
    fs::remove_file(folder.path().join(format!("{test}.parquet"))).expect("removes");
    let set = load(&folder.path().display().to_string(), &options()).expect("loads");
    assert_eq!((set.test.len(), &*set.split), (6, "as shipped"));
    fs::remove_file(folder.path().join("validation-00000-of-00001.parquet")).expect("removes");
    let set = load(&folder.path().display().to_string(), &options()).expect("loads");
    assert_eq!(set.train.len() + set.test.len(), 24);
}

#[test]
fn one_file_is_split_and_classes_without_names_are_numbered() {
    let set = try_load("plain.parquet").expect("loads");
    assert_eq!((&*set.name, set.class_names.len()), ("plain", 3));
    assert_eq!(set.class_names, ["0", "1", "2"]);
    assert_eq!(set.split, "seeded stratified 80/20 (seed 1)");
    assert_eq!(
        (set.train.counts(3), set.test.counts(3)),
        (vec![4; 3], vec![1; 3])
    );
    for (part, index) in [(&set.train, 7), (&set.test, 2)] {
        assert_eq!(
            u32::from(part.image(index).unwrap()[0]) % 3,
            part.labels()[index]
        );
    }
}

/// `fixtures/kinds`: the same twelve rows in every codec, encoding, layout and naming.
#[test]
fn every_way_of_writing_the_same_rows_is_read_to_the_same_data() {
    let files = fs::read_dir(fixture("kinds")).expect("lists");
    let files: Vec<PathBuf> = files.map(|file| file.expect("reads").path()).collect();
    assert!(files.len() > 30);
    for file in files {
        let set = load(file.to_str().expect("plain"), &options());
        let set = set.unwrap_or_else(|error| panic!("{error}"));
        let named = set.class_names == ["corn", "lake", "wood"];
        assert!(named || set.class_names == ["0", "1", "2"], "{file:?}");
        let names = ["names", "lists_2"]
            .iter()
            .any(|part| file.to_string_lossy().contains(part));
        assert_eq!(named, names, "{file:?}");
        let mut rows = Vec::new();
        for part in [&set.train, &set.test] {
            for index in 0..part.len() {
                let value = part.image(index).unwrap()[0];
                assert_eq!(*part.image(index).unwrap(), [value; 48], "{file:?}");
                assert_eq!(part.labels()[index], u32::from(value) % 3, "{file:?}");
                rows.push(value);
            }
        }
        rows.sort_unstable();
        assert_eq!(rows, (0..12).collect::<Vec<u8>>(), "{file:?}");
    }
}

#[test]
fn what_has_no_image_or_no_single_label_is_named() {
    for (name, expected) in [
        (
            "missing",
            "missing.parquet: the images: a value is missing (null)",
        ),
        (
            "refused/two_labels",
            "the labels: a row has a list of several",
        ),
        ("refused/no_label", "the labels: a value is missing (null)"),
        (
            "refused/no_names",
            "no column like label with whole numbers or names, but image, thumb",
        ),
        ("refused/fractions", "the labels: 0.5 is no whole number"),
    ] {
        let message = message(&format!("{name}.parquet"));
        assert!(message.contains(expected), "{name}: {message}");
    }
}

#[test]
fn a_file_that_is_cut_off_says_so() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("cut.parquet");
    let bytes = fs::read(fixture("plain.parquet")).expect("reads");
    fs::write(&path, &bytes[..bytes.len() - 9]).expect("writes");
    let error = load(path.to_str().expect("plain"), &options()).expect_err("cut");
    let error = error.to_string();
    assert!(
        error.contains("cut.parquet: it does not end as a parquet file does"),
        "{error}"
    );
}

#[test]
fn a_broken_image_is_named_by_its_row() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("broken.parquet");
    let mut bytes = fs::read(fixture("plain.parquet")).expect("reads");
    let signature = b"\x89PNG";
    let starts: Vec<usize> = (0..bytes.len() - 4)
        .filter(|&at| bytes[at..at + 4] == *signature)
        .collect();
    bytes[starts[4]] = b'X';
    fs::write(&path, &bytes).expect("writes");
    let error = load(path.to_str().expect("plain"), &options()).expect_err("broken");
    let error = error.to_string();
    assert!(
        error.contains("image in row 4 cannot be decoded"),
        "{error}"
    );
}

#[test]
fn the_second_start_reads_the_cache() {
    struct Decodes(std::sync::atomic::AtomicBool);
    impl Progress for Decodes {
        fn begin(&self, what: &str, _: u64, _: Unit) {
            let decodes = what.starts_with("decoding");
            self.0.store(decodes, std::sync::atomic::Ordering::Relaxed);
        }
        fn advance(&self, _: u64) {}
        fn finish(&self) {}
        fn note(&self, _: &str) {}
    }
    let cache = tempfile::tempdir().expect("a folder");
    let runs = [true, false].map(|decodes| {
        let watcher = Decodes(true.into());
        let options = LoadOptions {
            cache_dir: Some(cache.path().to_owned()),
            progress: &watcher,
            ..options()
        };
        let set = load(fixture("hub").to_str().expect("plain"), &options).expect("loads");
        assert_eq!(watcher.0.into_inner(), decodes);
        set
    });
    assert_eq!(runs[0], runs[1]);
}
