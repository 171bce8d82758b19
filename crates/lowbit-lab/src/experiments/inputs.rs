//! What experiments begin with: images that know which they are, graphs that fit them, trained weights, calibration images.

use crate::models::{self, Foreign, ModelFile};
use crate::{Config, LabError};
use lowbit::format::{SplitRecord, StoredModel, TrainingRecord};
use lowbit::graph::zoo;
use lowbit::{Graph, Shape, Weights};
use lowbit_data::{Dataset, Identity, LoadOptions, Progress, Resize, SplitRule};
use lowbit_kernels::random;
use std::path::Path;

/// A data set, and how to come by it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The images.
    pub data: Dataset,
    /// What tells them from others.
    pub identity: Identity,
    /// How training and test images were told apart.
    pub split: SplitRecord,
    /// Size that they were brought to; 0 for their own.
    pub image_size: usize,
    /// How.
    pub resize: Resize,
    /// Whether they were turned as their EXIF orientation says.
    pub exif: bool,
}

/// What to load, beyond the place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) seed: u64,
    pub(crate) split: SplitRule,
    pub(crate) test_fraction: f64,
    pub(crate) limit: usize,
    pub(crate) image_size: usize,
    pub(crate) resize: Resize,
    pub(crate) exif: bool,
}

impl Wanted {
    /// What the settings ask for.
    pub(crate) fn by(config: &Config) -> Self {
        let defaults = LoadOptions::new(config.run.seed);
        Self {
            seed: config.run.seed,
            split: config.images.split.clone(),
            test_fraction: defaults.test_fraction,
            limit: config.images.limit,
            image_size: config.input.image_size,
            resize: config.input.resize,
            exif: config.input.exif,
        }
    }

    /// Loads the data that the settings name.
    pub(crate) fn load(&self, config: &Config, progress: &dyn Progress) -> Result<Input, LabError> {
        let some = |number: usize| (number > 0).then_some(number);
        let options = LoadOptions {
            split: self.split.clone(),
            test_fraction: self.test_fraction,
            limit: some(self.limit),
            image_size: some(self.image_size),
            resize: self.resize,
            exif: self.exif,
            data_dir: config.images.data_dir.clone(),
            cache_dir: config
                .images
                .cache
                .then(lowbit_data::default_cache_dir)
                .flatten(),
            progress,
            ..LoadOptions::new(self.seed)
        };
        let data = lowbit_data::load(&config.images.data, &options)?;
        let split = SplitRecord {
            rule: data.split.clone(),
            asked: match &self.split {
                SplitRule::Auto => String::new(),
                rule => rule.to_string(),
            },
            seed: self.seed,
            test_fraction: self.test_fraction,
            limit: self.limit,
        };
        Ok(Input {
            image_size: self.image_size,
            resize: self.resize,
            exif: self.exif,
            ..Input::new(data, split)?
        })
    }
}

impl Input {
    /// Loads the data that the settings name.
    ///
    /// # Errors
    /// [`LabError::Data`] saying what is wrong with them.
    pub fn load(config: &Config, progress: &dyn Progress) -> Result<Self, LabError> {
        Wanted::by(config).load(config, progress)
    }

    /// Takes images that are loaded already, at their own size and as they are stored.
    ///
    /// # Errors
    /// [`LabError::Data`] when one cannot be read.
    pub fn new(data: Dataset, split: SplitRecord) -> Result<Self, LabError> {
        Ok(Self {
            identity: data.identity()?,
            data,
            split,
            image_size: 0,
            resize: Resize::Stretch,
            exif: false,
        })
    }

