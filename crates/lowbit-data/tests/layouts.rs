//! Trees as people have them, in a folder, a zip and tars: the same data from each.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use lowbit_data::{Dataset, LoadOptions, load};
use tempfile::TempDir;

fn png(value: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().expect("header");
    writer.write_image_data(&[value; 4]).expect("pixels");
    writer.finish().expect("end");
    bytes
}

fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("has one")).expect("folders");
    fs::write(path, bytes).expect("writes");
}

fn zipped(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut out = zip::ZipWriter::new(fs::File::create(path).expect("creates"));
    for (name, bytes) in files {
        let options = zip::write::SimpleFileOptions::default();
        out.start_file(format!("./{name}"), options)
            .expect("starts");
        out.write_all(bytes).expect("writes");
    }
    out.finish().expect("ends");
}

fn tarred(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, format!("./{name}"), &bytes[..])
            .expect("packs");
    }
    out.into_inner().expect("packs")
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("packs");
    out.finish().expect("packs")
}

/// The same files as a folder, a zip, a tar and a packed tar.
fn each_way(files: &[(String, Vec<u8>)]) -> (TempDir, [PathBuf; 4]) {
    let root = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        put(&root.path().join("folder"), name, bytes);
    }
    zipped(&root.path().join("set.zip"), files);
    let tar = tarred(files);
    put(root.path(), "set.tar", &tar);
    put(root.path(), "set.tgz", &gz(&tar));
    let paths = ["folder", "set.zip", "set.tar", "set.tgz"].map(|name| root.path().join(name));
    (root, paths)
}

fn loaded(path: &Path) -> Result<Dataset, String> {
    let options = LoadOptions {
        cache_dir: None,
        ..LoadOptions::new(1)
    };
    let loaded = load(path.to_str().expect("plain"), &options);
    loaded.map_err(|error| error.to_string())
}

/// Images of the names given, each of a brightness of its own; `…*n` stands for n images.
fn pictures(names: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for name in names {
        let (stem, count) = name.split_once('*').unwrap_or((name, "1"));
        for n in 0..count.parse::<u8>().expect("a number") {
            let value = 20 + files.len() as u8;
            files.push((format!("{stem}{n}.png"), png(value)));
        }
    }
    files
}

/// What came of it: classes, counts of training and test images per class, and notes.
fn summary(set: &Dataset) -> String {
    let classes = set.class_names.len();
    let mut notes: String = set.notes.iter().map(|note| format!("; {note}")).collect();
    if !set.validation.is_empty() {
        notes += &format!("; validation {:?}", set.validation.counts(classes));
    }
    format!(
        "{} {:?} {:?} {}{notes}",
        set.class_names.join(","),
        set.train.counts(classes),
        set.test.counts(classes),
        set.split
    )
}

const SEEDED: &str = "seeded stratified 80/20 (seed 1)";

