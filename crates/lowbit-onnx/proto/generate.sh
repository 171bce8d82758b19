#!/bin/sh
# Writes src/proto.rs: the messages of ONNX as Rust types, from the `onnx-ml.proto` of the `onnx` package for Python.
#
#     pip install onnx==1.23.2; proto/generate.sh "$(python -c 'import onnx; print(onnx.__path__[0])')/onnx-ml.proto"
#
# Needs protoc (Debian: protobuf-compiler) and cargo. Run by hand when ONNX has new fields that lowbit must read; a build needs
# neither.
set -eu
proto=$(realpath "$1")
here=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat > "$work/Cargo.toml" <<END
[package]
name = "generate"
version = "0.0.0"
edition = "2024"
[dependencies]
prost-build = { version = "0.14", default-features = false }
[workspace]
END
cat > "$work/src/main.rs" <<END
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let folder = std::path::Path::new(&arguments[1]).parent().expect("a file in a folder");
    prost_build::Config::new()
        .out_dir(&arguments[2])
        .disable_comments(["."])
        .bytes([".onnx.TensorProto.raw_data"])
        .compile_protos(&[&arguments[1]], &[folder])
        .expect("protoc reads the file");
}
END
cargo run --quiet --manifest-path "$work/Cargo.toml" --target-dir "${CARGO_TARGET_DIR:-$work/target}" -- "$proto" "$work"
{
    echo '//! The messages of ONNX, written by `proto/generate.sh` from `onnx-ml.proto`: do not edit.'
    echo
    cat "$work/onnx.rs"
} > "$here/src/proto.rs"
rustfmt --edition 2024 "$here/src/proto.rs"
