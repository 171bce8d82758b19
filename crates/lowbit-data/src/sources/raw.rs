//! Data whose pixels need no decoder: from whole splits to a data set.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::assemble::faint_note;
use crate::decode::Picture;
use crate::listing::{Part, Shape, drop_unused_classes, room};
use crate::split::select;
use crate::{DataError, Dataset, LoadOptions, Split};

/// Everything that a raw source read.
pub(crate) struct Raw {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) class_names: Vec<String>,
    pub(crate) shape: Shape,
    pub(crate) train: Split,
    /// `None` where the data has no split of its own.
    pub(crate) test: Option<Split>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

impl Raw {
    /// Splits, limits and resizes as `options` say.
    pub(crate) fn finish(mut self, options: &LoadOptions) -> Result<Dataset, DataError> {
        options.check_nameless(&self.path)?;
        let mut labels = self.train.labels().to_vec();
        let mut parts = vec![Part::Undivided; labels.len()];
        if let Some(test) = &self.test {
            parts.fill(Part::Train);
            labels.extend_from_slice(test.labels());
            parts.resize(labels.len(), Part::Test);
        }
        let unused = drop_unused_classes(&mut self.class_names, &mut labels);
        self.notes.extend(unused);
        let selection = select(&self.path, &self.class_names, &labels, &parts, options)?;
        let shift = self.train.len();
        self.train.relabel(&labels[..shift]);
        let (train, test) = match self.test {
            None => (
                self.train.take(&selection.train),
                self.train.take(&selection.test),
            ),
            Some(mut test) => {
                test.relabel(&labels[shift..]);
                let within: Vec<usize> = selection.test.iter().map(|i| i - shift).collect();
                (chosen(self.train, &selection.train), chosen(test, &within))
            }
        };
        self.notes.extend(selection.notes);
        self.notes.extend(faint_note(&train, &test)?);
        let (shape, [train, test]) = resized(&self.path, self.shape, [train, test], options)?;
        Ok(Dataset {
            name: self.name,
            source: self.source,
            synthetic: false,
            class_names: self.class_names,
            height: shape.height,
            width: shape.width,
            channels: shape.channels,
            train,
            validation: Split::default(),
            test,
            split: selection.description,
            notes: self.notes,
        })
    }
}

/// `take`, but a split taken whole is not copied.
fn chosen(split: Split, indices: &[usize]) -> Split {
    match indices.len() == split.len() {
        true => split,
        false => split.take(indices),
    }
}

/// `splits` at the size that `options` ask for.
pub(crate) fn resized(
    path: &Path,
    shape: Shape,
    splits: [Split; 2],
    options: &LoadOptions,
) -> Result<(Shape, [Split; 2]), DataError> {
    let own = [shape.height, shape.width];
    let sizes = options.resize.sizes(own, options.image_size);
    if sizes == [own; 2] {
        return Ok((shape, splits));
    }
    let [height, width] = sizes[1];
    let to = Shape {
        height,
        width,
        ..shape
    };
    let [train, test] = splits.map(|split| {
        let mut pixels = room(path, split.len(), to.image_len())?;
        pixels
            .par_chunks_exact_mut(to.image_len())
            .enumerate()
            .try_for_each(|(index, out)| {
                let picture = Picture {
                    height: shape.height,
                    width: shape.width,
                    channels: shape.channels,
                    pixels: split.image(index)?.into_owned(),
                };
                let picture = options.resize.apply(&picture, options.image_size);
                out.copy_from_slice(&picture.pixels);
                Ok::<(), DataError>(())
            })?;
        Split::new(to.image_len(), pixels, split.labels().to_vec())
    });
    Ok((to, [train?, test?]))
}
