//! One-bit products against bytes.

use super::*;
use crate::graph::zoo;
use crate::quantize::{PtqConfig, quantize};
use crate::{Shape, WeightBits, Weights};
use lowbit_kernels::random;

#[test]
fn one_bit_products_give_the_bits_that_bytes_give() {
    let classes: Vec<String> = (0..7).map(|class| class.to_string()).collect();
    for (name, size) in [("eurosat-cnn", 32), ("resnet8", 17), ("mlp", 9)] {
        let graph = zoo::build(name, Shape::new(size, size, 3), &classes).unwrap();
        let weights = Weights::init(&graph, 3);
        let mut rng = random::stream(1, "test", 0);
        let images: Vec<u8> = (0..5 * graph.input().len())
            .map(|_| random::below(&mut rng, 256) as u8)
            .collect();
        let config = PtqConfig {
            weight_bits: WeightBits::B1,
            activation_bits: ActivationBits::B1,
            edge_bits: WeightBits::B1,
            ..PtqConfig::default()
        };
        for isa in Isa::available() {
            let model = quantize(&graph, &weights, &config, &images, isa).unwrap();
            let logits = |bits: Bits, threads: usize| {
                let plan = Plan::new(graph.blocks().unwrap()).unwrap();
                let arithmetic = IntegerArithmetic::new(&model, plan, isa, bits);
                let used = |layer: &Option<Layer>| {
                    layer
                        .as_ref()
                        .is_some_and(|layer| layer.product.is_of_signs())
                };
                assert_eq!(
                    arithmetic.layers.iter().any(used),
                    bits == Bits::WhereTheyFit
                );
                let engine = Engine::new(arithmetic);
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let mut logits = vec![0.0; 5 * 7];
                pool.install(|| engine.run(&images, 5, &mut logits));
                // One image over several threads as well.
                let mut one = vec![0.0; 7];
                let image = &images[..graph.input().len()];
                pool.install(|| engine.run(image, 1, &mut one));
                assert_eq!(one, logits[..7], "{name} on {isa}");
                logits
            };
            let expected = logits(Bits::Never, 1);
            assert!(expected.iter().any(|&x| x != expected[0]));
            for threads in [1, 3] {
                assert_eq!(
                    logits(Bits::WhereTheyFit, threads),
                    expected,
                    "{name} on {isa}"
                );
            }
        }
    }
}
