// Keeps tests/support a folder of sources while it has no other.
