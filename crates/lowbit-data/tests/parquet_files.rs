//! Hugging Face parquet files; `fixtures/make_parquet.py` made them.

use std::path::PathBuf;

use lowbit_data::{DataError, Dataset, LoadOptions, load};

fn try_load(name: &str) -> Result<Dataset, DataError> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/parquet", name]
        .iter()
        .collect();
    let options = LoadOptions {
        cache_dir: None,
        ..LoadOptions::new(1)
    };
    load(path.to_str().expect("plain"), &options)
}

fn message(name: &str) -> String {
    let message = try_load(name).expect_err("must fail").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn shards_of_both_page_versions_and_codecs_make_one_set() {
    let set = try_load("set").expect("loads");
    assert_eq!(set.class_names, ["corn", "wood"]);
    assert_eq!(set.split, "as shipped");
    assert_eq!((set.height, set.width, set.channels), (4, 4, 3));
    assert_eq!((set.train.len(), set.test.len()), (20, 6));
    for index in 0..20 {
        assert_eq!(set.train.image(index), [index as u8; 48]);
        assert_eq!(set.train.labels()[index], index as u32 % 2);
    }
    assert_eq!(set.test.image(5), [105; 48]);
}

#[test]
fn one_shard_stands_for_its_set() {
    let all = try_load("set").expect("loads");
    let from_shard = try_load("set/train-00001-of-00002.parquet").expect("loads");
    assert_eq!((from_shard.train, from_shard.test), (all.train, all.test));
}

#[test]
fn a_single_file_without_names_is_split_and_its_classes_numbered() {
    let set = try_load("single.parquet").expect("loads");
    assert_eq!(set.class_names, ["0", "1"]);
    assert_eq!(set.split, "seeded stratified 80/20 (seed 1)");
    assert_eq!((set.train.len(), set.test.len()), (8, 2));
    for index in 0..8 {
        let value = set.train.image(index)[0];
        assert_eq!(u32::from(value % 2), set.train.labels()[index]);
    }
}

#[test]
fn what_the_reader_does_not_know_is_named() {
    let zstd = message("zstd.parquet");
    assert!(
        zstd.contains("compressed by Zstandard, known are snappy"),
        "{zstd}"
    );
    let columns = message("columns.parquet");
    assert!(
        columns.contains("no column image: {bytes, path}"),
        "{columns}"
    );
}

#[test]
fn missing_images_and_wrong_labels_are_named() {
    let missing = message("missing.parquet");
    assert!(missing.contains("row 2 is empty"), "{missing}");
    let label = message("label.parquet");
    assert!(
        label.contains("label 2 of image 2 is outside 0..2"),
        "{label}"
    );
}
