//! Weights beside the file.

use super::*;
use crate::proto::tensor_proto::DataLocation;
use crate::read;

#[test]
fn external_data_are_read_from_the_models_folder_and_from_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("model");
    std::fs::create_dir(&inner).unwrap();
    let values: Vec<u8> = floats("v", &[2, 4])
        .float_data
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let bytes = [&[0; 16][..], &values].concat();
    std::fs::write(inner.join("m.data"), &bytes).unwrap();
    std::fs::write(folder.path().join("outside"), &bytes).unwrap();
    let path = inner.join("m.onnx");
    let with = |entries: &[(&str, &str)]| {
        let mut model = small();
        graph(&mut model).initializer[2] = TensorProto {
            float_data: vec![],
            data_location: Some(DataLocation::External.into()),
            external_data: entries
                .iter()
                .map(|(key, value)| StringStringEntryProto {
                    key: Some((*key).into()),
                    value: Some((*value).into()),
                })
                .collect(),
            ..floats("v", &[2, 4])
        };
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        read(&path, &Options::default()).map_err(|error| error.to_string())
    };
    let whole = logits(&import(&small()).unwrap());
    let found = with(&[("location", "m.data"), ("offset", "16"), ("length", "32")]).unwrap();
    assert_eq!(logits(&found), whole);
    let beside = crate::external_files(&path).unwrap();
    assert_eq!(beside, [inner.join("m.data").canonicalize().unwrap()]);
    let absolute = folder.path().join("outside").display().to_string();
    for place in [
        "../outside",
        "a/../../outside",
        &absolute,
        "..\\outside",
        "C:outside",
    ] {
        let error = with(&[("location", place), ("offset", "16")]).unwrap_err();
        assert!(error.contains("outside the model's folder"), "{error}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("outside"), inner.join("link")).unwrap();
        let error = with(&[("location", "link"), ("offset", "16")]).unwrap_err();
        assert!(error.contains("outside the model's folder"), "{error}");
    }
    for (entries, expected) in [
        (
            &[("location", "none")][..],
            "keep the file beside the model",
        ),
        (
            &[("location", "m.data"), ("offset", "17")],
            "is it cut off?",
        ),
        (
            &[("location", "m.data"), ("offset", "18446744073709551615")],
            "is it cut off?",
        ),
        (
            &[("location", "m.data"), ("length", "31")],
            "its shape needs 32",
        ),
        (&[("location", "m.data"), ("offset", "x")], "offset"),
        (&[], "have no place"),
    ] {
        let error = with(entries).unwrap_err();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}
