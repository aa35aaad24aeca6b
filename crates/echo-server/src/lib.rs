//! What all five echo servers share that is not an I/O model.

