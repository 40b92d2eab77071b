//! The cluster's core.
