//! Assembler role: check, package, verify, publish, export.