    /// The shape of the images.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape::new(self.data.height, self.data.width, self.data.channels)
    }

    /// What the file of a model that is trained on these images says about them.
    #[must_use]
    pub fn record(&self, seed: u64) -> TrainingRecord {
        TrainingRecord {
            seed,
            data: self.data.name.clone(),
            fingerprint: self.identity.fingerprint.clone(),
            train_images: self.data.train.len(),
            test_images: self.data.test.len(),
            split: self.split.clone(),
            image_size: self.image_size,
            resize: match self.resize {
                Resize::Stretch => String::new(),
                resize => resize.to_string(),
            },
            exif: self.exif,
            sketch: self.identity.train.to_text(),
            earlier: None,
        }
    }

    /// The zoo's model for these images and classes.
    ///
    /// # Errors
    /// [`LabError`] when the model is unknown or the images are too small for it.
    pub fn graph(&self, model: &str) -> Result<Graph, LabError> {
        Ok(zoo::build(model, self.shape(), &self.data.class_names)?)
    }

    /// Training images, drawn by the seed, that set the activation ranges.
    ///
    /// # Errors
    /// [`LabError::Data`] when one cannot be read.
    pub fn calibration(&self, config: &Config) -> Result<Vec<u8>, LabError> {
        let drawn = self.data.train.take(&self.calibration_indices(config));
        Ok(drawn.images()?.into_owned())
    }

    /// The numbers of those training images, in the order in which they are drawn.
    #[must_use]
    pub fn calibration_indices(&self, config: &Config) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.data.train.len()).collect();
        random::shuffle(
            &mut random::stream(config.run.seed, "calibration", 0),
            &mut order,
        );
        order.truncate(config.calibration.calibration_images);
        order
    }
}

/// A trained f32 model from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatFile {
    /// What it computes.
    pub graph: Graph,
    /// Its weights.
    pub weights: Weights,
    /// What it was trained on, where the file says so.
    pub record: Option<TrainingRecord>,
    /// What is known of it if another program made it.
    pub foreign: Option<Foreign>,
}

/// Reads a model file that must hold f32 weights.
///
/// # Errors
/// [`LabError`] when it cannot be read or is quantized.
pub fn float_model(file: &Path, config: &Config) -> Result<FloatFile, LabError> {
    FloatFile::of(file, models::open(file, config)?)
}

