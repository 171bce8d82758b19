use super::*;
use lowbit_kernels::random;

#[test]
fn in_the_end_every_weight_is_decided_and_the_error_is_smaller() {
    for bits in [WeightBits::B4, WeightBits::Odd4] {
        decided_at(bits);
    }
}

fn decided_at(bits: WeightBits) {
    let (taps, pixels) = (9, 512);
    let mut rng = random::stream(1, "test", 0);
    let mut uniform =
        |n: usize| -> Vec<f32> { (0..n).map(|_| random::uniform(&mut rng)).collect() };
    let kernel: Vec<f32> = uniform(taps).iter().map(|x| x - 0.5).collect();
    let mut read = AlignedBuffer::zeroed(pixels * taps);
    read.copy_from_slice(&uniform(pixels * taps));
    let dot = |row: &[f32]| row.iter().zip(&kernel).map(|(x, w)| x * w).sum::<f32>();
    let wanted: Vec<f32> = read.chunks_exact(taps).map(dot).collect();
    // Numbers of any size: loss and push keep their proportion.
    for size in [1e-3, 1.0, 1e3] {
        let kernel: Vec<f32> = kernel.iter().map(|w| w * size).collect();
        let rounding = Rounding {
            kernel: &kernel,
            bias: &[0.0],
            epilogue: &Epilogue::default(),
            means: None,
            steps: 500,
            isa: Isa::best(),
        };
        let block = Block {
            kernel: &kernel,
            scale: &[0.5 * size / f32::from(bits.magnitude_max())],
            lattice: Lattice::of(bits),
            first: 0,
        };
        let sample = Sample {
            wanted: wanted.iter().map(|x| x * size).collect(),
            read: read.clone(),
            pixels,
            taps,
            mean: vec![0.0; taps],
            bias: vec![0.0],
        };
        let mut learner = Learner::new(&rounding, &block, &sample);
        let nearest: Vec<i16> = kernel
            .iter()
            .map(|w| bits.nearest((w / block.scale[0]).into()) as i16)
            .collect();
        let errors = learner.errors(&nearest);
        learner.count_in(&errors);
        (0..500).for_each(|step| learner.step(step, 500));
        let between = |&sigmoid: &f32| (0.05..0.95).contains(&rest(sigmoid));
        assert_eq!(learner.sigmoid.iter().filter(|s| between(s)).count(), 0);
        let learned = learner.decided();
        assert!(learned.iter().all(|q| bits.width().fits(&[*q])));
        assert!(learner.errors(&learned)[0] < 0.5 * errors[0], "{size}");
    }
}
