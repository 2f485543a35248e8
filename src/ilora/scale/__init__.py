"""Label, predict and evaluate on Ray: inputs cut into shards, shards spread over workers, each output there once."""
