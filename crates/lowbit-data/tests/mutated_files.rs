//! Damaged files of every kind: a data set or one clear line each time, never a panic or a huge allocation.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lowbit_data::{Dataset, LoadOptions, load};
use lowbit_kernels::random::{below, stream};
use tempfile::TempDir;

/// Damaged copies of each file.
const ROUNDS: u64 = 300;

/// What a test process may take, all threads and the largest image allowed included.
const MAX_ADDRESS_SPACE_KIB: u64 = 4 << 20;

/// A data set on disk and the one file in it that gets damaged.
struct Victim {
    root: TempDir,
    spec: PathBuf,
    file: PathBuf,
    cache: Option<PathBuf>,
}

impl Victim {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join(name);
        fs::create_dir_all(file.parent().expect("has one")).expect("folders");
        fs::write(&file, bytes).expect("writes");
        Self {
            spec: file.clone(),
            root,
            file,
            cache: None,
        }
    }

    fn beside(self, name: &str, bytes: &[u8]) -> Self {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().expect("has one")).expect("folders");
        fs::write(path, bytes).expect("writes");
        let spec = self.root.path().to_owned();
        Self { spec, ..self }
    }

    fn load(&self) -> Result<Dataset, String> {
        let options = LoadOptions {
            cache_dir: self.cache.clone(),
            ..LoadOptions::new(1)
        };
        let spec = self.spec.to_str().expect("plain");
        load(spec, &options).map_err(|error| error.to_string())
    }

    /// Loads `ROUNDS` damaged copies; `mend` may repair checksums so that the damage gets further in.
    fn survives(&self, mend: fn(&mut [u8])) {
        let whole = fs::read(&self.file).expect("reads");
        self.load().expect("loads while whole");
        let mut refused = 0;
        for round in 0..ROUNDS {
            let mut damaged = damage(&whole, round);
            mend(&mut damaged);
            fs::write(&self.file, damaged).expect("writes");
            let loaded = catch_unwind(AssertUnwindSafe(|| self.load()));
            match loaded.unwrap_or_else(|_| panic!("round {round} panics")) {
                Ok(set) => check(&set, round),
                Err(line) => {
                    assert!(!line.contains('\n'), "round {round}: {line}");
                    let root = self.root.path().to_str().expect("plain");
                    assert!(line.contains(root), "round {round}: {line}");
                    refused += 1;
                }
            }
        }
        // A damaged cache is never an error: it is made anew.
        assert_eq!(refused == 0, self.cache.is_some(), "{refused} refused");
        let peak = peak_kib();
        assert!(peak < MAX_ADDRESS_SPACE_KIB, "{peak} KiB");
    }
}

fn check(set: &Dataset, round: u64) {
    for part in [&set.train, &set.test] {
        let image_len = set.height * set.width * set.channels;
        assert_eq!(
            part.images().unwrap().len(),
            part.len() * image_len,
            "{round}"
        );
        let classes = set.class_names.len() as u32;
        assert!(
            part.labels().iter().all(|&label| label < classes),
            "{round}"
        );
    }
}

/// The most address space that this process ever had; 0 where the system does not say.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmPeak:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// Flips bits, cuts, repeats, or overwrites what may be a length with a large or negative one.
fn damage(whole: &[u8], round: u64) -> Vec<u8> {
    let mut rng = stream(7, "damage", round);
    let mut bytes = whole.to_vec();
    let mut at = |len: usize| below(&mut rng, len as u32) as usize;
    match round % 6 {
        0 => bytes[at(whole.len())] ^= 1 << at(8),
        1 => (0..8).for_each(|_| bytes[at(whole.len())] = at(256) as u8),
        2 => bytes.truncate(at(whole.len())),
        3 => {
            let (start, len) = (at(whole.len()), at(64));
            let end = (start + len).min(whole.len());
            bytes.splice(start..start, whole[start..end].to_vec());
        }
        kind => {
            // Lengths gather at the beginning and the end of a file.
            let reach = whole.len().min(96);
            let start = match at(3) {
                0 => at(reach),
                1 => whole.len() - 1 - at(reach),
                _ => at(whole.len()),
            };
            let width = [2, 4, 8][at(3)];
            let end = (start + width).min(whole.len());
            bytes[start..end].fill(0xFF);
            if kind == 5 {
                bytes[end - 1] = 0x7F;
            }
        }
    }
    bytes
}

fn as_it_is(_: &mut [u8]) {}

fn fixture(name: &str) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", name]
        .iter()
        .collect();
    fs::read(path).expect("a fixture")
}

fn png(value: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 16, 8);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("header");
    let pixels: Vec<u8> = (0..16 * 8 * 3).map(|at| value ^ at as u8).collect();
    writer.write_image_data(&pixels).expect("pixels");
    writer.finish().expect("end");
    bytes
}

/// Corrects the checksums of a PNG's chunks, as far as they can be followed.
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let len = u32::from_be_bytes(std::array::from_fn(|i| head[i])) as usize;
        let end = at.saturating_add(8).saturating_add(len);
        if end.saturating_add(4) > bytes.len() {
            return;
        }
        let crc = crc32fast::hash(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_be_bytes());
        at = end + 4;
    }
}

