"""merging: which runs go together, their joined text, and blocks of bits put together from theirs."""
