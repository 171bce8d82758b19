//! Which client of a federation holds which training images: one file per way.

mod counts;
mod dirichlet;
mod iid;
mod shards;

pub use counts::ClassCounts;

use crate::DataError;
use lowbit_kernels::random::{shuffle, stream};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How training images are spread over clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Partition {
    /// Shuffled and dealt out: every client has a sample of the whole.
    #[default]
    Iid,
    /// Each class is spread by shares from a Dirichlet distribution: the smaller α, the fewer classes a client has.
    Dirichlet {
        /// α.
        alpha: f64,
        /// Whether a client that has its fair share of all images gets none of the classes that follow: sizes are more
        /// alike, and the last classes go to few clients (Li et al. 2022's program, and Flower's `self_balancing`).
        balanced: bool,
    },
    /// Sorted by class and cut into equal pieces, of which each client draws so many (McMahan et al. 2017).
    Shards {
        /// Pieces per client.
        per_client: usize,
    },
    /// As a table says; images beyond its sums no client has.
    Counts(ClassCounts),
}

/// The images of one client, as indices into all training images, in rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientImages {
    /// To train on.
    pub train: Vec<usize>,
    /// Kept apart, to measure the client's own model on.
    pub held: Vec<usize>,
}

impl Partition {
    /// Share of its images that a client keeps apart, unless told otherwise.
    pub const HELD: f64 = 0.2;

    /// Deals out the images with these labels to `clients` clients; every image to one (but see
    /// [`Partition::Counts`]), at least two to each. Each keeps a
    /// share of `held` apart, at least one unless `held` is 0.
    ///
    /// # Errors
    /// [`DataError::BadOption`] when there are too few images, a client would have none, or `held` is not in 0..1.
    pub fn deal(
        &self,
        labels: &[u32],
        classes: usize,
        clients: usize,
        held: f64,
        seed: u64,
    ) -> Result<Vec<ClientImages>, DataError> {
        if !(0.0..1.0).contains(&held) {
            return Err(DataError::BadOption {
                name: "the share that a client keeps apart",
                value: held.to_string(),
                expected: "at least 0 and below 1",
            });
        }
        if clients == 0 || labels.len() < 2 * clients {
            return Err(DataError::BadOption {
                name: "clients",
                value: format!("{clients} for {} training images", labels.len()),
                expected: "at least 1 and at most half the number of training images",
            });
        }
        let dealt = match *self {
            Self::Iid => iid::deal(labels.len(), clients, seed),
            Self::Dirichlet { alpha, balanced } => {
                dirichlet::deal(labels, classes, clients, (alpha, balanced), seed)?
            }
            Self::Shards { per_client } => shards::deal(labels, clients, per_client, seed)?,
            Self::Counts(ref counts) => counts.deal(labels, classes, clients, seed)?,
        };
        Ok(dealt
            .into_iter()
            .enumerate()
            .map(|(client, images)| split(images, held, client as u64, seed))
            .collect())
    }
}

/// Sets a share of a client's images apart, at least one, and leaves at least one.
fn split(mut images: Vec<usize>, share: f64, client: u64, seed: u64) -> ClientImages {
    shuffle(&mut stream(seed, "local split", client), &mut images);
    // Every client has two images at least, so that one is left to train on.
    let held = match share > 0.0 {
        true => ((images.len() as f64 * share).round() as usize).clamp(1, images.len() - 1),
        false => 0,
    };
    let mut train = images.split_off(held);
    train.sort_unstable();
    images.sort_unstable();
    ClientImages {
        train,
        held: images,
    }
}

/// Images per client (row) and class (column).
#[must_use]
pub fn labels_per_client(
    labels: &[u32],
    classes: usize,
    clients: &[ClientImages],
) -> Vec<Vec<usize>> {
    let row = |client: &ClientImages| {
        let mut counts = vec![0; classes];
        for &index in client.train.iter().chain(&client.held) {
            if let Some(count) = counts.get_mut(labels[index] as usize) {
                *count += 1;
            }
        }
        counts
    };
    clients.iter().map(row).collect()
}

