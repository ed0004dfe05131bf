"""The systems this one is compared with. They live in a virtual environment of their own."""
