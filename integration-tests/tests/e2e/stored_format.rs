//! What this and earlier versions have written is read by this one.
