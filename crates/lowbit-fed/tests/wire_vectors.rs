//! The messages of docs/wire-format.md are what this crate writes and reads.

use lowbit_fed::codec::{Dither, MessageBits};
use lowbit_fed::wire::{self, Encoding, Header, Kind, Report};
use lowbit_fed::{Role, Schema, TensorSpec};
use std::fmt::Write;
use std::path::PathBuf;

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire-format.md")
}

fn schema() -> Schema {
    let spec = |name: &str, shape: &[usize], role| TensorSpec {
        name: name.into(),
        shape: shape.to_vec(),
        role,
    };
    Schema::new(vec![
        spec("conv.weight", &[2, 2, 2, 3], Role::Matrix),
        spec("fc.weight", &[1, 64], Role::Matrix),
        spec("conv.bias", &[2], Role::Vector),
        spec("bn.running_mean", &[2], Role::Statistic),
        spec("bn.running_var", &[2], Role::Statistic),
    ])
}

/// Numbers that any language can make: (i · 37 mod 101 − 50) / 64.
fn values(schema: &Schema) -> Vec<f32> {
    let number = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 64.0;
    let mut values: Vec<f32> = (0..schema.len()).map(number).collect();
    values[schema.len() - 2..]
        .iter_mut()
        .for_each(|x| *x = x.abs());
    values
}

/// The block of one vector.
fn vector(name: &str, kind: Kind, bits: &str) -> String {
    let schema = schema();
    let header = Header {
        kind,
        round: 3,
        base: 3,
        sender: 7,
        images: 1728,
        report: Report {
            train_loss: 0.5,
            train_accuracy: 0.75,
            local_test_accuracy: 0.625,
        },
    };
    let encoding = Encoding {
        bits: bits.parse::<MessageBits>().unwrap(),
        feedback: true,
        rotate: true,
    };
    let mut dither = Dither::new(1, "vectors", 0);
    let message = wire::encode(&schema, &header, &values(&schema), encoding, &mut dither);
    let mut text = format!("```text\nvector {name}\n");
    for line in message.chunks(60) {
        for byte in line {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    let mut found = vec![0.0; schema.len()];
    let (read, _) = wire::decode(&schema, &message, &mut found).unwrap();
    assert_eq!(read, header);
    let bytes: Vec<u8> = found.iter().flat_map(|x| x.to_le_bytes()).collect();
    let first: Vec<String> = found[..4].iter().map(|x| format!("{x:?}")).collect();
    let first = match kind {
        Kind::Seed(seed) => format!("seed {seed}"),
        _ => first.join(" "),
    };
    write!(
        text,
        "values {:08x}\nfirst {first}\n```\n",
        crc32fast::hash(&bytes)
    )
    .unwrap();
    text
}

fn vectors() -> String {
    let mut all = vec![
        vector("seed", Kind::Seed(42), "32"),
        vector("model", Kind::Model, "8"),
    ];
    for bits in ["32", "16", "8", "4", "2", "1", "ternary:10"] {
        let plural = if bits == "1" { "" } else { "s" };
        let name = format!("update, {bits} bit{plural}");
        all.push(vector(&name, Kind::Update, bits));
    }
    all.join("\n").replace("ternary:10 bits", "ternary 10 %")
}

/// With `LOWBIT_WRITE_VECTORS` set it writes them where `VECTORS` stands alone on a line.
#[test]
fn the_page_shows_what_is_written() {
    let text = std::fs::read_to_string(page()).unwrap();
    let vectors = vectors();
    if std::env::var_os("LOWBIT_WRITE_VECTORS").is_some() {
        std::fs::write(page(), text.replace("\nVECTORS\n", &format!("\n{vectors}"))).unwrap();
        return;
    }
    assert!(
        text.ends_with(&vectors),
        "docs/wire-format.md should end with:\n{vectors}"
    );
}

#[test]
fn another_reader_reads_the_same_numbers() {
    let script =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire/read_messages.py");
    let run = std::process::Command::new("python3")
        .arg(script)
        .arg(page())
        .output();
    let Ok(run) = run else {
        println!("skipped: no python3");
        return;
    };
    let said = String::from_utf8_lossy(&run.stdout);
    let complained = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success() && said.contains("9 messages read"),
        "{said}{complained}"
    );
}
