//! Streams in storage: what a container is to be like, and making it so.
//!
//! | module | subject |
//! |---|---|
//! | [`plan`] | what to do, given what is wanted and what was found. Pure |
//! | [`carry_out`] | doing it, and deleting |

pub mod carry_out;
pub mod plan;
