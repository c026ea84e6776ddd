//! Bad frames: cut, stretched, spliced, flipped and random ones, and what each must come to.
//!
//! Every frame goes through a program by BPF_PROG_TEST_RUN and, where a tap gets it, on into the taps by a live
//! frame. What must come of it an oracle has said before (`oracle.rs`, which reads frames with a parser of its own):
//! verdict, counter, and every byte. `HOTPAIR_SEED=N` brings the same frames again, `HOTPAIR_ROUND=N` one round of them.

mod heartbeats;
mod mutate;
mod of_a_tap;
mod oracle;
pub(crate) mod read;
mod rewrite;
mod rounds;
mod segment;
mod tcp;
