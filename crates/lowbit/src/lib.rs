//! Graphs, training, quantisation and integer inference of small image models.
