//! Real Git servers.
