//! IDX files and CIFAR-10 batches, as their authors publish them.

use std::fs;
use std::io::Write;
use std::path::Path;

use lowbit_data::{DataError, Dataset, LoadOptions, load};
use tempfile::TempDir;

fn idx(dimensions: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, dimensions.len() as u8];
    for side in dimensions {
        file.extend(side.to_be_bytes());
    }
    file.extend(bytes);
    file
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("packs");
    out.finish().expect("packs")
}

/// 20 training and 10 test images of 3×2; image `n` is `n` all over, its class `n % 2`.
fn mnist(packed: bool) -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (part, count) in [("train", 20u8), ("t10k", 10)] {
        let pixels: Vec<u8> = (0..count).flat_map(|n| [n; 6]).collect();
        let labels: Vec<u8> = (0..count).map(|n| n % 2).collect();
        let count = u32::from(count);
        for (kind, bytes) in [
            ("images-idx3", idx(&[count, 3, 2], &pixels)),
            ("labels-idx1", idx(&[count], &labels)),
        ] {
            let name = format!("{part}-{kind}-ubyte{}", if packed { ".gz" } else { "" });
            let bytes = if packed { gz(&bytes) } else { bytes };
            fs::write(root.path().join(name), bytes).expect("writes");
        }
    }
    root
}

fn try_load(path: &Path, options: &LoadOptions) -> Result<Dataset, DataError> {
    load(path.to_str().expect("plain"), options)
}

fn message(path: &Path) -> String {
    let error = try_load(path, &LoadOptions::new(1)).expect_err("must fail");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn idx_files_plain_and_packed_are_the_same_data() {
    let (plain, packed) = (mnist(false), mnist(true));
    let set = try_load(plain.path(), &LoadOptions::new(1)).expect("loads");
    assert_eq!((set.height, set.width, set.channels), (3, 2, 1));
    assert_eq!((set.train.len(), set.test.len()), (20, 10));
    assert_eq!(set.class_names, ["0", "1"]);
    assert_eq!(set.split, "as shipped");
    assert_eq!(
        (&*set.train.image(7).unwrap(), set.train.labels()[7]),
        (&[7; 6][..], 1)
    );
    let from_packed = try_load(packed.path(), &LoadOptions::new(1)).expect("loads");
    assert_eq!(
        (&from_packed.train, &from_packed.test),
        (&set.train, &set.test)
    );
    let file = plain.path().join("train-images-idx3-ubyte");
    assert_eq!(
        try_load(&file, &LoadOptions::new(1)).expect("loads").train,
        set.train
    );
}

#[test]
fn idx_files_can_be_limited_and_resized() {
    let root = mnist(false);
    let options = LoadOptions {
        limit: Some(4),
        image_size: Some(5),
        ..LoadOptions::new(1)
    };
    let set = try_load(root.path(), &options).expect("loads");
    assert_eq!((set.height, set.width), (5, 5));
    assert_eq!(
        (set.train.counts(2), set.test.counts(2)),
        (vec![2, 2], vec![2, 2])
    );
    let even = set.train.image(0).unwrap()[0];
    assert!(
        set.train.image(0).unwrap().iter().all(|&v| v == even)
            && u32::from(even) % 2 == set.train.labels()[0]
    );
}

#[test]
fn idx_without_test_files_is_split() {
    let root = mnist(false);
    fs::remove_file(root.path().join("t10k-images-idx3-ubyte")).expect("removes");
    let half = message(root.path());
    assert!(half.contains("t10k-images-idx3-ubyte missing"), "{half}");
    fs::remove_file(root.path().join("t10k-labels-idx1-ubyte")).expect("removes");
    let set = try_load(root.path(), &LoadOptions::new(1)).expect("loads");
    assert_eq!(set.split, "seeded stratified 80/20 (seed 1)");
    assert_eq!((set.train.len(), set.test.len()), (16, 4));
}

#[test]
fn broken_idx_files_are_named() {
    let root = mnist(false);
    let images = root.path().join("train-images-idx3-ubyte");
    let labels = root.path().join("train-labels-idx1-ubyte");
    let whole = fs::read(&images).expect("reads");
    fs::write(&images, &whole[..whole.len() - 5]).expect("writes");
    let short = message(root.path());
    assert!(short.contains("ask for 120 bytes, it has 115"), "{short}");
    fs::write(&images, idx(&[u32::MAX, u32::MAX, u32::MAX], &[])).expect("writes");
    assert!(message(root.path()).contains("too large"));
    fs::write(&images, whole).expect("writes");
    fs::write(&labels, idx(&[19], &[0; 19])).expect("writes");
    assert!(message(root.path()).contains("holds 20 images"));
    fs::remove_file(&labels).expect("removes");
    let gone = message(root.path());
    assert!(gone.contains("train-labels-idx1-ubyte missing"), "{gone}");
}

const BATCHES: [&str; 6] = [
    "data_batch_1",
    "data_batch_2",
    "data_batch_3",
    "data_batch_4",
    "data_batch_5",
    "test_batch",
];

fn cifar(images_per_batch: u8) -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for name in BATCHES {
        let mut bytes = Vec::new();
        for label in 0..images_per_batch {
            bytes.push(label % 10);
            for plane in [10, 20, 30] {
                bytes.extend([plane + label; 1024]);
            }
        }
        fs::write(root.path().join(format!("{name}.bin")), bytes).expect("writes");
    }
    root
}

