//! Sets of images that stay in a file: the same images as in memory, whatever happens to the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lowbit_data::{Dataset, LoadOptions, Progress, Split, SplitRule, Unit, load};
use tempfile::TempDir;

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn note(&self, line: &str) {
        self.0.lock().expect("lock").push(line.to_owned());
    }
}

/// A 4×4 image whose pixels tell its class and number.
fn png(color: png::ColorType, value: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 4, 4);
    encoder.set_color(color);
    let pixels: Vec<u8> = (0..16 * color.samples())
        .map(|at| value.wrapping_add(at as u8))
        .collect();
    let mut writer = encoder.write_header().expect("header");
    writer.write_image_data(&pixels).expect("pixels");
    writer.finish().expect("end");
    bytes
}

/// Ten images in each of two classes; those of a class beyond `gray` are in color.
fn images(gray: u8) -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (class, name) in ["corn", "wood"].into_iter().enumerate() {
        fs::create_dir(root.path().join(name)).expect("a folder");
        for n in 0..10u8 {
            let color = match n < gray {
                true => png::ColorType::Grayscale,
                false => png::ColorType::Rgb,
            };
            let file = root.path().join(name).join(format!("{n}.png"));
            fs::write(file, png(color, 100 * class as u8 + n)).expect("writes");
        }
    }
    root
}

fn options(cache: Option<&Path>, in_memory_bytes: u64) -> LoadOptions<'static> {
    LoadOptions {
        cache_dir: cache.map(Path::to_owned),
        in_memory_bytes,
        ..LoadOptions::new(1)
    }
}

fn loaded(root: &TempDir, options: &LoadOptions<'_>) -> (Dataset, Vec<String>) {
    let notes = Notes::default();
    let options = LoadOptions {
        progress: &notes,
        ..options.clone()
    };
    let data = load(root.path().to_str().expect("plain"), &options).expect("loads");
    (data, notes.0.into_inner().expect("lock"))
}

fn in_memory(data: &Dataset) -> bool {
    [&data.train, &data.test]
        .into_iter()
        .all(Split::is_in_memory)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("lists");
    entries.map(|entry| entry.expect("reads").path()).collect()
}

#[test]
fn images_in_a_file_are_those_in_memory_at_the_first_start_and_at_the_second() {
    for gray in [0, 3, 10] {
        let root = images(gray);
        let cache = tempfile::tempdir().expect("a folder");
        let (expected, _) = loaded(&root, &options(None, u64::MAX));
        assert!(in_memory(&expected));
        let identity = expected.identity().expect("reads");
        let mut kept = Vec::new();
        for start in 0..2 {
            let (found, notes) = loaded(&root, &options(Some(cache.path()), 0));
            assert!(!in_memory(&found) && notes.is_empty(), "{notes:?}");
            assert_eq!(found, expected, "{gray} gray images, start {start}");
            assert_eq!(found.identity().expect("reads"), identity);
            kept.push(files(cache.path()));
        }
        assert_eq!((kept[0].len(), &kept[0]), (1, &kept[1]));
        // The same file serves memory, and is the one that memory would have written.
        let bytes = fs::read(&kept[0][0]).expect("reads");
        let other = tempfile::tempdir().expect("a folder");
        assert!(in_memory(
            &loaded(&root, &options(Some(cache.path()), u64::MAX)).0
        ));
        loaded(&root, &options(Some(other.path()), u64::MAX));
        assert_eq!(fs::read(&files(other.path())[0]).expect("reads"), bytes);
    }
}

#[test]
fn every_way_of_reading_gives_the_same_images() {
    let root = images(10);
    let cache = tempfile::tempdir().expect("a folder");
    let memory = loaded(&root, &options(None, u64::MAX)).0.with_channels(3);
    let file = loaded(&root, &options(Some(cache.path()), 0))
        .0
        .with_channels(3);
    let (memory, file) = (&memory.train, &file.train);
    assert!(memory.is_in_memory() && !file.is_in_memory());
    assert_eq!(
        file.images().expect("reads"),
        memory.images().expect("reads")
    );
    assert_eq!(
        file.range(3..7).expect("reads"),
        memory.range(3..7).expect("reads")
    );
    let mut image = [0; 48];
    file.copy_image(5, &mut image).expect("reads");
    assert_eq!(image[..], *memory.image(5).expect("reads"));
    let taken = file.take(&[9, 2, 9]);
    assert_eq!(taken, memory.take(&[9, 2, 9]));
    assert!(!taken.is_in_memory());
    let gather = |one, other| Split::gather(&[(one, 4), (other, 0), (one, 1)]).expect("reads");
    assert_eq!(gather(file, &taken), gather(memory, &taken));
    assert!(!gather(file, &taken).is_in_memory() && gather(memory, &taken).is_in_memory());
}