impl FloatFile {
    /// Takes what was read of `file`, if it is f32 weights.
    ///
    /// # Errors
    /// [`LabError::Mismatch`] when it is quantized.
    pub fn of(file: &Path, model: ModelFile) -> Result<Self, LabError> {
        let ModelFile {
            stored,
            record,
            foreign,
        } = model;
        match stored {
            StoredModel::Float { graph, weights } => Ok(Self {
                graph,
                weights,
                record,
                foreign,
            }),
            StoredModel::Quantized(_) => Err(LabError::Mismatch(format!(
                "{}: is quantized already; give an FP32 model",
                file.display()
            ))),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lowbit::ModelBits;
    use lowbit_data::Split;

    /// Images of 2×2 gray pixels that differ, numbered from `from`, of classes 0 and 1 in turn.
    pub(crate) fn split(from: u32, count: u32) -> Split {
        let pixels = (from..from + count).flat_map(u32::to_le_bytes).collect();
        Split::new(4, pixels, (0..count).map(|index| index % 2).collect()).unwrap()
    }

    /// Models of so many bits.
    pub(crate) fn widths<const N: usize>(bits: [u8; N]) -> [ModelBits; N] {
        bits.map(|bits| bits.try_into().unwrap())
    }

    /// 8 training images and 2 test images of ants and bees.
    pub(crate) fn input() -> Input {
        let data = Dataset {
            name: "photos".into(),
            source: "here".into(),
            synthetic: false,
            class_names: vec!["ant".into(), "bee".into()],
            height: 2,
            width: 2,
            channels: 1,
            train: split(0, 8),
            validation: Split::default(),
            test: split(8, 2),
            split: "seeded stratified 80/20 (seed 1)".into(),
            notes: vec![],
        };
        let split = SplitRecord {
            asked: String::new(),
            rule: data.split.clone(),
            seed: 1,
            test_fraction: 0.2,
            limit: 0,
        };
        Input::new(data, split).unwrap()
    }

    #[test]
    fn calibration_images_are_training_images_drawn_by_the_seed() {
        let input = input();
        let mut config = Config::default();
        config.calibration.calibration_images = 3;
        let drawn = input.calibration(&config).unwrap();
        assert_eq!(drawn.len(), 3 * 4);
        assert_eq!(drawn, input.calibration(&config).unwrap());
        let train = input.data.train.images().unwrap();
        let train: Vec<&[u8]> = train.chunks(4).collect();
        let mut images: Vec<&[u8]> = drawn.chunks(4).collect();
        assert!(images.iter().all(|image| train.contains(image)));
        images.sort_unstable();
        images.dedup();
        assert_eq!(images.len(), 3);
        let seeds = (2..6).map(|seed| input.calibration(&config.with_seed(seed)).unwrap());
        assert!(seeds.into_iter().any(|other| other != drawn));
        config.calibration.calibration_images = 100;
        assert_eq!(input.calibration(&config).unwrap().len(), 8 * 4);
    }

    #[test]
    fn a_record_says_what_a_loader_needs_to_find_the_test_images_again() {
        let input = input();
        let record = input.record(7);
        assert_eq!((record.seed, record.split.seed), (7, 1));
        assert_eq!((record.train_images, record.test_images), (8, 2));
        assert_eq!(
            record.fingerprint,
            input.data.identity().unwrap().fingerprint
        );
        let sketch = lowbit_data::Sketch::from_text(&record.sketch).unwrap();
        assert_eq!(sketch.overlap(&input.data.train).unwrap().seen, 8);
        assert_eq!(sketch.overlap(&input.data.test).unwrap().seen, 0);
    }

    /// Writes a 2×2 image of one shade: two rows of two pixels of 24 bits, each filled up to 8 bytes.
    fn bmp(path: &Path, shade: u8) {
        let mut file = b"BM".to_vec();
        for number in [70_u32, 0, 54, 40, 2, 2] {
            file.extend(number.to_le_bytes());
        }
        for half in [1_u16, 24] {
            file.extend(half.to_le_bytes());
        }
        file.extend([0; 24]);
        for _ in 0..2 {
            file.extend([shade; 6]);
            file.extend([0; 2]);
        }
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }

    #[test]
    fn images_are_loaded_in_the_parts_number_and_size_that_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..10 {
            bmp(&folder.path().join(format!("ant/{index}.bmp")), 20 * index);
            bmp(
                &folder.path().join(format!("bee/{index}.bmp")),
                20 * index + 1,
            );
        }
        let mut config = Config::default();
        config.images.data = folder.path().display().to_string();
        config.images.cache = false;
        let half = Wanted {
            seed: 1,
            split: SplitRule::Auto,
            test_fraction: 0.5,
            limit: 0,
            image_size: 0,
            resize: Resize::Stretch,
            exif: false,
        };
        let load = |wanted: Wanted| wanted.load(&config, &lowbit_data::Silent).unwrap();
        let input = load(half.clone());
        assert_eq!((input.data.train.len(), input.data.test.len()), (10, 10));
        assert_eq!((input.split.test_fraction, input.split.seed), (0.5, 1));
        let [h, w] = [input.shape().h(), input.shape().w()];
        assert_eq!([h, w], [2, 2]);
        let fewer = load(Wanted {
            limit: 4,
            test_fraction: 0.2,
            image_size: 4,
            ..half.clone()
        });
        assert_eq!((fewer.shape().h(), fewer.image_size), (4, 4));
        assert_eq!(fewer.data.train.len() % 4, 0);
        assert!(fewer.data.train.len() < 10, "{}", fewer.data.train.len());
        // Another seed draws another half.
        let other = load(Wanted { seed: 2, ..half });
        assert_ne!(
            other.data.test.images().unwrap(),
            input.data.test.images().unwrap()
        );
    }
}
