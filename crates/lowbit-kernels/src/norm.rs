//! Passes over activations in training: batch-norm statistics, normalization, ReLU, max-pooling and their gradients.