#[test]
fn some_of_the_images_go_to_a_file_without_a_name() {
    let root = images(0);
    let cache = tempfile::tempdir().expect("a folder");
    for (limit, split) in [
        (Some(3), SplitRule::Auto),
        (Some(4), "val:50".parse().expect("a rule")),
    ] {
        let with = |cache, bytes| LoadOptions {
            limit,
            split: split.clone(),
            ..options(cache, bytes)
        };
        let (expected, _) = loaded(&root, &with(None, u64::MAX));
        let (found, notes) = loaded(&root, &with(Some(cache.path()), 0));
        assert!(!in_memory(&found) && notes.is_empty(), "{notes:?}");
        assert_eq!(found, expected);
        assert!(files(cache.path()).is_empty());
    }
}

#[test]
fn a_damaged_file_is_noticed_and_made_anew() {
    let root = images(0);
    let cache = tempfile::tempdir().expect("a folder");
    let (whole, _) = loaded(&root, &options(None, u64::MAX));
    loaded(&root, &options(Some(cache.path()), 0));
    let file = files(cache.path()).remove(0);
    let bytes = fs::read(&file).expect("reads");
    let mut flipped = bytes.clone();
    flipped[200] ^= 1;
    for damaged in [&flipped[..], &bytes[..100], b""] {
        fs::write(&file, damaged).expect("writes");
        let (found, notes) = loaded(&root, &options(Some(cache.path()), 0));
        assert!(
            notes.len() == 1 && notes[0].contains("not usable"),
            "{notes:?}"
        );
        assert!(!in_memory(&found));
        assert_eq!(found, whole);
        assert_eq!(fs::read(&file).expect("reads"), bytes);
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_one_line() {
    let root = images(0);
    let cache = tempfile::tempdir().expect("a folder");
    let (data, _) = loaded(&root, &options(Some(cache.path()), 0));
    let file = files(cache.path()).remove(0);
    let length = 56 + 10 * 48 + 20;
    fs::File::options()
        .write(true)
        .open(&file)
        .and_then(|file| file.set_len(length))
        .expect("cuts");
    let error = data.identity().expect_err("cannot be read").to_string();
    let name = file.display().to_string();
    assert!(
        error.starts_with(&name) && error.contains("run again"),
        "{error}"
    );
    assert!(!error.contains('\n'), "{error}");
    assert!(data.train.images().is_err());
}

#[test]
fn without_a_file_the_images_go_to_memory_and_a_note_says_why() {
    let root = images(0);
    let (expected, _) = loaded(&root, &options(None, u64::MAX));
    let (found, notes) = loaded(&root, &options(None, 0));
    assert!(in_memory(&found) && notes.is_empty(), "{notes:?}");
    assert_eq!(found, expected);
    let in_the_way = root.path().join("file");
    fs::write(&in_the_way, b"").expect("writes");
    let (found, notes) = loaded(&root, &options(Some(&in_the_way), 0));
    assert!(in_memory(&found) && found.train == expected.train);
    assert!(
        notes[0].contains("cannot write") && notes[0].contains("into memory"),
        "{notes:?}"
    );
}

#[test]
fn a_broken_image_leaves_no_file() {
    let root = images(0);
    fs::write(root.path().join("corn/3.png"), b"no image").expect("writes");
    let cache = tempfile::tempdir().expect("a folder");
    let spec = root.path().to_str().expect("plain");
    let error = load(spec, &options(Some(cache.path()), 0)).expect_err("refuses");
    assert!(error.to_string().contains("corn/3.png"), "{error}");
    assert!(files(cache.path()).is_empty());
}