fn zipped(method: zip::CompressionMethod) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, value) in [("a/1", 1), ("a/2", 2), ("b/1", 3), ("b/2", 4)] {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        out.start_file(format!("top/{name}.png"), options)
            .expect("starts");
        out.write_all(&png(value)).expect("writes");
    }
    out.finish().expect("ends").into_inner()
}

fn tarred() -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (name, value) in [("a/1", 1), ("a/2", 2), ("b/1", 3), ("b/2", 4)] {
        let image = png(value);
        let mut header = tar::Header::new_ustar();
        header.set_size(image.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, format!("./top/{name}.png"), &image[..])
            .expect("packs");
    }
    out.into_inner().expect("packs")
}

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

#[test]
fn damaged_zips() {
    for method in [
        zip::CompressionMethod::Stored,
        zip::CompressionMethod::Deflated,
    ] {
        Victim::new("set.zip", &zipped(method)).survives(as_it_is);
    }
}

#[test]
fn damaged_tars() {
    Victim::new("set.tar", &tarred()).survives(as_it_is);
    Victim::new("set.tar.gz", &gz(&tarred())).survives(as_it_is);
}

#[test]
fn damaged_parquet_files() {
    for name in [
        "plain.parquet",
        "hub/train-00000-of-00002.parquet",
        "hub/train-00001-of-00002.parquet",
        "hub/test-00000-of-00001.parquet",
        "kinds/zstd_1.parquet",
        "kinds/lz4_1.parquet",
        "kinds/brotli_2.parquet",
        "kinds/delta_byte_array_1.parquet",
        "kinds/lists_2.parquet",
        "kinds/names_by_dictionary.parquet",
        "kinds/byte_stream_split.parquet",
    ] {
        Victim::new("set.parquet", &fixture(name)).survives(as_it_is);
    }
}

#[test]
fn damaged_idx_files() {
    let images = idx(&[10, 2, 3], &[5; 60]);
    let labels = idx(&[10], &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let (images_name, labels_name) = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    Victim::new(images_name, &images)
        .beside(labels_name, &labels)
        .survives(as_it_is);
    Victim::new(labels_name, &labels)
        .beside(images_name, &images)
        .survives(as_it_is);
    Victim::new(&format!("{images_name}.gz"), &gz(&images))
        .beside(labels_name, &labels)
        .survives(as_it_is);
}

#[test]
fn damaged_cifar_batches() {
    let batch: Vec<u8> = (0..10u8)
        .flat_map(|label| std::iter::once(label).chain([label; 3072]))
        .collect();
    let beside = |victim: Victim, end: &str, bytes: &[u8]| {
        [
            "data_batch_2",
            "data_batch_3",
            "data_batch_4",
            "data_batch_5",
            "test_batch",
        ]
        .iter()
        .fold(victim, |victim, name| {
            victim.beside(&format!("{name}{end}"), bytes)
        })
    };
    beside(Victim::new("data_batch_1.bin", &batch), ".bin", &batch).survives(as_it_is);
    let pickle = fixture("cifar10_batch.pickle");
    beside(Victim::new("data_batch_1", &pickle), "", &pickle).survives(as_it_is);
    let names = fixture("cifar10_meta.pickle");
    let victim = Victim::new("batches.meta", &names).beside("data_batch_1", &pickle);
    beside(victim, "", &pickle).survives(as_it_is);
}

#[test]
fn damaged_images() {
    for (mend, name, bytes) in [
        (as_it_is as fn(&mut [u8]), "a/1.png", png(1)),
        (mend_png, "a/1.png", png(1)),
        (as_it_is, "a/1.webp", fixture("images/lossy.webp")),
        (as_it_is, "a/1.webp", fixture("images/alpha.webp")),
        (as_it_is, "a/1.bmp", fixture("images/palette.bmp")),
        (as_it_is, "a/1.bmp", fixture("images/alpha.bmp")),
        (as_it_is, "a/1.tif", fixture("images/tiff_lzw.tif")),
        (as_it_is, "a/1.tif", fixture("images/palette.tif")),
        (as_it_is, "a/1.gif", fixture("images/transparent.gif")),
        (as_it_is, "a/1.jpg", fixture("images/cmyk.jpg")),
        (as_it_is, "a/1.jpg", fixture("images/noise_411.jpg")),
        (
            as_it_is,
            "a/1.jpg",
            fixture("images/restart_progressive.jpg"),
        ),
        (as_it_is, "a/1.jpg", fixture("half_red_16x8.jpg")),
        (as_it_is, "a/1.jpg", fixture("scene_420.jpg")),
        (as_it_is, "a/1.jpg", fixture("scene_444_progressive.jpg")),
    ] {
        let victim = Victim::new(name, &bytes)
            .beside("a/2.jpg", &bytes)
            .beside("b/1.jpg", &bytes)
            .beside("b/2.jpg", &bytes);
        victim.survives(mend);
    }
}

#[test]
fn damaged_caches() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut victim = Victim::new("set.zip", &zipped(zip::CompressionMethod::Stored));
    victim.cache = Some(cache.path().to_owned());
    let first = victim.load().expect("loads");
    let entry = fs::read_dir(cache.path()).expect("lists").next();
    victim.file = entry.expect("one").expect("reads").path();
    victim.survives(as_it_is);
    assert_eq!(victim.load().expect("loads"), first);
    assert_eq!(files_in(cache.path()), 1);
}

fn files_in(folder: &Path) -> usize {
    fs::read_dir(folder).expect("lists").count()
}
