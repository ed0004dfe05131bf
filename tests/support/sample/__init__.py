"""A small project that tests run on: the project's settings, and a shop of the tests' own.

It takes the place of a domain: tests of the platform know no other, so that whoever builds on this
project may throw its example away and keep them.
"""
