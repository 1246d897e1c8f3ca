"""
Serving: `serve(artifact)` puts an artifact behind HTTP, in a process of its own; `Client(url, token)` calls it.

What a server is made of: application.py (routes), describing.py (what is said of them), reading.py (what comes in),
batching.py (one call for many requests), process.py (the process), server.py (the side that starts it).
"""

from __future__ import annotations

from .client import Client
from .server import Server, serve

__all__ = ["Client", "Server", "serve"]
