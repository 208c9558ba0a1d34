//! The archive: an OCI image layout, with the `manifest.json` beside it that older `docker load` wants.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use anyhow::Context as _;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Entry, Image, Sizes, USER};

/// Writes `image` to `path`, under another name until it is whole.
pub(super) fn write(image: &Image, path: &Path) -> anyhow::Result<Sizes> {
    let unpacked = layer(image)?;
    let diff_id = digest(&unpacked);
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(&unpacked)?;
    let compressed = encoder.finish()?;
    let config = serde_json::to_vec(&config(image, &diff_id))?;
    let layer_descriptor = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &compressed);
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [layer_descriptor],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
    entry["annotations"] = json!({
        "io.containerd.image.name": image.reference(),
        "org.opencontainers.image.ref.name": image.reference(),
    });
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry],
    });
    let blob = |contents: &[u8]| format!("blobs/sha256/{}", hex(contents));
    let docker = json!([{
        "Config": blob(&config), "RepoTags": [image.reference()], "Layers": [blob(&compressed)],
    }]);

    let fresh = path.with_extension("new");
    let file = File::create(&fresh).with_context(|| format!("cannot create {}", fresh.display()))?;
    let mut tar = Builder::new(BufWriter::new(file));
    let mut add = |name: &str, contents: &[u8]| append(&mut tar, Path::new(name), contents, 0o644);
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", index.to_string().as_bytes())?;
    add("manifest.json", docker.to_string().as_bytes())?;
    for contents in [&config, &manifest, &compressed] {
        add(&blob(contents), contents)?;
    }
    tar.into_inner()?.into_inner()?.sync_all()?;
    fs::rename(&fresh, path)?;
    Ok(Sizes {
        compressed: compressed.len() as u64,
        unpacked: unpacked.len() as u64,
    })
}

/// The root filesystem. Everything belongs to root and is of no particular time.
fn layer(image: &Image) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(vec![]);
    for (path, entry) in &image.entries {
        match entry {
            Entry::File { contents, mode } => append(&mut tar, path, contents, *mode)?,
            Entry::Directory { mode } => {
                let mut header = header(EntryType::Directory, *mode, 0);
                tar.append_data(&mut header, path.join(""), io::empty())?;
            }
            Entry::Link { target } => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    tar.into_inner()
}

fn append(tar: &mut Builder<impl io::Write>, path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut header = header(EntryType::Regular, mode, contents.len() as u64);
    tar.append_data(&mut header, path, contents)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn config(image: &Image, diff_id: &str) -> Value {
    let environment: Vec<_> = image
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": environment,
            "Entrypoint": image.entrypoint,
            "WorkingDir": "/",
            "Labels": image.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": "cargo xtask image"}],
    })
}

fn descriptor(media_type: &str, contents: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(contents), "size": contents.len()})
}

fn digest(contents: &[u8]) -> String {
    format!("sha256:{}", hex(contents))
}

fn hex(contents: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(contents) {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// As OCI calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
