"""An S3 server of moto's, as a process: `python s3.py PORT`; buckets called loose know no conditional writes."""

import sys

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

served = DomainDispatcherApplication(create_backend_app)


def application(environ, start_response):
    """As some stores do, take no notice of a header."""
    if environ["PATH_INFO"].startswith("/loose"):
        environ.pop("HTTP_IF_NONE_MATCH", None)
    return served(environ, start_response)


run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
