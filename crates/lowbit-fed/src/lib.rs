//! Federated training whose messages are really packed: rounds, clients, strategies, and the wire format between them.
//!
//! A [`Schema`] orders a model's tensors as one flat vector. The [`server`] keeps the model and the copy of it that clients
//! hold; a [`client`] trains and says what changed; [`wire`] makes bytes of either, by a [`codec`] per group of tensors.
//! [`round`](mod@round) runs one round and [`simulate`] holds a whole federation in one process. Bits do not depend on the
//! number of threads, nor on whether a run was stopped and resumed from a [`checkpoint`].

pub mod aggregate;
pub mod checkpoint;
pub mod client;
pub mod codec;
pub mod norm;
pub mod round;
pub mod schema;
pub mod screen;
pub mod server;
pub mod simulate;
pub mod strategy;
pub mod wire;

pub use aggregate::Aggregator;
pub use codec::MessageBits;
pub use norm::Norm;
pub use schema::{Role, Schema, TensorSpec};
pub use simulate::{FedError, Federation, Settings};
pub use strategy::Strategy;
