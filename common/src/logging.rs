//! The process's logger: one line an event, ids as fields, text or JSON.
