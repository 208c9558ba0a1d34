//! The cluster side of applied objects: which kinds there are, writing objects, and watching what became of them.

pub mod fields;
pub mod identity;
pub mod kinds;
pub mod live;
pub mod paths;
pub mod requests;
pub mod target;
pub mod unpark;
pub mod wake;
pub mod watch;

/// A resource version as a number. Kubernetes promises since 1.35 that they compare within one resource
/// (KEP-5504); etcd revisions always did.
pub fn resource_version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
