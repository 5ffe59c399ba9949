//! Parts of the program against a real API server that they share: what each test makes is in a namespace of its own, or has a name of its own.

mod cluster;
mod crd;
mod explain;
mod load;
mod writer;
