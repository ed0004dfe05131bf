"""This project, measured: tasks of its own for the benchmark, and a worker app that runs them."""
