//! Behaviour of the chassis on real sockets and real processes.
