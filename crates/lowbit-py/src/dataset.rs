//! Data sets.

use crate::arrays::{self, Images};
use crate::errors::{self, Class};
use crate::settings::{self, Pairs};
use crate::threads::work;
use lowbit::format::SplitRecord;
use lowbit_data::{Dataset, InMemory, Labelled, LoadOptions, Resize, Split};
use lowbit_lab::LabError;
use lowbit_lab::experiments::inputs::Input;
use lowbit_lab::experiments::results::DataResults;
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use std::sync::Arc;

/// A data set that experiments take: the inner part of `lowbit.Dataset`.
#[pyclass(frozen, name = "Input", module = "lowbit._lowbit")]
pub(crate) struct PyInput {
    pub(crate) input: Arc<Input>,
}

type Array<'py, T> = Bound<'py, PyArrayDyn<T>>;

#[pymethods]
impl PyInput {
    /// Loads what a user names, by the settings.
    #[staticmethod]
    fn load(py: Python<'_>, settings: Pairs) -> PyResult<Self> {
        let config = settings::config(&settings)?;
        let input = work(py, || Input::load(&config, &lowbit_data::Silent))?;
        Ok(Self {
            input: Arc::new(input),
        })
    }

    /// Copies images that are in memory.
    #[staticmethod]
    #[pyo3(signature = (name, class_names, train, test, test_fraction, seed))]
    fn of_arrays(
        py: Python<'_>,
        name: String,
        class_names: Vec<String>,
        train: (Array<'_, u8>, Array<'_, u32>),
        test: Option<(Array<'_, u8>, Array<'_, u32>)>,
        test_fraction: f64,
        seed: u64,
    ) -> PyResult<Self> {
        let images = Images::of(&train.0)?;
        let labels = arrays::copied(&train.1, "labels")?;
        let tested = match &test {
            None => None,
            Some((images, labels)) => {
                Some((Images::of(images)?, arrays::copied(labels, "test_labels")?))
            }
        };
        let [height, width, channels] = image_shape(&images)?;
        if let Some((test, _)) = &tested
            && test.shape().get(1..) != images.shape().get(1..)
        {
            let (test, train) = (test.shape(), images.shape());
            let line = format!("{name}: test images are {test:?}, training images {train:?}");
            return Err(Class::Data.error(line));
        }
        let set = InMemory {
            name,
            class_names,
            shape: [height, width, channels],
            train: Labelled {
                images: images.bytes()?,
                labels: &labels,
            },
            test: match &tested {
                None => None,
                Some((images, labels)) => Some(Labelled {
                    images: images.bytes()?,
                    labels,
                }),
            },
        };
        let options = LoadOptions {
            test_fraction,
            ..LoadOptions::new(seed)
        };
        let input = work(py, || -> Result<Input, LabError> {
            let data = Dataset::in_memory(&set, &options)?;
            let split = SplitRecord {
                asked: String::new(),
                rule: data.split.clone(),
                seed,
                test_fraction,
                limit: 0,
            };
            Input::new(data, split)
        })?;
        Ok(Self {
            input: Arc::new(input),
        })
    }

    /// What it is, as JSON; `split_record` is what a model's file says of the split.
    fn describe(&self) -> String {
        let mut value = serde_json::to_value(DataResults::of(&self.input)).expect("plain data");
        value["split_record"] = serde_json::to_value(&self.input.split).expect("plain data");
        value["image_size"] = self.input.image_size.into();
        value["resize"] = self.input.resize.to_string().into();
        value["exif"] = self.input.exif.into();
        value.to_string()
    }

    /// A copy of the images of a part, `[n, h, w, c]`.
    fn images<'py>(&self, py: Python<'py>, part: &str) -> PyResult<Array<'py, u8>> {
        let data = &self.input.data;
        let split = self.part(part)?;
        let shape = [split.len(), data.height, data.width, data.channels];
        let pixels = work(py, || -> Result<Vec<u8>, LabError> {
            Ok(split.images()?.into_owned())
        })?;
        arrays::owned(py, pixels, &shape)
    }

    /// A copy of the labels of a part, `[n]`.
    fn labels<'py>(&self, py: Python<'py>, part: &str) -> PyResult<Array<'py, u32>> {
        let split = self.part(part)?;
        arrays::owned(py, split.labels().to_vec(), &[split.len()])
    }

    /// What `describe`, `images` and `labels` gave, as a data set again.
    #[staticmethod]
    fn restored(
        py: Python<'_>,
        description: &str,
        train: (Array<'_, u8>, Array<'_, u32>),
        validation: (Array<'_, u8>, Array<'_, u32>),
        test: (Array<'_, u8>, Array<'_, u32>),
    ) -> PyResult<Self> {
        let wrong = |error: serde_json::Error| Class::Data.error(format!("pickle: {error}"));
        let value: serde_json::Value = serde_json::from_str(description).map_err(wrong)?;
        let of = |key: &str| value[key].clone();
        let results: DataResults = serde_json::from_value(value.clone()).map_err(wrong)?;
        let split: SplitRecord = serde_json::from_value(of("split_record")).map_err(wrong)?;
        let [height, width, channels] = results.image_shape;
        let part = |(images, labels): &(Array<'_, u8>, Array<'_, u32>)| -> PyResult<Split> {
            let (images, labels) = (
                arrays::copied(images, "images")?,
                arrays::copied(labels, "labels")?,
            );
            Split::new(height * width * channels, images, labels).map_err(errors::of)
        };
        let data = Dataset {
            name: results.name,
            source: results.source,
            synthetic: results.synthetic,
            class_names: results.class_names,
            height,
            width,
            channels,
            train: part(&train)?,
            validation: part(&validation)?,
            test: part(&test)?,
            split: results.split,
            notes: results.notes,
        };
        let input = work(py, || -> Result<Input, LabError> {
            Input::new(data, split)
        })?;
        Ok(Self {
            input: Arc::new(Input {
                image_size: of("image_size").as_u64().unwrap_or(0) as usize,
                resize: of("resize")
                    .as_str()
                    .map_or(Ok(Resize::Stretch), str::parse)
                    .map_err(|error| Class::Data.error(format!("pickle: {error}")))?,
                exif: of("exif").as_bool().unwrap_or(false),
                ..input
            }),
        })
    }
}

impl PyInput {
    fn part(&self, name: &str) -> PyResult<&Split> {
        let data = &self.input.data;
        match name {
            "train" => Ok(&data.train),
            "validation" => Ok(&data.validation),
            "test" => Ok(&data.test),
            other => Err(Class::Data.error(format!("{other}: no part of a data set"))),
        }
    }
}

fn image_shape(images: &Images<'_>) -> PyResult<[usize; 3]> {
    match *images.shape() {
        [_, height, width, channels] => Ok([height, width, channels]),
        ref other => {
            let line =
                format!("images have shape {other:?}, expected [n, height, width, channels]");
            Err(Class::Data.error(line))
        }
    }
}
