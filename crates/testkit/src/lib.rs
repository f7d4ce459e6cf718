//! Test kit: simulation of the real services, fake media toolkit, synthetic media.
