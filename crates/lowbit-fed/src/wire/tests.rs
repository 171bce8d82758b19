use super::*;
use crate::schema::tests::small;
use lowbit_kernels::random::{normal, stream};
use proptest::prelude::*;

fn values(schema: &Schema) -> Vec<f32> {
    let mut rng = stream(3, "values", 0);
    (0..schema.len()).map(|_| normal(&mut rng)).collect()
}

fn header(kind: Kind) -> Header {
    Header {
        kind,
        round: 4,
        base: 3,
        sender: 7,
        images: 1728,
        report: Report {
            train_loss: 0.5,
            train_accuracy: 0.75,
            local_test_accuracy: 0.625,
        },
    }
}

const ALL: [MessageBits; 7] = [
    MessageBits::Float,
    MessageBits::Uniform(16),
    MessageBits::Uniform(8),
    MessageBits::Uniform(4),
    MessageBits::Uniform(2),
    MessageBits::Uniform(1),
    MessageBits::Ternary(0.05),
];

fn encoding(bits: MessageBits) -> Encoding {
    Encoding {
        bits,
        feedback: true,
        rotate: true,
    }
}

fn message(schema: &Schema, kind: Kind, bits: MessageBits) -> Vec<u8> {
    let mut dither = Dither::new(1, "up", 0);
    encode(
        schema,
        &header(kind),
        &values(schema),
        encoding(bits),
        &mut dither,
    )
}

#[test]
fn every_byte_of_every_message_is_counted_once() {
    let schema = small();
    for bits in ALL {
        for kind in [Kind::Seed(9), Kind::Model, Kind::Update] {
            let bytes = message(&schema, kind, bits);
            let mut found = vec![0.0; schema.len()];
            let (read, parts) = decode(&schema, &bytes, &mut found).unwrap();
            assert_eq!(read, header(kind));
            assert_eq!(parts.total(), bytes.len() as u64, "{kind:?} {bits}");
        }
    }
}

#[test]
fn lengths_by_hand() {
    let schema = small();
    // Header 48, checksum 4; three entries of 8; 6 numbers of biases and statistics in f32; 340 weights in 7 rows.
    let around = 48 + 4 + 3 * 8 + 6 * 4;
    let len = |bits| message(&schema, Kind::Update, bits).len();
    assert_eq!(len(MessageBits::Float), around + 340 * 4);
    assert_eq!(len(MessageBits::Uniform(8)), around + 7 * 4 + 340);
    assert_eq!(len(MessageBits::Uniform(4)), around + 7 * 4 + 170);
    // Blocks of 256, 64 and a rest of 20; a seed.
    assert_eq!(len(MessageBits::Uniform(2)), around + 8 + 3 * 4 + 85);
    assert_eq!(len(MessageBits::Uniform(1)), around + 8 + 3 * 4 + 43);
    assert_eq!(
        message(&schema, Kind::Seed(1), MessageBits::Float).len(),
        60
    );
}

#[test]
fn a_whole_model_arrives_to_the_bit_whatever_the_width() {
    let schema = small();
    for bits in ALL {
        let mut found = vec![0.0; schema.len()];
        decode(&schema, &message(&schema, Kind::Model, bits), &mut found).unwrap();
        assert_eq!(found, values(&schema));
    }
}

#[test]
fn a_message_that_is_not_one_is_refused_for_what_it_is() {
    let schema = small();
    let good = message(&schema, Kind::Update, MessageBits::Uniform(8));
    let mut found = vec![0.0; schema.len()];
    let mut refuse = |bytes: &[u8]| decode(&schema, bytes, &mut found).unwrap_err().to_string();
    let reseal = |mut bytes: Vec<u8>| {
        let end = bytes.len() - 4;
        let checksum = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        reseal(bytes)
    };
    assert!(refuse(&[]).contains("0 bytes, expected 52"));
    assert!(refuse(&good[..good.len() - 1]).contains("cut off"));
    assert!(refuse(&[&good[..], &good].concat()).contains("joined"));
    assert!(refuse(&with(0, b'X')).contains("not one of lowbit's"));
    assert!(refuse(&with(4, 2)).contains("version 2, this lowbit reads version 1"));
    assert!(refuse(&with(8, good[8] ^ 1)).contains("same model and widths"));
    assert!(refuse(&with(5, 9)).contains("kind is 9"));
    // The first entry's number of tensors, codec, and length.
    assert!(refuse(&with(50, 3)).contains("entry 0"));
    assert!(refuse(&with(50, 9)).contains("covers tensors up to 9 of 4"));
    assert!(refuse(&with(48, 77)).contains("codec 77"));
    assert!(refuse(&with(52, 0)).contains("entry 0"));
    // An infinite loss, and a scale that is not finite.
    let mut bytes = good.clone();
    bytes[36..40].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert!(refuse(&reseal(bytes)).contains("loss is inf"));
    let mut bytes = good.clone();
    bytes[56..60].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(refuse(&reseal(bytes)).contains("scale 0 is NaN"));
    let mut bytes = good.clone();
    bytes[100] ^= 4;
    assert!(refuse(&bytes).contains("damaged on the way"));
}

#[test]
fn an_update_adds_differences_and_replaces_statistics() {
    let schema = small();
    let mut model = vec![1.0; schema.len()];
    let values: Vec<f32> = vec![0.5; schema.len()];
    apply(&schema, Kind::Update, &values, &mut model);
    assert!(model[schema.trained()].iter().all(|&x| x == 1.5));
    assert!(model[schema.trained().end..].iter().all(|&x| x == 0.5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn mutated_messages_are_refused_or_finite(
        bits in prop::sample::select(ALL.to_vec()),
        changes in prop::collection::vec((0..4000usize, any::<u8>()), 1..6),
        cut in prop::option::of(0..2000usize),
        sealed in any::<bool>(),
    ) {
        let schema = small();
        let mut bytes = message(&schema, Kind::Update, bits);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        if sealed && bytes.len() >= 52 {
            let body = (bytes.len() - 52) as u32;
            bytes[32..36].copy_from_slice(&body.to_le_bytes());
            let end = bytes.len() - 4;
            let checksum = crc32fast::hash(&bytes[..end]);
            bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        }
        let mut found = vec![0.0; schema.len()];
        if decode(&schema, &bytes, &mut found).is_ok() {
            prop_assert!(found.iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn random_bytes_are_no_message(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let schema = small();
        prop_assert!(decode(&schema, &bytes, &mut vec![0.0; schema.len()]).is_err());
    }
}