#[test]
fn cifar_batches_become_channels_last() {
    let root = cifar(10);
    let set = try_load(root.path(), &LoadOptions::new(1)).expect("loads");
    assert_eq!((set.height, set.width, set.channels), (32, 32, 3));
    assert_eq!((set.train.len(), set.test.len()), (50, 10));
    assert_eq!(set.class_names[9], "truck");
    assert_eq!(&set.train.image(3).unwrap()[..6], [13, 23, 33, 13, 23, 33]);
    let file = root.path().join("test_batch.bin");
    assert_eq!(try_load(&file, &LoadOptions::new(1)).expect("loads"), set);
}

#[test]
fn broken_cifar_batches_are_named() {
    let root = cifar(10);
    let batch = root.path().join("data_batch_2.bin");
    let mut bytes = fs::read(&batch).expect("reads");
    bytes[3073] = 10;
    fs::write(&batch, &bytes).expect("writes");
    let label = message(root.path());
    assert!(
        label.contains("data_batch_2.bin: label 10 of image 1 is outside 0..10"),
        "{label}"
    );
    fs::write(&batch, &bytes[..5000]).expect("writes");
    assert!(message(root.path()).contains("not a whole number"));
}

#[test]
fn a_class_without_images_is_left_out_and_the_others_keep_their_names() {
    let root = cifar(9);
    let set = try_load(root.path(), &LoadOptions::new(1)).expect("loads");
    assert_eq!((set.class_names.len(), &*set.class_names[8]), (9, "ship"));
    assert_eq!(
        set.notes,
        ["class `truck` has no images: left out, the other classes are kept"]
    );
}

#[test]
fn a_missing_batch_is_named() {
    for name in BATCHES {
        let root = cifar(10);
        fs::remove_file(root.path().join(format!("{name}.bin"))).expect("removes");
        let message = message(root.path());
        assert!(
            message.contains(&format!("{name}.bin missing")),
            "{message}"
        );
    }
}

#[test]
fn the_letters_of_emnist_keep_their_numbers_though_none_is_0() {
    let root = mnist(false);
    for part in ["train", "t10k"] {
        let path = root.path().join(format!("{part}-labels-idx1-ubyte"));
        let mut bytes = fs::read(&path).expect("reads");
        bytes[8..].iter_mut().for_each(|label| *label += 1);
        fs::write(&path, bytes).expect("writes");
    }
    let set = try_load(root.path(), &LoadOptions::new(1)).expect("loads");
    assert_eq!(set.class_names, ["1", "2"]);
    assert_eq!((set.train.labels()[7], set.test.labels()[7]), (1, 1));
    assert!(
        set.notes[0].starts_with("class `0` has no images"),
        "{:?}",
        set.notes
    );
}

/// Moves the files of `root` as `place` says, relative paths to relative paths.
fn moved(root: &Path, place: impl Fn(&str) -> Vec<String>) {
    let names: Vec<String> = fs::read_dir(root)
        .expect("lists")
        .map(|entry| {
            entry
                .expect("reads")
                .file_name()
                .into_string()
                .expect("plain")
        })
        .collect();
    for name in names {
        let bytes = fs::read(root.join(&name)).expect("reads");
        fs::remove_file(root.join(&name)).expect("removes");
        for to in place(&name) {
            let to = root.join(to);
            fs::create_dir_all(to.parent().expect("has one")).expect("folders");
            fs::write(to, &bytes).expect("writes");
        }
    }
}

#[test]
fn mnist_as_torchvision_and_as_kaggle_lay_it() {
    let expected = try_load(mnist(false).path(), &LoadOptions::new(1)).expect("loads");
    let same = |root: &TempDir| {
        let set = try_load(root.path(), &LoadOptions::new(1)).expect("loads");
        assert_eq!((&set.train, &set.test), (&expected.train, &expected.test));
    };
    let torchvision = mnist(false);
    let raw = |name: &str| vec![format!("MNIST/raw/{name}")];
    moved(torchvision.path(), raw);
    // The packed files stay beside those unpacked from them.
    let packed = mnist(true);
    for entry in fs::read_dir(packed.path()).expect("lists") {
        let path = entry.expect("reads").path();
        let to = torchvision
            .path()
            .join("MNIST/raw")
            .join(path.file_name().expect("named"));
        fs::copy(path, to).expect("copies");
    }
    same(&torchvision);
    let kaggle = mnist(false);
    moved(kaggle.path(), |name| {
        vec![format!("{name}/{name}"), name.replace("-idx", ".idx")]
    });
    same(&kaggle);
    let folders_alone = mnist(false);
    moved(folders_alone.path(), |name| vec![format!("{name}/{name}")]);
    same(&folders_alone);
}

#[test]
fn several_idx_sets_are_named_and_none_is_taken() {
    let root = mnist(false);
    moved(root.path(), |name| {
        ["MNIST", "FashionMNIST"]
            .map(|set| format!("{set}/raw/{name}"))
            .to_vec()
    });
    let folders = message(root.path());
    assert!(
        folders.contains("FashionMNIST/raw/train-images-idx3-ubyte, MNIST/raw"),
        "{folders}"
    );
    assert!(try_load(&root.path().join("MNIST"), &LoadOptions::new(1)).is_ok());
    let root = mnist(false);
    moved(root.path(), |name| {
        ["letters", "digits"]
            .map(|set| format!("emnist-{set}-{name}"))
            .to_vec()
    });
    let families = message(root.path());
    assert!(
        families.contains("several IDX sets: emnist-digits-train"),
        "{families}"
    );
    let one = root.path().join("emnist-letters-train-images-idx3-ubyte");
    assert_eq!(
        try_load(&one, &LoadOptions::new(1))
            .expect("loads")
            .train
            .len(),
        20
    );
}
