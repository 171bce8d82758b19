//! Image folders and zips of them, as a user has them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lowbit_data::{DataError, Dataset, LoadOptions, Progress, Unit, load};
use tempfile::TempDir;

/// Remembers what it was told.
#[derive(Default)]
struct Watcher {
    begun: Mutex<Vec<String>>,
    notes: Mutex<Vec<String>>,
    done: Mutex<u64>,
}

impl Progress for Watcher {
    fn begin(&self, what: &str, _: u64, _: Unit) {
        self.begun.lock().expect("lock").push(what.to_owned());
    }
    fn advance(&self, amount: u64) {
        *self.done.lock().expect("lock") += amount;
    }
    fn finish(&self) {}
    fn note(&self, line: &str) {
        self.notes.lock().expect("lock").push(line.to_owned());
    }
}

fn png(width: u32, height: u32, color: png::ColorType, value: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    let len = (width * height) as usize * color.samples();
    let mut writer = encoder.write_header().expect("header");
    writer.write_image_data(&vec![value; len]).expect("pixels");
    writer.finish().expect("end");
    bytes
}

fn rgb(value: u8) -> Vec<u8> {
    png(4, 4, png::ColorType::Rgb, value)
}

/// Ten images in each of two classes; image `n` of class `c` is `100 c + n` all over.
fn two_classes() -> Vec<(String, Vec<u8>)> {
    (0..2u8)
        .flat_map(|class| (0..10u8).map(move |n| (class, n)))
        .map(|(class, n)| {
            let name = format!("{}/{n}.png", ["corn", "wood"][usize::from(class)]);
            (name, rgb(100 * class + n))
        })
        .collect()
}

fn folder(files: &[(String, Vec<u8>)]) -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        put(root.path(), name, bytes);
    }
    root
}

fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("has one")).expect("folders");
    fs::write(path, bytes).expect("writes");
}

fn zip(root: &Path, files: &[(String, Vec<u8>)], compress: bool) -> PathBuf {
    let path = root.join("set.zip");
    let mut out = zip::ZipWriter::new(fs::File::create(&path).expect("creates"));
    let method = match compress {
        true => zip::CompressionMethod::Deflated,
        false => zip::CompressionMethod::Stored,
    };
    for (name, bytes) in files {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        out.start_file(format!("set/{name}"), options)
            .expect("starts");
        out.write_all(bytes).expect("writes");
    }
    out.finish().expect("ends");
    path
}

fn options(cache: Option<&Path>) -> LoadOptions<'static> {
    LoadOptions {
        cache_dir: cache.map(Path::to_owned),
        ..LoadOptions::new(1)
    }
}

fn try_load(path: &Path) -> Result<Dataset, DataError> {
    load(path.to_str().expect("plain"), &options(None))
}

