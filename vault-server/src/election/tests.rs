//! Two servers on memory storage and simulated time.
