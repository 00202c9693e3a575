"""Training with Sample Factory's asynchronous PPO, and the networks that come out of it."""
