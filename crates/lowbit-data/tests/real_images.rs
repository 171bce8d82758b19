//! The real images, where they lie beside the repository; without them, these tests say so and pass.

use std::path::PathBuf;

use lowbit_data::{LoadOptions, load};

fn real(name: &str) -> Option<String> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../../shared/data", name]
        .iter()
        .collect();
    if !path.is_file() {
        println!("skipped: ../shared/data/{name} is not there");
        return None;
    }
    path.to_str().map(str::to_owned)
}

fn options(limit: usize) -> LoadOptions<'static> {
    LoadOptions {
        limit: Some(limit),
        cache_dir: None,
        ..LoadOptions::new(1)
    }
}

#[test]
fn eurosat_has_ten_classes_and_its_known_channel_means() {
    let Some(path) = real("EuroSAT_RGB.zip") else {
        return;
    };
    let set = load(&path, &options(2000)).expect("loads");
    assert_eq!(set.class_names.len(), 10);
    assert_eq!(set.class_names[3], "Highway");
    assert_eq!((set.height, set.width, set.channels), (64, 64, 3));
    assert_eq!(set.train.counts(10), vec![200; 10]);
    let mut sums = [0u64; 3];
    for pixel in set.train.images().unwrap().chunks_exact(3) {
        (0..3).for_each(|channel| sums[channel] += u64::from(pixel[channel]));
    }
    // Means over all images, scale 0 to 1: 0.3425 0.3793 0.4067.
    let count = (set.train.images().unwrap().len() / 3) as f64 * 255.0;
    for (sum, expected) in sums.into_iter().zip([0.3425, 0.3793, 0.4067]) {
        let mean = sum as f64 / count;
        assert!((mean - expected).abs() < 0.02, "{mean} {expected}");
    }
}

#[test]
fn cifar10_keeps_its_own_split() {
    let Some(path) = real("cifar10.zip") else {
        return;
    };
    let set = load(&path, &options(200)).expect("loads");
    assert_eq!(set.split, "as shipped");
    assert_eq!(set.class_names[0], "airplane");
    assert_eq!((set.height, set.width, set.channels), (32, 32, 3));
    assert_eq!(set.test.counts(10), vec![20; 10]);
}

#[test]
fn the_name_eurosat_finds_the_archive_in_the_data_folder() {
    let Some(path) = real("EuroSAT_RGB.zip") else {
        return;
    };
    let data_dir = PathBuf::from(path).parent().map(PathBuf::from);
    let options = LoadOptions {
        data_dir: data_dir.expect("has one"),
        ..options(20)
    };
    let set = load("eurosat", &options).expect("loads");
    assert_eq!((set.name.as_str(), set.synthetic), ("eurosat", false));
    assert_eq!(set.test.counts(10), vec![2; 10]);
}

#[test]
fn the_spatial_split_is_that_of_the_published_lists() {
    let (Some(path), Some(train)) = (
        real("EuroSAT_RGB.zip"),
        real("splits/eurosat-spatial-train.txt"),
    ) else {
        return;
    };
    let lists =
        ["train", "val", "test"].map(|part| train.replace("train.txt", &format!("{part}.txt")));
    let [spatial, listed] = ["spatial".to_owned(), lists.join(",")].map(|split| {
        let options = LoadOptions {
            split: split.parse().expect("a split"),
            ..options(500)
        };
        load(&path, &options).expect("loads")
    });
    for (packed, published) in [
        (&spatial.train, &listed.train),
        (&spatial.validation, &listed.validation),
        (&spatial.test, &listed.test),
    ] {
        assert_eq!(packed.len(), 500);
        assert_eq!(packed, published);
    }
}
