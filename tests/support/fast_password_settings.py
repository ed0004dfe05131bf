"""The settings, with passwords that are hashed fast: how hard they are to crack matters little."""

from sample.settings import *  # noqa: F403 # all of them

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
