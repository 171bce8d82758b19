use super::*;

/// `pickle.dumps({'data': numpy.arange(4, dtype='uint8').reshape(2, 2), 'labels': [3, 300], 'names': ['a', 'b']},
/// protocol)`, by CPython 3.11 and NumPy 2.4.
const DUMPS: [(u8, &[u8]); 5] = include!("dumps.in");

#[test]
fn every_protocol_gives_the_same_array_numbers_and_names() {
    for (protocol, bytes) in DUMPS {
        let pickle = Pickle::read(bytes).expect("reads");
        let array = pickle.array("data").unwrap_or_else(|| panic!("{protocol}"));
        assert_eq!(array.shape, [2, 2], "{protocol}");
        assert_eq!(&array.bytes[..], [0, 1, 2, 3], "{protocol}");
        assert_eq!(pickle.numbers("labels"), Some(vec![3, 300]), "{protocol}");
        assert_eq!(pickle.texts("names"), Some(vec!["a", "b"]), "{protocol}");
        assert!(!pickle.has("other"));
    }
}

#[test]
fn a_call_is_not_made() {
    // cos\nsystem\n(S'…' is what an attack looks like; here it is a value that nobody asks for.
    let attack = b"cos\nsystem\n(U\x04trueteq\x00.";
    assert!(Pickle::read(attack).is_err());
    let inside = b"}U\x04datacos\nsystem\nU\x04true\x85Rs.";
    let pickle = Pickle::read(inside).expect("reads");
    assert!(pickle.array("data").is_none() && pickle.numbers("data").is_none());
}

#[test]
fn values_used_many_times_take_no_more_room() {
    // A list of ten times a list of ten times …, 40 levels deep: 10^40 values if they were copied.
    let mut bytes = b"]q\x00".to_vec();
    for level in 0..40u8 {
        bytes.push(b'(');
        (0..10).for_each(|_| bytes.extend([b'h', level]));
        bytes.extend([b'l', b'q', level + 1]);
    }
    bytes.push(b'.');
    assert!(Pickle::read(&bytes).expect("reads").values.len() < 50);
}

#[test]
fn broken_pickles_say_where() {
    for bytes in [
        &b""[..],
        b"K",
        b"(",
        b"a.",
        b"(K\x01u.",
        b"h\x09.",
        b"\xFF",
        b"t.",
        b"U\xFFab.",
    ] {
        let reason = Pickle::read(bytes).err().expect("broken");
        assert!(reason.contains("at byte"), "{reason}");
    }
}
