//! Bodies of the internal routes through which `tidelog compact --server` claims and finishes archive jobs.
