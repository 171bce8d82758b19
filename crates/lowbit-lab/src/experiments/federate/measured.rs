//! What a federation ends a round with, measured and written: one model, or one of each client that keeps its batch-norm.

use super::Run;
use crate::LabError;
use crate::evaluate::Score;
use lowbit::{Weights, format};
use lowbit_fed::Federation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// How the clients' own models differ on the test images, where each client keeps its batch-norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerClient {
    /// Smallest accuracy of any client's model, 0–1.
    pub min: f64,
    /// Largest accuracy of any client's model, 0–1.
    pub max: f64,
    /// Clients whose training has not counted yet: they have the batch-norm that all begin with.
    pub untrained: usize,
}

/// Accuracy and loss on the test images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    /// Of the server's model, or the mean over all clients' own.
    pub(super) score: Score,
    /// Only where there are models of clients.
    pub(super) per_client: Option<PerClient>,
}

impl Run<'_> {
    /// The server's tensors and those that `client` keeps.
    fn model_of(&self, federation: &Federation<'_>, client: u32) -> Weights {
        let server = federation.server();
        let mut weights = server.schema().unflatten(server.global());
        self.own.write(federation.own(client), &mut weights);
        weights
    }

    /// Measures the server's model as deployed, or, where clients keep their batch-norm, each client's own.
    pub(super) fn measure(&self, federation: &Federation<'_>) -> Result<Measured, LabError> {
        if self.own.is_empty() {
            let score = self.evaluate(&self.model_of(federation, 0))?.score();
            let per_client = None;
            return Ok(Measured { score, per_client });
        }
        let clients = federation.settings().clients;
        let trained: BTreeSet<u32> = federation.with_own().collect();
        // Those that have not trained have the same model: it is measured once.
        let idle = (0..clients).find(|client| !trained.contains(client));
        let untrained = clients as usize - trained.len();
        let each = trained.iter().map(|&client| (client, 1));
        let (mut loss, mut accuracy) = (0.0, 0.0);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for (client, times) in each.chain(idle.map(|client| (client, untrained))) {
            let found = self.evaluate(&self.model_of(federation, client))?.score();
            loss += found.loss * times as f64;
            accuracy += found.accuracy * times as f64;
            (min, max) = (min.min(found.accuracy), max.max(found.accuracy));
        }
        let count = f64::from(clients);
        Ok(Measured {
            score: Score {
                accuracy: accuracy / count,
                loss: loss / count,
            },
            per_client: Some(PerClient {
                min,
                max,
                untrained,
            }),
        })
    }

    /// Writes the server's model, or that of each client whose training counted, in a folder of its own; returns the bytes
    /// of an FP32 model and of a packed one, of the client whose packed one is the largest.
    pub(super) fn save_models(&self, federation: &Federation<'_>) -> Result<(u64, u64), LabError> {
        if self.own.is_empty() {
            return self.save(&self.folder, &self.model_of(federation, 0));
        }
        let mut largest = (0, 0);
        for client in federation.with_own() {
            let folder = self.folder.join(format!("client_{client}"));
            std::fs::create_dir_all(&folder).map_err(|source| LabError::Io {
                path: folder.clone(),
                source,
            })?;
            let sizes = self.save(&folder, &self.model_of(federation, client))?;
            if sizes.1 > largest.1 {
                largest = sizes;
            }
        }
        Ok(largest)
    }

    /// Writes a model, in FP32 and packed, into `folder`; returns their bytes.
    pub(super) fn save(&self, folder: &Path, weights: &Weights) -> Result<(u64, u64), LabError> {
        let own = crate::experiments::sweep::deployable(self.graph, weights);
        let record = self.input.record(self.config.run.seed);
        let fp32 = folder.join("model_fp32.safetensors");
        let original = format::save_float(&fp32, self.graph, &own, Some(&record))?;
        let bits = self.federate.bits;
        let packed = folder.join(format!("model_{bits}bit.safetensors"));
        let compressed = match self.packed(weights)? {
            Some(model) => format::save_quantized(&packed, &model, Some(&record))?,
            None => original,
        };
        Ok((original, compressed))
    }
}

#[cfg(test)]
mod tests;
