//! What tests of the charts need: the real helm, manifests as values, and a controller that runs as its chart says.

mod helm;
mod pod;
mod rights;

pub use helm::{Chart, Helm, documents};
pub use pod::Pod;
pub use rights::{Rule, granted, too_little, too_much};