#[test]
fn common_layouts_are_the_same_data_from_a_folder_a_zip_and_tars() {
    for (names, expected) in [
        (&["a/*5", "b/*5"][..], format!("a,b [4, 4] [1, 1] {SEEDED}")),
        (&["top/a/*5", "top/b/*5"], format!("a,b [4, 4] [1, 1] {SEEDED}")),
        (
            &["train/a/*3", "train/b/*3", "test/a/*2", "test/b/*2"],
            "a,b [3, 3] [2, 2] as shipped".into(),
        ),
        (
            &["set/train/a/*3", "set/train/b/*3", "set/val/a/*2", "set/test/a/*1", "set/test/b/*1"],
            "a,b [3, 3] [1, 1] as shipped; validation [2, 0]".into(),
        ),
        (
            // Which of the two it is, nobody can tell.
            &["train/a/*3", "train/b/*3", "val/a/*2", "valid/a/*2", "test/a/*1", "test/b/*1"],
            "a,b [3, 3] [1, 1] as shipped; left out val/ with 2 images: what is tested on is test/; left out valid/ with 2 images: \
             what is tested on is test/".into(),
        ),
        (
            &["train/a/*3", "train/b/*3", "val/other/*2", "test/a/*1", "test/b/*1"],
            "a,b [3, 3] [1, 1] as shipped; left out val/ with 2 images: what is tested on is test/".into(),
        ),
        (
            &["a/train/*3", "b/train/*3", "a/val/*1", "b/val/*2", "a/test/*1", "b/test/*1"],
            "a,b [3, 3] [1, 1] as shipped; validation [1, 2]".into(),
        ),
        (
            &["train/a/*5", "train/b/*5", "test/*4"],
            format!("a,b [4, 4] [1, 1] {SEEDED}; left out test/ with 4 images: its images lie in no class folder, so they have no labels"),
        ),
        (
            &["train/a/*3", "train/b/*3", "train/grid*1", "test/a/*1", "test/b/*1", "docs/f/*2"],
            "a,b [3, 3] [1, 1] as shipped; left out 1 image in no class folder: train/grid0.png; left out docs/ with 2 \
             images: its name says none of training, validation and test".into(),
        ),
        (
            &["ILSVRC/Data/CLS-LOC/train/n1/*5", "ILSVRC/Data/CLS-LOC/train/n2/*5", "ILSVRC/Data/CLS-LOC/val/*3"],
            format!("n1,n2 [4, 4] [1, 1] {SEEDED}; left out ILSVRC/Data/CLS-LOC/val/ with 3 images: its images lie in no class folder, so they have no labels"),
        ),
        (
            &["a/*3", "b/*3", "__MACOSX/a/._*3", "a/@eaDir/x/*2", ".git/*2"],
            format!("a,b [2, 2] [1, 1] {SEEDED}"),
        ),
    ] {
        let files = pictures(names);
        let (_root, paths) = each_way(&files);
        let sets = paths.map(|path| loaded(&path).unwrap_or_else(|error| panic!("{error}")));
        for set in &sets {
            assert_eq!(summary(set), expected, "{names:?}: {}", set.source);
            assert_eq!((&set.train, &set.test), (&sets[0].train, &sets[0].test));
        }
    }
}

#[test]
fn layouts_that_tell_no_classes_are_refused_from_a_folder_a_zip_and_tars() {
    for (names, word) in [
        (
            &["train/cat.*4", "train/dog.*4", "test1/*4"][..],
            "train/ holds 8 images in no class folder",
        ),
        (
            &["train/*4", "test/*4"],
            "train/ holds 4 images in no class folder",
        ),
        (&["*4"], "it holds 4 images in no class folder"),
        (&["a/*2", "b/*2", "test/*2"], "no name says training"),
        (
            &["train/a/*2", "train/b/*2", "test/a/*1", "test/c/*1"],
            "class `c` has no training images",
        ),
        (
            &[
                "x/train/a/*2",
                "x/train/b/*2",
                "y/train/a/*2",
                "y/train/b/*2",
            ],
            "several sets",
        ),
        (&["a/*4"], "it has 1 class with images (`a`)"),
    ] {
        let (root, paths) = each_way(&pictures(names));
        for path in paths {
            let message = loaded(&path).expect_err("must fail");
            assert!(message.contains(word), "{names:?}: {message}");
            assert!(message.starts_with(root.path().to_str().expect("plain")));
        }
    }
}

#[test]
fn tiny_imagenets_validation_images_get_their_classes_from_the_list() {
    let mut files = pictures(&[
        "t/train/n1/images/*3",
        "t/train/n2/images/*3",
        "t/val/images/v*3",
        "t/test/images/*2",
    ]);
    let list = "v0.png\tn2\t0\t0\t9\t9\nv1.png\tn1\t0\t0\t9\t9\n";
    files.push(("t/val/val_annotations.txt".into(), list.into()));
    files.push(("t/train/n1/n1_boxes.txt".into(), b"x".to_vec()));
    let (_root, paths) = each_way(&files);
    for path in &paths {
        let set = loaded(path).expect("loads");
        let said = summary(&set);
        assert!(said.starts_with("n1,n2 [3, 3] [1, 1] as shipped"), "{said}");
        assert!(
            said.contains("left out 1 image in no class folder: t/val/v2.png"),
            "{said}"
        );
        assert!(said.contains("t/val/ is what is tested on"), "{said}");
        assert!(!said.contains("class `images`"), "{said}");
        // v1 is the eighth image made, v0 the seventh.
        assert_eq!(
            (set.test.image(0).unwrap()[0], set.test.image(1).unwrap()[0]),
            (27, 26)
        );
    }
    put(
        &paths[0],
        "t/val/val_annotations.txt",
        b"v0.png\tn2\nv9.png\tn1\n",
    );
    let message = loaded(&paths[0]).expect_err("v9 is not there");
    assert!(message.contains("v9.png missing"), "{message}");
}

