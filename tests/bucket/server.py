"""An S3 server on loopback, moto's, that answers one request after the other.

moto checks the condition of a conditional put and then stores the object, in two steps; S3 does it in one. So two
requests must not be at work at once here.

Prints its address when it listens. Ends with its parent.
"""

import os
import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

turn = threading.Lock()
inner = DomainDispatcherApplication(create_backend_app)


def one_at_a_time(environ, start_response):
    with turn:
        # The whole answer: a body that is still being made would be outside the turn.
        return list(inner(environ, start_response))


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
threading.Thread(target=end_with_parent, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
