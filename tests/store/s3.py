"""
An S3 server of moto's, as a process: `python s3.py FD PORT`, of a socket that listens.

The bucket loose knows no conditional writes, as some stores don't; checkpoints take their time in slow. From SIGUSR1 to
SIGUSR2 the server is away: it breaks each connection, in the middle of what is sent.
"""

import signal
import socket
import sys
import time

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

served = DomainDispatcherApplication(create_backend_app)
away = []
signal.signal(signal.SIGUSR1, lambda *_: away.append(True))
signal.signal(signal.SIGUSR2, lambda *_: away.clear())


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/loose"):
        environ.pop("HTTP_IF_NONE_MATCH", None)
    if path.startswith("/slow") and "/checkpoints/" in path and environ["REQUEST_METHOD"] == "PUT":
        time.sleep(0.5)
    if away:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return served(environ, start_response)


make_server("127.0.0.1", int(sys.argv[2]), application, threaded=True, fd=int(sys.argv[1])).serve_forever()