fn message(path: &Path) -> String {
    let message = try_load(path).expect_err("must fail").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn a_folder_and_zips_of_it_are_the_same_data() {
    let root = folder(&two_classes());
    let from_folder = try_load(root.path()).expect("loads");
    assert_eq!(from_folder.class_names, ["corn", "wood"]);
    assert_eq!((from_folder.train.len(), from_folder.test.len()), (16, 4));
    assert_eq!(from_folder.split, "seeded stratified 80/20 (seed 1)");
    let value = |index: usize| u32::from(from_folder.train.image(index).unwrap()[0]);
    assert!((0..16).all(|index| value(index) / 100 == from_folder.train.labels()[index]));
    for compress in [false, true] {
        let elsewhere = tempfile::tempdir().expect("a folder");
        let path = zip(elsewhere.path(), &two_classes(), compress);
        let from_zip = try_load(&path).expect("loads");
        assert_eq!(from_zip.name, "set");
        assert_eq!(from_zip.train, from_folder.train);
        assert_eq!(from_zip.test, from_folder.test);
    }
}

#[test]
fn a_shipped_split_is_kept() {
    let mut files = two_classes();
    for (index, (name, _)) in files.iter_mut().enumerate() {
        let part = if index % 5 == 0 { "test" } else { "train" };
        *name = format!("{part}/{name}");
    }
    let set = try_load(folder(&files).path()).expect("loads");
    assert_eq!(set.split, "as shipped");
    assert_eq!((set.train.len(), set.test.len()), (16, 4));
    let mut tested: Vec<u8> = (0..4)
        .map(|index| set.test.image(index).unwrap()[0])
        .collect();
    tested.sort_unstable();
    assert_eq!(tested, [0, 5, 100, 105]);
}

#[test]
fn the_limit_is_spread_over_the_classes() {
    let root = folder(&two_classes());
    let few = LoadOptions {
        limit: Some(4),
        ..options(None)
    };
    let set = load(root.path().to_str().expect("plain"), &few).expect("loads");
    assert_eq!(set.train.counts(2), [2, 2]);
    assert_eq!(set.test.counts(2), [2, 2]);
}

#[test]
fn gray_and_colored_images_mix_into_rgb_whichever_comes_first() {
    let mut files = two_classes();
    for (index, (_, bytes)) in files.iter_mut().enumerate() {
        if index != 13 {
            *bytes = png(4, 4, png::ColorType::Grayscale, index as u8);
        }
    }
    let set = try_load(folder(&files).path()).expect("loads");
    assert_eq!(set.channels, 3);
    files[13].1 = png(4, 4, png::ColorType::Grayscale, 13);
    let gray = try_load(folder(&files).path()).expect("loads");
    assert_eq!(gray.channels, 1);
}

#[test]
fn differing_sizes_need_image_size() {
    let mut files = two_classes();
    files[17].1 = png(5, 3, png::ColorType::Rgb, 9);
    let root = folder(&files);
    let message = message(root.path());
    assert!(
        message.contains("wood/7.png is 5×3, but the first is 4×4"),
        "{message}"
    );
    assert!(message.contains("--image-size N"), "{message}");
    let resized = LoadOptions {
        image_size: Some(8),
        ..options(None)
    };
    let set = load(root.path().to_str().expect("plain"), &resized).expect("loads");
    assert_eq!((set.height, set.width), (8, 8));
}

#[test]
fn a_broken_image_is_named() {
    let mut files = two_classes();
    files[3].1 = rgb(1)[..30].to_vec();
    let root = folder(&files);
    let message = message(root.path());
    assert!(
        message.contains("image corn/3.png cannot be decoded"),
        "{message}"
    );
    let elsewhere = tempfile::tempdir().expect("a folder");
    let path = zip(elsewhere.path(), &files, true);
    let message = try_load(&path).expect_err("broken").to_string();
    assert!(
        message.contains("set.zip: image set/corn/3.png"),
        "{message}"
    );
}

#[test]
fn an_empty_class_folder_is_left_out_with_a_note() {
    let root = folder(&two_classes());
    fs::create_dir(root.path().join("lake")).expect("creates");
    let set = try_load(root.path()).expect("loads");
    assert_eq!(set.class_names, ["corn", "wood"]);
    assert_eq!(
        set.notes,
        ["class `lake` has no images: left out, the other classes are kept"]
    );
}

#[test]
fn broken_images_are_listed_together_twenty_at_most_with_their_number() {
    let mut files = two_classes();
    for (name, bytes) in &mut files {
        if name.ends_with("0.png") || name.ends_with("7.png") {
            bytes.truncate(30);
        }
    }
    let few = message(folder(&files).path());
    assert!(few.contains("4 images cannot be decoded: "), "{few}");
    for name in [
        "corn/0.png (",
        "corn/7.png (",
        "wood/0.png (",
        "wood/7.png (",
    ] {
        assert!(few.contains(name), "{few}");
    }
    let many: Vec<(String, Vec<u8>)> = (0..30)
        .map(|n| {
            (
                format!("{}/{n}.png", ["a", "b"][n % 2]),
                b"no image".to_vec(),
            )
        })
        .collect();
    let many = message(folder(&many).path());
    assert!(
        many.contains("30 images cannot") && many.contains("and 10 more"),
        "{many}"
    );
}

#[test]
fn images_that_use_a_16th_of_their_range_are_noted() {
    let dark = |n: u8| png(4, 4, png::ColorType::Rgb, n % 16);
    let files: Vec<(String, Vec<u8>)> = (0..20u8)
        .map(|n| {
            (
                format!("{}/{n}.png", ["a", "b"][usize::from(n % 2)]),
                dark(n),
            )
        })
        .collect();
    let set = try_load(folder(&files).path()).expect("loads");
    assert_eq!(set.notes.len(), 1, "{:?}", set.notes);
    assert!(
        set.notes[0].contains("no pixel is above 15 of 255"),
        "{:?}",
        set.notes
    );
    assert!(
        try_load(folder(&two_classes()).path())
            .expect("loads")
            .notes
            .is_empty()
    );
}

#[test]
fn what_is_not_recognized_lists_the_layouts() {
    let root = tempfile::tempdir().expect("a folder");
    let empty = message(root.path());
    assert!(
        empty.contains("no image that is read") && empty.contains("CIFAR-10"),
        "{empty}"
    );
    let missing = message(&root.path().join("none"));
    assert!(missing.contains("no such file or folder"), "{missing}");
    put(root.path(), "notes.txt", b"hello");
    let text = message(&root.path().join("notes.txt"));
    assert!(text.contains("it is a text"), "{text}");
}

#[test]
fn a_truncated_zip_says_so() {
    let root = tempfile::tempdir().expect("a folder");
    let path = zip(root.path(), &two_classes(), false);
    let bytes = fs::read(&path).expect("reads");
    fs::write(&path, &bytes[..bytes.len() * 2 / 3]).expect("writes");
    let message = message(&path);
    assert!(
        message.contains("not a whole zip") && message.contains("again"),
        "{message}"
    );
}

#[test]
fn the_second_start_reads_the_cache_and_a_changed_file_does_not() {
    let root = folder(&two_classes());
    let cache = tempfile::tempdir().expect("a folder");
    let spec = root.path().to_str().expect("plain");
    let run = |seed| {
        let watcher = Watcher::default();
        let set = load(
            spec,
            &LoadOptions {
                seed,
                cache_dir: Some(cache.path().to_owned()),
                progress: &watcher,
                ..LoadOptions::new(1)
            },
        )
        .expect("loads");
        assert_eq!(watcher.done.into_inner().expect("lock"), 20);
        assert!(watcher.notes.into_inner().expect("lock").is_empty());
        (set, watcher.begun.into_inner().expect("lock").remove(0))
    };
    let (first, what) = run(1);
    assert!(what.starts_with("decoding"), "{what}");
    let (second, what) = run(1);
    assert!(what.contains("from the cache"), "{what}");
    assert_eq!(first, second);
    let (third, what) = run(2);
    assert!(what.contains("from the cache"), "{what}");
    assert_ne!(first.test, third.test);
    fs::remove_file(root.path().join("corn/0.png")).expect("removes");
    put(
        root.path(),
        "corn/0.png",
        &png(4, 4, png::ColorType::Rgb, 77),
    );
    assert!(run(1).1.starts_with("decoding"));
    let kept = fs::read_dir(cache.path()).expect("lists").count();
    assert_eq!(kept, 1, "the older cache is gone");
}

#[test]
fn a_damaged_cache_is_noticed_and_made_anew() {
    let root = folder(&two_classes());
    let cache = tempfile::tempdir().expect("a folder");
    let spec = root.path().to_str().expect("plain");
    let whole = load(spec, &options(Some(cache.path()))).expect("loads");
    let file = fs::read_dir(cache.path())
        .expect("lists")
        .next()
        .expect("one")
        .expect("reads")
        .path();
    let bytes = fs::read(&file).expect("reads");
    let mut flipped = bytes.clone();
    flipped[200] ^= 1;
    let mut huge = bytes.clone();
    huge[24..44].fill(0xFF);
    for damaged in [&flipped[..], &huge, &bytes[..100], &bytes[..10], b""] {
        fs::write(&file, damaged).expect("writes");
        let watcher = Watcher::default();
        let options = LoadOptions {
            progress: &watcher,
            ..options(Some(cache.path()))
        };
        assert_eq!(load(spec, &options).expect("loads"), whole);
        let notes = watcher.notes.into_inner().expect("lock");
        assert!(
            notes.len() == 1 && notes[0].contains("not usable"),
            "{notes:?}"
        );
        assert_eq!(fs::read(&file).expect("reads"), bytes);
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_only_a_note() {
    let root = folder(&two_classes());
    let in_the_way = root.path().join("file");
    fs::write(&in_the_way, b"").expect("writes");
    let watcher = Watcher::default();
    let options = LoadOptions {
        progress: &watcher,
        ..options(Some(&in_the_way))
    };
    load(root.path().to_str().expect("plain"), &options).expect("loads all the same");
    let notes = watcher.notes.into_inner().expect("lock");
    assert!(notes[0].contains("not kept for the next run"), "{notes:?}");
}

#[test]
fn a_zip_packed_with_backslashes_is_the_same_data() {
    let root = folder(&two_classes());
    let elsewhere = tempfile::tempdir().expect("a folder");
    let backwards: Vec<(String, Vec<u8>)> = two_classes()
        .into_iter()
        .map(|(name, bytes)| (name.replace('/', "\\"), bytes))
        .collect();
    let set = try_load(&zip(elsewhere.path(), &backwards, true)).expect("loads");
    assert_eq!(set.train, try_load(root.path()).expect("loads").train);
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf_8_is_told() {
    use std::os::unix::ffi::OsStrExt;
    let root = folder(&two_classes());
    let name = std::ffi::OsStr::from_bytes(b"corn/\xFF.png");
    fs::write(root.path().join(name), rgb(1)).expect("writes");
    let message = message(root.path());
    assert!(message.contains("not UTF-8; rename it"), "{message}");
}

#[test]
fn images_of_16_bits_are_counted_and_their_upper_byte_is_taken() {
    let deep = |value: u16| {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Sixteen);
        let mut writer = encoder.write_header().expect("header");
        writer
            .write_image_data(&value.to_be_bytes().repeat(4))
            .expect("pixels");
        writer.finish().expect("end");
        bytes
    };
    let mut files: Vec<(String, Vec<u8>)> = (0..4u16)
        .map(|n| (format!("a/{n}.png"), deep(0x40FF + 0x100 * n)))
        .collect();
    files.extend((0..4u8).map(|n| {
        let plain = png(2, 2, png::ColorType::Grayscale, 200 + n);
        (format!("b/{n}.png"), plain)
    }));
    let set = try_load(folder(&files).path()).expect("loads");
    assert_eq!(
        set.notes,
        ["16 bits per channel in 4 images: the upper 8 are taken"]
    );
    let all = [set.train.images().unwrap(), set.test.images().unwrap()].concat();
    for value in [0x40, 0x41, 0x42, 0x43, 200] {
        assert!(all.contains(&value), "{value:x}");
    }
}

/// Loads with lists of the names in `lists`, written as files beside the images.
fn divided(images: &Path, lists: &[&str], limit: Option<usize>) -> Result<Dataset, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let files: Vec<String> = lists
        .iter()
        .enumerate()
        .map(|(number, names)| {
            let path = folder.path().join(format!("{number}.txt"));
            fs::write(&path, names).expect("writes");
            path.display().to_string()
        })
        .collect();
    let options = LoadOptions {
        split: files.join(",").parse().expect("a split"),
        limit,
        cache_dir: Some(folder.path().join("cache")),
        ..LoadOptions::new(1)
    };
    // Twice, the second time from the cache where one is kept.
    let [first, second] = [(); 2].map(|()| load(&images.display().to_string(), &options));
    let (first, second) = (
        first.map_err(|e| e.to_string()),
        second.map_err(|e| e.to_string()),
    );
    assert_eq!(first, second);
    first
}

fn values(split: &lowbit_data::Split) -> Vec<u8> {
    (0..split.len())
        .map(|index| split.image(index).unwrap()[0])
        .collect()
}

#[test]
fn lists_of_names_divide_a_folder_into_three_parts() {
    let root = folder(&two_classes());
    let lists = [
        "corn/1.png\ncorn/0.png\r\nwood/3.png\n",
        "./corn/4.png\nwood\\5.png\n\n",
        "wood/0.png\ncorn/9.png",
    ];
    let data = divided(root.path(), &lists, None).expect("loads");
    assert_eq!(values(&data.train), [0, 1, 103]);
    assert_eq!(values(&data.validation), [4, 105]);
    assert_eq!(values(&data.test), [9, 100]);
    assert_eq!(data.validation.labels(), [0, 1]);
    assert!(
        data.notes.iter().any(|note| note.starts_with("13 images")),
        "{:?}",
        data.notes
    );
    assert!(data.split.contains("1.txt"), "{}", data.split);
    let two = divided(root.path(), &[lists[0], lists[2]], None).expect("loads");
    assert!(two.validation.is_empty() && two.train == data.train);
}

#[test]
fn lists_that_do_not_fit_the_images_are_refused() {
    let root = folder(&two_classes());
    let refused = |lists: &[&str]| divided(root.path(), lists, None).expect_err("refused");
    let train = "corn/1.png\nwood/1.png";
    for (lists, says) in [
        (&[train, "corn/77.png\nwood/2.png"][..], "corn/77.png"),
        (&[train, "wood/1.png"], "wood/1.png` is in another list"),
        (&[train, "2.png"], "2.png"),
        (&[train, "\n"], "names no image"),
        (&["corn/1.png", "wood/1.png"], "wood"),
    ] {
        let error = refused(lists);
        assert!(error.contains(says) && !error.contains('\n'), "{error}");
    }
    let options = LoadOptions {
        split: "none.txt,there.txt".parse().expect("a split"),
        ..LoadOptions::new(1)
    };
    for (data, says) in [
        (root.path().display().to_string(), "none.txt"),
        ("landcover".to_owned(), "no names"),
    ] {
        let error = load(&data, &options).expect_err("refused").to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn shares_and_percents_keep_validation_images_apart_and_leave_the_test_images() {
    let root = folder(&two_classes());
    let load_with = |rule: &str| {
        let options = LoadOptions {
            split: rule.parse().expect("a split"),
            cache_dir: None,
            ..LoadOptions::new(1)
        };
        load(&root.path().display().to_string(), &options)
    };
    let [usual, shares, percent] =
        ["auto", "60/20/20", "val:25"].map(|rule| load_with(rule).expect("loads"));
    assert_eq!((usual.train.len(), usual.test.len()), (16, 4));
    for (data, says) in [
        (&shares, "60/20/20 (seed 1)"),
        (&percent, "25 % of the training"),
    ] {
        assert_eq!((data.train.len(), data.validation.len()), (12, 4));
        assert_eq!(data.validation.counts(2), [2, 2]);
        assert_eq!(data.test, usual.test);
        assert!(data.split.contains(says), "{}", data.split);
        let mut all = [values(&data.train), values(&data.validation)].concat();
        all.sort_unstable();
        assert_eq!(all, values(&usual.train));
        assert_ne!(
            data.identity().unwrap().fingerprint,
            usual.identity().unwrap().fingerprint
        );
    }
    // What chose a model is no more an unseen image than what it learned from.
    assert_eq!(
        shares.identity().unwrap().train,
        usual.identity().unwrap().train
    );
}
