//! As many images of each class to each client as somebody else's experiment had.

use crate::DataError;
use lowbit_kernels::random::{shuffle, stream};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Images of each class (column) for each client (row): `60,568;214,73`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCounts(Arc<[Vec<usize>]>);

impl ClassCounts {
    /// Reads the rows of a file: a JSON array of arrays, as `lowbit federate --show-partitions --json` prints them, or a line
    /// of numbers with commas for each client.
    ///
    /// # Errors
    /// A line saying what it is not.
    pub fn from_file(text: &str) -> Result<Self, String> {
        let json = text.trim_start().starts_with('[');
        let rows = match json {
            true => serde_json::from_str(text).map_err(|error| error.to_string())?,
            false => rows(text.lines().filter(|line| !line.trim().is_empty()))?,
        };
        Self::of(rows)
    }

    fn of(rows: Vec<Vec<usize>>) -> Result<Self, String> {
        let classes = rows.first().map_or(0, Vec::len);
        match classes > 0 && rows.iter().all(|row| row.len() == classes) {
            true => Ok(Self(rows.into())),
            false => Err("each client needs a row with a number for every class".into()),
        }
    }

    pub(super) fn deal(
        &self,
        labels: &[u32],
        classes: usize,
        clients: usize,
        seed: u64,
    ) -> Result<Vec<Vec<usize>>, DataError> {
        let refuse = |value: String, expected| DataError::BadOption {
            name: "partition",
            value,
            expected,
        };
        let of_each = self.0[0].len();
        if self.0.len() != clients || of_each != classes {
            let value = format!(
                "counts for {} clients and {of_each} classes, where there are {clients} and {classes}",
                self.0.len(),
            );
            return Err(refuse(
                value,
                "a row for each client with a number for each class",
            ));
        }
        let sum = |counts: &mut dyn Iterator<Item = usize>| counts.fold(0, usize::saturating_add);
        let few = |row: &Vec<usize>| sum(&mut row.iter().copied()) < 2;
        if let Some(client) = self.0.iter().position(few) {
            let value = format!("counts with hardly an image for client {client}");
            return Err(refuse(value, "at least two images for every client"));
        }
        let mut dealt = vec![Vec::new(); clients];
        for class in 0..classes {
            let of_class = |&index: &usize| labels[index] as usize == class;
            let mut images: Vec<usize> = (0..labels.len()).filter(of_class).collect();
            shuffle(&mut stream(seed, "partition", class as u64), &mut images);
            let wanted = sum(&mut self.0.iter().map(|row| row[class]));
            if wanted > images.len() {
                let value = format!(
                    "counts with {wanted} images of class {class}, of which {} are there",
                    images.len()
                );
                return Err(refuse(value, "counts that the training images can fill"));
            }
            let mut rest = images.into_iter();
            for (client, row) in dealt.iter_mut().zip(self.0.iter()) {
                client.extend(rest.by_ref().take(row[class]));
            }
        }
        Ok(dealt)
    }
}

fn rows<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Vec<usize>>, String> {
    let number = |text: &str| {
        let text = text.trim();
        text.parse()
            .map_err(|_| format!("{text:?} is no number of images"))
    };
    lines
        .map(|line| line.split(',').map(number).collect())
        .collect()
}

impl fmt::Display for ClassCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, row) in self.0.iter().enumerate() {
            let row: Vec<String> = row.iter().map(usize::to_string).collect();
            write!(f, "{}{}", if index > 0 { ";" } else { "" }, row.join(","))?;
        }
        Ok(())
    }
}

impl FromStr for ClassCounts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::of(rows(text.split(';'))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Partition, labels_per_client};

    #[test]
    fn each_client_has_what_the_table_says_and_the_rest_nobody() {
        let labels: Vec<u32> = (0..60).map(|index| index % 3).collect();
        let table = "[[5, 0, 7], [1, 20, 2]]";
        let counts = ClassCounts::from_file(table).unwrap();
        assert_eq!(counts, ClassCounts::from_file("5,0, 7\n1,20,2\n").unwrap());
        let partition = Partition::Counts(counts);
        assert_eq!(partition.to_string(), "counts:5,0,7;1,20,2");
        assert_eq!(partition.to_string().parse(), Ok(partition.clone()));
        let dealt = |seed| partition.deal(&labels, 3, 2, 0.2, seed).unwrap();
        assert_eq!(
            labels_per_client(&labels, 3, &dealt(1)),
            [[5, 0, 7], [1, 20, 2]]
        );
        assert_ne!(dealt(1), dealt(2));
        let refused = |clients, labels: &[u32]| {
            let error = partition.deal(labels, 3, clients, 0.2, 1).unwrap_err();
            error.to_string()
        };
        assert!(
            refused(3, &labels).contains("for 2 clients and 3 classes, where there are 3 and 3")
        );
        let most = format!("counts:{},3,3;6,3,3", usize::MAX);
        let most: Partition = most.parse().unwrap();
        assert!(most.deal(&labels, 3, 2, 0.2, 1).is_err());
        assert!(
            refused(2, &labels[..30]).contains("with 20 images of class 1, of which 10 are there")
        );
        for wrong in ["[[1], [2, 3]]", "[[-1]]", "", "1,x", "{}"] {
            assert!(ClassCounts::from_file(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_client_without_images_is_refused() {
        let partition: Partition = "counts:5;0".parse().unwrap();
        let error = partition.deal(&[0; 10], 1, 2, 0.2, 1).unwrap_err();
        assert!(error.to_string().contains("client 1"), "{error}");
    }
}