/// Follows α.
const BALANCED: &str = ":balanced";

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iid => f.write_str("iid"),
            Self::Dirichlet { alpha, balanced } => {
                let balanced = if *balanced { BALANCED } else { "" };
                write!(f, "dirichlet:{alpha}{balanced}")
            }
            Self::Shards { per_client } => write!(f, "shards:{per_client}"),
            Self::Counts(counts) => write!(f, "counts:{counts}"),
        }
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "unknown partition {text}: use iid, dirichlet:0.3, dirichlet:0.3:balanced, shards:2, or a table of images per client and class: @FILE"
            )
        };
        match text.split_once(':') {
            None if text == "iid" => Ok(Self::Iid),
            Some(("dirichlet", alpha)) => {
                let stripped = alpha.strip_suffix(BALANCED);
                match stripped.unwrap_or(alpha).parse() {
                    Ok(alpha) if alpha > 0.0 && alpha <= 1e6 => Ok(Self::Dirichlet {
                        alpha,
                        balanced: stripped.is_some(),
                    }),
                    _ => Err(refuse()),
                }
            }
            Some(("shards", pieces)) => match pieces.parse() {
                Ok(per_client) if (1..=1000).contains(&per_client) => {
                    Ok(Self::Shards { per_client })
                }
                _ => Err(refuse()),
            },
            Some(("counts", rows)) => rows.parse().map(Self::Counts),
            _ => Err(refuse()),
        }
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> Self {
        partition.to_string()
    }
}

impl TryFrom<String> for Partition {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn dirichlet(alpha: f64) -> Partition {
        Partition::Dirichlet {
            alpha,
            balanced: false,
        }
    }

    fn labels(count: usize) -> Vec<u32> {
        (0..count).map(|index| (index * 7 % 10) as u32).collect()
    }

    const ALL: [Partition; 4] = [
        Partition::Iid,
        dirichlet(0.3),
        dirichlet(100.0),
        Partition::Shards { per_client: 2 },
    ];

