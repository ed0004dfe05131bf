"""The room of those who follow a Task instead of polling: requests that wait, and streams."""
