"""The engine: what happens to a job between its claim and its outcome. Holds no task function."""