    #[test]
    fn every_image_has_one_client_and_the_seed_decides() {
        let labels = labels(1003);
        for partition in ALL {
            let dealt = partition.deal(&labels, 10, 10, Partition::HELD, 1).unwrap();
            let mut all: Vec<usize> = dealt
                .iter()
                .flat_map(|client| client.train.iter().chain(&client.held).copied())
                .collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..1003), "{partition}");
            for client in &dealt {
                let count = client.train.len() + client.held.len();
                assert_eq!(
                    client.held.len(),
                    ((count as f64 * 0.2).round() as usize).max(1)
                );
            }
            assert_eq!(
                dealt,
                partition.deal(&labels, 10, 10, Partition::HELD, 1).unwrap()
            );
            assert_ne!(
                dealt,
                partition.deal(&labels, 10, 10, Partition::HELD, 2).unwrap()
            );
        }
    }

    #[test]
    fn clients_differ_as_the_partition_says() {
        let labels = labels(10_000);
        let classes_of = |partition: Partition| {
            let dealt = partition.deal(&labels, 10, 10, Partition::HELD, 1).unwrap();
            labels_per_client(&labels, 10, &dealt)
        };
        let of_iid = classes_of(Partition::Iid);
        assert!(
            of_iid
                .iter()
                .flatten()
                .all(|count| (60..=140).contains(count)),
            "{of_iid:?}"
        );
        let even = classes_of(dirichlet(1e5));
        assert!(
            even.iter()
                .flatten()
                .all(|count| (90..=110).contains(count)),
            "{even:?}"
        );
        // At α = 0.3 the expected squared share of a class that one client has is (1 + α) / (1 + 10 α) / 10 = 0.0325, so
        // the largest of ten holds far more than a tenth.
        let uneven = classes_of(dirichlet(0.3));
        let squares: f64 = uneven
            .iter()
            .flatten()
            .map(|&count| (count as f64 / 1000.0).powi(2))
            .sum();
        assert!((squares / 100.0 - 0.0325).abs() < 0.008, "{squares}");
        let pieces = classes_of(Partition::Shards { per_client: 2 });
        for row in pieces {
            assert!(
                row.iter().filter(|&&count| count > 0).count() <= 4,
                "{row:?}"
            );
            assert_eq!(row.iter().sum::<usize>(), 1000);
        }
    }

    #[test]
    fn two_images_are_one_to_train_on_and_one_apart() {
        let both = split(vec![3, 7], Partition::HELD, 0, 1);
        assert_eq!((both.train.len(), both.held.len()), (1, 1));
        // A fifth of 8 is 1.6.
        assert_eq!(split((0..8).collect(), Partition::HELD, 0, 1).held.len(), 2);
    }

    #[test]
    fn few_images_are_dealt_out_all_the_same() {
        // Six for each of ten clients: two are enough for a client then.
        let labels = labels(60);
        for seed in 0..5 {
            let dealt = dirichlet(1.0).deal(&labels, 10, 10, Partition::HELD, seed);
            let dealt = dealt.unwrap();
            let counts = dealt
                .iter()
                .map(|client| client.train.len() + client.held.len());
            assert!(counts.clone().all(|count| count >= 2));
            assert_eq!(counts.sum::<usize>(), 60);
        }
        // Hundred for each of ten: a client has ten at least.
        let labels: Vec<u32> = (0..1000).map(|index| index % 10).collect();
        for seed in 0..20 {
            let dealt = dirichlet(0.1).deal(&labels, 10, 10, Partition::HELD, seed);
            let dealt = dealt.unwrap();
            assert!(
                dealt
                    .iter()
                    .all(|client| client.train.len() + client.held.len() >= 10)
            );
        }
    }

    #[test]
    fn too_many_clients_and_clients_without_images_are_refused() {
        let labels = labels(30);
        for partition in ALL {
            let error = partition
                .deal(&labels, 10, 16, Partition::HELD, 1)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("clients is 16 for 30 training images"),
                "{error}"
            );
        }
        let error = dirichlet(0.001)
            .deal(&labels, 10, 15, Partition::HELD, 1)
            .unwrap_err();
        assert!(
            error.to_string().contains("partition is dirichlet:0.001"),
            "{error}"
        );
        let error = Partition::Shards { per_client: 9 }
            .deal(&labels, 10, 10, Partition::HELD, 1)
            .unwrap_err();
        assert!(
            error.to_string().contains("partition is shards:9"),
            "{error}"
        );
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["iid", "dirichlet:0.3", "dirichlet:0.3:balanced", "shards:2"] {
            let partition: Partition = text.parse().unwrap();
            assert_eq!(partition.to_string(), text);
            // In files, they are the same text.
            assert_eq!(String::from(partition.clone()), text);
            assert_eq!(Partition::try_from(text.to_owned()), Ok(partition));
        }
        for text in [
            "",
            "iid:1",
            "dirichlet",
            "dirichlet:0",
            "dirichlet:-1",
            "dirichlet:NaN",
            "dirichlet:0.3:",
            "dirichlet::balanced",
            "dirichlet:0.3:balance",
            "shards:0",
            "shards:x",
        ] {
            let error = text.parse::<Partition>().unwrap_err();
            assert!(
                error.contains("use iid, dirichlet:0.3, dirichlet:0.3:balanced, shards:2, or a table of images per client and class: @FILE"),
                "{error}"
            );
        }
    }

    #[test]
    fn clients_keep_apart_the_share_that_they_are_told_to() {
        let labels: Vec<u32> = (0..200).map(|index| index % 10).collect();
        let dealt = |held| Partition::Iid.deal(&labels, 10, 10, held, 1);
        for (held, kept) in [(0.0, 0), (0.001, 1), (0.5, 10), (0.999, 19)] {
            for client in dealt(held).unwrap() {
                assert_eq!((client.held.len(), client.train.len()), (kept, 20 - kept));
            }
        }
        for held in [-0.1, 1.0, f64::NAN] {
            let error = dealt(held).unwrap_err().to_string();
            assert!(error.contains("keeps apart"), "{error}");
        }
    }
}
