//! The test cluster itself, tested on real processes.

mod control_plane;
mod leash;
mod world;
