//! Pure: from files of a Git tree to the objects that Git wants.

mod document;
mod load;
pub mod yaml;

pub use document::*;
pub use load::*;

#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod yaml_tests;
