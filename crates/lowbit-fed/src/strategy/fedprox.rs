//! FedProx is FedAvg at the server; the client adds `μ (w − w₀)` to its gradients, w₀ being the model that it received.

use super::Strategy;

pub(super) fn mu(strategy: Strategy) -> f32 {
    match strategy {
        Strategy::FedProx { mu } => mu,
        Strategy::FedAvg | Strategy::FedAvgM { .. } | Strategy::FedAdam { .. } => 0.0,
    }
}