#[test]
fn accents_composed_and_decomposed_are_the_same_class() {
    let files = pictures(&[
        "train/caf\u{e9}/*2",
        "train/b/*2",
        "test/cafe\u{301}/*1",
        "test/b/*1",
    ]);
    let (_root, paths) = each_way(&files);
    for path in paths {
        let set = loaded(&path).expect("loads");
        assert_eq!(set.class_names, ["b", "caf\u{e9}"]);
        assert_eq!(
            (set.train.counts(2), set.test.counts(2)),
            (vec![2, 2], vec![1, 1])
        );
    }
}

#[test]
fn files_of_other_kinds_are_counted_and_texts_beside_images_are_not() {
    let mut files = pictures(&["a/*3", "b/*3"]);
    for name in [
        "a/1.heic",
        "a/2.HEIC",
        "b/x.svg",
        "b/list.txt",
        "README",
        "labels.csv",
    ] {
        files.push((name.into(), b"x".to_vec()));
    }
    let (_root, paths) = each_way(&files);
    for path in paths {
        let notes = loaded(&path).expect("loads").notes;
        assert_eq!(
            notes,
            ["left out files that are no images of a kind that is read: 2 .heic, 1 .svg"]
        );
    }
    let other = vec![
        ("a/1.heic".to_owned(), vec![1]),
        ("b/2.heic".to_owned(), vec![1]),
    ];
    let (_root, paths) = each_way(&other);
    for path in paths {
        let message = loaded(&path).expect_err("none is read");
        assert!(
            message.contains("no image that is read, but 2 .heic"),
            "{message}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_an_enclosing_folder_or_to_another_class_adds_nothing() {
    use std::os::unix::fs::symlink;
    let (root, [folder, ..]) = each_way(&pictures(&["cat/*3", "dog/*3"]));
    let expected = loaded(&folder).expect("loads");
    for (at, to) in [
        ("cat/all", ".."),
        ("cat/more", "../dog"),
        ("zoo", "dog"),
        ("up", "../.."),
    ] {
        symlink(to, folder.join(at)).expect("links");
        let set = loaded(&folder).expect("loads");
        assert_eq!(
            (&set.class_names, &set.train),
            (&expected.class_names, &expected.train)
        );
        let note = format!(
            "left out 1 links that lead to folders that are read anyway or that enclose the set: {at}"
        );
        assert_eq!(set.notes, [note]);
        fs::remove_file(folder.join(at)).expect("removes");
    }
    // A link to images elsewhere is followed.
    for n in 0..3 {
        put(root.path(), &format!("pool/owls/{n}.png"), &png(90 + n));
    }
    symlink("../pool/owls", folder.join("owl")).expect("links");
    let set = loaded(&folder).expect("loads");
    assert_eq!(set.class_names, ["cat", "dog", "owl"]);
    assert!(set.notes.is_empty(), "{:?}", set.notes);
}

#[test]
fn cifar_is_read_from_its_archives_and_from_what_they_unpack_to() {
    let fixture = |name: &str| {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", name]
            .iter()
            .collect();
        fs::read(path).expect("a fixture")
    };
    let pickles: Vec<(String, Vec<u8>)> = (1..=5)
        .map(|number| format!("data_batch_{number}"))
        .chain(["test_batch".into()])
        .map(|name| (name, "cifar10_batch.pickle"))
        .chain([("batches.meta".to_owned(), "cifar10_meta.pickle")])
        .map(|(name, file)| (format!("cifar-10-batches-py/{name}"), fixture(file)))
        .collect();
    let (_root, paths) = each_way(&pickles);
    for path in &paths {
        let set = loaded(path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (&*set.name, set.channels, &*set.class_names[9]),
            ("cifar10", 3, "truck")
        );
        assert_eq!((set.train.len(), set.test.len()), (50, 10));
        assert_eq!(
            (&set.train.image(13).unwrap()[..3], set.train.labels()[13]),
            (&[3, 103, 203][..], 3)
        );
    }
    fs::remove_file(paths[0].join("cifar-10-batches-py/data_batch_4")).expect("removes");
    let message = loaded(&paths[0]).expect_err("one is missing");
    assert!(message.contains("data_batch_4 missing"), "{message}");
}

#[test]
fn cifar_100_is_read_by_its_fine_labels() {
    let record = |fine: u8| [&[9, fine][..], &[fine; 3072]].concat();
    let part = |count: u8| {
        (0..count)
            .flat_map(|n| record(n % 100))
            .collect::<Vec<u8>>()
    };
    let names: String = (0..100).map(|n| format!("class {n}\n")).collect();
    let files = vec![
        ("c/train.bin".to_owned(), part(200)),
        ("c/test.bin".to_owned(), part(100)),
        ("c/fine_label_names.txt".to_owned(), names.into_bytes()),
    ];
    let (_root, paths) = each_way(&files);
    for path in paths {
        let set = loaded(&path).expect("loads");
        assert_eq!(
            (&*set.name, &*set.class_names[42]),
            ("cifar100", "class 42")
        );
        assert_eq!(
            (
                set.train.len(),
                set.test.labels()[42],
                set.test.image(42).unwrap()[0]
            ),
            (200, 42, 42)
        );
    }
}

#[test]
fn what_is_no_image_set_says_what_it_is() {
    let root = tempfile::tempdir().expect("a folder");
    for (name, bytes, word) in [
        (
            "set.zip",
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"[..],
            "Git LFS pointer",
        ),
        (
            "set.tar.gz",
            b"<!DOCTYPE html>\n<html><body>not found</body></html>",
            "HTML page",
        ),
        ("net.onnx", b"\x08\x07\x12\x07pytorch\x1a\x03", "ONNX model"),
        ("set.parquet", b"%PDF-1.4", "PDF"),
        ("set.7z", b"7z\xBC\xAF\x27\x1C\0\x04", "7z archive"),
        (
            "x.safetensors",
            b"\x10\0\0\0\0\0\0\0{\"a\":1}",
            "safetensors",
        ),
        ("train.csv", b"label,p0,p1,p2\n1,0,0,0\n", "comma-separated"),
        ("set.zip", b"", "empty file"),
        ("set.bin", b"\x01\x02\0\x80\xFF", "unknown kind"),
    ] {
        put(root.path(), name, bytes);
        let message = loaded(&root.path().join(name)).expect_err("no set");
        assert!(message.contains(word), "{name}: {message}");
    }
    put(root.path(), "note.gz", &gz(b"hello"));
    let message = loaded(&root.path().join("note.gz")).expect_err("no set");
    assert!(
        message.contains("unknown kind") || message.contains("gzip"),
        "{message}"
    );
}

#[test]
fn a_pointer_or_a_page_within_a_folder_is_named_as_what_it_is() {
    let root = tempfile::tempdir().expect("a folder");
    let pointer = &b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"[..];
    let page = b"<!DOCTYPE html>\n<html><body>not found</body></html>";
    for (folder, name) in [
        ("hub", "data/train-00000-of-00001.parquet"),
        ("mnist", "train-images-idx3-ubyte"),
        ("mnist_packed", "train-images-idx3-ubyte.gz"),
        ("cifar", "cifar-10-python.tar.gz"),
        ("archive", "README.md"),
    ] {
        for (bytes, word) in [(pointer, "Git LFS pointer"), (page, "HTML page")] {
            put(&root.path().join(folder), name, bytes);
            let labels = name.replace("images-idx3", "labels-idx1");
            put(&root.path().join(folder), &labels, bytes);
            put(&root.path().join("archive"), "set.zip", bytes);
            let message = loaded(&root.path().join(folder)).expect_err("no set");
            assert!(message.contains(word), "{folder}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
