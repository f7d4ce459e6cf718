//! Coordinator role: submit, planning, dispatch, leases, reaper, sweeper, garbage collection.
