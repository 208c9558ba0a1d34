//! Pure: from files of a Git tree to the objects that Git wants.

mod document;
pub mod envsubst;
mod load;
mod substitute;
pub mod yaml;

pub use document::*;
pub use load::*;
pub use substitute::*;

#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod yaml_tests;
