"""Cutting a connection that another thread waits on."""

import os
import socket
from contextlib import suppress
from typing import Any

import psycopg


def cut(connection: psycopg.BaseConnection[Any]) -> None:
    """Break the connection; a thread that waits on it gets an error."""
    with suppress(OSError, psycopg.Error):  # it is closed already
        descriptor = os.dup(connection.fileno())
        with socket.socket(fileno=descriptor) as twin:
            twin.shutdown(socket.SHUT_RDWR)
